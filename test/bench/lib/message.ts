import notepack from 'notepack.io'
import type { Kind } from './peers.ts'
import { STAMP_BASE, STAMP_DIGITS } from './stamp.ts'

/**
 * The bytes of one PUBLISH, such that the message on the WebSocket has exactly `size` bytes with every peer.
 *
 * For Socket.IO these are the bytes that `io.to(topic).emit('bench', payload)` of another node, or
 * `@socket.io/redis-emitter`, would write: injecting them raw keeps the cost of publishing the same for all, outside
 * the server under test.
 */
export function encodePublish(
  kind: Kind,
  topic: string,
  size: number,
  stamp: number,
  history?: { size: number; ttl: number },
): Buffer {
  if (kind === 'socketio') {
    const payload = { t: STAMP_BASE + stamp, p: pad(size - '42["bench",{"t":,"p":""}]'.length - STAMP_DIGITS) }
    const packet = { type: 2, data: ['bench', payload], nsp: '/' }
    const opts = { rooms: [topic], except: [], flags: {} }
    return command('PUBLISH', `socket.io#/#${topic}#`, notepack.encode(['bench', packet, opts]) as Buffer)
  }
  const skeleton = `{"type":"bench","payload":{"t":,"p":""},"topic":"${topic}"}`
  const filler = pad(size - skeleton.length - STAMP_DIGITS)
  const envelope = `{"type":"bench","payload":{"t":${STAMP_BASE + stamp},"p":"${filler}"}}`
  const channel = `push:${topic}`
  if (!history) return command('PUBLISH', channel, envelope)
  return command('FCALL', 'push_publish', '1', channel, envelope, String(history.size), String(history.ttl))
}

function command(...parts: (string | Buffer)[]): Buffer {
  const bytes = parts.flatMap(part => [Buffer.from(`$${Buffer.byteLength(part)}\r\n`), Buffer.from(part), CRLF])
  return Buffer.concat([Buffer.from(`*${parts.length}\r\n`), ...bytes])
}

const CRLF = Buffer.from('\r\n')

function pad(length: number): string {
  if (length < 0) throw new Error('the topic is too long for the size of the message')
  return 'x'.repeat(length)
}
