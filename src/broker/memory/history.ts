import { randomBytes } from 'node:crypto'
import { errors } from '../../protocol/errors.ts'
import type { GapReason } from '../../protocol/messages.ts'
import { encodeId, isLater, type Position, positionOf, timelineOf } from '../../protocol/position.ts'
import type { Topic } from '../../protocol/topic.ts'
import type { HistoryEntry, HistoryPage, HistoryRule, PageLimits } from '../broker.ts'

interface Entry extends HistoryEntry {
  /** Of its mark: never before that of an older entry, also where the clock went back. */
  time: number
}

interface Recorded {
  /** Where it began: an older id is of a history of the same topic that was dropped. */
  start: Position
  head: Position
  entries: Entry[]
  retention: HistoryRule
  /** Idempotency keys and what was recorded under them. */
  once: Map<string, { position: Position; expires: number }>
  usedAt: number
}

const DAY = 24 * 60 * 60 * 1000
const ONCE_TTL = 600_000

/** Topics whose history is kept in this process. Nothing that is still needed is dropped for a new one. */
const MAX_TOPICS = 10_000

/** Histories of one process: what push.lua does in Redis, with the same promises for as long as the process lives. */
export class MemoryHistory {
  /** Ids of another process are of another timeline. */
  readonly #timeline = `${Date.now().toString(36)}${randomBytes(4).toString('hex')}`
  readonly #topics = new Map<Topic, Recorded>()
  readonly #now: () => number

  constructor(now: () => number = Date.now) {
    this.#now = now
  }

  /** Records `envelope`, unless that was done before under the same key. Throws PUSH_ERR_BUSY when there is no room. */
  append(topic: Topic, envelope: Buffer, retention: HistoryRule, key: string | undefined) {
    const now = this.#now()
    const recorded = this.#topics.get(topic) ?? this.#add(topic, retention, now)
    const before = key === undefined ? undefined : recorded.once.get(key)
    if (before && before.expires > now) return { position: before.position, isDuplicate: true }
    const seq = recorded.head.seq + 1
    const mark = nextMark(recorded.head.id, now)
    const position = { id: encodeId(this.#timeline, seq, mark), seq }
    recorded.head = position
    recorded.usedAt = now
    recorded.retention = {
      size: Math.max(retention.size, recorded.retention.size),
      ttl: Math.max(retention.ttl, recorded.retention.ttl),
    }
    recorded.entries.push({ position, envelope, time: Number.parseInt(mark, 10) })
    this.#trim(recorded, now)
    if (key !== undefined) {
      recorded.once.set(key, { position, expires: now + Math.max(recorded.retention.ttl * 1000, ONCE_TTL) })
    }
    return { position, isDuplicate: false }
  }

  #add(topic: Topic, retention: HistoryRule, now: number): Recorded {
    if (this.#topics.size >= MAX_TOPICS) this.#makeRoom(now)
    const start = this.#start(now)
    const recorded: Recorded = {
      start,
      head: start,
      entries: [],
      retention,
      once: new Map(),
      usedAt: now,
    }
    this.#topics.set(topic, recorded)
    return recorded
  }

  #makeRoom(now: number): void {
    for (const [topic, { usedAt, retention }] of this.#topics) {
      if (usedAt + retention.ttl * 1000 + DAY < now) this.#topics.delete(topic)
    }
    if (this.#topics.size >= MAX_TOPICS) {
      throw new errors.BUSY(`${MAX_TOPICS} topics are recorded in this process already: use Redis for more`)
    }
  }

  #trim(recorded: Recorded, now: number): void {
    const { size, ttl } = recorded.retention
    const { entries, once } = recorded
    let old = Math.max(0, entries.length - size)
    while (entries[old] && entries[old]!.time < now - ttl * 1000) old++
    if (old > 0) entries.splice(0, old)
    for (const [key, { expires }] of once) {
      if (expires > now) break
      once.delete(key)
    }
  }

  /** A place before the first entry; it says when that was so, and is good for a day. */
  #start(now: number): Position {
    return { id: encodeId(this.#timeline, 0, `${now}-0`), seq: 0 }
  }

  head(topic: Topic): Position {
    return this.#topics.get(topic)?.head ?? this.#start(this.#now())
  }

  page(topic: Topic, since: string, limits: PageLimits): HistoryPage {
    const now = this.#now()
    const head = this.head(topic)
    const recorded = this.#topics.get(topic)
    const from = positionOf(since)
    const missed = recorded?.entries.filter(({ position }) => position.seq > (from?.seq ?? 0)) ?? []
    const reason = from ? this.#problem(from, recorded, missed[0], now) : 'unknown_id'
    if (reason) return { gap: reason, head, entries: [], isComplete: true }
    const entries = firstOf(missed, limits)
    return { head, entries, isComplete: entries.length === missed.length }
  }

  /** Why it cannot be shown that everything after `from` is there; undefined when it can. `first` is what comes next. */
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
    if (!first || first.time < now - recorded.retention.ttl * 1000) return 'history_expired'
    return first.position.seq > from.seq + 1 ? 'history_trimmed' : undefined
  }
}

/** Later than every mark before it, whatever the clock did. */
function nextMark(last: string, now: number): string {
  const [time, number] = last.slice(last.lastIndexOf('.') + 1).split('-') as [string, string]
  return Number(time) >= now ? `${time}-${Number(number) + 1}` : `${now}-0`
}

function firstOf(entries: readonly Entry[], { count, bytes }: PageLimits): Entry[] {
  let taken = 0
  const end = entries.findIndex(({ envelope }, i) => {
    taken += envelope.length
    return i >= count || (i > 0 && taken > bytes)
  })
  return end < 0 ? [...entries] : entries.slice(0, end)
}
