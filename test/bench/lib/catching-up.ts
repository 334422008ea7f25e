import { type Outcome, pace, type Run } from './scenario.ts'
import { MESSAGE_BYTES } from './stamp.ts'

const LOOK_EVERY = 20
/**
 * Milliseconds without a message after which a peer has nothing more to deliver: one that cannot say so, and one that can.
 * `ours` hears once a second how late it is, and writes every 60 ms while it is behind.
 */
const QUIET = 3000
const QUIET_AND_SAYS_SO = 150
const RATE = 1000
/** Microseconds of latency that are usual at that rate, with some room for the machine. */
const USUAL = 10_000

/** Resolves when the server has delivered what it will ever deliver, or after `patience` milliseconds. */
export async function caughtUp({ server, load }: Run, patience: number): Promise<void> {
  const end = performance.now() + patience
  while (performance.now() < end) {
    const isBehind = await server.request<boolean>('isBehind').catch(() => undefined)
    const quiet = await load.request<number>('quiet')
    if (isBehind !== true && quiet >= (isBehind === undefined ? QUIET : QUIET_AND_SAYS_SO)) return
    await new Promise(resolve => setTimeout(resolve, LOOK_EVERY))
  }
}

/**
 * Publishes some messages as soon as the server is no longer behind. `back`: how many milliseconds after `publishedAt`, the
 * last publication of the overload, messages came in the usual time again.
 */
export async function backToUsual(run: Run, topic: string, publishedAt: number): Promise<Outcome> {
  const streams = [{ topic, rate: RATE, size: MESSAGE_BYTES }]
  const then = await pace(run, { streams, seconds: 3, size: MESSAGE_BYTES, usual: USUAL, grace: 2000 })
  const { usualAt } = then.times!
  const back = usualAt > 0 ? (usualAt - publishedAt) / 1000 : Number.NaN
  return { ...then, metrics: { ...then.metrics, back } }
}
