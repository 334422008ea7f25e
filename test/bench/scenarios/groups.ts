import { burst, CPU_COLUMNS, connect, number, type Scenario } from '../lib/scenario.ts'
import { MESSAGE_BYTES } from '../lib/stamp.ts'

const CONNECTIONS = 1000
/** Short ones, and others that last for seconds. */
const DELIVERIES: Record<string, number> = {
  '2': 2_000_000,
  '5': 2_000_000,
  '20': 2_000_000,
  '2 lasting': 5_000_000,
  '5 lasting': 10_000_000,
  '20 lasting': 20_000_000,
}
const WARM_UP = 2000

/** Topics of a few connections each: what a chat of two is, or the tabs of one user, or a small room. */
export const scenario: Scenario = {
  id: 'i',
  title: 'small topics: 1,000 connections on topics of 2, 5 and 20 members, 2,000,000 deliveries and more',
  variants: Object.keys(DELIVERIES),
  hasNoPubsubLimit: true,
  columns: [
    { key: 'rate', label: 'deliveries/s', digits: 0 },
    { key: 'seconds', label: 'seconds', digits: 2 },
    { key: 'cpuPerDelivery', label: 'µs CPU/delivery', digits: 2 },
    ...CPU_COLUMNS,
  ],
  async run(run, variant) {
    const members = Number.parseInt(variant, 10)
    const topics = Array.from({ length: CONNECTIONS / members }, (_, index) => number('channel:g', index))
    await connect(
      run,
      Array.from({ length: CONNECTIONS }, (_, index) => ({ topics: [topics[Math.floor(index / members)]!] })),
    )
    const count = DELIVERIES[variant]! / members / (run.quick ? 4 : 1)
    return burst(run, { topics, count, size: MESSAGE_BYTES, pick: 'random' }, WARM_UP)
  },
}
