import { CODEC_PEERS } from '../lib/peers.ts'
import { ratios } from '../lib/ratios.ts'
import { CPU_COLUMNS, connect, everyone, type Outcome, pace, type Scenario, stats } from '../lib/scenario.ts'

const TOPIC = 'channel:orders'
/** `few` shows what it costs to write a message anew, `many` that it is done once for all. */
const CONNECTIONS: Record<string, number> = { few: 10, many: 1000 }
const RATES: Record<string, number> = { few: 500, many: 20 }
const ORDERS = { '1 kB order': 1200, '4 kB order': 4400 }
/** Bytes of the message as JSON, of which the bytes take a third more than in the other codecs. */
const BYTES = { '4 kB with bytes': 4405 }
const SIZES: Record<string, number> = { ...ORDERS, ...BYTES }

const SUBPROTOCOLS: Record<string, string> = { 'ours-msgpack': 'push.msgpack', 'ours-protobuf': 'push.protobuf' }

const WHAT = { cpuPerDelivery: 'CPU', wireBytes: 'bytes' }

/** Publications in JSON, as they come from most backends, to clients of each codec. */
export const scenario: Scenario = {
  id: 'y',
  title: 'codecs: orders and bytes, published as JSON, to clients that all speak one codec',
  variants: Object.keys(SIZES).flatMap(what => Object.keys(CONNECTIONS).map(count => `${what}, ${count}`)),
  peers: CODEC_PEERS,
  columns: [
    { key: 'wireBytes', label: 'bytes/delivery', digits: 0 },
    { key: 'cpuPerDelivery', label: 'µs CPU/delivery', digits: 2 },
    { key: 'cpuPerPublication', label: 'µs CPU/publication', digits: 0 },
    { key: 'delivered', label: 'in time %', digits: 1 },
    ...CPU_COLUMNS,
  ],
  async run(run, variant) {
    const [what, count] = variant.split(', ') as [string, string]
    const [size, rate, connections] = [SIZES[what]!, RATES[count]!, CONNECTIONS[count]!]
    const subprotocol = SUBPROTOCOLS[run.peer.name]
    const clients = { ...run, offer: subprotocol ? { subprotocol } : {} }
    await connect(clients, everyone(connections, [TOPIC]))
    const kind = what in ORDERS ? { hasOrder: true } : { hasBytes: true }
    const streams = [{ topic: TOPIC, rate, size, ...kind }]
    const plan = { streams, size, isStamped: false, grace: 10_000 }
    const warmUp = await pace(clients, { ...plan, seconds: 1 })
    if (!warmUp.metrics.complete) return warmUp
    await stats(clients, true)
    const measured = await pace(clients, { ...plan, seconds: run.quick ? 2 : 10 })
    return withPublications(measured, connections)
  },
  summarize: results => [
    ...['ours-msgpack', 'ours-protobuf'].flatMap(peer => ratios(results, peer, ['ours'], WHAT)),
    '',
  ],
}

function withPublications({ metrics, notes }: Outcome, connections: number): Outcome {
  return { metrics: { ...metrics, cpuPerPublication: metrics.cpuPerDelivery! * connections }, notes }
}
