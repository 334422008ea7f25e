import { burst, connect, number, pace, type Scenario } from '../lib/scenario.ts'
import { MESSAGE_BYTES } from '../lib/stamp.ts'

const CONNECTIONS = 1000
const MESSAGES = 3_000_000
const WARM_UP = 5000
/** What has not arrived by then is lost. */
const PATIENCE = 25_000
const RATE = 1000

/** More at once than any server delivers while it is published: what is late, what is lost, and how it goes on afterwards. */
export const scenario: Scenario = {
  id: 'j',
  title: `behind: ${MESSAGES.toLocaleString('en')} messages at once to ${CONNECTIONS} users, then ${RATE} a second`,
  variants: ['default limit'],
  columns: [
    { key: 'delivered', label: 'delivered %', digits: 1 },
    { key: 'seconds', label: 'the last after s', digits: 1 },
    { key: 'p50', label: 'then p50 ms', digits: 1 },
    { key: 'p99', label: 'p99 ms', digits: 1 },
  ],
  async run(run) {
    const users = Array.from({ length: CONNECTIONS }, (_, index) => number('u', index))
    await connect(
      run,
      users.map(user => ({ topics: [], user })),
    )
    const topics = users.map(user => `user:${user}`)
    const count = run.quick ? MESSAGES / 10 : MESSAGES
    const patient = { ...run, timeLeft: () => PATIENCE }
    const first = await burst(patient, { topics, count, size: MESSAGE_BYTES, pick: 'random' }, WARM_UP)
    const streams = [{ topic: topics[0]!, rate: RATE, size: MESSAGE_BYTES }]
    const { metrics, notes } = await pace(run, { streams, seconds: 3, size: MESSAGE_BYTES, grace: 2000 })
    const { delivered, seconds, complete } = first.metrics
    return {
      metrics: { ...metrics, complete, delivered: delivered!, seconds: seconds! },
      notes: [...first.notes, ...notes],
    }
  },
}
