import type { Topic } from '../protocol/topic.ts'
import { BlockPool } from './buffer-pool.ts'
import { Segment } from './queue.ts'

/**
 * A single connection gets few messages in a round of writes. What a group gets is more, and its memory is shared. There
 * are so many tails at the same time: one message to each of 50,000 users must not take a block for each of them.
 */
const BLOCKS = { single: new BlockPool(8 * 1024, 2048), group: new BlockPool(16 * 1024, 1024) }

const blocksFor = (connections: number) => (connections === 1 ? BLOCKS.single : BLOCKS.group)

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

  private constructor(connections: number) {
    const blocks = blocksFor(connections)
    super({ memory: blocks.take(), start: 0, end: 0 }, undefined, { count: 0 })
    this.#blocks = blocks
  }

  /** One for so many connections; undefined when too many tails are in use. */
  static for(connections: number): Tail | undefined {
    return blocksFor(connections).isEmpty ? undefined : new Tail(connections)
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
