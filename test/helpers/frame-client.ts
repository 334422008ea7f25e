import { randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'
import { within } from './waiting.ts'

/** A frame as the server sent it. */
export interface Frame {
  fin: boolean
  /** The three reserved bits; 4 says that the message is compressed (RFC 7692). */
  rsv: number
  opcode: number
  payload: Buffer
}

export const TEXT = 0x1
export const BINARY = 0x2
export const CONTINUATION = 0x0
export const CLOSING = 0x8
export const PING = 0x9
export const PONG = 0xa

interface Masking {
  /** A mask of zeros leaves the payload as it is, which is cheap. `none`: no frame of a client may look like that. */
  mask?: 'random' | 'zero' | 'none'
}

/** A frame of a client; `first` is its first byte: the last fragment or not, the reserved bits and the opcode. */
export function frame(first: number, payload: Uint8Array = Buffer.alloc(0), { mask = 'random' }: Masking = {}): Buffer {
  const { length } = payload
  const size = length < 126 ? 2 : length < 65_536 ? 4 : 10
  const head = Buffer.alloc(size + (mask === 'none' ? 0 : 4))
  head[0] = first
  head[1] = (mask === 'none' ? 0 : 0x80) | (size === 2 ? length : size === 4 ? 126 : 127)
  if (size === 4) head.writeUInt16BE(length, 2)
  if (size === 10) head.writeBigUInt64BE(BigInt(length), 2)
  if (mask !== 'random') return Buffer.concat([head, payload])
  const key = randomBytes(4)
  key.copy(head, size)
  const masked = Buffer.from(payload)
  for (let i = 0; i < length; i++) masked[i]! ^= key[i % 4]!
  return Buffer.concat([head, masked])
}

/** The payload of a close frame. */
export function closing(code: number, reason: string | Uint8Array = ''): Buffer {
  return Buffer.concat([Buffer.from([code >> 8, code & 255]), Buffer.from(reason)])
}

export const NO_CODE = 1005

/** The code in the payload of a close frame. */
export const codeOf = ({ payload }: Frame): number => (payload.length < 2 ? NO_CODE : payload.readUInt16BE())

interface Events {
  frame?(frame: Frame): void
}

interface OpenOptions extends Events {
  /** More lines of the header, each with its line break. */
  header?: string
  /** What is sent in one write with the request. */
  early?: Uint8Array
}

/** A client that writes whatever bytes it is told to, and shows the frames that come. It answers nothing by itself. */
export class FrameClient {
  readonly socket: Socket
  /** When the connection is over, on both ways. */
  readonly ended: Promise<void>
  /** The status of the answer to the upgrade; undefined if there was none. */
  status: number | undefined
  /** Of the answer. */
  extensions = ''
  /** What the server sent in a close frame. */
  closeCode: number | undefined
  /** How many frames came. */
  frames = 0
  readonly #events: Events
  #rest: Buffer = Buffer.alloc(0)
  #answered: () => void = () => {}

  private constructor(port: number, events: Events) {
    this.#events = events
    this.socket = connect({ port, host: '127.0.0.1', noDelay: true })
    this.ended = new Promise(resolve => this.socket.once('close', () => resolve()))
    this.socket.on('error', () => {}).on('data', (data: Buffer) => this.#read(data))
  }

  /** Resolves when the upgrade was answered or the connection is over. */
  static async open(port: number, path: string, options: OpenOptions = {}): Promise<FrameClient> {
    const { header = '', early = Buffer.alloc(0), ...events } = options
    const client = new FrameClient(port, events)
    const answered = new Promise<void>(resolve => {
      client.#answered = resolve
    })
    const request =
      `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\n${header}\r\n`
    client.socket.write(Buffer.concat([Buffer.from(request), early]))
    await within(Promise.race([answered, client.ended]), 'the answer to an upgrade')
    return client
  }

  get isOpen(): boolean {
    return this.status === 101 && !this.socket.destroyed
  }

  /** False if the socket is full or gone. */
  write(bytes: Uint8Array): boolean {
    return !this.socket.destroyed && this.socket.write(bytes)
  }

  send(first: number, payload?: Uint8Array, masking?: Masking): boolean {
    return this.write(frame(first, payload, masking))
  }

  destroy(): void {
    this.socket.destroy()
  }

  #read(data: Buffer): void {
    this.#rest = this.#rest.length === 0 ? data : Buffer.concat([this.#rest, data])
    if (this.status === undefined && !this.#readAnswer()) return
    while (this.#readFrame()) {
      // One after the other.
    }
  }

  #readAnswer(): boolean {
    const end = this.#rest.indexOf('\r\n\r\n')
    if (end < 0) return false
    const head = this.#rest.toString('latin1', 0, end)
    this.status = Number(/^HTTP\/1\.1 (\d{3})/.exec(head)?.[1])
    this.extensions = /^Sec-WebSocket-Extensions: (.*)$/im.exec(head)?.[1] ?? ''
    this.#rest = this.#rest.subarray(end + 4)
    this.#answered()
    return this.status === 101
  }

  #readFrame(): boolean {
    const bytes = this.#rest
    if (bytes.length < 2) return false
    // No server masks its frames (RFC 6455 section 5.1).
    if (bytes[1]! >= 0x80) this.socket.destroy()
    const short = bytes[1]! & 0x7f
    const start = short < 126 ? 2 : short === 126 ? 4 : 10
    if (bytes.length < start) return false
    const length = short < 126 ? short : short === 126 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2))
    if (bytes.length < start + length) return false
    const first = bytes[0]!
    const payload = bytes.subarray(start, start + length)
    this.#rest = bytes.subarray(start + length)
    this.frames++
    const read = { fin: first >= 0x80, rsv: (first >> 4) & 7, opcode: first & 15, payload }
    if (read.opcode === CLOSING) this.closeCode ??= codeOf(read)
    this.#events.frame?.(read)
    return true
  }
}
