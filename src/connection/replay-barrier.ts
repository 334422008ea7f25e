import type { GapReason } from '../protocol/messages.ts'
import { isCovered, type Position } from '../protocol/position.ts'
import type { Topic } from '../protocol/topic.ts'
import type { Segment } from './queue.ts'

/** Live messages that were not recorded and wait for a replay to end; more are dropped, and told. */
const MAX_WAITING = 256

/**
 * Stands between the live messages of a topic and one connection that is being brought up to date. Recorded messages
 * that come to a closed barrier are let go: they are in the history too. Behind the open barrier it skips what was replayed.
 */
export class ReplayBarrier {
  #isOpen = false
  #until: Position | undefined
  /** The newest that was let go, or had been delivered to others when the topic was joined, and when. */
  #newest: Position | undefined
  #newestAt = performance.now()
  #waiting: Segment[] = []
  #gap: GapReason | undefined

  constructor(before?: ReplayBarrier) {
    if (!before || before.#isOpen) return
    this.#waiting = before.#waiting
    this.#gap = before.#gap
  }

  /** Whether it has nothing to do any more. */
  get isDone(): boolean {
    return this.#isOpen && this.#until === undefined
  }

  /** What of `segment` may be sent now. */
  admit(segment: Segment): Segment | undefined {
    const { position } = segment
    if (!this.#isOpen) {
      if (position) this.expect(position)
      else this.#wait(segment)
      return undefined
    }
    if (!position || !this.#until) return segment
    if (isCovered(position, this.#until)) return undefined
    // A later position with a lower number is of a history that began anew: nothing of it was replayed.
    const rest = isCovered(this.#until, position) ? segment.after(this.#until) : segment
    this.#until = undefined
    return rest
  }

  #wait(segment: Segment): void {
    if (this.#waiting.length < MAX_WAITING) this.#waiting.push(segment)
    else this.#gap ??= 'overload'
  }

  /**
   * Something was lost before the barrier. True when nothing is to be told now: it is when the barrier opens, or the replay
   * went past `position` already, and a gap that leads back there would bring the rest once more.
   */
  lost(reason: GapReason, position?: Position): boolean {
    if (this.#isOpen) return position !== undefined && this.#until !== undefined && isCovered(position, this.#until)
    this.#gap ??= reason
    return true
  }

  /** A replay has to reach what this node stands at, or be read after this moment. */
  expect(position: Position | undefined): void {
    this.#newest = position
    this.#newestAt = performance.now()
  }

  /** A history that was read after this has all that does not come live. */
  get newestAt(): number {
    return this.#newestAt
  }

  /** Whether a history that was read at `readAt` up to `position` has all that does not come live. */
  isCoveredBy(position: Position, readAt: number): boolean {
    return readAt > this.#newestAt || (this.#newest !== undefined && isCovered(this.#newest, position))
  }

  /** Everything up to `until` was sent. */
  open(until: Position | undefined): { waiting: readonly Segment[]; gap: GapReason | undefined } {
    const opened = { waiting: this.#waiting, gap: this.#gap }
    this.#isOpen = true
    this.#until = until
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

  /** A closed barrier for `topic`; what waits at an older one waits at this one. */
  close(topic: Topic): ReplayBarrier {
    const barrier = new ReplayBarrier(this.#byTopic.get(topic))
    this.#byTopic.set(topic, barrier)
    return barrier
  }

  forget(topic: Topic): void {
    this.#byTopic.delete(topic)
  }

  /** What of `segment` may be sent now. */
  admit(segment: Segment): Segment | undefined {
    const barrier = this.#byTopic.get(segment.topic!)
    if (!barrier) return segment
    const admitted = barrier.admit(segment)
    if (barrier.isDone) this.#byTopic.delete(segment.topic!)
    return admitted
  }
}
