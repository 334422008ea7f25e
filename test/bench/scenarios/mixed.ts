import { burst, CPU_COLUMNS, connect, number, type Scenario } from '../lib/scenario.ts'
import { MESSAGE_BYTES } from '../lib/stamp.ts'

const CONNECTIONS = 1000
const CHANNELS = 500
const EACH = 5
const MESSAGES = 20_000

/** Every connection on 5 of 500 channels: ten connections a channel, and hardly two with the same queue. */
export const scenario: Scenario = {
  id: 'e',
  title: 'mixed topics: 1,000 connections each on 5 of 500 channels, 20,000 messages to random channels',
  variants: ['mixed'],
  columns: [
    { key: 'rate', label: 'deliveries/s', digits: 0 },
    { key: 'seconds', label: 'seconds', digits: 2 },
    { key: 'cpuPerDelivery', label: 'µs CPU/delivery', digits: 2 },
    ...CPU_COLUMNS,
  ],
  async run(run) {
    const topics = Array.from({ length: CHANNELS }, (_, index) => number('channel:m', index))
    const clients = Array.from({ length: CONNECTIONS }, (_, index) => ({
      topics: Array.from({ length: EACH }, (_, which) => topics[(index + which * strideOf(index)) % CHANNELS]!),
    }))
    await connect(run, clients)
    const count = run.quick ? MESSAGES / 4 : MESSAGES
    return burst(run, { topics, count, size: MESSAGE_BYTES, pick: 'random' }, 1000)
  },
}

/** It depends on the connection, so that pairs of channels are not always together; below 500 ÷ 4, so that no channel comes twice. */
function strideOf(index: number): number {
  return 13 + 7 * (index % 13)
}
