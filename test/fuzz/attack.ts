import { floodBombs, floodChurn, floodCloses, floodEmpties, floodFragments, floodPings } from './floods.ts'
import { fuzzFrames } from './frames.ts'
import { deafReaders, halfOpen, muteClosers, slowHandshakes } from './mutes.ts'
import { fuzzChannels, fuzzFunctions } from './redis.ts'
import { fuzzHttp, fuzzTickets, fuzzUpgrades } from './requests.ts'
import { fuzzMessages } from './sockets.ts'
import { fuzzStreams } from './streams.ts'
import { type Ran, type Target, UNSEEN } from './target.ts'
import { fuzzVisits } from './visits.ts'
import { type Beats, grownBy, growth, restingState, type State, sum, type World } from './world.ts'

/** Mutated inputs. */
export const FUZZED: Readonly<Record<string, Target>> = {
  channels: fuzzChannels,
  functions: fuzzFunctions,
  messages: fuzzMessages,
  frames: fuzzFrames,
  http: fuzzHttp,
  upgrades: fuzzUpgrades,
  tickets: fuzzTickets,
  visits: fuzzVisits,
  streams: fuzzStreams,
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

const MILLION = 1_000_000

/** Inputs of a run, unless it says otherwise: fewer where each is a connection, or waits for a deadline of the node. */
export const INPUTS: Readonly<Record<string, number>> = {
  ...Object.fromEntries([...Object.keys(FUZZED), ...Object.keys(FLOODS)].map(name => [name, MILLION])),
  churn: 200_000,
  bombs: 100_000,
  handshakes: 3000,
  halfopen: 3000,
  mute: 3000,
  deaf: 3000,
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
  /** What the server below the bridge saw. */
  notes: Record<string, number>
}

export interface Attack {
  count: number
  seconds: number
  /** Inputs that come first and are not measured: what is compiled and cached by then is no leak. */
  warmUp?: number
  /** What the canary measured before, if it is to have its usual latency now, and whether the attacker has a core of its own. */
  rest?: { beats: Beats; isApart: boolean }
}

/** More may be kept after an attack than before: caches, compiled code. But it does not grow with the inputs. */
const MAX_GROWTH = 24 * 1024 * 1024

const WARM_UP = 500

const REFUSALS = [
  'upgrades_refused_total',
  'requests_refused_total',
  'messages_refused_total',
  'api_refused_total',
  'publications_rejected_total',
  'connections_closed_total',
]

/** Attacks one target and looks at what is left of the node. */
export async function attack(world: World, target: Target, { count, seconds, warmUp = WARM_UP, rest }: Attack) {
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
    notes: grownBy(before.notes, after.notes),
  }
  report.problems.push(...miscounted(ran, before, after), ...misread(report.notes, before, after))
  report.problems.push(...latenessOf(beats, rest))
  if (ran.inputs < count) report.problems.push(shortfall(ran.inputs, count, report.seconds))
  if (report.bytes > MAX_GROWTH) report.problems.push(`the node keeps ${report.bytes} bytes more than before`)
  report.problems.push(...world.failures.splice(0))
  return report
}

/** Counters that did not grow by what was seen outside. */
function* miscounted(ran: Ran, before: State, after: State): Iterable<string> {
  const notes = grownBy(before.notes, after.notes)
  for (const { counter, reason, except, unseen, least, most } of ran.counts) {
    const grown = growth(before, after, counter)
    const by =
      reason === undefined ? sum(grown) - (except === undefined ? 0 : (grown[except] ?? 0)) : (grown[reason] ?? 0)
    const hidden = unseen ? unseenOf(notes, unseen) : 0
    if (by >= least + hidden && by <= most + hidden) continue
    const expected = least === most ? least : `${least} to ${most}`
    const and = hidden > 0 ? ` and ${hidden} that nobody saw` : ''
    yield `${counter}${reason ? `{${reason}}` : ''} grew by ${by}, not ${expected}${and}: ${JSON.stringify(grown)}`
  }
}

/** What the parser refused below the bridge is counted once too. Neither sees requests without Host, to which Node says 400. */
function* misread(notes: Record<string, number>, before: State, after: State): Iterable<string> {
  const refused = Object.entries(notes).filter(([note]) => /^(HPE_|ERR_HTTP_REQUEST_TIMEOUT$)/.test(note))
  const [seen, counted] = [sum(Object.fromEntries(refused)), sum(growth(before, after, 'requests_refused_total'))]
  if (seen !== counted) yield `requests_refused_total grew by ${counted}, and the server refused ${seen}`
}

function unseenOf(notes: Record<string, number>, counts: (code: string) => boolean): number {
  const unseen = Object.entries(notes).filter(([note]) => note.startsWith(UNSEEN) && counts(note.slice(UNSEEN.length)))
  return sum(Object.fromEntries(unseen))
}

function shortfall(inputs: number, count: number, seconds: number): string {
  return `${inputs} of ${count} inputs in ${seconds.toFixed(0)} s: give it more time with --seconds, or a smaller --count`
}

/**
 * How much later the canary may be than at rest: `times` as late, and some milliseconds more. Where attacker, canary and node
 * share a core, each of them waits for the others, and only what stalls the node is longer than that.
 */
const LATENESS = {
  apart: { times: 10, p50: 25, p99: 250 },
  together: { times: 20, p50: 50, p99: 500 },
}

function* latenessOf(beats: Beats, rest: Attack['rest']): Iterable<string> {
  if (beats.end !== undefined) yield `the canary was ${beats.end}`
  if (!rest) return
  const bound = LATENESS[rest.isApart ? 'apart' : 'together']
  for (const at of ['p50', 'p99'] as const) {
    const most = rest.beats[at] * bound.times + bound[at]
    if (beats[at] > most) yield `the canary had ${at} ${beats[at]} ms; at rest it was ${rest.beats[at]} ms`
  }
}
