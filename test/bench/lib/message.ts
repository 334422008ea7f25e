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
export function encodePublish(kind: Kind, topic: string, size: number, stamp: number): Buffer {
  if (kind === 'socketio') {
    const payload = { t: STAMP_BASE + stamp, p: pad(size - '42["bench",{"t":,"p":""}]'.length - STAMP_DIGITS) }
    const packet = { type: 2, data: ['bench', payload], nsp: '/' }
    const opts = { rooms: [topic], except: [], flags: {} }
    return command(`socket.io#/#${topic}#`, notepack.encode(['bench', packet, opts]))
  }
  const skeleton = `{"type":"bench","payload":{"t":,"p":""},"topic":"${topic}"}`
  const filler = pad(size - skeleton.length - STAMP_DIGITS)
  return command(`push:${topic}`, Buffer.from(`{"type":"bench","payload":{"t":${STAMP_BASE + stamp},"p":"${filler}"}}`))
}

function command(channel: string, payload: Buffer): Buffer {
  const head = `*3\r\n$7\r\nPUBLISH\r\n$${Buffer.byteLength(channel)}\r\n${channel}\r\n$${payload.length}\r\n`
  return Buffer.concat([Buffer.from(head), payload, Buffer.from('\r\n')])
}

function pad(length: number): string {
  if (length < 0) throw new Error('the topic is too long for the size of the message')
  return 'x'.repeat(length)
}
