import { type Frame, framesIn } from './frame.ts'
import type { Segment } from './queue.ts'
import { type Step, stepsOf } from './stream-positions.ts'

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
  const parts: Buffer[] = []
  const steps: Step[] = []
  let length = 0
  let last = 0
  const { topic, position } = segment
  if (topic !== undefined && position) steps.push({ topic, what: 'message', id: position.id })
  for (const frame of framesIn(segment)) {
    last = length
    // A segment of one topic knows its position, or has none.
    const message = topic === undefined ? messageIn(frame) : undefined
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

/** A publisher may have written its JSON in lines. Between its tokens a space is the same, and a string has no such byte. */
function onOneLine(json: Buffer): Buffer {
  if (!json.includes(LINE_FEED) && !json.includes(CARRIAGE_RETURN)) return json
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
