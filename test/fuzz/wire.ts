import { connect, type Socket } from 'node:net'
import { within } from '../helpers/waiting.ts'

/** What a client that knows nothing of HTTP sees of an answer. */
export interface Seen {
  /** Of the HTTP answer; undefined when none came. */
  status?: number
  /** The code in its body. */
  code?: string
  /** After a 101: the code of a close frame, or 0 for a message. Undefined when the connection ended before either. */
  first?: number
}

const OPENED = 101
const CLOSE_FRAME = 0x88

/** How long an answer is waited for until the client says that it has nothing more to say, in milliseconds. */
const HALF = 300

/** Sends `bytes` and reads until it is known what came of it. */
export async function exchange(port: number, bytes: Buffer): Promise<Seen> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  const timer = setTimeout(() => socket.end(), HALF)
  let received: Buffer = Buffer.alloc(0)
  const closed = new Promise<void>(resolve => {
    socket.on('error', () => {}).on('close', () => resolve())
    socket.on('end', () => socket.destroy())
    socket.on('data', (data: Buffer) => {
      received = Buffer.concat([received, data])
      if (seenIn(received).first !== undefined) socket.destroy()
    })
  })
  socket.write(bytes)
  try {
    await within(closed, 'the end of a connection')
  } finally {
    clearTimeout(timer)
    socket.destroy()
  }
  return seenIn(received)
}

function seenIn(received: Buffer): Seen {
  const text = received.toString('latin1')
  const [, status] = /^HTTP\/1\.1 (\d{3})/.exec(text) ?? []
  if (status === undefined) return {}
  const end = text.indexOf('\r\n\r\n')
  if (Number(status) !== OPENED) {
    const [, code] = /"code":"(\w+)"/.exec(text) ?? []
    return { status: Number(status), ...(code !== undefined && { code }) }
  }
  const frame = received.subarray(end + 4)
  if (end < 0 || frame.length < 4) return { status: OPENED }
  return { status: OPENED, first: frame[0] === CLOSE_FRAME ? frame.readUInt16BE(2) : 0 }
}

export function upgradeOf(path: string, more = ''): string {
  return (
    `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
    `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n${more}\r\n`
  )
}

/** A masked frame; `first` is its first byte. */
export function frameOf(first: number, payload: Buffer): Buffer {
  const head =
    payload.length < 126
      ? Buffer.from([first, 0x80 | payload.length])
      : Buffer.from([first, 0x80 | 126, payload.length >> 8, payload.length & 255])
  // A mask of zeros leaves the payload as it is.
  return Buffer.concat([head, Buffer.alloc(4), payload])
}

/** Resolves when the socket is open as a WebSocket, with false when it is not. */
export async function openRaw(port: number, path: string): Promise<Socket | undefined> {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  const opened = new Promise<boolean>(resolve => {
    socket.once('data', data => resolve(data.toString('latin1').startsWith(`HTTP/1.1 ${OPENED}`)))
    socket.once('close', () => resolve(false))
  })
  socket.write(upgradeOf(path))
  const isOpen = await within(opened, 'the answer to an upgrade')
  socket.resume()
  if (!isOpen) socket.destroy()
  return isOpen ? socket : undefined
}
