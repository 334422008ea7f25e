import { burst, CPU_COLUMNS, connect, everyone, type Scenario } from '../lib/scenario.ts'
import { MESSAGE_BYTES } from '../lib/stamp.ts'

/** One channel, everybody on it, all messages at once. */
export const scenario: Scenario = {
  id: 'a',
  title: 'burst: connections × messages of 128 B, as fast as they come',
  variants: ['1000x1000', '5000x200'],
  columns: [
    { key: 'rate', label: 'deliveries/s', digits: 0 },
    { key: 'seconds', label: 'seconds', digits: 2 },
    { key: 'cpuPerDelivery', label: 'µs CPU/delivery', digits: 2 },
    ...CPU_COLUMNS,
  ],
  async run(run, variant) {
    const [connections, messages] = variant.split('x').map(Number) as [number, number]
    const topics = ['channel:burst']
    await connect(run, everyone(connections, topics))
    const count = run.quick ? messages / 4 : messages
    return burst(run, { topics, count, size: MESSAGE_BYTES, pick: 'turn' }, count / 20)
  },
}
