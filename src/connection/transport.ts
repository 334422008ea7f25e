import type { Socket } from 'node:net'
import type { WebSocket } from 'ws'
import { BufferPool } from './buffer-pool.ts'
import type { Frame } from './frame.ts'
import type { Queue } from './queue.ts'

/** What is written in one call: joined frames, or one frame that `ws` is to build itself. */
export type Part = Buffer | Frame

export function partBytes(part: Part): number {
  return part instanceof Uint8Array ? part.length : part.bytes.length
}

/** How a connection reaches its socket. Knows how `ws` writes; nothing else does. */
export interface Transport {
  /** Bytes accepted but not yet taken by the kernel, as far as this process can see. */
  readonly buffered: number
  /** Bytes received so far: any of them is a sign of life. Undefined where the socket does not count. */
  readonly received: number | undefined
  /** The parts of a queue that `write` takes one by one, each made of whole frames. */
  parts(queue: Queue): readonly Part[]
  /** Writes one part; false when the socket wants no more until `drained`. */
  write(part: Part): boolean
  /** Calls back once, when the socket takes more again. */
  drained(callback: () => void): void
  ping(): void
  close(code: number, reason: string): void
  terminate(): void
}

const OPEN = 1

/** One for the process: sockets give back what they took on the spot. */
const slab = new BufferPool()

/**
 * Writes pre-built frames straight to the TCP or TLS socket. Frames of `ws` itself (pong, close) never cut into ours:
 * without compression it writes each of them whole, in one synchronous step, and so do we.
 */
class FrameTransport implements Transport {
  protected readonly ws: WebSocket
  protected readonly socket: Socket

  constructor(ws: WebSocket, socket: Socket) {
    this.ws = ws
    this.socket = socket
  }

  get buffered(): number {
    return this.socket.writableLength
  }

  get received(): number | undefined {
    return this.socket.bytesRead
  }

  parts(queue: Queue): readonly Part[] {
    return queue.chunks(slab)
  }

  write(part: Part): boolean {
    // A frame behind a close frame is a protocol error (RFC 6455 section 5.5.1).
    if (this.ws.readyState !== OPEN) return true
    const takesMore = this.socket.write(part as Buffer)
    if (this.socket.writableLength === 0) slab.giveBack(part as Buffer)
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

/** What `ws` may have to compress for a socket before it counts as full, and when that takes more again. */
const MAX_AHEAD = 64 * 1024
const RESUME_AT = MAX_AHEAD / 2

/** Sends messages through `ws`, which frames them: for sockets whose frames depend on what was sent before. */
class MessageTransport extends FrameTransport {
  #onDrained: (() => void) | undefined
  readonly #look = () => {
    const callback = this.#onDrained
    if (!callback || this.socket.writableNeedDrain || this.ws.bufferedAmount > RESUME_AT) return
    this.#onDrained = undefined
    callback()
  }

  constructor(ws: WebSocket, socket: Socket) {
    super(ws, socket)
    socket.on('drain', this.#look)
  }

  override get buffered(): number {
    return this.ws.bufferedAmount
  }

  /** What waits to be compressed the socket does not know of: nothing would bound it. */
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

/** Looking it up for each socket would take a microsecond. */
const IS_ORDINARY = process.env.PUSH_ORDINARY_SEND === '1'

/**
 * The cheapest way to write to `ws`. With permessage-deflate negotiated its sender works asynchronously and keeps a
 * dictionary, so a frame of ours could overtake a compressed one: such a socket gets messages instead.
 * `PUSH_ORDINARY_SEND=1` gives it to every socket, which is how the test suite runs over both.
 */
export function createTransport(ws: WebSocket, socket: Socket): Transport {
  return IS_ORDINARY || ws.extensions.includes('permessage-deflate')
    ? new MessageTransport(ws, socket)
    : new FrameTransport(ws, socket)
}
