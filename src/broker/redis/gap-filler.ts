import type { GapReason } from '../../protocol/messages.ts'
import { isCovered, type Position } from '../../protocol/position.ts'
import { Slice } from '../../protocol/slice.ts'
import type { Topic } from '../../protocol/topic.ts'
import type { HistoryPage, PageLimits } from '../broker.ts'
import { retrying } from '../waiting.ts'
import { follows, TopicCursor } from './cursor.ts'
import { HeldMessages } from './held-messages.ts'
import { isPresence, type Recorded, type RedisHistory } from './history.ts'
import { aFewAtOnce, Turns } from './turns.ts'

export interface GapFillerEvents {
  deliver(topic: Topic, envelope: Slice, position: Position | undefined): void
  lost(reason: GapReason, topics: ReadonlyMap<Topic, Position | undefined>): void
  /** There was no room for this message: `lost` with the reason `overload` follows in its place. */
  dropped(topic: Topic, envelope: Slice): void
  /** Whether a rule says that publications on `topic` are recorded. */
  isRecorded(topic: Topic): boolean
  /** Every topic that has a connection on this node. */
  topics(): Iterable<Topic>
  /** This many missed publications were delivered from the history. */
  filled(topic: Topic, publications: number): void
  failed(error: unknown): void
}

const PAGE: PageLimits = { count: 500, bytes: 512 * 1024 }

/** Pages read at the same time, and topics that take turns at that: who has much to read holds up nobody else. */
const PAGES_AT_ONCE = 8
const FILLED_AT_ONCE = 100
/** Topics compared in one call, and such calls under way at the same time. */
const COMPARED_AT_ONCE = 500
const CALLS_AT_ONCE = 4

/**
 * Delivers recorded publications once, in order and without holes. Each names the one before it; missing ones are read
 * from the history. If that is impossible, `lost` is called before the next delivery.
 */
export class GapFiller {
  readonly #source: RedisHistory
  readonly #events: GapFillerEvents
  readonly #cursors = new Map<Topic, TopicCursor>()
  readonly #turns = new Turns(PAGES_AT_ONCE)
  readonly #held = new HeldMessages()
  /** How many topics are being filled: their clients get messages late. */
  filling = 0
  /** Counts lost and restored links: work of an older era stops. */
  #era = 0

  constructor(source: RedisHistory, events: GapFillerEvents) {
    this.#source = source
    this.#events = events
  }

  isFilling(topic: Topic): boolean {
    return this.#cursors.get(topic)?.isFilling === true
  }

