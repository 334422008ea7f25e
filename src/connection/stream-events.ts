import { copyInto } from '../protocol/slice.ts'
import { type Frame, forEachFrame, framesIn } from './frame.ts'
import type { Segment } from './queue.ts'
import { type Step, stepsOf } from './stream-positions.ts'
import { Tail } from './tail.ts'

/** The messages of a segment as events of a stream (https://html.spec.whatwg.org/multipage/server-sent-events.html). */
export interface StreamEvents {
  readonly bytes: Buffer
  /** Where the last event begins: that is where the id goes. */
  readonly last: number
  readonly steps: readonly Step[]
}

/** A comment, which clients skip: a sign of life. */
export const COMMENT = Buffer.from(':\n\n')

const DATA = Buffer.from('data: ')
const BINARY = Buffer.from('event: binary\n')
const END = Buffer.from('\n\n')
const LINE_FEED = 0x0a
const CARRIAGE_RETURN = 0x0d
const SPACE = 0x20

/**
 * By segment, so that a publication is translated once for all streams of a node. A WeakMap and no property: segments of
 * nodes without streams stay as they are, and delivery to WebSockets as fast. A tail may grow after it was translated: `end`.
 */
const translated = new WeakMap<Segment, StreamEvents & { end: number }>()

export function eventsOf(segment: Segment): StreamEvents {
  const known = translated.get(segment)
  if (known?.end === segment.end) return known
  const events = { ...translate(segment), end: segment.end }
  translated.set(segment, events)
  return events
}

function translate(segment: Segment): StreamEvents {
  return segment instanceof Tail || segment.topic !== undefined ? published(segment) : direct(segment)
}

/** What publications become: into one buffer, for it is done for each message of a node with streams. */
function published(segment: Segment): StreamEvents {
  const { memory, count } = segment
  const bytes = Buffer.allocUnsafe(segment.bytes + count * (DATA.length + END.length))
  const isOneLine = hasOneLine(segment.view())
  let at = 0
  let last = 0
  forEachFrame(segment, (_start, payloadStart, end) => {
    last = at
    const begin = copyInto(bytes, at, DATA, 0, DATA.length)
    at = copyInto(bytes, begin, memory, payloadStart, end)
    if (!isOneLine) bytes.set(onOneLine(bytes.subarray(begin, at)), begin)
    at = copyInto(bytes, at, END, 0, END.length)
  })
  return { bytes: bytes.subarray(0, at), last, steps: publishedSteps(segment) }
}

function publishedSteps(segment: Segment): Step[] {
  const { topic, position } = segment
  if (segment instanceof Tail)
    return [...(segment.positions ?? [])].map(([topic, { id }]) => ({ topic, what: 'message', id }))
  return topic !== undefined && position ? [{ topic, what: 'message', id: position.id }] : []
}

/** Messages to one connection: what they say of positions is only in their text. */
function direct(segment: Segment): StreamEvents {
  const parts: Buffer[] = []
  const steps: Step[] = []
  let length = 0
  let last = 0
  for (const frame of framesIn(segment)) {
    last = length
    const message = messageIn(frame)
    steps.push(...stepsOf(message))
    for (const part of eventOf(frame, message)) {
      parts.push(part)
      length += part.length
    }
  }
  return { bytes: Buffer.concat(parts, length), last, steps }
}

function eventOf(frame: Frame, message: unknown): Buffer[] {
  const payload = frame.bytes.subarray(frame.payloadStart)
  if (frame.binary) return [BINARY, DATA, Buffer.from(payload.toString('base64')), END]
  return [retryOf(message), DATA, onOneLine(payload), END]
}

/** A browser's EventSource knows no `reconnect` message: for it, this is when to come back. */
function retryOf(message: unknown): Buffer {
  const { type, payload } = Object(message) as { type?: unknown; payload?: unknown }
  if (type !== 'reconnect') return Buffer.alloc(0)
  const { after } = Object(payload) as { after?: unknown }
  return Buffer.from(`retry: ${typeof after === 'number' ? Math.round(after) : 0}\n`)
}

/** Of frames it may say no where a length has such a byte. */
function hasOneLine(bytes: Buffer): boolean {
  return !bytes.includes(LINE_FEED) && !bytes.includes(CARRIAGE_RETURN)
}

/** A publisher may have written its JSON in lines. Between its tokens a space is the same, and a string has no such byte. */
function onOneLine(json: Buffer): Buffer {
  if (hasOneLine(json)) return json
  return Buffer.from(json.map(byte => (byte === LINE_FEED || byte === CARRIAGE_RETURN ? SPACE : byte)))
}

function messageIn({ bytes, payloadStart, binary }: Frame): unknown {
  if (binary) return undefined
  try {
    return JSON.parse(bytes.toString('utf8', payloadStart))
  } catch {
    return undefined
  }
}

/** The last event of a stream: why it ends, as the close frame of a WebSocket says it. */
export function closeEvent(code: number, reason: string): string {
  return `event: close\ndata: ${JSON.stringify({ code, reason })}\n\n`
}
