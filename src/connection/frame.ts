import { copyInto, type Slice } from '../protocol/slice.ts'

const TEXT = 0x81
const BINARY = 0x82
/** RSV1: the payload is compressed (RFC 7692 section 6). */
const COMPRESSED = 0x40
/** The second byte holds a length of up to 125; these two values say that the length follows in 2 or 8 bytes. */
const LENGTH_16 = 126
const LENGTH_64 = 127

/** Frames are built side by side in blocks of this size. One that is larger than half a block gets memory of its own. */
const BLOCK_BYTES = 16 * 1024

/** Where whole frames are in memory that others share: RFC 6455 section 5.2, final, not masked. */
export interface Frames {
  readonly memory: Buffer
  readonly start: number
  readonly end: number
}

/** One message within frames, for sockets on which `ws` must build the frame. */
export interface Frame {
  readonly bytes: Buffer
  readonly payloadStart: number
  readonly binary: boolean
}

let block = Buffer.allocUnsafeSlow(BLOCK_BYTES)
let used = 0

/** The frame of one message, built once for all sockets that get it. */
export function encodeFrame(message: string | Uint8Array): Frames {
  const binary = typeof message !== 'string'
  const length = binary ? message.length : Buffer.byteLength(message)
  const frame = reserve(headerBytes(length) + length)
  const at = writeHeader(frame.memory, frame.start, binary ? BINARY : TEXT, length)
  if (binary) frame.memory.set(message, at)
  else frame.memory.write(message, at, 'utf8')
  return frame
}

/** The frame of a payload, in memory of its own. */
export function frameOf(
  payload: Uint8Array,
  { binary, isCompressed }: { binary: boolean; isCompressed: boolean },
): Buffer {
  const memory = Buffer.allocUnsafe(headerBytes(payload.length) + payload.length)
  const kind = (binary ? BINARY : TEXT) | (isCompressed ? COMPRESSED : 0)
  memory.set(payload, writeHeader(memory, 0, kind, payload.length))
  return memory
}

/** A message as bytes: a JSON object, with its origin in place of the closing brace. */
export interface Extended {
  object: Slice
  /** ASCII that needs no escape in JSON, unless `origin` is given. */
  topic: string
  /** The whole origin, `,"topic":…}`, when it is more than the topic or the topic needs escapes. */
  origin: Buffer | undefined
}

const BEFORE_TOPIC = Buffer.from(',"topic":"')
const QUOTE = 0x22
const CLOSE_BRACE = 0x7d

function payloadBytes({ object, topic, origin }: Extended): number {
  return object.length - 1 + (origin ? origin.length : BEFORE_TOPIC.length + topic.length + 2)
}

/** The size of the frame of an extended message. */
export function frameBytes(message: Extended): number {
  const length = payloadBytes(message)
  return headerBytes(length) + length
}

/** Writes the frame of an extended message to `start` in `memory`, where there is room for it. */
export function writeFrame(memory: Buffer, start: number, message: Extended): void {
  const { object, topic, origin } = message
  const at = writeHeader(memory, start, TEXT, payloadBytes(message))
  const end = copyInto(memory, at, object.memory, object.start, object.end - 1)
  if (origin) copyInto(memory, end, origin, 0, origin.length)
  else writeTopic(memory, end, topic)
}

/** Written anew each time: its characters were just read, and bytes kept for each topic would have to be fetched. */
function writeTopic(memory: Buffer, start: number, topic: string): void {
  let at = copyInto(memory, start, BEFORE_TOPIC, 0, BEFORE_TOPIC.length)
  for (let i = 0; i < topic.length; i++) memory[at++] = topic.charCodeAt(i)
  memory[at] = QUOTE
  memory[at + 1] = CLOSE_BRACE
}

/** The frame of an extended message. */
export function encodeExtended(message: Extended): Frames {
  const frame = reserve(frameBytes(message))
  writeFrame(frame.memory, frame.start, message)
  return frame
}

function reserve(size: number): Frames {
  if (size > BLOCK_BYTES / 2) return { memory: Buffer.allocUnsafeSlow(size), start: 0, end: size }
  if (used + size > BLOCK_BYTES) {
    block = Buffer.allocUnsafeSlow(BLOCK_BYTES)
    used = 0
  }
  const start = used
  used += size
  return { memory: block, start, end: used }
}

function headerBytes(length: number): number {
  return length < LENGTH_16 ? 2 : length < 65536 ? 4 : 10
}

/** Returns where the payload begins. */
function writeHeader(memory: Buffer, start: number, kind: number, length: number): number {
  memory[start] = kind
  if (length < LENGTH_16) {
    memory[start + 1] = length
    return start + 2
  }
  if (length < 65536) {
    memory[start + 1] = LENGTH_16
    memory.writeUInt16BE(length, start + 2)
    return start + 4
  }
  memory[start + 1] = LENGTH_64
  memory.writeUInt32BE(Math.floor(length / 2 ** 32), start + 2)
  memory.writeUInt32BE(length % 2 ** 32, start + 6)
  return start + 10
}

/** The messages in these frames, one by one. */
export function framesIn(frames: Frames): Frame[] {
  const { memory } = frames
  const found: Frame[] = []
  forEachFrame(frames, (start, payloadStart, end) => {
    const bytes = memory.subarray(start, end)
    found.push({ bytes, payloadStart: payloadStart - start, binary: memory[start] === BINARY })
  })
  return found
}

/** Where each frame and its payload are in `memory`. It creates nothing. */
export function forEachFrame(
  { memory, start, end }: Frames,
  visit: (start: number, payloadStart: number, end: number) => void,
): void {
  for (let at = start; at < end; ) {
    const short = memory[at + 1]!
    const header = short < LENGTH_16 ? 2 : short === LENGTH_16 ? 4 : 10
    const length = header === 2 ? short : header === 4 ? memory.readUInt16BE(at + 2) : memory.readUIntBE(at + 4, 6)
    const next = at + header + length
    visit(at, at + header, next)
    at = next
  }
}
