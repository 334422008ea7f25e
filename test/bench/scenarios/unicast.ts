import { burst, CPU_COLUMNS, connect, number, type Scenario } from '../lib/scenario.ts'
import { MESSAGE_BYTES } from '../lib/stamp.ts'

const CONNECTIONS = 1000
const MESSAGES = 100_000

/** Every connection on its own user topic, messages to users at random. */
export const scenario: Scenario = {
  id: 'c',
  title: 'unicast: 1,000 connections each on its own user topic, 100,000 messages to random users',
  variants: ['unicast'],
  columns: [
    { key: 'rate', label: 'deliveries/s', digits: 0 },
    { key: 'seconds', label: 'seconds', digits: 2 },
    { key: 'cpuPerDelivery', label: 'µs CPU/delivery', digits: 2 },
    ...CPU_COLUMNS,
  ],
  async run(run) {
    const users = Array.from({ length: CONNECTIONS }, (_, index) => number('u', index))
    await connect(
      run,
      users.map(user => ({ topics: [], user })),
    )
    const topics = users.map(user => `user:${user}`)
    const count = run.quick ? MESSAGES / 4 : MESSAGES
    return burst(run, { topics, count, size: MESSAGE_BYTES, pick: 'random' }, 5000)
  },
}