  /** Call it when the topics are subscribed: resolves with their positions. Rejects if Redis cannot be asked. */
  async join(topics: readonly Topic[]): Promise<ReadonlyMap<Topic, Position>> {
    const cursors = topics.map(topic => [topic, this.#cursors.get(topic) ?? this.#add(topic)] as const)
    const unknown = cursors.filter(([, { last, isFilling }]) => !last || isFilling).map(([topic]) => topic)
    const heads = unknown.length > 0 ? await this.#source.heads(unknown) : undefined
    const positions = new Map<Topic, Position>()
    for (const [topic, cursor] of cursors) {
      const position = cursor.whereabouts(heads?.get(topic))
      if (position) positions.set(topic, position)
    }
    return positions
  }

  /** Where the topic is now that was at `then` when it was joined. */
  whereabouts(topic: Topic, then: Position): Position {
    return this.#cursors.get(topic)?.whereabouts(then) ?? then
  }

  #add(topic: Topic): TopicCursor {
    const cursor = new TopicCursor()
    this.#cursors.set(topic, cursor)
    return cursor
  }

  leave(topic: Topic): void {
    const cursor = this.#cursors.get(topic)
    if (!cursor) return
    if (cursor.isFilling) this.filling--
    this.#held.take(cursor)
    this.#cursors.delete(topic)
  }

  receiveUnrecorded(topic: Topic, envelope: Slice): void {
    const cursor = this.#cursors.get(topic)
    if (cursor && !cursor.hasUnrecorded) cursor.hasUnrecorded = !isPresence(envelope)
    if (!cursor?.isFilling) return this.#events.deliver(topic, envelope, undefined)
    if (!this.#held.hold(cursor, envelope)) this.#events.dropped(topic, envelope)
  }

  /** Unrecorded messages of `topic` were dropped after all that was received so far. */
  overflowed(topic: Topic): void {
    const cursor = this.#cursors.get(topic)
    if (cursor) cursor.hasUnrecorded = true
    if (cursor?.isFilling) cursor.hasOverflown = true
    else this.#events.lost('overload', new Map([[topic, undefined]]))
  }

  receive(topic: Topic, { position, previous, envelope }: Recorded): void {
    const cursor = this.#cursors.get(topic)
    if (!cursor) return this.#events.deliver(topic, envelope, position)
    if (cursor.isFilling) {
      this.#noteNewest(cursor, position)
    } else if (!cursor.last || follows(cursor.last, position, previous)) {
      cursor.last = position
      this.#events.deliver(topic, envelope, position)
    } else if (!isCovered(position, cursor.last)) {
      this.#noteNewest(cursor, position)
      void this.#fill(topic, cursor, this.#era)
    }
  }

  #noteNewest(cursor: TopicCursor, position: Position): void {
    cursor.newest = position
    cursor.newestAt = performance.now()
  }

  /**
   * The link is back. Every recorded topic now waits until it was compared with its history. Call this before any
   * message is received, so that none overtakes a missed one. Other topics get their gap now and continue at once: they
   * need no history, and a Redis that refuses writes, because it lacks a replica or disk space, would hold them up.
   */
  restored(): void {
    this.#era++
    for (const [topic, cursor] of this.#cursors) if (this.#isRecorded(topic, cursor)) this.#startFilling(cursor)
    this.#tellLost(this.#events.topics())
  }

  /** How far the topic was delivered, for the master that has it from now on. */
  release(topic: Topic): TopicCursor | undefined {
    const cursor = this.#cursors.get(topic)
    this.leave(topic)
    return cursor
  }

  /** The topic comes from another master. Its messages wait until `regained`, unless it is still to be joined. */
  adopt(topic: Topic, { last, hasUnrecorded, wasGivenUp, isNew }: TopicCursor): TopicCursor {
    const cursor = Object.assign(this.#add(topic), { last, hasUnrecorded, wasGivenUp })
    if (!isNew || !this.#events.isRecorded(topic)) this.#startFilling(cursor)
    return cursor
  }

  /** Messages of these topics did not come for a while, and now come again. */
  async regained(topics: readonly Topic[]): Promise<void> {
    const era = this.#era
    this.#tellLost(topics)
    await this.#each(topics, era, async (topic, cursor) => {
      if (this.#isRecorded(topic, cursor)) await this.#fill(topic, cursor, era)
      else this.#settle(topic)
    })
  }

  #tellLost(topics: Iterable<Topic>): void {
    const lost = new Map<Topic, undefined>()
    for (const topic of topics) if (!this.#isRecoverable(topic)) lost.set(topic, undefined)
    if (lost.size > 0) this.#events.lost('broker_link', lost)
  }

  /** Whether everything that may have been missed on `topic` is in its history. */
  #isRecoverable(topic: Topic): boolean {
    const cursor = this.#cursors.get(topic)
    return cursor !== undefined && !cursor.hasUnrecorded && this.#isRecorded(topic, cursor)
  }

  #isRecorded(topic: Topic, { last }: TopicCursor): boolean {
    return last !== undefined && (last.seq > 0 || this.#events.isRecorded(topic))
  }

  /** The link is lost: filling continues when it is back. */
  interrupted(): void {
    this.#era++
  }

  /** Compares every topic with its history, and fills those that differ. */
  async compareAll(): Promise<void> {
    const era = this.#era
    const cursors = [...this.#cursors]
    const known = cursors.flatMap(([topic, { last }]): [Topic, Position][] => (last ? [[topic, last]] : []))
    const unknown = cursors.flatMap(([topic, { last }]) => (last ? [] : topic))
    const changed: Topic[] = []
    const parts: [Topic, Position][][] = []
    for (let i = 0; i < known.length; i += COMPARED_AT_ONCE) parts.push(known.slice(i, i + COMPARED_AT_ONCE))
    await aFewAtOnce(parts, CALLS_AT_ONCE, async part => {
      // A topic that another master has by now cannot be asked for here.
      const present = () => part.filter(([topic]) => this.#cursors.has(topic))
      const different = new Set(await this.#retrying(era, () => this.#source.different(present())))
      if (era !== this.#era) return
      for (const [topic] of part) if (!different.has(topic)) this.#settle(topic)
      changed.push(...different)
    })
    if (era !== this.#era) return
    await this.#retrying(era, () => this.join(unknown.filter(topic => this.#cursors.has(topic))))
    await this.#each(changed, era, (topic, cursor) => this.#fill(topic, cursor, era))
  }

  /** Redis went back in time: every topic must be compared with its history. */
  invalidate(): void {
    for (const cursor of this.#cursors.values()) if (cursor.last) this.#startFilling(cursor)
  }

  #startFilling(cursor: TopicCursor): void {
    if (!cursor.isFilling) this.filling++
    cursor.isFilling = true
  }

  /** The head is unchanged. If publications have come since the comparison, the topic is filled after all. */
  #settle(topic: Topic): void {
    const cursor = this.#cursors.get(topic)
    // A fill that is under way finishes it.
    if (!cursor?.isFilling || cursor.filler?.era === this.#era) return
    if (cursor.newest) void this.#fill(topic, cursor, this.#era)
    else this.#finish(topic, cursor)
  }

  #each(topics: readonly Topic[], era: number, work: (topic: Topic, cursor: TopicCursor) => Promise<unknown>) {
    return aFewAtOnce(topics, FILLED_AT_ONCE, async topic => {
      const cursor = era === this.#era ? this.#cursors.get(topic) : undefined
      if (cursor) await work(topic, cursor)
    })
  }

  /** One at a time: two fills would deliver the same page twice. */
  #fill(topic: Topic, cursor: TopicCursor, era: number): Promise<void> {
    if (cursor.filler?.era !== era) {
      this.#startFilling(cursor)
      const filler = { era, done: this.#fillOnce(topic, cursor, era) }
      cursor.filler = filler
      void filler.done.then(() => {
        if (cursor.filler === filler) cursor.filler = undefined
      })
    }
    return cursor.filler!.done
  }

  async #fillOnce(topic: Topic, cursor: TopicCursor, era: number): Promise<void> {
    let filled = 0
    try {
      for (;;) {
        const askedAt = performance.now()
        const isWanted = () => era === this.#era && this.#cursors.get(topic) === cursor
        const read = async () => (isWanted() ? this.#source.read(topic, cursor.last!.id, PAGE) : undefined)
        const page = await retrying(isWanted, () => this.#turns.take(read))
        if (!page || !isWanted()) return
        filled += page.entries.length
        if (this.#take(topic, cursor, page, askedAt)) break
      }
      this.#finish(topic, cursor)
    } catch (error) {
      this.#events.failed(error)
      this.#giveUp(topic, cursor)
    } finally {
      if (filled > 0) this.#events.filled(topic, filled)
    }
  }

  /** Delivers a page; true if the topic has caught up with everything that came meanwhile. */
  #take(topic: Topic, cursor: TopicCursor, page: HistoryPage, askedAt: number): boolean {
    if (page.gap) {
      // If nothing was ever recorded, nothing can be missing.
      const isEmpty = cursor.last!.seq === 0 && page.head.seq === 0 && !this.#events.isRecorded(topic)
      cursor.last = page.head
      if (!isEmpty) this.#events.lost(page.gap, new Map([[topic, page.head]]))
    }
    for (const { position, envelope } of page.entries) {
      cursor.last = position
      this.#events.deliver(topic, new Slice(envelope), position)
    }
    if (!page.isComplete) return false
    // A publication that came after the request may be missing on the page. If one that came before is missing, it
    // belongs to another history.
    const { newest, newestAt } = cursor
    if (newest === undefined || isCovered(newest, cursor.last!)) return true
    if (newestAt >= askedAt) return false
    if (!page.gap) this.#events.lost('history_replaced', new Map([[topic, cursor.last]]))
    return true
  }

  #finish(topic: Topic, cursor: TopicCursor): void {
    this.filling--
    cursor.isFilling = false
    cursor.newest = undefined
    for (const envelope of this.#held.take(cursor)) this.#events.deliver(topic, envelope, undefined)
    if (!cursor.hasOverflown) return
    cursor.hasOverflown = false
    this.#events.lost('overload', new Map([[topic, undefined]]))
  }

  /** This server does not allow histories to be read. */
  abandon(): void {
    for (const [topic, cursor] of this.#cursors) this.#giveUp(topic, cursor)
  }

  /** The history cannot be read, and a retry will not help: tells a gap and continues with the next message. */
  #giveUp(topic: Topic, cursor: TopicCursor): void {
    if (this.#cursors.get(topic) !== cursor || !cursor.isFilling) return
    this.#events.lost('broker_link', new Map([[topic, undefined]]))
    this.#finish(topic, Object.assign(cursor, { last: undefined, wasGivenUp: true }))
  }

  /** Undefined if the link was lost meanwhile: the work starts again when it is back. */
  #retrying<T>(era: number, ask: () => Promise<T>): Promise<T | undefined> {
    return retrying(() => era === this.#era, ask)
  }

  close(): void {
    this.#era++
    this.#cursors.clear()
    this.#held.clear()
  }
}
