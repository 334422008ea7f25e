import type { HistoryPage, PageLimits } from '../broker.ts'
import { isCovered, type Position } from '../position.ts'
import type { GapReason } from '../protocol.ts'
import { retrying } from '../retry.ts'
import { Slice } from '../slice.ts'
import type { Topic } from '../topic.ts'
import type { Recorded } from './history.ts'
import { follows, newTrack, type Track } from './track.ts'

export interface ContinuitySource {
  /** Where these topics stand, and perhaps others. */
  heads(topics: readonly Topic[]): Promise<ReadonlyMap<Topic, Position>>
  read(topic: Topic, since: string, limits: PageLimits): Promise<HistoryPage>
  different(known: readonly [Topic, Position][]): Promise<Topic[]>
}

export interface ContinuityEvents {
  deliver(topic: Topic, envelope: Slice, position: Position | undefined): void
  lost(reason: GapReason, topics: ReadonlyMap<Topic, Position | undefined>): void
  /** Whether a rule says that publications on `topic` are recorded. */
  isRecorded(topic: Topic): boolean
  /** Every topic that is held. */
  topics(): Iterable<Topic>
  /** So many publications that were missed have been delivered from the history. */
  filled(topic: Topic, publications: number): void
  failed(error: unknown): void
}

const PAGE: PageLimits = { count: 500, bytes: 512 * 1024 }

/** Topics filled at the same time, and topics compared in one call. */
const CONCURRENCY = 8
const COMPARED_AT_ONCE = 500

/** Bytes of bare messages that wait until their topics are filled; more are lost and told as a gap. */
const MAX_WAITING_BYTES = 16 * 1024 * 1024

/**
 * Sees to it that recorded publications leave this room once, in order and without a hole: each names the one before
 * it, and what is missing is read from the history. Where that cannot be, it says `lost` before it goes on.
 */
export class Continuity {
  readonly #source: ContinuitySource
  readonly #events: ContinuityEvents
  readonly #tracks = new Map<Topic, Track>()
  #waitingBytes = 0
  #filling = 0
  /** Counts restorations: an older one stops when the link was lost again. */
  #era = 0
  #isClosed = false

  constructor(source: ContinuitySource, events: ContinuityEvents) {
    this.#source = source
    this.#events = events
  }

  /** Topics that are being filled: what clients get of these is late. */
  get filling(): number {
    return this.#filling
  }

  /** The topics are subscribed: says where each stands. Rejects when Redis cannot be asked. */
  async join(topics: readonly Topic[]): Promise<ReadonlyMap<Topic, Position>> {
    const tracks = topics.map(topic => [topic, this.#tracks.get(topic) ?? this.#add(topic)] as const)
    const unknown = tracks.filter(([, { last, isFilling }]) => !last || isFilling).map(([topic]) => topic)
    const heads = unknown.length > 0 ? await this.#source.heads(unknown) : undefined
    const positions = new Map<Topic, Position>()
    for (const [topic, track] of tracks) {
      const head = heads?.get(topic)
      // What has come meanwhile is newer than the answer, or the same; what came before a loss of the link may be no more.
      track.last ??= head
      const position = track.isFilling && head ? head : track.last
      if (position) positions.set(topic, position)
    }
    return positions
  }

  #add(topic: Topic): Track {
    const track = newTrack()
    this.#tracks.set(topic, track)
    return track
  }

  leave(topic: Topic): void {
    const track = this.#tracks.get(topic)
    if (!track) return
    if (track.isFilling) this.#filling--
    this.#forgetWaiting(track)
    this.#tracks.delete(topic)
  }

  receiveBare(topic: Topic, envelope: Slice): void {
    const track = this.#tracks.get(topic)
    if (!track) return this.#events.deliver(topic, envelope, undefined)
    track.hasBare = true
    if (!track.isFilling) return this.#events.deliver(topic, envelope, undefined)
    // Told behind those that wait, where it is missing, and once for all of it.
    track.hasOverflown ||= this.#waitingBytes + envelope.length > MAX_WAITING_BYTES
    if (track.hasOverflown) return
    track.waiting.push(envelope)
    this.#waitingBytes += envelope.length
  }

  receive(topic: Topic, { position, previous, envelope }: Recorded): void {
    const track = this.#tracks.get(topic)
    if (!track) return this.#events.deliver(topic, envelope, position)
    if (track.isFilling) {
      this.#noteNewest(track, position)
    } else if (!track.last || follows(track.last, position, previous)) {
      track.last = position
      this.#events.deliver(topic, envelope, position)
    } else if (!isCovered(position, track.last)) {
      this.#noteNewest(track, position)
      void this.#fill(topic, track, this.#era)
    }
  }

  #noteNewest(track: Track, position: Position): void {
    track.newest = position
    track.newestAt = performance.now()
  }

