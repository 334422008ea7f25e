import { burst, connect, number, pace, type Run, type Scenario } from '../lib/scenario.ts'
import { MESSAGE_BYTES } from '../lib/stamp.ts'

const CONNECTIONS = 1000
const MESSAGES = 3_000_000
const WARM_UP = 5000
/** What has not arrived by then is lost. */
const PATIENCE = 25_000
const RATE = 1000
/** Microseconds of latency that are usual at that rate, with some room for the machine. */
const USUAL = 10_000
const LOOK_EVERY = 20
/**
 * Milliseconds without a message after which a peer has nothing more to deliver: one that cannot say so, and one that can.
 * `ours` hears once a second how late it is, and writes every 60 ms while it is behind.
 */
const QUIET = 3000
const QUIET_AND_SAYS_SO = 150

/**
 * More at once than any server delivers while it is published: what is late, what is lost, and how soon messages come as
 * usual again. For that, some are published as soon as the server is no longer behind.
 */
export const scenario: Scenario = {
  id: 'j',
  title: `behind: ${MESSAGES.toLocaleString('en')} messages at once to ${CONNECTIONS} users, then ${RATE} a second`,
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
    const over = () => caughtUp(run)
    const first = await burst(patient, { topics, count, size: MESSAGE_BYTES, pick: 'random', over }, WARM_UP)
    const streams = [{ topic: topics[0]!, rate: RATE, size: MESSAGE_BYTES }]
    const then = await pace(run, { streams, seconds: 3, size: MESSAGE_BYTES, usual: USUAL, grace: 2000 })
    const { delivered, seconds, complete } = first.metrics
    const { usualAt } = then.times!
    // From the last publication of the burst.
    const back = usualAt > 0 ? (usualAt - first.times!.publishedAt) / 1000 : Number.NaN
    return {
      metrics: { ...then.metrics, complete, delivered: delivered!, seconds: seconds!, back },
      notes: [...first.notes, ...then.notes],
    }
  },
}

/** Resolves when the server has delivered what it will ever deliver. */
async function caughtUp({ server, load }: Run): Promise<void> {
  const end = performance.now() + PATIENCE
  while (performance.now() < end) {
    const isBehind = await server.request<boolean>('isBehind').catch(() => undefined)
    const quiet = await load.request<number>('quiet')
    if (isBehind !== true && quiet >= (isBehind === undefined ? QUIET : QUIET_AND_SAYS_SO)) return
    await new Promise(resolve => setTimeout(resolve, LOOK_EVERY))
  }
}
