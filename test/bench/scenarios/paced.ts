import { CPU_COLUMNS, connect, everyone, pace, type Scenario } from '../lib/scenario.ts'
import { MESSAGE_BYTES } from '../lib/stamp.ts'

const CONNECTIONS = 1000
const TOPIC = 'channel:paced'

/** A fixed rate on one channel; the latency of every delivery from the stamp that the publisher put into it. */
export const scenario: Scenario = {
  id: 'b',
  title: '1,000 connections at a fixed rate: paced 50 messages/s, steady 500 messages/s',
  variants: ['paced', 'steady'],
  columns: [
    { key: 'p50', label: 'p50 ms', digits: 1 },
    { key: 'p99', label: 'p99 ms', digits: 1 },
    { key: 'max', label: 'max ms', digits: 1 },
    { key: 'cpuPerDelivery', label: 'µs CPU/delivery', digits: 2 },
    { key: 'delivered', label: 'in time %', digits: 1 },
    ...CPU_COLUMNS,
  ],
  async run(run, variant) {
    const rate = variant === 'paced' ? 50 : 500
    const seconds = run.quick ? 3 : 10
    await connect(run, everyone(CONNECTIONS, [TOPIC]))
    const streams = [{ topic: TOPIC, rate, size: MESSAGE_BYTES }]
    // Unmeasured first, so that nobody is measured cold; what a slow peer still owes from it is waited for.
    const warmUp = await pace(run, { streams, seconds: 1, size: MESSAGE_BYTES, grace: 10_000 })
    // Too slow even for that: what is still on its way would be taken for the measured messages.
    if (!warmUp.metrics.complete) return warmUp
    // Who has not delivered two seconds after the last publication has fallen behind.
    return pace(run, { streams, seconds, size: MESSAGE_BYTES, grace: 2000 })
  },
}
