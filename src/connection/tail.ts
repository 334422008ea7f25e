import type { Topic } from '../protocol/topic.ts'
import { BlockPool } from './buffer-pool.ts'
import { Segment } from './queue.ts'

/** A single connection gets few messages in a round of writes. What a group gets is more, and its memory is shared. */
const BLOCKS = { single: new BlockPool(8 * 1024, 1024), group: new BlockPool(16 * 1024, 1024) }

/**
 * The common end of the queues of a few connections that have been given the same messages since it began. Frames are
 * copied one after another into a block of memory, which is written as it is. An object for each message and a list of
 * them for each connection would cost several times as much as this copy.
 */
export class Tail extends Segment {
  readonly #blocks: BlockPool
  readonly #topics: Topic[] = []
  /** How many connections have it at the end of their queue. */
  #holders = 0
  /** Its bytes are part of a queue, or a socket still reads them: they must not change. */
  #isKept = false

  constructor(connections: number) {
    const blocks = connections === 1 ? BLOCKS.single : BLOCKS.group
    super({ memory: blocks.take(), start: 0, end: 0 }, undefined, { count: 0 })
    this.#blocks = blocks
  }

  /** Whether exactly this many connections have it at their end: what is added goes to just these. */
  canGrowFor(connections: number): boolean {
    return this.#holders === connections && !this.#isKept
  }

  /** Where to write a frame of `bytes` bytes on `topic`; undefined when there is no room. */
  reserve(bytes: number, topic: Topic): number | undefined {
    const at = this.end
    if (at + bytes > this.memory.length) return undefined
    this.grow(bytes, 1)
    if (this.#topics[this.#topics.length - 1] !== topic) this.#topics.push(topic)
    return at
  }

  override get topics(): readonly Topic[] {
    return this.#topics
  }

  /** One more connection has it at the end of its queue. */
  join(): void {
    this.#holders++
  }

  /** One connection less has it at the end of its queue. `isKept`: that connection still needs the bytes. */
  leave(isKept: boolean): void {
    this.#holders--
    this.#isKept ||= isKept
    this.giveBackUnheld()
  }

  /** Its memory is used again when no connection has it. */
  giveBackUnheld(): void {
    if (this.#holders === 0 && !this.#isKept) this.#blocks.giveBack(this.memory)
  }
}
