import { PEERS } from '../lib/peers.ts'
import { burst, CPU_COLUMNS, connect, everyone, type Scenario } from '../lib/scenario.ts'
import { MESSAGE_BYTES } from '../lib/stamp.ts'

const HISTORY = { size: 1000, ttl: 3600 }
const FAN_OUT = { connections: 1000, messages: 1000 }
const SINGLE = { connections: 1, messages: 50_000 }

/** What recording costs: PUBLISH against FCALL push_publish, to many connections and to a single one. */
export const scenario: Scenario = {
  id: 'r',
  title: 'recorded: 1,000 connections × 1,000 messages, and 1 × 50,000, live and recorded (size 1,000, ttl 1 h)',
  peers: PEERS.filter(({ name }) => name === 'ours'),
  variants: ['fan-out live', 'fan-out recorded', 'single live', 'single recorded'],
  columns: [
    { key: 'rate', label: 'deliveries/s', digits: 0 },
    { key: 'publishRate', label: 'publications/s', digits: 0 },
    { key: 'seconds', label: 'seconds', digits: 2 },
    { key: 'cpuPerDelivery', label: 'µs CPU/delivery', digits: 2 },
    ...CPU_COLUMNS,
  ],
  async run(run, variant) {
    const [shape, way] = variant.split(' ')
    const { connections, messages } = shape === 'single' ? SINGLE : FAN_OUT
    const topics = ['channel:burst']
    await connect(run, everyone(connections, topics))
    const count = run.quick ? messages / 4 : messages
    const history = way === 'recorded' ? HISTORY : undefined
    const outcome = await burst(run, { topics, count, size: MESSAGE_BYTES, pick: 'turn', history }, count / 20)
    outcome.metrics.publishRate = outcome.metrics.rate! / connections
    return outcome
  },
}
