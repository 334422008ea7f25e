import { positionOf, timelineOf } from '../../src/protocol/position.ts'
import { type Ack, type Facts, type Queued, readFacts, type Told } from './facts.ts'
import { judgeClient } from './judge-client.ts'
import { changesIn, judgePresence } from './judge-presence.ts'
import { mayBeUndone } from './justify.ts'
import type { Tally, Verdict, Violation } from './verdict.ts'

/** Judges a run by its logs alone. */
export function judge(seed: number, folder: string): Verdict {
  const facts = readFacts(folder)
  const tally = tallyOf(facts)
  const violations: Violation[] = []
  for (const [name, told] of facts.clients) violations.push(...judgeClient(name, told, facts))
  violations.push(
    ...judgeKeys(facts),
    ...judgeQueue(facts),
    ...judgeHistories(facts),
    ...judgeLanes(facts),
    ...judgePresence(facts),
  )
  for (const what of facts.complaints) violations.push({ invariant: 'error', what })
  for (const note of facts.controller) {
    if (note.e === 'violation') violations.push({ invariant: note.invariant as 'leak', what: note.what as string })
    if (note.e === 'aborted')
      return { seed, violations: [{ invariant: 'liveness', what: note.what as string }], tally, folder }
    if (note.e === 'unclean-exit')
      violations.push({ invariant: 'leak', what: `node ${note.node} did not leave in time` })
  }
  return { seed, violations, tally, folder }
}

/** A key stands for one publication, unless Redis forgot it. */
function judgeKeys(facts: Facts): Violation[] {
  const places = new Map<string, { id: string; t: number }>()
  const violations: Violation[] = []
  const see = (topic: string, { k, id }: { k: string; id: string }, t: number) => {
    const before = places.get(k)
    if (!before) places.set(k, { id, t })
    else if (before.id !== id && !mayBeUndone(topic, facts.tries.get(k)?.t ?? 0, Math.max(t, before.t), facts)) {
      violations.push({ invariant: 'duplicate', what: `${k} was recorded as ${before.id} and as ${id}` })
    }
  }
  for (const ack of facts.acks) see(ack.topic, ack, ack.t)
  for (const [topic, entries] of facts.histories) for (const entry of entries) see(topic, entry, 0)
  return violations
}

/** Whatever a queue took was published, unless Redis forgot it: the publication, or the stream. */
function judgeQueue(facts: Facts): Violation[] {
  const published = new Set(facts.acks.map(({ k }) => k))
  const isForgotten = ({ topic, t, queue }: Queued) =>
    [topic, ...(queue === 'streams' ? ['ingress'] : [])].some(it => mayBeUndone(it, t, Number.POSITIVE_INFINITY, facts))
  return facts.queued
    .filter(queued => !published.has(queued.k) && !isForgotten(queued))
    .map(({ k, topic, t }) => ({ invariant: 'missing', what: `${topic}: ${k} was queued at ${t} and never published` }))
}

/** The histories have no hole, and everything that was acknowledged since their oldest entry. */
function judgeHistories(facts: Facts): Violation[] {
  const violations: Violation[] = []
  for (const [topic, entries] of facts.histories) {
    for (const [i, { id }] of entries.entries()) {
      const [seq, before] = [positionOf(id)!.seq, i > 0 ? positionOf(entries[i - 1]!.id)!.seq : undefined]
      if (before !== undefined && seq !== before + 1) {
        violations.push({ invariant: 'history', what: `${topic}: ${before} is followed by ${id}` })
      }
    }
    const known = new Set(entries.map(({ id }) => id))
    for (const ack of facts.acks) {
      if (ack.topic === topic && isLost(ack, entries, known, facts)) {
        violations.push({
          invariant: 'history',
          what: `${topic}: ${ack.id} (${ack.k}) was acknowledged and is not there`,
        })
      }
    }
  }
  return violations
}

