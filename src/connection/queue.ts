import type { Codec } from '../protocol/codecs/codec.ts'
import { encodeMessage, type Gap, type GapReason } from '../protocol/messages.ts'
import { isCovered, type Position, timelineOf } from '../protocol/position.ts'
import type { Topic } from '../protocol/topic.ts'
import type { BufferPool } from './buffer-pool.ts'
import { encodeFrame, type Frame, type Frames, framesIn } from './frame.ts'

/** Joining copies bytes, so in a queue of more than one chunk a frame this large is written without a copy. */
const LARGE_FRAME = 16 * 1024
/** The most that is joined into one buffer: large enough for a cheap write call, small enough to stop between two. */
const MAX_CHUNK = 64 * 1024

const SHARED: readonly Buffer[] = []

/**
 * What a connection has still to write, as an immutable linked list that connections share: those that were given the
 * same segments since their last flush hold the same object, so its bytes are joined once for all of them.
 */
export abstract class Queue {
  bytes: number
  #next: Queue | undefined
  /** `SHARED` once a second connection holds this queue; later its joined bytes. */
  #chunks: readonly Buffer[] | undefined

  constructor(bytes: number) {
    this.bytes = bytes
  }

  abstract get before(): Queue | undefined
  abstract get last(): Segment

  /** This queue followed by `segment`. One remembered result is enough: one loop pushes a segment to all connections. */
  with(segment: Segment): Queue {
    if (this.#next?.last === segment) return this.#next.shared()
    this.#next = new Link(this, segment)
    return this.#next
  }

  /** Counts bytes that were added to its last segment. Whoever holds it and writes from now on must write them as well. */
  protected grew(bytes: number): void {
    this.bytes += bytes
    if (this.#chunks !== undefined) this.#chunks = SHARED
  }

  /** Marks a queue that more than one connection holds. */
  protected shared(): Queue {
    this.#chunks ??= SHARED
    return this
  }

  segments(): Segment[] {
    const segments: Segment[] = []
    for (let queue: Queue | undefined = this; queue; queue = queue.before) segments.push(queue.last)
    return segments.reverse()
  }

  frames(): readonly Frame[] {
    return this.segments().flatMap(framesIn)
  }

  /**
   * The frames in few buffers, split only between frames. A queue that several connections hold is joined once and kept
   * for all; one that a single connection holds is joined into memory from the buffer pool.
   */
  chunks(pool: BufferPool): readonly Buffer[] {
    const chunks = this.#chunks
    if (chunks && chunks !== SHARED) return chunks
    if (!chunks && this.before && this.bytes <= MAX_CHUNK) return [joinAll(this, pool.take(this.bytes))]
    this.#chunks = this.#join()
    return this.#chunks
  }

  #join(): readonly Buffer[] {
    if (!this.before) return [this.last.view()]
    return this.bytes <= MAX_CHUNK ? [joinAll(this, Buffer.allocUnsafe(this.bytes))] : joinFew(this.segments())
  }
}

class Link extends Queue {
  readonly before: Queue
  readonly last: Segment

  constructor(before: Queue, last: Segment) {
    super(before.bytes + last.bytes)
    this.before = before
    this.last = last
  }
}

/**
 * Frames that go to the same connections in one step: successive publications on one topic, or one direct message. A
 * segment is also a queue with only itself in it. It has no object for each frame: a burst to single connections queues
 * thousands of segments, and the garbage collector copies every object that waits.
 */
export class Segment extends Queue implements Frames {
  memory: Buffer
  readonly start: number
  /** The topic on which it was published; undefined for a message to one connection alone. */
  readonly topic: Topic | undefined
  /** The frames as connections with compression get them; null if that is not worthwhile, undefined if nobody has asked. */
  deflated: Buffer | null | undefined
  /** The same for connections with another codec than JSON, as far as one of them was given it. */
  coded: Map<Codec, Segment> | undefined
  #end: number
  #count: number
  /** The position of the last frame if they are recorded. In the history, too, the frames directly follow each other. */
  #position: Position | undefined
  #isTaken = false
  #view: Buffer | undefined
  #detached: Segment | undefined

  constructor(frames: Frames, topic: Topic | undefined, of: { count?: number; position?: Position | undefined } = {}) {
    super(frames.end - frames.start)
    this.memory = frames.memory
    this.start = frames.start
    this.topic = topic
    this.#end = frames.end
    this.#count = of.count ?? 1
    this.#position = of.position
  }

  get end(): number {
    return this.#end
  }

  /** How many messages it has. */
  get count(): number {
    return this.#count
  }

  get position(): Position | undefined {
    return this.#position
  }

  get before(): undefined {
    return undefined
  }

  get last(): Segment {
    return this
  }

  /** The topics that a gap must name when this is dropped. */
  get topics(): readonly Topic[] {
    return this.topic === undefined ? [] : [this.topic]
  }

