import { randomBytes } from 'node:crypto'
import { CLIENT_KEY } from '../../protocol/envelope.ts'
import { errors } from '../../protocol/errors.ts'
import type { GapReason } from '../../protocol/messages.ts'
import { encodeId, isLater, newestIn, type Position, positionOf, timelineOf } from '../../protocol/position.ts'
import type { Topic } from '../../protocol/topic.ts'
import type { HistoryEntry, HistoryPage, HistoryRule, PageLimits } from '../broker.ts'

interface Entry extends HistoryEntry {
  /** The time in its mark: never before that of an older entry, even if the clock went back. */
  time: number
}

interface Recorded {
  /** Where the history began: an older id belongs to a dropped history of the same topic. */
  start: Position
  head: Position
  entries: Entry[]
  rule: HistoryRule
  /** Idempotency keys, and the position of what was recorded with each. Within each map they expire in order. */
  once: Map<string, { position: Position; expires: number }>
  onceOfClients: Recorded['once']
  usedAt: number
}

const DAY = 24 * 60 * 60 * 1000
const ONCE_TTL = 600_000

/** How many topics are recorded in this process. A history that is still needed is never dropped for a new one. */
const MAX_TOPICS = 10_000

/** The histories of one process, with the guarantees of push.lua as long as the process lives. */
export class MemoryHistory {
  /** Each process has its own, so ids of another process are recognised. It sorts before all timelines of a Redis. */
  readonly #timeline = `0${Date.now().toString(36)}${randomBytes(4).toString('hex')}`
  readonly #topics = new Map<Topic, Recorded>()
  readonly #now: () => number

  constructor(now: () => number = Date.now) {
    this.#now = now
  }

  /** Records `envelope`, unless the same key was used before. Throws PUSH_ERR_BUSY when there is no room. */
  append(topic: Topic, envelope: Buffer, rule: HistoryRule, key: string | undefined) {
    const now = this.#now()
    const recorded = this.#topics.get(topic) ?? this.#add(topic, rule, now)
    const isOfClient = key?.startsWith(CLIENT_KEY)
    const once = isOfClient ? recorded.onceOfClients : recorded.once
    const before = key === undefined ? undefined : once.get(key)
    if (before && before.expires > now) return { position: before.position, isDuplicate: true }
    const seq = recorded.head.seq + 1
    const mark = nextMark(recorded.head.id, now)
    const position = { id: encodeId(this.#timeline, seq, mark), seq }
    recorded.head = position
    if (hasExpired(recorded, now)) recorded.entries = []
    recorded.usedAt = now
    recorded.rule = {
      size: Math.max(rule.size, recorded.rule.size),
      ttl: Math.max(rule.ttl, recorded.rule.ttl),
    }
    recorded.entries.push({ position, envelope, time: Number.parseInt(mark, 10) })
    this.#trim(recorded, now)
    if (key !== undefined) {
      const kept = isOfClient ? ONCE_TTL : Math.max(recorded.rule.ttl * 1000, ONCE_TTL)
      once.set(key, { position, expires: now + kept })
    }
    return { position, isDuplicate: false }
  }

  #add(topic: Topic, rule: HistoryRule, now: number): Recorded {
    if (this.#topics.size >= MAX_TOPICS) this.#makeRoom(now)
    const start = this.#start(now)
    const keys = { once: new Map(), onceOfClients: new Map() }
    const recorded: Recorded = { start, head: start, entries: [], rule, ...keys, usedAt: now }
    this.#topics.set(topic, recorded)
    return recorded
  }

  #makeRoom(now: number): void {
    for (const [topic, { usedAt, rule }] of this.#topics) {
      if (usedAt + rule.ttl * 1000 + DAY < now) this.#topics.delete(topic)
    }
    if (this.#topics.size >= MAX_TOPICS) {
      throw new errors.BUSY(`${MAX_TOPICS} topics are already recorded in this process: use Redis for more`)
    }
  }

  #trim(recorded: Recorded, now: number): void {
    const { entries, rule } = recorded
    let old = Math.max(0, entries.length - rule.size)
    while (entries[old] && isOld(entries[old]!, recorded, now)) old++
    if (old > 0) entries.splice(0, old)
    forgetKeys(recorded.once, now)
    forgetKeys(recorded.onceOfClients, now)
  }

