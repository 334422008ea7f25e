import type { Position } from '../protocol/position.ts'
import type { Topic } from '../protocol/topic.ts'
import { BlockPool } from './buffer-pool.ts'
import { Segment } from './queue.ts'

/**
 * A tail begins in a small block: one message to each of 50,000 users must not take a large one for each of them. In a
 * flow, which writes seldom and much at a time, it moves on to a large one. Both together take 48 MB at most.
 */
const SMALL = new BlockPool(8 * 1024, 2048)
const LARGE = new BlockPool(64 * 1024, 512)

/**
 * The common end of the queues of a few connections that have been given the same messages since it began. Frames are
 * copied one after another into a block of memory, which is written as it is. An object for each message and a list of
 * them for each connection would cost several times as much as this copy.
 */
export class Tail extends Segment {
  #blocks = SMALL
  readonly #topics: Topic[] = []
  #positions: Map<Topic, Position> | undefined
  /** How many connections have it at the end of their queue. */
  #holders = 0
  /** Its bytes are part of a queue, or a socket still reads them: they must not change. */
  #isKept = false

  private constructor() {
    super({ memory: SMALL.take(), start: 0, end: 0 }, undefined, { count: 0 })
  }

  /** Undefined when too many tails are in use. */
  static begin(): Tail | undefined {
    return SMALL.isEmpty ? undefined : new Tail()
  }

  /** Whether exactly this many connections have it at their end: what is added goes to just these. */
  canGrowFor(connections: number): boolean {
    return this.#holders === connections && !this.#isKept
  }

  /** Where to write a frame of `bytes` bytes on `topic`; undefined when there is no room. `position`: if it is recorded. */
  reserve(bytes: number, topic: Topic, position: Position | undefined): number | undefined {
    const at = this.end
    if (at + bytes > this.memory.length && !this.#moveOn()) return undefined
    this.grow(bytes, 1)
    if (this.#topics[this.#topics.length - 1] !== topic) this.#topics.push(topic)
    if (position) {
      this.#positions ??= new Map()
      this.#positions.set(topic, position)
    }
    return at
  }

  /** Moves what it has to a large block; false if it is in one already, or none is free. */
  #moveOn(): boolean {
    if (this.#blocks === LARGE || LARGE.isEmpty) return false
    const small = this.memory
    this.memory = LARGE.take()
    this.memory.set(small.subarray(0, this.end))
    this.#blocks.giveBack(small)
    this.#blocks = LARGE
    return true
  }

  override get topics(): readonly Topic[] {
    return this.#topics
  }

  /** The last positions of topics that are recorded. */
  get positions(): ReadonlyMap<Topic, Position> | undefined {
    return this.#positions
  }

  /** One more connection has it at the end of its queue. */
  join(): void {
    this.#holders++
  }

  /** One connection less has it at the end of its queue. `isKept`: that connection still needs the bytes. */
  leave(isKept: boolean): void {
    this.#holders--
    if (isKept && !this.#isKept) this.#keep()
    this.giveBackUnheld()
  }

  #keep(): void {
    this.#isKept = true
    this.#blocks.handOver()
  }

  /** Its memory is used again when no connection has it. */
  giveBackUnheld(): void {
    if (this.#holders > 0 || this.#isKept) return
    // It has no memory any more: whoever still knows it must not write there.
    this.#isKept = true
    this.#blocks.giveBack(this.memory)
  }
}