  /** Notes that a connection holds it, alone or at the beginning of a queue. */
  taken(): Segment {
    if (this.#isTaken) this.shared()
    this.#isTaken = true
    return this
  }

  /** Adds a frame that follows directly in memory, if no connection holds the segment yet. False if it was not added. */
  extend(frame: Frames, position?: Position): boolean {
    if (this.#isTaken || frame.memory !== this.memory || frame.start !== this.#end) return false
    if (!isNext(this.#position, position)) return false
    this.#position = position
    this.grow(frame.end - frame.start, 1)
    return true
  }

  /** Includes the next `bytes` bytes of its memory, which are `count` messages. */
  protected grow(bytes: number, count: number): void {
    this.#end += bytes
    this.#count += count
    this.#view = undefined
    this.deflated = undefined
    this.coded = undefined
    this.grew(bytes)
  }

  /** The part after `position`, which is before the last frame. */
  after(position: Position): Segment {
    const last = this.#position
    if (!last || timelineOf(last.id) !== timelineOf(position.id)) return this
    const wanted = last.seq - position.seq
    if (wanted >= this.#count) return this
    const frames = framesIn(this).slice(-wanted)
    const bytes = frames.reduce((sum, frame) => sum + frame.bytes.length, 0)
    const { memory, topic } = this
    return new Segment({ memory, start: this.#end - bytes, end: this.#end }, topic, { count: wanted, position: last })
  }

  /** The same messages in other frames. */
  reframed(frames: Frames): Segment {
    return new Segment(frames, this.topic, { count: this.#count, position: this.#position })
  }

  view(): Buffer {
    this.#view ??= this.memory.subarray(this.start, this.#end)
    return this.#view
  }

  /** The same in memory of its own: a segment that waits for a stalled socket must not keep its neighbours in memory. */
  detached(): Segment {
    if (this.bytes * 2 > this.memory.length) return this
    this.#detached ??= this.#copy()
    return this.#detached
  }

  #copy(): Segment {
    const memory = Buffer.allocUnsafeSlow(this.bytes)
    memory.set(this.view())
    return new Detached({ memory, start: 0, end: memory.length }, this.topics, this.#count)
  }
}

/** Frames without a topic and position of their own. A gap must name `topics` when they are dropped. */
class Detached extends Segment {
  readonly #topics: readonly Topic[]

  constructor(frames: Frames, topics: readonly Topic[], count: number) {
    super(frames, undefined, { count })
    this.#topics = topics
  }

  override get topics(): readonly Topic[] {
    return this.#topics
  }

  override reframed(frames: Frames): Segment {
    return new Detached(frames, this.#topics, this.count)
  }
}

function isNext(last: Position | undefined, position: Position | undefined): boolean {
  if (!last || !position) return last === position
  return position.seq === last.seq + 1 && isCovered(last, position)
}

/** From the last segment to the first, as the list is linked. Most lists are short: an array would cost more. */
function joinAll(queue: Queue, bytes: Buffer): Buffer {
  let end = queue.bytes
  for (let q: Queue | undefined = queue; q; q = q.before) {
    end -= q.last.bytes
    bytes.set(q.last.view(), end)
  }
  return bytes
}

function joinFew(segments: readonly Segment[]): readonly Buffer[] {
  const chunks: Buffer[] = []
  let open: Buffer[] = []
  let size = 0
  const cut = () => {
    if (open.length > 0) chunks.push(open.length === 1 ? open[0]! : Buffer.concat(open, size))
    open = []
    size = 0
  }
  for (const segment of segments) {
    if (size + segment.bytes > MAX_CHUNK || segment.bytes >= LARGE_FRAME) cut()
    open.push(segment.view())
    size += segment.bytes
    if (segment.bytes >= LARGE_FRAME) cut()
  }
  cut()
  return chunks
}

export function directSegment(message: string | Uint8Array): Segment {
  return new Segment(encodeFrame(message), undefined)
}

/** Says after how many milliseconds the client is to come back. */
export function reconnectSegment(after: number): Segment {
  return directSegment(encodeMessage('reconnect', { after }))
}

/** `positions`: where the topics are now, so that the client continues from there. */
export function gapSegment(topics: readonly Topic[], reason: GapReason, positions?: Gap['positions']): Segment {
  const gap: Gap = { topics: [...topics], reason, ...(positions && { positions }) }
  return new Detached(encodeFrame(encodeMessage('gap', gap)), topics, 0)
}

export function isPublished(segment: Segment): boolean {
  return segment.topics.length > 0
}

/** How many messages these are. A gap counts as none. */
export function countMessages(segments: readonly Segment[]): number {
  return segments.reduce((sum, segment) => sum + segment.count, 0)
}

/** The frames that make up the last `bytes` bytes of `segment`. */
export function lastBytes(segment: Segment, bytes: number): Segment {
  if (bytes >= segment.bytes) return segment
  const { memory, end } = segment
  const frames = { memory, start: end - bytes, end }
  return new Detached(frames, segment.topics, framesIn(frames).length)
}

export function queueWith(queue: Queue | undefined, segment: Segment): Queue {
  return queue ? queue.with(segment) : segment.taken()
}
