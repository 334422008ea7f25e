import notepack from 'notepack.io'
import { orderOf } from './order.ts'
import type { Kind } from './peers.ts'
import { STAMP_BASE, STAMP_DIGITS } from './stamp.ts'

export interface Publication {
  kind: Kind
  topic: string
  /** bytes of the message on the WebSocket */
  size: number
  stamp: number
  /** how much of the topic is kept; live when left out */
  history?: { size: number; ttl: number } | undefined
  /** an order as JSON, another one in each publication, instead of a filler */
  hasOrder?: boolean | undefined
  /** bytes, in their form in JSON, instead of a filler */
  hasBytes?: boolean | undefined
}

/**
 * The bytes of one PUBLISH, such that the message on the WebSocket has exactly `size` bytes with every peer.
 *
 * For Socket.IO these are the bytes that `io.to(topic).emit('bench', payload)` of another node, or
 * `@socket.io/redis-emitter`, would write: injecting them raw keeps the cost of publishing the same for all, outside
 * the server under test.
 */
export function encodePublish(publication: Publication): Buffer {
  const { kind, topic, size, stamp, history } = publication
  const t = STAMP_BASE + stamp
  if (kind === 'socketio') {
    const p = bodyOf(publication, size - '42["bench",{"t":,"p":}]'.length - STAMP_DIGITS)
    const packet = { type: 2, data: ['bench', { t, p }], nsp: '/' }
    const opts = { rooms: [topic], except: [], flags: {} }
    return command('PUBLISH', `socket.io#/#${topic}#`, notepack.encode(['bench', packet, opts]) as Buffer)
  }
  const skeleton = `{"type":"bench","payload":{"t":,"p":},"topic":"${topic}"}`
  const p = bodyOf(publication, size - skeleton.length - STAMP_DIGITS)
  const envelope = `{"type":"bench","payload":{"t":${t},"p":${JSON.stringify(p)}}}`
  const channel = `push:${topic}`
  if (!history) return command('PUBLISH', channel, envelope)
  return command('FCALL', 'push_publish', '1', channel, envelope, String(history.size), String(history.ttl))
}

function command(...parts: (string | Buffer)[]): Buffer {
  const bytes = parts.flatMap(part => [Buffer.from(`$${Buffer.byteLength(part)}\r\n`), Buffer.from(part), CRLF])
  return Buffer.concat([Buffer.from(`*${parts.length}\r\n`), ...bytes])
}

const CRLF = Buffer.from('\r\n')

/** What is of exactly so many bytes as JSON. */
function bodyOf({ hasOrder, hasBytes, stamp }: Publication, bytes: number): unknown {
  if (hasOrder) return orderOf(stamp, bytes)
  if (hasBytes) return formOf(bytes - '{"$binary":""}'.length)
  if (bytes < 2) throw new Error('the topic is too long for the size of the message')
  return 'x'.repeat(bytes - 2)
}

/** Bytes whose base64 has exactly so many characters. */
function formOf(characters: number): unknown {
  if (characters % 4 !== 0) throw new Error('base64 has a multiple of four characters')
  const bytes = Buffer.from(Array.from({ length: (characters / 4) * 3 }, (_, i) => (i * 167) & 255))
  return { $binary: bytes.toString('base64') }
}
