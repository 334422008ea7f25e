import type { Socket } from 'node:net'
import { BufferPool } from './buffer-pool.ts'
import type { Deflater } from './deflater.ts'
import type { Frame } from './frame.ts'
import type { Queue } from './queue.ts'

/** Whole frames of a queue that are written in other bytes: `size` is how many they have in the queue. */
interface Deflated {
  readonly bytes: Buffer
  readonly size: number
}

/** What is written in one call: joined frames, the same compressed, or one message that `ws` frames itself. */
export type Part = Buffer | Deflated | Frame

/** How many bytes of the queue it is. */
export function partBytes(part: Part): number {
  if (part instanceof Uint8Array) return part.length
  return 'size' in part ? part.size : part.bytes.length
}

/** How a connection writes to its socket. No other file knows how `ws` writes. */
export interface Transport {
  /** What carries the messages: see `PushConnection.transport`. */
  readonly kind: 'websocket' | 'sse'
  /** Bytes that were written but not yet taken by the kernel, as far as this process can see. */
  readonly buffered: number
  /** Bytes received so far: every one is a sign of life. Undefined if the socket does not count them. */
  readonly received: number | undefined
  /** The parts of a queue for `write`, each made of whole frames. */
  parts(queue: Queue): readonly Part[]
  /** Writes one part; false when the socket is full until `drained`. */
  write(part: Part): boolean
  /** Calls back once, when the socket takes more. */
  drained(callback: () => void): void
  ping(): void
  close(code: number, reason: string): void
  terminate(): void
}

/**
 * What is used of a socket of `ws`. Not its own type: `PushBridge` leads here, and since `ws` brings no types, applications
 * without `@types/ws` could not compile ours.
 */
export interface ServerSocket {
  readonly readyState: number
  readonly bufferedAmount: number
  readonly extensions: string
  send(bytes: Uint8Array, options: { binary: boolean }, done: () => void): void
  ping(): void
  close(code: number, reason: string): void
  terminate(): void
}

const OPEN = 1

/** One for the process: memory is given back as soon as a socket has taken the bytes. */
const pool = new BufferPool()

/**
 * Writes pre-built frames directly to the TCP or TLS socket. Frames of `ws` itself (pong, close) never end up inside
 * ours: without compression `ws` writes each frame whole, in one synchronous step, and so do we.
 */
class FrameTransport implements Transport {
  protected readonly ws: ServerSocket
  protected readonly socket: Socket

  constructor(ws: ServerSocket, socket: Socket) {
    this.ws = ws
    this.socket = socket
  }

  get kind(): 'websocket' {
    return 'websocket'
  }

  get buffered(): number {
    return this.socket.writableLength
  }

  get received(): number | undefined {
    return this.socket.bytesRead
  }

  parts(queue: Queue): readonly Part[] {
    return queue.chunks(pool)
  }

  write(part: Part): boolean {
    // A frame after a close frame is a protocol error (RFC 6455 section 5.5.1).
    if (this.ws.readyState !== OPEN) return true
    const takesMore = this.socket.write(part as Buffer)
    if (this.socket.writableLength === 0) pool.giveBack(part as Buffer)
    return takesMore
  }

  drained(callback: () => void): void {
    this.socket.once('drain', callback)
  }

  ping(): void {
    if (this.ws.readyState === OPEN) this.ws.ping()
  }

  close(code: number, reason: string): void {
    this.ws.close(code, reason)
  }

  terminate(): void {
    this.ws.terminate()
  }
}

/** The most of a queue that is compressed and joined for one write. */
const MAX_PORTION = 64 * 1024

/** Writes frames that were compressed once for all connections. `ws` itself sends nothing but control frames. */
class DeflateTransport extends FrameTransport {
  readonly #deflater: Deflater

  constructor(ws: ServerSocket, socket: Socket, deflater: Deflater) {
    super(ws, socket)
    this.#deflater = deflater
  }

  override parts(queue: Queue): readonly Part[] {
    const segments = queue.segments()
    if (!segments.some(segment => this.#deflater.deflated(segment))) return super.parts(queue)
    const parts: Deflated[] = []
    let open: Buffer[] = []
    let size = 0
    for (const [i, segment] of segments.entries()) {
      open.push(this.#deflater.deflated(segment) ?? segment.view())
      size += segment.bytes
      const next = segments[i + 1]
      if (next && size + next.bytes <= MAX_PORTION) continue
      parts.push({ bytes: open.length === 1 ? open[0]! : Buffer.concat(open), size })
      open = []
      size = 0
    }
    return parts
  }

  override write(part: Part): boolean {
    return super.write(part instanceof Uint8Array ? part : part.bytes)
  }
}

/** How much `ws` may have to compress for a socket before that counts as full, and when it takes more again. */
const MAX_AHEAD = 64 * 1024
const RESUME_AT = MAX_AHEAD / 2

/** Sends messages through `ws`, which frames them: for sockets with compression, whose frames depend on earlier ones. */
class MessageTransport extends FrameTransport {
  #onDrained: (() => void) | undefined
  readonly #look = () => {
    const callback = this.#onDrained
    if (!callback || this.socket.writableNeedDrain || this.ws.bufferedAmount > RESUME_AT) return
    this.#onDrained = undefined
    callback()
  }

  constructor(ws: ServerSocket, socket: Socket) {
    super(ws, socket)
    socket.on('drain', this.#look)
  }

  override get buffered(): number {
    return this.ws.bufferedAmount
  }

  /** The socket does not count what waits to be compressed, so this alone bounds it. */
  get #isFull(): boolean {
    return this.socket.writableNeedDrain || this.ws.bufferedAmount > MAX_AHEAD
  }

  override parts(queue: Queue): readonly Part[] {
    return queue.frames()
  }

  override write(part: Part): boolean {
    const { bytes, payloadStart, binary } = part as Frame
    if (this.ws.readyState !== OPEN) return true
    this.ws.send(bytes.subarray(payloadStart), { binary }, this.#look)
    return !this.#isFull
  }

  override drained(callback: () => void): void {
    this.#onDrained = callback
  }
}

/** Read once: a lookup for each socket would take a microsecond. */
const IS_ORDINARY = process.env.PUSH_ORDINARY_SEND === '1'

/**
 * The cheapest transport for `ws`. `deflater` is given where a socket with permessage-deflate takes what it makes. Otherwise
 * the sender of `ws` compresses. It is asynchronous, so one of our frames could overtake a compressed one: such a socket gets
 * a MessageTransport. `PUSH_ORDINARY_SEND=1` selects it for every socket, so that the test suite runs over both.
 */
export function createTransport(ws: ServerSocket, socket: Socket, deflater?: Deflater): Transport {
  const isCompressed = ws.extensions.includes('permessage-deflate')
  if (IS_ORDINARY || (isCompressed && !deflater)) return new MessageTransport(ws, socket)
  return isCompressed ? new DeflateTransport(ws, socket, deflater!) : new FrameTransport(ws, socket)
}
