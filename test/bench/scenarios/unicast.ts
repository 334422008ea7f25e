import { burst, CPU_COLUMNS, connect, number, type Scenario } from '../lib/scenario.ts'
import { MESSAGE_BYTES } from '../lib/stamp.ts'

const CONNECTIONS = 1000
const WARM_UP = 5000

const MESSAGES: Record<string, number> = { cold: 100_000, warm: 100_000, long: 1_000_000, lasting: 3_000_000 }

/** Every connection on its own user topic, messages to users at random. */
export const scenario: Scenario = {
  id: 'c',
  title:
    'unicast: 1,000 connections each on its own user topic, messages to random users: 100,000 to a process that has ' +
    'done nothing yet, 100,000 to a warm one, 1,000,000, and 3,000,000',
  variants: Object.keys(MESSAGES),
  // Bursts of 190 and 570 MB are more than Redis lets wait for any of them by default.
  hasNoPubsubLimit: true,
  columns: [
    { key: 'rate', label: 'deliveries/s', digits: 0 },
    { key: 'seconds', label: 'seconds', digits: 2 },
    { key: 'cpuPerDelivery', label: 'µs CPU/delivery', digits: 2 },
    ...CPU_COLUMNS,
  ],
  async run(run, variant) {
    const users = Array.from({ length: CONNECTIONS }, (_, index) => number('u', index))
    await connect(
      run,
      users.map(user => ({ topics: [], user })),
    )
    const topics = users.map(user => `user:${user}`)
    const count = run.quick ? MESSAGES[variant]! / 4 : MESSAGES[variant]!
    return burst(run, { topics, count, size: MESSAGE_BYTES, pick: 'random' }, variant === 'cold' ? 0 : WARM_UP)
  },
}