  /** A position before the first entry. Its mark says when that was true; it is valid for a day. */
  #start(now: number): Position {
    return { id: encodeId(this.#timeline, 0, `${now}-0`), seq: 0 }
  }

  head(topic: Topic): Position {
    return this.#topics.get(topic)?.head ?? this.#start(this.#now())
  }

  /** Undefined if nothing was recorded. */
  recorded(topic: Topic): { head: Position; size: number } | undefined {
    const recorded = this.#topics.get(topic)
    return recorded && { head: recorded.head, size: hasExpired(recorded, this.#now()) ? 0 : recorded.entries.length }
  }

  page(topic: Topic, since: string, limits: PageLimits): HistoryPage {
    const now = this.#now()
    const head = this.head(topic)
    const recorded = this.#topics.get(topic)
    const count = newestIn(since)
    if (count !== undefined) return pageOf(head, newestOf(recorded, count, now), limits)
    const from = positionOf(since)
    const missed = recorded?.entries.filter(({ position }) => position.seq > (from?.seq ?? 0)) ?? []
    const reason = from ? this.#problem(from, recorded, missed[0], now) : 'unknown_id'
    if (reason) return { gap: reason, head, entries: [], isComplete: true }
    return pageOf(head, missed, limits)
  }

  /** Why something after `from` may be missing; undefined if nothing is. `first` is the next entry. */
  #problem(
    from: Position,
    recorded: Recorded | undefined,
    first: Entry | undefined,
    now: number,
  ): GapReason | undefined {
    if (timelineOf(from.id) !== this.#timeline) return 'history_replaced'
    if (from.seq === 0 && now - Number(/\.(\d+)-\d+$/.exec(from.id)![1]) > DAY) return 'history_expired'
    if (!recorded) return from.seq === 0 ? undefined : 'history_expired'
    if (from.seq > recorded.head.seq) return 'history_replaced'
    if (from.seq > 0 && isLater(recorded.start.id, from.id)) return 'history_replaced'
    if (from.seq === recorded.head.seq) return undefined
    if (!first || hasExpired(recorded, now) || isOld(first, recorded, now)) return 'history_expired'
    return first.position.seq > from.seq + 1 ? 'history_trimmed' : undefined
  }
}

function isOld(entry: Entry, { rule }: Recorded, now: number): boolean {
  return entry.time < now - rule.ttl * 1000
}

/** After a clock that went back, marks are later than the times of recording, and Redis forgets a history as a whole. */
function hasExpired({ usedAt, rule }: Recorded, now: number): boolean {
  return usedAt < now - rule.ttl * 1000
}

function forgetKeys(once: Recorded['once'], now: number): void {
  for (const [key, { expires }] of once) {
    if (expires > now) break
    once.delete(key)
  }
}

/** Always later than the last mark, even if the clock went back. */
function nextMark(last: string, now: number): string {
  const [time, number] = last.slice(last.lastIndexOf('.') + 1).split('-') as [string, string]
  return Number(time) >= now ? `${time}-${Number(number) + 1}` : `${now}-0`
}

function pageOf(head: Position, all: readonly Entry[], limits: PageLimits): HistoryPage {
  const entries = firstOf(all, limits)
  return { head, entries, isComplete: entries.length === all.length }
}

/** As many bytes are looked through as in push.lua. */
const MAX_NEWEST_BYTES = 1024 * 1024

function newestOf(recorded: Recorded | undefined, count: number, now: number): readonly Entry[] {
  if (!recorded || hasExpired(recorded, now)) return []
  const { entries } = recorded
  let first = entries.length
  let bytes = 0
  while (first > 0 && entries.length - first < count) {
    const entry = entries[first - 1]!
    bytes += entry.envelope.length
    if (isOld(entry, recorded, now) || (first < entries.length && bytes > MAX_NEWEST_BYTES)) break
    first--
  }
  return entries.slice(first)
}

function firstOf(entries: readonly Entry[], { count, bytes }: PageLimits): Entry[] {
  let taken = 0
  const end = entries.findIndex(({ envelope }, i) => {
    taken += envelope.length
    return i >= count || (i > 0 && taken > bytes)
  })
  return end < 0 ? [...entries] : entries.slice(0, end)
}
