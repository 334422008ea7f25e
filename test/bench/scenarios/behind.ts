import { backToUsual, caughtUp } from '../lib/catching-up.ts'
import { burst, connect, number, type Scenario } from '../lib/scenario.ts'
import { MESSAGE_BYTES } from '../lib/stamp.ts'

const CONNECTIONS = 1000
const MESSAGES = 3_000_000
const WARM_UP = 5000
/** What has not arrived by then is lost. */
const PATIENCE = 25_000

/**
 * More at once than any server delivers while it is published: what is late, what is lost, and how soon messages come as
 * usual again. For that, some are published as soon as the server is no longer behind.
 */
export const scenario: Scenario = {
  id: 'j',
  title: `behind: ${MESSAGES.toLocaleString('en')} messages at once to ${CONNECTIONS} users, then 1,000 a second`,
  variants: ['default limit'],
  // Both may take their whole patience: what is delivered, and what is waited for afterwards.
  deadline: 120,
  columns: [
    { key: 'delivered', label: 'delivered %', digits: 1 },
    { key: 'seconds', label: 'the last after s', digits: 1 },
    { key: 'back', label: 'as usual after ms', digits: 0 },
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
    const over = () => caughtUp(run, PATIENCE)
    const first = await burst(patient, { topics, count, size: MESSAGE_BYTES, pick: 'random', over }, WARM_UP)
    const then = await backToUsual(run, topics[0]!, first.times!.publishedAt)
    const { delivered, seconds, complete } = first.metrics
    return {
      metrics: { ...then.metrics, complete, delivered: delivered!, seconds: seconds! },
      notes: [...first.notes, ...then.notes],
    }
  },
}
