import { floodBombs, floodChurn, floodCloses, floodEmpties, floodFragments, floodPings } from './floods.ts'
import { deafReaders, halfOpen, muteClosers, slowHandshakes } from './mutes.ts'
import { fuzzChannels, fuzzFunctions } from './redis.ts'
import { fuzzHttp, fuzzTickets, fuzzUpgrades } from './requests.ts'
import { fuzzFrames, fuzzMessages } from './sockets.ts'
import type { Ran, Target } from './target.ts'
import { type Beats, growth, restingState, type State, sum, type World } from './world.ts'

/** Mutated inputs. */
export const FUZZED: Readonly<Record<string, Target>> = {
  channels: fuzzChannels,
  functions: fuzzFunctions,
  messages: fuzzMessages,
  frames: fuzzFrames,
  http: fuzzHttp,
  upgrades: fuzzUpgrades,
  tickets: fuzzTickets,
}

/** Clients with bad manners, as many as there can be. */
export const FLOODS: Readonly<Record<string, Target>> = {
  pings: floodPings,
  fragments: floodFragments,
  empties: floodEmpties,
  closes: floodCloses,
  churn: floodChurn,
  bombs: floodBombs,
}

/** Clients for which the node has to wait until a deadline of its own is over. */
export const ABSENT: Readonly<Record<string, Target>> = {
  handshakes: slowHandshakes,
  halfopen: halfOpen,
  mute: muteClosers,
  deaf: deafReaders,
}

export const TARGETS: Readonly<Record<string, Target>> = { ...FUZZED, ...FLOODS, ...ABSENT }

export interface Report extends Ran {
  seconds: number
  /** What the canary measured meanwhile. */
  beats: Beats
  /** Bytes that the node uses more than before, when all is over. */
  bytes: number
  /** Descriptors of the node before and after. */
  descriptors: [before: number, after: number]
  /** What the node has counted, by reason. */
  counted: Record<string, Record<string, number>>
}

export interface Attack {
  count: number
  seconds: number
  /** Inputs that come first and are not measured: what is compiled and cached by then is no leak. */
  warmUp?: number
  /** What the canary measured before, if it is to have its usual latency now. */
  quiet?: Beats
}

/** More may be kept after an attack than before: caches, compiled code. But it does not grow with the inputs. */
const MAX_GROWTH = 24 * 1024 * 1024

const WARM_UP = 500

const REFUSALS = [
  'upgrades_refused_total',
  'messages_refused_total',
  'api_refused_total',
  'publications_rejected_total',
  'connections_closed_total',
]

/** Attacks one target and looks at what is left of the node. */
export async function attack(world: World, target: Target, { count, seconds, warmUp = WARM_UP, quiet }: Attack) {
  const first = await world.state()
  await target(world, Math.min(warmUp, count), () => false)
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
    descriptors: [before.usage.descriptors, after.usage.descriptors],
    counted: Object.fromEntries(REFUSALS.map(counter => [counter, growth(before, after, counter)])),
  }
  report.problems.push(...miscounted(ran, before, after), ...latenessOf(beats, quiet))
  if (ran.inputs === 0) report.problems.push('not one input was sent')
  if (report.bytes > MAX_GROWTH) report.problems.push(`the node keeps ${report.bytes} bytes more than before`)
  report.problems.push(...world.failures.splice(0))
  return report
}

/** Counters that did not grow by what was seen outside. */
function* miscounted(ran: Ran, before: State, after: State): Iterable<string> {
  for (const { counter, reason, except, least, most } of ran.counts) {
    const grown = growth(before, after, counter)
    const by =
      reason === undefined ? sum(grown) - (except === undefined ? 0 : (grown[except] ?? 0)) : (grown[reason] ?? 0)
    if (by >= least && by <= most) continue
    const expected = least === most ? least : `${least} to ${most}`
    yield `${counter}${reason ? `{${reason}}` : ''} grew by ${by}, not ${expected}: ${JSON.stringify(grown)}`
  }
}

/** Generous: attacker, canary and node share the cores of one machine. What stalls the node is longer than this. */
const TIMES = 20
const MORE = { p50: 50, p99: 500 }

function* latenessOf(beats: Beats, quiet: Beats | undefined): Iterable<string> {
  if (beats.end !== undefined) yield `the canary was ${beats.end}`
  if (!quiet) return
  for (const at of ['p50', 'p99'] as const) {
    const most = quiet[at] * TIMES + MORE[at]
    if (beats[at] > most) yield `the canary had ${at} ${beats[at]} ms; at rest it was ${quiet[at]} ms`
  }
}
