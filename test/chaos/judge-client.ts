import { positionOf, timelineOf } from '../../src/protocol/position.ts'
import type { Facts, Told } from './facts.ts'
import { coveredFrom, isJustified, mayBeUndone } from './justify.ts'
import type { Invariant, Violation } from './verdict.ts'

interface Place {
  timeline: string
  seq: number
  /** When Redis took it, in milliseconds. */
  time: number
}

type Of<E extends Told['e']> = Extract<Told, { e: E }>

/** What one client was told of one topic, and whether it is whole. */
class TopicView {
  readonly #topic: string
  /** When it was first subscribed. */
  readonly since: number
  readonly keys = new Map<string, { id: string; t: number }>()
  /** When gaps were told. */
  readonly gaps: number[] = []
  #place: Place | undefined
  #received: Place | undefined
  /** The client was told that not all can be shown, which a gap must follow. */
  #owesGap = false
  readonly #ids = new Set<string>()

  constructor(topic: string, since: number) {
    this.#topic = topic
    this.since = since
  }

  started({ since, id, recovered }: Of<'sub'>): Problem {
    if (recovered === true && this.#place && since !== undefined && since !== encodeLast(this.#last)) {
      return { invariant: 'history', what: `resumed from ${since}, but holds ${encodeLast(this.#last)}` }
    }
    if (id !== undefined && since === undefined && recovered === undefined) this.#moveTo(id)
    // What a client holds stays until the gap is told: a connection that breaks before it must bring it again.
    this.#owesGap = recovered === false
    this.#next = recovered === false ? id : undefined
    return undefined
  }

  #last: string | undefined
  /** Where the topic goes on after the gap that is owed; unknown while its slot is under way. */
  #next: string | undefined

