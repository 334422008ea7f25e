import { connect } from 'node:net'
import { within } from '../helpers/waiting.ts'

/** What a client that knows nothing of HTTP sees of an answer. */
export interface Seen {
  /** Of the HTTP answer; undefined when none came. */
  status?: number
  /** The code in its body. */
  code?: string
  /**
   * What came first after a 101, or of an event stream: the code of a close frame, or 0 for a message. Undefined when the
   * connection ended before either.
   */
  first?: number
}

const OPENED = 101
const CLOSE_FRAME = 0x88

/**
 * Sends `bytes` and reads until it is known what came of it. `rest` ends whatever of a request is not complete, or, without it,
 * the stream ends there. Nothing waits for a time: on a slow machine it would decide what comes of an input.
 */
export async function exchange(port: number, bytes: Buffer, rest?: Buffer): Promise<Seen> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  let received: Buffer = Buffer.alloc(0)
  const closed = new Promise<void>(resolve => {
    socket.on('error', () => {}).on('close', () => resolve())
    socket.on('end', () => socket.destroy())
    socket.on('data', (data: Buffer) => {
      received = Buffer.concat([received, data])
      if (seenIn(received).first !== undefined) socket.destroy()
      else if (isWhole(received)) socket.end()
    })
  })
  socket.write(bytes)
  if (rest) socket.write(rest)
  else socket.end()
  try {
    await within(closed, 'the end of a connection')
  } finally {
    socket.destroy()
  }
  return seenIn(received)
}

/** An answer that says how long it is, and is there: more may come on the connection only if more is asked. */
function isWhole(received: Buffer): boolean {
  const end = received.indexOf('\r\n\r\n')
  const [, length] = /^content-length: (\d+)/im.exec(received.toString('latin1', 0, Math.max(end, 0))) ?? []
  return length !== undefined && received.length >= end + 4 + Number(length)
}

const STREAM = /^content-type: text\/event-stream/im

function seenIn(received: Buffer): Seen {
  const text = received.toString('latin1')
  const [, status] = /^HTTP\/1\.1 (\d{3})/.exec(text) ?? []
  if (status === undefined) return {}
  const end = text.indexOf('\r\n\r\n')
  if (STREAM.test(text.slice(0, end))) {
    return { status: Number(status), ...(text.includes('\ndata: ', end) && { first: 0 }) }
  }
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