function isLost(ack: Ack, entries: { id: string }[], known: Set<string>, facts: Facts): boolean {
  if (known.has(ack.id)) return false
  const oldest = entries.find(({ id }) => timelineOf(id) === timelineOf(ack.id))
  if (!oldest || ack.seq < positionOf(oldest.id)!.seq) return false
  return !mayBeUndone(ack.topic, facts.tries.get(ack.k)?.t ?? 0, ack.t, facts)
}

/** What has an order stands in it. */
function judgeLanes(facts: Facts): Violation[] {
  const last = new Map<string, Ack>()
  const violations: Violation[] = []
  for (const ack of inOrder(facts)) {
    const key = `${ack.lane} ${ack.topic}`
    const before = last.get(key)
    last.set(key, ack)
    // Numbers of two timelines say nothing of each other.
    if (!before || before.seq < ack.seq || timelineOf(before.id) !== timelineOf(ack.id)) continue
    const times = [before.t, ack.t]
    if (mayBeUndone(ack.topic, Math.min(...times), Math.max(...times), facts)) continue
    violations.push({ invariant: 'order', what: `${ack.lane}: ${ack.k} is ${ack.id}, behind ${before.k} ${before.id}` })
  }
  return violations
}

/**
 * Publications in the order in which they were made: a lane waits for each answer. Those of a queue in the order in which
 * it took them, if that is one that holds.
 */
function inOrder({ acks, queued }: Facts): Ack[] {
  const places = new Map(acks.map(ack => [ack.k, ack]))
  const throughQueues = queued.flatMap(({ k, sequence }) => {
    const ack = places.get(k)
    return ack && sequence !== undefined ? [{ ...ack, lane: sequence }] : []
  })
  const taken = new Set(queued.map(({ k }) => k))
  return [...acks.filter(({ k, lane }) => lane !== 'canary' && !taken.has(k)), ...throughQueues]
}

function tallyOf(facts: Facts): Tally {
  const tally: Tally = {
    acknowledged: facts.acks.length,
    queued: {},
    delivered: 0,
    clients: facts.clients.size,
    faults: {},
    recoveries: {},
    gaps: {},
    filled: 0,
    reconnects: [],
    settled: undefined,
    presence: { joined: 0, left: 0 },
    presenceSettled: undefined,
  }
  for (const { kind } of facts.faults) increase(tally.faults, kind)
  for (const { queue } of facts.queued) increase(tally.queued, queue)
  for (const told of facts.clients.values()) tallyClient(told, tally)
  for (const visit of facts.visits) {
    const { joined, left } = changesIn(visit)
    tally.presence.joined += joined.length
    tally.presence.left += left.length
  }
  for (const note of facts.controller) {
    if (note.e === 'settled') tally.settled = note.milliseconds as number
    if (note.e === 'presence-settled') tally.presenceSettled = note.milliseconds as number
    if (note.e === 'state') tally.filled += (note.filled as number) ?? 0
  }
  return tally
}

function tallyClient(told: readonly Told[], tally: Tally): void {
  let closed: number | undefined
  for (const entry of told) {
    if (entry.e === 'msg') tally.delivered++
    else if (entry.e === 'gap') increase(tally.gaps, entry.reason)
    else if (entry.e === 'sub' && (entry.since ?? entry.recovered) !== undefined)
      increase(tally.recoveries, pathOf(entry))
    else if (entry.e === 'close') closed ??= entry.t
    else if (entry.e === 'welcome' && closed !== undefined) {
      tally.reconnects.push(entry.t - closed)
      closed = undefined
    }
  }
}

function pathOf({ recovered, id, since }: Extract<Told, { e: 'sub' }>): string {
  if (recovered === undefined) return 'away'
  if (!recovered) return 'gap'
  if (since === undefined) return 'by the library'
  return id === since ? 'up to date' : 'replayed'
}

function increase(counts: Record<string, number>, key: string): void {
  counts[key] = (counts[key] ?? 0) + 1
}
