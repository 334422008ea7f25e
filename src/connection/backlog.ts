import { countMessages, gapSegment, isPublished, lastBytes, type Queue, queueWith, type Segment } from './queue.ts'

/** The most that is joined for one write: what waits is shared with others, what is joined often is not. */
const PORTION_BYTES = 64 * 1024

/** The memory of segments that wait, each counted once however many connections wait for it. */
export class HeldMemory {
  readonly #holders = new Map<Segment, number>()
  #bytes = 0

  get bytes(): number {
    return this.#bytes
  }

  hold(segment: Segment): void {
    const holders = this.#holders.get(segment) ?? 0
    if (holders === 0) this.#bytes += segment.bytes
    this.#holders.set(segment, holders + 1)
  }

  release(segment: Segment): void {
    const holders = this.#holders.get(segment)!
    if (holders > 1) return void this.#holders.set(segment, holders - 1)
    this.#holders.delete(segment)
    this.#bytes -= segment.bytes
  }
}

/** What waits for one connection while its socket takes no more, in order. */
export class Backlog {
  readonly #held: HeldMemory
  /** What is written next, from the last to the first: what was taken from the end is forgotten. */
  readonly #next: Segment[] = []
  /** What came behind that. Connections for which the same waits share it. */
  #queue: Queue | undefined
  #bytes = 0

  constructor(held: HeldMemory) {
    this.#held = held
  }

  get bytes(): number {
    return this.#bytes
  }

  /** Puts `segment` behind all others. */
  push(segment: Segment): void {
    const own = segment.detached()
    this.#queue = queueWith(this.#queue, own)
    this.#add(own)
  }

  /** As much as is worth one write, which is no longer part of it; undefined when there is nothing. */
  take(): Queue | undefined {
    let portion: Queue | undefined
    for (let first = this.#first(); first; first = this.#first()) {
      if (portion && portion.bytes + first.bytes > PORTION_BYTES) break
      portion = queueWith(portion, first)
      this.#next.pop()
      this.#remove(first)
    }
    return portion
  }

  #first(): Segment | undefined {
    if (this.#next.length === 0) {
      for (let queue = this.#queue; queue; queue = queue.before) this.#next.push(queue.last)
      this.#queue = undefined
    }
    return this.#next.at(-1)
  }

  /** Puts the last `bytes` bytes of `queue`, which the socket did not take, before all others. */
  putBack(queue: Queue, bytes: number): void {
    const segments: Segment[] = []
    let left = bytes
    // A write is made of whole frames, so what is left of it begins where a frame begins.
    for (let at: Queue | undefined = queue; at && left > 0; at = at.before) {
      segments.push(lastBytes(at.last, left).detached())
      left -= at.last.bytes
    }
    for (const segment of segments) {
      this.#next.push(segment)
      this.#add(segment)
    }
  }

  /** Empties it, and says what was in it. */
  clear(): Segment[] {
    const segments = [...this.#next.toReversed(), ...(this.#queue?.segments() ?? [])]
    for (const segment of segments) this.#remove(segment)
    this.#next.length = 0
    this.#queue = undefined
    return segments
  }

  /**
   * Drops the publications in it, and `refused` if that is one, and puts a `gap` that names their topics where they
   * stood. Replies and errors are not for dropping. Says how many messages are lost, and whether there is a gap.
   */
  drop(refused?: Segment): { lost: number; isTold: boolean } {
    const all = refused ? [...this.clear(), refused] : this.clear()
    const lost = all.filter(isPublished)
    const kept = all.filter(segment => !isPublished(segment))
    const topics = new Set(lost.flatMap(segment => segment.topics))
    if (lost.length > 0) kept.push(gapSegment([...topics], 'slow_consumer'))
    for (const segment of kept) this.push(segment)
    return { lost: countMessages(lost), isTold: lost.length > 0 }
  }

  #add(segment: Segment): void {
    this.#bytes += segment.bytes
    this.#held.hold(segment)
  }

  #remove(segment: Segment): void {
    this.#bytes -= segment.bytes
    this.#held.release(segment)
  }
}
