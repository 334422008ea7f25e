import { STREAM_PEERS } from '../lib/peers.ts'
import { ratios } from '../lib/ratios.ts'
import { burst, CPU_COLUMNS, connect, everyone, number, pace, type Run, type Scenario, stats } from '../lib/scenario.ts'
import { MESSAGE_BYTES } from '../lib/stamp.ts'

const CONNECTIONS = 1000
const TOPIC = 'channel:streams'
const RATE = 50
/** To single connections, and to topics of five. */
const SINGLES = 500_000
const MEMBERS = 5
const SMALL = 1_000_000
const HISTORY = { size: 1000, ttl: 60 }
const RECORDED = 100_000
const WARM_UP = 2000

const WHAT = { cpuPerDelivery: 'CPU', wireBytes: 'bytes' }

const RUNS: Record<string, (run: Run) => ReturnType<Scenario['run']>> = {
  async paced(run) {
    await connect(run, everyone(CONNECTIONS, [TOPIC]))
    const plan = { streams: [{ topic: TOPIC, rate: RATE, size: MESSAGE_BYTES }], size: MESSAGE_BYTES, grace: 10_000 }
    const warmUp = await pace(run, { ...plan, seconds: 1 })
    if (!warmUp.metrics.complete) return warmUp
    await stats(run, true)
    return pace(run, { ...plan, seconds: run.quick ? 2 : 10 })
  },
  async single(run) {
    const topics = Array.from({ length: CONNECTIONS }, (_, index) => number('channel:s', index))
    await connect(
      run,
      topics.map(topic => ({ topics: [topic] })),
    )
    const count = SINGLES / (run.quick ? 10 : 1)
    return burst(run, { topics, count, size: MESSAGE_BYTES, pick: 'random' }, WARM_UP)
  },
  small: run => small(run, SMALL),
  recorded: run => small(run, RECORDED, HISTORY),
}

async function small(run: Run, deliveries: number, history?: typeof HISTORY) {
  const topics = Array.from({ length: CONNECTIONS / MEMBERS }, (_, index) => number('channel:s', index))
  await connect(
    run,
    Array.from({ length: CONNECTIONS }, (_, index) => ({ topics: [topics[Math.floor(index / MEMBERS)]!] })),
  )
  const count = deliveries / MEMBERS / (run.quick ? 10 : 1)
  return burst(run, { topics, count, size: MESSAGE_BYTES, pick: 'random', ...(history && { history }) }, WARM_UP)
}

/** What an event stream costs beside a WebSocket: each message is another text, and each write of recorded ones has an id. */
export const scenario: Scenario = {
  id: 's',
  title: '1,000 event streams beside 1,000 WebSockets: one channel, single connections, topics of five',
  variants: Object.keys(RUNS),
  hasNoPubsubLimit: true,
  peers: STREAM_PEERS,
  columns: [
    { key: 'rate', label: 'deliveries/s', digits: 0 },
    { key: 'cpuPerDelivery', label: 'µs CPU/delivery', digits: 2 },
    { key: 'wireBytes', label: 'bytes/delivery', digits: 0 },
    { key: 'p99', label: 'p99 ms', digits: 1 },
    ...CPU_COLUMNS,
  ],
  run: (run, variant) => RUNS[variant]!(run),
  summarize: results => [...ratios(results, 'ours-sse', ['ours'], WHAT), ''],
}