  /**
   * The link is back. From here on every recorded topic waits until it was compared with its history: called before
   * anything is received, so that no publication overtakes one that was missed. Others have their gap now and go on: a
   * Redis that refuses to write, for want of a replica or a disk, would keep all that is published bare from everybody.
   */
  restored(): void {
    this.#era++
    for (const [topic, track] of this.#tracks) if (this.#isRecorded(topic, track)) this.#startFilling(track)
    this.#tellLost(this.#events.topics())
  }

  /** For a while nothing came of these topics alone. */
  async regained(topics: readonly Topic[]): Promise<void> {
    const era = this.#era
    this.#tellLost(topics)
    await this.#each(topics, era, async (topic, track) => {
      if (this.#isRecorded(topic, track)) await this.#fill(topic, track, era)
    })
  }

  #tellLost(topics: Iterable<Topic>): void {
    const lost = new Map<Topic, undefined>()
    for (const topic of topics) if (!this.#isRecoverable(topic)) lost.set(topic, undefined)
    if (lost.size > 0) this.#events.lost('broker_link', lost)
  }

  /** Whether all that can have been missed on `topic` is in its history. */
  #isRecoverable(topic: Topic): boolean {
    const track = this.#tracks.get(topic)
    return track !== undefined && !track.hasBare && this.#isRecorded(topic, track)
  }

  #isRecorded(topic: Topic, { last }: Track): boolean {
    return last !== undefined && (last.seq > 0 || this.#events.isRecorded(topic))
  }

  /** The link is lost: what is being filled goes on when it is back. */
  interrupted(): void {
    this.#era++
  }

  /** Compares every topic with its history, and fills those that differ. */
  async compareAll(): Promise<void> {
    const era = this.#era
    const known: [Topic, Position][] = []
    const unknown: Topic[] = []
    for (const [topic, { last }] of this.#tracks) {
      if (last) known.push([topic, last])
      else unknown.push(topic)
    }
    for (let i = 0; i < known.length; i += COMPARED_AT_ONCE) {
      const part = known.slice(i, i + COMPARED_AT_ONCE)
      const different = new Set(await this.#retrying(era, () => this.#source.different(part)))
      if (era !== this.#era) return
      for (const [topic] of part) if (!different.has(topic)) this.#settle(topic)
      await this.#each([...different], era, (topic, track) => this.#fill(topic, track, era))
    }
    await this.#retrying(era, () => this.join(unknown.filter(topic => this.#tracks.has(topic))))
  }

  /** Redis went back in time: what is known of every topic is void. */
  invalidate(): void {
    for (const track of this.#tracks.values()) if (track.last) this.#startFilling(track)
  }

  #startFilling(track: Track): void {
    if (!track.isFilling) this.#filling++
    track.isFilling = true
  }

  /** The topic stands where it stood. What came while it was looked at makes it differ after all. */
  #settle(topic: Topic): void {
    const track = this.#tracks.get(topic)
    // Who is filling it already finishes it too.
    if (!track?.isFilling || track.filler?.era === this.#era) return
    if (track.newest) void this.#fill(topic, track, this.#era)
    else this.#finish(topic, track)
  }

  async #each(
    topics: readonly Topic[],
    era: number,
    work: (topic: Topic, track: Track) => Promise<unknown>,
  ): Promise<void> {
    const left = [...topics]
    const worker = async () => {
      for (let topic = left.pop(); topic !== undefined && era === this.#era; topic = left.pop()) {
        const track = this.#tracks.get(topic)
        if (track) await work(topic, track)
      }
    }
    await Promise.all(Array.from({ length: Math.min(CONCURRENCY, topics.length) }, worker))
  }

  /** One at a time: two that read the same page would deliver it twice. */
  #fill(topic: Topic, track: Track, era: number): Promise<void> {
    if (track.filler?.era !== era) {
      this.#startFilling(track)
      const filler = { era, done: this.#fillOnce(topic, track, era) }
      track.filler = filler
      void filler.done.then(() => {
        if (track.filler === filler) track.filler = undefined
      })
    }
    return track.filler!.done
  }

  async #fillOnce(topic: Topic, track: Track, era: number): Promise<void> {
    let filled = 0
    try {
      for (;;) {
        const askedAt = performance.now()
        const page = await this.#retrying(era, () => this.#source.read(topic, track.last!.id, PAGE))
        if (!page || era !== this.#era || this.#tracks.get(topic) !== track) return
        filled += page.entries.length
        if (this.#take(topic, track, page, askedAt)) break
      }
      this.#finish(topic, track)
    } catch (error) {
      this.#events.failed(error)
      this.#giveUp(topic, track)
    } finally {
      if (filled > 0) this.#events.filled(topic, filled)
    }
  }

  /** Delivers a page; true when the topic has caught up with everything that came meanwhile. */
  #take(topic: Topic, track: Track, page: HistoryPage, askedAt: number): boolean {
    if (page.gap) {
      // Where nothing was ever recorded there is nothing that could be missing.
      const isEmpty = track.last!.seq === 0 && page.head.seq === 0 && !this.#events.isRecorded(topic)
      track.last = page.head
      if (!isEmpty) this.#events.lost(page.gap, new Map([[topic, page.head]]))
    }
    for (const { position, envelope } of page.entries) {
      track.last = position
      this.#events.deliver(topic, new Slice(envelope), position)
    }
    if (!page.isComplete) return false
    // What came after the page was asked for may be missing on it; what came before and is missing is not of this history.
    const { newest, newestAt } = track
    if (newest === undefined || isCovered(newest, track.last!)) return true
    if (newestAt >= askedAt) return false
    if (!page.gap) this.#events.lost('history_replaced', new Map([[topic, track.last]]))
    return true
  }

  #finish(topic: Topic, track: Track): void {
    this.#filling--
    track.isFilling = false
    track.newest = undefined
    const { waiting } = track
    this.#forgetWaiting(track)
    for (const envelope of waiting) this.#events.deliver(topic, envelope, undefined)
    if (!track.hasOverflown) return
    track.hasOverflown = false
    this.#events.lost('overload', new Map([[topic, undefined]]))
  }

  /** Histories cannot be read on this server. */
  abandon(): void {
    for (const [topic, track] of this.#tracks) this.#giveUp(topic, track)
  }

  /** The history cannot be read and never will be: go on from what comes next. */
  #giveUp(topic: Topic, track: Track): void {
    if (this.#tracks.get(topic) !== track || !track.isFilling) return
    this.#events.lost('broker_link', new Map([[topic, undefined]]))
    track.last = undefined
    this.#finish(topic, track)
  }

  #forgetWaiting(track: Track): void {
    for (const envelope of track.waiting) this.#waitingBytes -= envelope.length
    track.waiting = []
  }

  /** Undefined when the link was lost meanwhile, whose return begins anew. */
  #retrying<T>(era: number, ask: () => Promise<T>): Promise<T | undefined> {
    return retrying(() => era === this.#era && !this.#isClosed, ask)
  }

  close(): void {
    this.#isClosed = true
    this.#era++
    this.#tracks.clear()
    this.#waitingBytes = 0
  }
}