  #moveTo(id: string | undefined): void {
    this.#place = id === undefined ? undefined : placeOf(id)
    this.#last = id ?? this.#last
    this.#received = undefined
  }

  gap(t: number, position: { id: string } | undefined, facts: Facts): Problem {
    this.gaps.push(t)
    const [from, to] = [this.#place, position && placeOf(position.id)]
    const isBack = from !== undefined && from.timeline === to?.timeline && to.seq < from.seq
    // A node that saw nothing of what a rollback took tells so before another one begins a new timeline.
    if (isBack && !mayBeUndone(this.#topic, from.time, t, facts)) {
      return { invariant: 'order', what: `was told a gap that leads back from ${from.seq} to ${to!.seq}` }
    }
    if (position) this.#moveTo(position.id)
    else if (this.#owesGap) this.#moveTo(this.#next)
    else this.#place = undefined
    this.#owesGap = false
    this.#next = undefined
    return undefined
  }

  message({ t, id, seq, k }: Of<'msg'>, facts: Facts): Problem {
    if (id === undefined || seq === undefined) return { invariant: 'invented', what: 'has no id' }
    const place = placeOf(id)
    if (!place || place.seq !== seq) return { invariant: 'invented', what: 'has a seq that is not of its id' }
    const problem = this.#twice(id, k, t, facts) ?? (this.#owesGap ? UNTOLD : this.#follows(place))
    this.#owesGap = false
    this.#place = place
    this.#received = place
    this.#last = id
    this.#ids.add(id)
    this.keys.set(k, { id, t })
    return problem
  }

  /** The same key under another id: the publisher repeated what a Redis from the past had forgotten. */
  #twice(id: string, k: string, t: number, facts: Facts): Problem {
    if (this.#ids.has(id)) return { invariant: 'duplicate', what: 'came twice' }
    const before = this.keys.get(k)
    if (!before || mayBeUndone(this.#topic, before.t - PUBLISH_TIME, t, facts)) return undefined
    return { invariant: 'duplicate', what: `came before as ${before.id}` }
  }

  #follows(next: Place): Problem {
    const [place, received] = [this.#place, this.#received]
    if (received?.timeline === next.timeline && next.seq <= received.seq) {
      return { invariant: 'order', what: `came after ${received.seq}` }
    }
    if (!place) return undefined
    // The first entry of a topic begins its timeline, later than that of a position before it.
    const isFirst = place.seq === 0 && next.seq === 1 && next.timeline >= place.timeline
    if (place.timeline !== next.timeline && !isFirst) {
      return { invariant: 'gap-untold', what: `is of another timeline than ${place.timeline}.${place.seq}` }
    }
    return next.seq > place.seq + 1 ? { invariant: 'hole', what: `came right after ${place.seq}` } : undefined
  }
}

type Problem = { invariant: Invariant; what: string } | undefined

const UNTOLD: Problem = { invariant: 'gap-untold', what: 'came after recovered: false, without a gap between' }
/** How long a publisher tries. */
const PUBLISH_TIME = 12_000

function placeOf(id: string): Place | undefined {
  const seq = positionOf(id)?.seq
  return seq === undefined ? undefined : { timeline: timelineOf(id), seq, time: Number(/\.(\d+)-\d+$/.exec(id)?.[1]) }
}

function encodeLast(id: string | undefined): string {
  return id ?? 'nothing'
}

/** Goes through what one client was told and says what is wrong with it. */
export function judgeClient(name: string, told: readonly Told[], facts: Facts): Violation[] {
  const views = new Map<string, TopicView>()
  const violations: Violation[] = []
  const add = (problem: Problem, subject: string, t: number) => {
    if (problem) violations.push({ invariant: problem.invariant, what: `${name} at ${t}: ${subject} ${problem.what}` })
  }
  for (const entry of told) {
    if (entry.e === 'sub') {
      const view = views.get(entry.topic) ?? new TopicView(entry.topic, entry.t)
      views.set(entry.topic, view)
      add(view.started(entry), entry.topic, entry.t)
    } else if (entry.e === 'msg') {
      const subject = `${entry.topic} ${entry.id} (${entry.k})`
      add(inventionIn(entry, views, facts), subject, entry.t)
      add(views.get(entry.topic)?.message(entry, facts), subject, entry.t)
    } else if (entry.e === 'gap') {
      add(judgeGap(entry, views, facts), JSON.stringify(entry.topics), entry.t)
    } else if (entry.e === 'stays-closed') {
      add({ invariant: 'liveness', what: `${entry.code} ${entry.reason}` }, 'closed for good:', entry.t)
    } else if (entry.e === 'error') {
      add({ invariant: 'error', what: JSON.stringify(entry) }, 'was sent an error', entry.t)
    }
  }
  return [...violations, ...missingOf(name, views, facts)]
}

function inventionIn({ topic, k, h }: Of<'msg'>, views: Map<string, TopicView>, facts: Facts): Problem {
  const tried = facts.tries.get(k)
  if (!tried) return { invariant: 'invented', what: 'was published by nobody' }
  if (tried.topic !== topic) return { invariant: 'invented', what: `was published on ${tried.topic}` }
  if (tried.h !== h) return { invariant: 'invented', what: 'has another payload than was published' }
  return views.has(topic) ? undefined : { invariant: 'invented', what: 'was not subscribed' }
}

function judgeGap({ t, topics, reason, positions }: Of<'gap'>, views: Map<string, TopicView>, facts: Facts): Problem {
  let problem: Problem
  for (const topic of topics) {
    problem = views.get(topic)?.gap(t, positions?.[topic], facts) ?? problem
    if (isJustified(reason, topic, t, facts)) continue
    problem = { invariant: 'gap-unjustified', what: `was told a gap (${reason}) that no fault explains: ${topic}` }
  }
  return problem
}

/** What was acknowledged, and neither came nor was covered by a gap that was told after it was first tried. */
function missingOf(name: string, views: Map<string, TopicView>, facts: Facts): Violation[] {
  const violations: Violation[] = []
  for (const { k, topic, id, t } of facts.acks) {
    const view = views.get(topic)
    const tried = facts.tries.get(k)!
    if (!view || view.keys.has(k) || tried.t <= view.since) continue
    const isThere = facts.histories.get(topic)?.some(entry => entry.id === id)
    const from = isThere ? tried.t : coveredFrom(topic, tried.t, facts)
    if (view.gaps.some(gap => gap >= from)) continue
    violations.push({ invariant: 'missing', what: `${name}: ${topic} ${id} (${k}), acknowledged at ${t}, never came` })
  }
  return violations
}
