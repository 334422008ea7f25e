import { burst, CPU_COLUMNS, connect, everyone, type Scenario } from '../lib/scenario.ts'
import { MESSAGE_BYTES } from '../lib/stamp.ts'

const CONNECTIONS = 10_000
const MESSAGES = 100

/** How long is the event loop away while a broadcast burst goes out to very many? */
export const scenario: Scenario = {
  id: 'g',
  title: 'responsiveness: longest event-loop delay while 10,000 connections receive a burst of 100 messages',
  variants: ['responsive'],
  columns: [
    { key: 'maxDelay', label: 'max loop delay ms', digits: 1 },
    { key: 'rate', label: 'deliveries/s', digits: 0 },
    { key: 'seconds', label: 'seconds', digits: 2 },
    ...CPU_COLUMNS,
  ],
  async run(run) {
    const topics = ['channel:wide']
    await connect(run, everyone(run.quick ? CONNECTIONS / 5 : CONNECTIONS, topics))
    return burst(run, { topics, count: MESSAGES, size: MESSAGE_BYTES, pick: 'turn' }, 5)
  },
}
