import { burst, connect, number, type Scenario } from '../lib/scenario.ts'
import { MESSAGE_BYTES } from '../lib/stamp.ts'

const TOPIC = 'channel:storm'

/** What fits into the backlog (see lib/contract.ts): whoever comes on top of that is a test of SYN retries, in steps of a second. */
const AT_ONCE = 4000

/** Everybody at once, each on a common channel and its own user topic; live is who has been told so by the server. */
export const scenario: Scenario = {
  id: 'h',
  title: 'connect storm: 5,000 and 10,000 clients connect and subscribe at once: time until all are live',
  variants: ['5000', '10000'],
  columns: [
    { key: 'live', label: 'all live s', digits: 2 },
    { key: 'cpuPerClient', label: 'µs CPU/client', digits: 0 },
    { key: 'retries', label: 'retries', digits: 0 },
  ],
  async run(run, variant) {
    const count = run.quick ? Number(variant) / 5 : Number(variant)
    const clients = Array.from({ length: count }, (_, index) => ({ topics: [TOPIC], user: number('u', index) }))
    const before = run.server.cpu()
    const { seconds, retries } = await connect(run, clients, AT_ONCE)
    const after = run.server.cpu()
    // Live must mean live: one message to all, and one to each.
    const topics = [TOPIC, ...clients.map(({ user }) => `user:${user}`)]
    const { metrics, notes } = await burst(run, { topics, count: topics.length, size: MESSAGE_BYTES, pick: 'turn' }, 0)
    const storm = { live: seconds, retries, cpuPerClient: ((after - before) * 1e6) / count }
    return { metrics: { complete: metrics.complete, ...storm }, notes }
  },
}
