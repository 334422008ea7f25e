import { encodeFrame, type Frame } from './frame.ts'
import { encodeMessage, type GapReason } from './protocol.ts'
import type { Topic } from './topic.ts'

/** Frames that go to the same connections in one step: neighbours of one topic, or a single direct message. */
export class Segment {
  readonly frames: readonly Frame[]
  readonly bytes: number
  /** What a gap has to name when this is dropped; empty for a message meant for one connection alone. */
  readonly topics: readonly Topic[]
  /** A queue that holds this and nothing else. */
  readonly alone: Queue

  constructor(frames: readonly Frame[], topics: readonly Topic[]) {
    this.frames = frames
    this.topics = topics
    let bytes = 0
    for (const frame of frames) bytes += frame.bytes.length
    this.bytes = bytes
    this.alone = new Queue(undefined, this)
  }
}

/** Joining copies, so in a queue of more than one chunk a frame this large is written as it stands. */
const LARGE_FRAME = 16 * 1024
/** The most that is joined into one buffer: large enough to make the write call cheap, small enough to be cut at. */
const MAX_CHUNK = 64 * 1024

/**
 * What a connection has still to write, as an immutable list that connections share: those that were given the same
 * segments since they were last flushed hold the very same object, so its bytes are joined once for all of them.
 */
export class Queue {
  readonly before: Queue | undefined
  readonly last: Segment
  readonly bytes: number
  #next: Queue | undefined
  #chunks: readonly Buffer[] | undefined

  constructor(before: Queue | undefined, last: Segment) {
    this.before = before
    this.last = last
    this.bytes = (before?.bytes ?? 0) + last.bytes
  }

  /** This queue and `segment` behind it. One remembered answer is enough: a segment is pushed to all in one loop. */
  with(segment: Segment): Queue {
    if (this.#next?.last !== segment) this.#next = new Queue(this, segment)
    return this.#next
  }

  segments(): Segment[] {
    const segments: Segment[] = []
    for (let queue: Queue | undefined = this; queue; queue = queue.before) segments.push(queue.last)
    return segments.reverse()
  }

  frames(): readonly Frame[] {
    if (this.before === undefined) return this.last.frames
    const frames: Frame[] = []
    for (const segment of this.segments()) for (const frame of segment.frames) frames.push(frame)
    return frames
  }

  /** The frames as few buffers, cut only between frames. */
  chunks(): readonly Buffer[] {
    this.#chunks ??= this.#join()
    return this.#chunks
  }

  #join(): readonly Buffer[] {
    if (this.before === undefined && this.last.frames.length === 1) return [this.last.frames[0]!.bytes]
    return this.bytes <= MAX_CHUNK ? [joinAll(this)] : joinFrames(this.frames())
  }
}

/** From the last frame to the first, as the list is linked: most queues are short, and lists of them would cost more. */
function joinAll(queue: Queue): Buffer {
  const bytes = Buffer.allocUnsafe(queue.bytes)
  let end = queue.bytes
  for (let q: Queue | undefined = queue; q; q = q.before) {
    for (let i = q.last.frames.length - 1; i >= 0; i--) {
      const frame = q.last.frames[i]!.bytes
      end -= frame.length
      bytes.set(frame, end)
    }
  }
  return bytes
}

function joinFrames(frames: readonly Frame[]): readonly Buffer[] {
  const chunks: Buffer[] = []
  let open: Buffer[] = []
  let size = 0
  const cut = () => {
    if (open.length > 0) chunks.push(open.length === 1 ? open[0]! : Buffer.concat(open, size))
    open = []
    size = 0
  }
  for (const { bytes } of frames) {
    if (size + bytes.length > MAX_CHUNK || bytes.length >= LARGE_FRAME) cut()
    open.push(bytes)
    size += bytes.length
    if (bytes.length >= LARGE_FRAME) cut()
  }
  cut()
  return chunks
}

export function directSegment(message: string | Uint8Array): Segment {
  return new Segment([encodeFrame(message)], [])
}

export function gapSegment(topics: readonly Topic[], reason: GapReason): Segment {
  return new GapSegment([encodeFrame(encodeMessage('gap', { topics, reason }))], topics)
}

export function isPublished(segment: Segment): boolean {
  return segment.topics.length > 0
}

/** How many messages these are; a gap that another one replaces is none. */
export function countMessages(segments: readonly Segment[]): number {
  return segments.reduce((sum, segment) => sum + (segment instanceof GapSegment ? 0 : segment.frames.length), 0)
}

class GapSegment extends Segment {}

export function lastBytes(segment: Segment, bytes: number): Segment {
  if (bytes >= segment.bytes) return segment
  let from = segment.frames.length
  for (let left = bytes; left > 0; left -= segment.frames[from]!.bytes.length) from--
  return new Segment(segment.frames.slice(from), segment.topics)
}

export function queueWith(queue: Queue | undefined, segment: Segment): Queue {
  return queue ? queue.with(segment) : segment.alone
}
