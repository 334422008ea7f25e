import { fuzzChannels, fuzzFunctions } from './redis.ts'
import { fuzzHttp, fuzzTickets, fuzzUpgrades } from './requests.ts'
import { fuzzFrames, fuzzMessages } from './sockets.ts'
import type { Ran, Target } from './target.ts'
import { type Beats, growth, restingState, sum, type World } from './world.ts'

export const TARGETS: Readonly<Record<string, Target>> = {
  channels: fuzzChannels,
  functions: fuzzFunctions,
  messages: fuzzMessages,
  frames: fuzzFrames,
  http: fuzzHttp,
  upgrades: fuzzUpgrades,
  tickets: fuzzTickets,
}

export interface Report extends Ran {
  seconds: number
  /** What the canary measured meanwhile. */
  beats: Beats
  /** Bytes that the node uses more than before, when all is over. */
  bytes: number
}

/** More may be kept after an attack than before: caches, compiled code. But it does not grow with the inputs. */
const MAX_GROWTH = 24 * 1024 * 1024

/** So many inputs come first and are not measured: what is compiled and cached by then is no leak. */
const WARM_UP = 500

/** Attacks one target and looks at what is left of the node. */
export async function attack(world: World, name: string, { count, seconds }: { count: number; seconds: number }) {
  const target = TARGETS[name]!
  const first = await world.state()
  await target(world, Math.min(WARM_UP, count), () => false)
  const before = await restingState(world, first)
  await world.beats()
  const began = performance.now()
  const isOver = () => performance.now() - began > seconds * 1000
  const ran = await target(world, count, isOver)
  const beats = await world.beats()
  const after = await restingState(world, before)
  const report: Report = {
    ...ran,
    seconds: (performance.now() - began) / 1000,
    beats,
    bytes: after.usage.bytes - before.usage.bytes,
  }
  for (const { counter, reason, except, least, most } of ran.counts) {
    const grown = growth(before, after, counter)
    const by =
      reason === undefined ? sum(grown) - (except === undefined ? 0 : (grown[except] ?? 0)) : (grown[reason] ?? 0)
    if (by >= least && by <= most) continue
    const expected = least === most ? least : `${least} to ${most}`
    report.problems.push(
      `${counter}${reason ? `{${reason}}` : ''} grew by ${by}, not ${expected}: ${JSON.stringify(grown)}`,
    )
  }
  if (ran.inputs === 0) report.problems.push('not one input was sent')
  if (report.bytes > MAX_GROWTH) report.problems.push(`the node keeps ${report.bytes} bytes more than before`)
  if (beats.end !== undefined) report.problems.push(`the canary was ${beats.end}`)
  report.problems.push(...world.failures.splice(0))
  return report
}
