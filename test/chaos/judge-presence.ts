import { CLOSE } from '../../src/protocol/messages.ts'
import type { Facts, VisitNote } from './facts.ts'
import { mayFlicker } from './justify.ts'
import { PresenceView } from './presence-view.ts'
import { GRACE, LOBBIES } from './topics.ts'
import type { Violation } from './verdict.ts'

/** What was told may be this old, in milliseconds, on a machine that is busy. */
const DELAY = 3000
/** By so much an absence may have been longer for the node than for the visitor. */
const TOLERANCE = 250

const NEVER = Number.POSITIVE_INFINITY

interface Absence {
  /** As early as it may have begun for a node. */
  from: number
  /** When the visitor knew of it. */
  noted: number
  /** When it was back, as it was told. */
  until: number
  /** When it first tried to come back: others may be told before it is. */
  tried: number
}

/** Judges what visitors were told by what they did. How they all end up knowing who is there is looked at while it runs. */
export function judgePresence(facts: Facts): Violation[] {
  const absences = absencesIn(facts.visits)
  const views = new Map<string, PresenceView>()
  const violations: Violation[] = []
  for (const visit of facts.visits) {
    const { t, c } = visit
    if (visit.e === 'asked') views.set(`${c} ${visit.topic}`, new PresenceView())
    if (visit.e === 'told') {
      const problem = views.get(`${c} ${visit.topic}`)?.take(visit.message)
      if (problem) violations.push({ invariant: 'roster', what: `${c} at ${t}: ${visit.topic} ${problem}` })
    }
    if (visit.e !== 'told' && visit.e !== 'changed') continue
    const { joined, left } = changesIn(visit)
    const of = (user: string) => absences.get(`${user} ${visit.topic}`)
    for (const user of left.filter(user => of(user) && !isAway(of(user)!, t))) {
      if (mayFlicker(visit.topic, t, facts)) continue
      violations.push({ invariant: 'flicker', what: `${c} at ${t}: ${user} left ${visit.topic}, and was there` })
    }
    for (const user of joined.filter(user => of(user) && isGone(of(user)!, t))) {
      if (mayFlicker(visit.topic, t, facts)) continue
      violations.push({ invariant: 'ghost', what: `${c} at ${t}: ${user} joined ${visit.topic}, and was not there` })
    }
  }
  return violations
}

/** Who joined and left, as this note says. */
export function changesIn(visit: VisitNote): { joined: string[]; left: string[] } {
  if (visit.e === 'changed') return visit
  if (visit.e !== 'told') return { joined: [], left: [] }
  const { joined = [], left = [] } = visit.message
  return { joined: joined.map(({ user }) => user), left }
}

/** Whether the user was away long enough, not long ago. */
function isAway(absences: readonly Absence[], t: number): boolean {
  return absences.some(({ from, until }) => until >= t - DELAY && Math.min(until, t) - from >= GRACE - TOLERANCE)
}

/** Whether the user had not been there for long. */
function isGone(absences: readonly Absence[], t: number): boolean {
  return absences.some(({ noted, until, tried }) => noted < t - DELAY && Math.min(tried, until) > t)
}

/** The node closed the connection because the visitor was mute or slow: it reads that late. */
function beginOf({ t, code }: { t: number; code?: number }): number {
  return code === CLOSE.HEARTBEAT_TIMEOUT || code === CLOSE.SLOW_CONSUMER ? t - DELAY : t
}

/** When each user had no connection that had the topic, by user and topic. It begins when the user was first there. */
function absencesIn(visits: readonly VisitNote[]): Map<string, Absence[]> {
  const counts = new Map<string, number>()
  const absences = new Map<string, Absence[]>()
  for (const visit of visits) {
    if (visit.e === 'attempt') {
      for (const topic of ['all', ...LOBBIES]) {
        const last = absences.get(`${visit.user} ${topic}`)?.at(-1)
        if (last) last.tried = Math.min(last.tried, visit.t)
      }
    }
    if (visit.e !== 'entered' && visit.e !== 'left') continue
    const key = `${visit.user} ${visit.topic}`
    const before = counts.get(key) ?? 0
    const count = before + (visit.e === 'entered' ? 1 : -1)
    counts.set(key, count)
    const known = absences.get(key) ?? []
    absences.set(key, known)
    if (before === 0 && count === 1 && known.length > 0) known.at(-1)!.until = visit.t
    if (visit.e === 'left' && count === 0)
      known.push({ from: beginOf(visit), noted: visit.t, until: NEVER, tried: NEVER })
  }
  return absences
}
