import { countMessages, gapSegment, isPublished, lastBytes, type Queue, queueWith, type Segment } from './queue.ts'

/** The most that is joined for one write: connections share queued segments, but often not the joined bytes. */
const PORTION_BYTES = 64 * 1024

/** The memory of queued segments. Each counts once, however many connections wait for it. */
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

/** What waits, in order, for one connection whose socket is full. */
export class Backlog {
  readonly #held: HeldMemory
  /** What is written next, in reverse order, so that the first can be taken off the end. */
  readonly #next: Segment[] = []
  /** What follows. Connections for which the same segments wait share it. */
  #queue: Queue | undefined
  #bytes = 0

  constructor(held: HeldMemory) {
    this.#held = held
  }

  get bytes(): number {
    return this.#bytes
  }

  /** Adds `segment` at the end. */
  push(segment: Segment): void {
    const own = segment.detached()
    this.#queue = queueWith(this.#queue, own)
    this.#add(own)
  }

  /** Removes and returns enough for one write; undefined when the backlog is empty. */
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

  /** Puts back, at the front, the last `bytes` bytes of `queue`, which the socket did not take. */
  putBack(queue: Queue, bytes: number): void {
    const segments: Segment[] = []
    let left = bytes
    // Writes consist of whole frames, so what is left begins at a frame.
    for (let at: Queue | undefined = queue; at && left > 0; at = at.before) {
      segments.push(lastBytes(at.last, left).detached())
      left -= at.last.bytes
    }
    for (const segment of segments) {
      this.#next.push(segment)
      this.#add(segment)
    }
  }

  /** Empties the backlog and returns its segments. */
  clear(): Segment[] {
    const segments = [...this.#next.toReversed(), ...(this.#queue?.segments() ?? [])]
    for (const segment of segments) this.#remove(segment)
    this.#next.length = 0
    this.#queue = undefined
    return segments
  }

  /**
   * Drops all publications, also `refused` if it is one, and adds a `gap` that names their topics. Other messages, such
   * as replies and errors, are kept. Returns how many messages were lost, and whether a gap was added. `coded` writes the
   * gap as the client reads it.
   */
  drop(refused?: Segment, coded = (gap: Segment) => gap): { lost: number; isTold: boolean } {
    const all = refused ? [...this.clear(), refused] : this.clear()
    const lost = all.filter(isPublished)
    const kept = all.filter(segment => !isPublished(segment))
    const topics = new Set(lost.flatMap(segment => segment.topics))
    if (lost.length > 0) kept.push(coded(gapSegment([...topics], 'slow_consumer')))
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
