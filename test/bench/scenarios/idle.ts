import { connect, everyone, type Scenario, stats } from '../lib/scenario.ts'

const CONNECTIONS = 10_000
const WARM_UP = 100

/** What an idle connection holds in the server's process, after garbage collection. Kernel buffers are not in it. */
export const scenario: Scenario = {
  id: 'd',
  title: 'idle memory: bytes per connection at 10,000 idle connections on one channel, after gc',
  variants: ['idle'],
  columns: [
    { key: 'rssPer', label: 'RSS B/conn', digits: 0 },
    { key: 'heapPer', label: 'heap B/conn', digits: 0 },
    { key: 'buffersPer', label: 'buffers B/conn', digits: 0 },
    { key: 'rss', label: 'RSS MB', digits: 1 },
  ],
  async run(run) {
    const topics = ['channel:idle']
    const count = run.quick ? CONNECTIONS / 5 : CONNECTIONS
    // The first connections load code and grow the heap once; they stay open and are not counted.
    await connect(run, everyone(WARM_UP, topics))
    const before = await stats(run, true)
    await connect(run, everyone(count, topics), 100)
    await new Promise(resolve => setTimeout(resolve, 1000))
    const after = await stats(run, true)
    const metrics = {
      complete: 1,
      rssPer: (after.rss - before.rss) / count,
      heapPer: (after.heap - before.heap) / count,
      buffersPer: (after.buffers - before.buffers) / count,
      rss: after.rss / 2 ** 20,
    }
    return { metrics, notes: [] }
  },
}
