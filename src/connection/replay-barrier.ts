import type { GapReason } from '../protocol/messages.ts'
import { isCovered, type Position } from '../protocol/position.ts'
import type { Topic } from '../protocol/topic.ts'
import { countMessages, type Segment } from './queue.ts'

/** How many unrecorded live segments may wait for the end of a replay; more are dropped, and a gap is sent. */
const MAX_WAITING = 256

/**
 * Holds back the live messages of a topic for one connection while a replay brings it up to date. A closed barrier
 * discards recorded messages, since the replay reads them from the history, and keeps unrecorded ones. An open barrier
 * skips what was replayed.
 */
export class ReplayBarrier {
  #isOpen = false
  #until: Position | undefined
  /** When the answer came that ended the replay. */
  #readBy = 0
  /** The newest message that was discarded, or delivered to others before the topic was joined, and when. */
  #newest: Position | undefined
  #newestAt = performance.now()
  #waiting: Segment[] = []
  #gap: GapReason | undefined

  constructor(before?: ReplayBarrier) {
    if (!before || before.#isOpen) return
    this.#waiting = before.#waiting
    this.#gap = before.#gap
  }

  /** Whether it has nothing left to do. */
  get isDone(): boolean {
    return this.#isOpen && this.#until === undefined
  }

  /** Whether live messages wait for the end of a replay. */
  get isClosed(): boolean {
    return !this.#isOpen
  }

  /** The part of `segment` that may be sent now. False when it would have to wait, and there is no room. */
  admit(segment: Segment): Segment | undefined | false {
    const { position } = segment
    if (!this.#isOpen) {
      if (!position) return this.#wait(segment)
      this.expect(position)
      return undefined
    }
    if (!position || !this.#until) return segment
    if (isCovered(position, this.#until)) return undefined
    // A position neither before nor after the replay's end is of a history that began anew: nothing of it was replayed.
    const rest = isCovered(this.#until, position) ? segment.after(this.#until) : segment
    this.#until = undefined
    return rest
  }

  #wait(segment: Segment): undefined | false {
    // After the first that was dropped, none: the gap stands after those that wait.
    if (this.#waiting.length < MAX_WAITING) return void this.#waiting.push(segment)
    this.#gap ??= 'overload'
    return false
  }

  /** Messages that wait, and will never be sent because the connection ends. */
  get withheld(): number {
    return countMessages(this.#waiting)
  }

  /**
   * Messages were lost before they reached the barrier. True when no gap is to be sent now: a closed barrier sends it
   * when it opens, and a replay that went past `position` has made it needless. A gap would lead the client back to
   * `position`, and it would get the rest twice. But a history that was found replaced at `knownAt`, after the replay was
   * read, has no longer what the replay sent.
   */
  lost(reason: GapReason, position?: Position, knownAt = 0): boolean {
    if (!this.#isOpen) {
      this.#gap ??= reason
      return true
    }
    if (!position || !this.#until || !isCovered(position, this.#until)) return false
    return reason !== 'history_replaced' || knownAt <= this.#readBy || position.id === this.#until.id
  }

  /** The replay must reach `position`, where this node is, or be read after this moment. */
  expect(position: Position | undefined): void {
    this.#newest = position
    this.#newestAt = performance.now()
  }

  /**
   * The same for a position that may be older than what has come meanwhile: the replay must not end before that. Two
   * positions that cannot be compared say nothing about what is missing.
   */
  begin(position: Position | undefined): void {
    const newest = this.#newest
    if (!newest || !position || isCovered(newest, position)) this.expect(position)
    else if (!isCovered(position, newest)) this.expect(undefined)
  }

  /** A history that was read after this time has every message that does not arrive live. */
  get newestAt(): number {
    return this.#newestAt
  }

  /** Whether a history read at `readAt` up to `position` has every message that does not arrive live. */
  isCoveredBy(position: Position, readAt: number): boolean {
    return readAt > this.#newestAt || (this.#newest !== undefined && isCovered(this.#newest, position))
  }

  /** Opens the barrier: everything up to `until`, as an answer of `readBy` has it, was sent. */
  open(until: Position | undefined, readBy = 0): { waiting: readonly Segment[]; gap: GapReason | undefined } {
    const opened = { waiting: this.#waiting, gap: this.#gap }
    this.#isOpen = true
    this.#until = until
    this.#readBy = readBy
    this.#waiting = []
    this.#gap = undefined
    return opened
  }
}

/** The barriers of one connection. */
export class ReplayBarriers {
  readonly #byTopic = new Map<Topic, ReplayBarrier>()

  get isEmpty(): boolean {
    return this.#byTopic.size === 0
  }

  get(topic: Topic): ReplayBarrier | undefined {
    return this.#byTopic.get(topic)
  }

  /** Puts a closed barrier before `topic`. Messages that wait at an older one now wait at this one. */
  close(topic: Topic): ReplayBarrier {
    const barrier = new ReplayBarrier(this.#byTopic.get(topic))
    this.#byTopic.set(topic, barrier)
    return barrier
  }

  forget(topic: Topic): void {
    this.#byTopic.delete(topic)
  }

  /** Messages that wait for the end of a replay. */
  get withheld(): number {
    let messages = 0
    for (const barrier of this.#byTopic.values()) messages += barrier.withheld
    return messages
  }

  /** As `admit` of a barrier. */
  admit(segment: Segment): Segment | undefined | false {
    const barrier = this.#byTopic.get(segment.topic!)
    if (!barrier) return segment
    const admitted = barrier.admit(segment)
    if (barrier.isDone) this.#byTopic.delete(segment.topic!)
    return admitted
  }
}
