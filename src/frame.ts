import type { Topic } from './topic.ts'

const TEXT = 0x81
const BINARY = 0x82

/** One whole message as RFC 6455 bytes (section 5.2: final, not masked), built once however many sockets get it. */
export interface Frame {
  readonly bytes: Buffer
  /** Where the payload begins, for sockets that must frame it themselves. */
  readonly payloadStart: number
  readonly binary: boolean
}

export function encodeFrame(message: string | Uint8Array): Frame {
  const binary = typeof message !== 'string'
  const length = binary ? message.length : Buffer.byteLength(message)
  const payloadStart = length < 126 ? 2 : length < 65536 ? 4 : 10
  const bytes = Buffer.allocUnsafe(payloadStart + length)
  bytes[0] = binary ? BINARY : TEXT
  if (payloadStart === 2) {
    bytes[1] = length
  } else if (payloadStart === 4) {
    bytes[1] = 126
    bytes.writeUInt16BE(length, 2)
  } else {
    bytes[1] = 127
    bytes.writeUInt32BE(Math.floor(length / 2 ** 32), 2)
    bytes.writeUInt32BE(length % 2 ** 32, 6)
  }
  if (binary) bytes.set(message, payloadStart)
  else bytes.write(message, payloadStart, 'utf8')
  return { bytes, payloadStart, binary }
}

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

/** Joining copies, so a frame this large is written as it stands. */
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
    this.#chunks ??= this.#isOneFrame ? [this.last.frames[0]!.bytes] : joinFrames(this.frames())
    return this.#chunks
  }

  get #isOneFrame(): boolean {
    return this.before === undefined && this.last.frames.length === 1
  }
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
