import { bytesOf } from '../protocol/binary.ts'
import { BAD_KEY, BINARY_TYPE, type Codec, FORBIDDEN_KEY } from '../protocol/codecs/codec.ts'
import { errors } from '../protocol/errors.ts'
import type { Ref } from '../protocol/messages.ts'
import { encodeFrame, type Frame, type Frames, frameOf, framesIn } from './frame.ts'
import type { Segment } from './queue.ts'

/** What other codecs cannot simply take over from JSON: bytes, a key that they refuse, and half a character. */
const TO_LOOK_AT = /\$binary|\\u|__proto__/

/** What is read of a message: one that was published has a topic. */
interface Message {
  type: string
  topic?: string
  seq?: number
  id?: string
  ref?: Ref
}

/**
 * The same messages as another codec writes them: written once for all connections that have it, since the segment keeps
 * them. `recoded` is told how many were written, and how many that were published cannot be.
 */
export function codedSegment(
  segment: Segment,
  codec: Codec,
  recoded: (messages: number, failed: number) => void,
): Segment {
  const known = segment.coded?.get(codec)
  if (known) return known
  let failed = 0
  const messages = framesIn(segment).map(frame => {
    if (frame.binary) return codec.encodeMessage({ type: BINARY_TYPE, payload: payloadOf(frame) })
    const text = payloadOf(frame).toString()
    const message = JSON.parse(text) as Message
    try {
      return codec.encodeMessage(TO_LOOK_AT.test(text) ? (adapted(message) as object) : message)
    } catch (error) {
      if (message.topic !== undefined) failed++
      return codec.encodeMessage(insteadOf(message, codec, error as Error))
    }
  })
  const coded = segment.reframed(framesOf(messages))
  segment.coded ??= new Map()
  segment.coded.set(codec, coded)
  recoded(messages.length, failed)
  return coded
}

function payloadOf({ bytes, payloadStart }: Frame): Buffer {
  return bytes.subarray(payloadStart)
}

function framesOf(messages: readonly Uint8Array[]): Frames {
  if (messages.length === 1) return encodeFrame(messages[0]!)
  const memory = Buffer.concat(messages.map(message => frameOf(message, { binary: true, isCompressed: false })))
  return { memory, start: 0, end: memory.length }
}

function adapted(value: unknown): unknown {
  if (typeof value === 'string') return wellFormed(value)
  if (typeof value !== 'object' || value === null) return value
  const bytes = bytesOf(value)
  if (bytes) return bytes
  if (Array.isArray(value)) return value.map(adapted)
  if (Object.hasOwn(value, FORBIDDEN_KEY)) throw new Error(BAD_KEY)
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [wellFormed(key), adapted(item)]))
}

/** Half a character, which JSON can write as an escape, becomes U+FFFD: it would not be UTF-8. */
function wellFormed(text: string): string {
  return Buffer.from(text).toString()
}

/** Nothing is left out in silence: what cannot be written is a hole in its topic, or the error of who was to get it. */
function insteadOf({ type, topic, seq, id, ref }: Message, codec: Codec, { message }: Error): object {
  if (topic !== undefined) {
    const positions = id !== undefined && seq !== undefined ? { [topic]: { id, seq } } : undefined
    return { type: 'gap', payload: { topics: [topic], reason: 'rejected', ...(positions && { positions }) } }
  }
  const problem = `a message of the type "${type}" cannot be written in ${codec.protocol}: ${message}`
  const error = new errors.UNWRITABLE(problem)
  return { type: 'error', payload: { code: error.code, message: error.message }, ...(ref !== undefined && { ref }) }
}
