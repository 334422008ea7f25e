import { createHash } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { announce, BACKLOG, PORT, PREFIX, topicsOf } from './contract.ts'
import type { Operations } from './rpc.ts'

const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
const CLOSE = 0x88

/** An HTTP server that knows just enough of RFC 6455 to hold sockets open: the handshake, and an answer to close. */
export function listenBare(onSocket: (socket: Socket, topics: string[]) => void, operations?: Operations): void {
  const server = createServer()
  server.on('upgrade', (request, duplex) => {
    const socket = duplex as Socket
    const accept = createHash('sha1').update(`${request.headers['sec-websocket-key']}${GUID}`).digest('base64')
    socket.write(
      `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
    )
    socket.setTimeout(0)
    socket.on('data', onData)
    socket.on('error', ignore)
    onSocket(socket, topicsOf(request.url ?? '/'))
  })
  server.listen({ port: PORT, host: '127.0.0.1', backlog: BACKLOG }, () => {
    announce((server.address() as AddressInfo).port, operations)
  })
}

function onData(this: Socket, chunk: Buffer): void {
  if (chunk[0] === CLOSE) this.end()
}

function ignore(): void {}

export const WELCOME = frame(Buffer.from('{"type":"welcome","payload":{}}'))

const tails = new Map<string, Buffer>()

/**
 * Envelope → frame without parsing: the topic is spliced in before the last brace. A limit need not validate; what it
 * writes is byte for byte what the others write.
 */
export function messageFrame(channel: string, envelope: Buffer): Buffer {
  let tail = tails.get(channel)
  if (!tail) {
    tail = Buffer.from(`,"topic":"${channel.slice(PREFIX.length)}"}`)
    tails.set(channel, tail)
  }
  const body = envelope.length - 1
  const length = body + tail.length
  const start = headBytes(length)
  const bytes = Buffer.allocUnsafe(start + length)
  writeHead(bytes, length)
  envelope.copy(bytes, start, 0, body)
  tail.copy(bytes, start + body)
  return bytes
}

export function frame(message: Buffer): Buffer {
  const bytes = Buffer.allocUnsafe(headBytes(message.length) + message.length)
  writeHead(bytes, message.length)
  message.copy(bytes, headBytes(message.length))
  return bytes
}

function headBytes(length: number): number {
  if (length < 126) return 2
  return length < 65_536 ? 4 : 10
}

function writeHead(bytes: Buffer, length: number): void {
  bytes[0] = 0x81
  if (length < 126) {
    bytes[1] = length
  } else if (length < 65_536) {
    bytes[1] = 126
    bytes.writeUInt16BE(length, 2)
  } else {
    bytes[1] = 127
    bytes.writeBigUInt64BE(BigInt(length), 2)
  }
}
