import type { Codec } from '../protocol/codecs/codec.ts'
import { stringify } from './json.ts'
import { type Message, parse } from './message.ts'
import type { Binary, WebSocketLike } from './options.ts'

const PING_EVERY = 25_000
const PING_EVERY_AT_LEAST = 1_000
// A dead connection goes unnoticed for twice this time. Less would cut a slow link in the middle of a large message.
const PONG_WITHIN = 10_000
// Shorter when somebody has just come back to the page: it should soon be up to date.
const PONG_WITHIN_AWAKE = 5_000
const MISSED_PONGS = 2
const OPEN = 1
/** The code of a connection that ended without a word. */
export const ABNORMAL = 1006
/** The message that stands for a binary frame where every frame is a message. */
const BINARY = 'push.binary'

interface LinkEvents {
  /** A message, or undefined for what is none. */
  received(message: Message | undefined, data: unknown): void
  binary(data: unknown): void
  closed(code: number, reason: string): void
  silent(reason: string): void
}

/** One WebSocket or event stream, and whether its other end still lives. */
export class Link {
  private socket: WebSocketLike
  private events: LinkEvents
  /** What the application would like to speak; the server decides. */
  private wanted: Codec | undefined
  private timer: ReturnType<typeof setTimeout> | undefined
  private pongDue = false
  private isWaking = false
  private isClosed = false
  private every = PING_EVERY

  /** It is an event stream: nobody can be asked whether he lives, but the server sends something all the time. */
  readonly isStream: boolean

  constructor(socket: WebSocketLike, isStream: boolean, events: LinkEvents, codec?: Codec) {
    let problem = ''
    this.socket = socket
    this.isStream = isStream
    this.events = events
    this.wanted = codec
    socket.binaryType = 'arraybuffer'
    socket.onmessage = (event: { data: unknown }) => {
      if (this.pongDue) this.rest()
      this.receive(event.data)
    }
    // Only `ws` gives a reason; a browser hides it from the page.
    socket.onerror = (event: { message?: string }) => {
      problem = event.message ?? ''
    }
    socket.onclose = (event: { code: number; reason: string }) => {
      this.isClosed = true
      events.closed(event.code, event.reason || problem)
    }
  }

  /** False if the socket is not open. */
  say(message: object): boolean {
    return this.write(this.codec?.encodeMessage(message) ?? stringify(message))
  }

  sayBinary(data: Binary): boolean {
    if (!this.codec) return this.write(data)
    if (data instanceof Blob) throw new TypeError(`${this.codec.protocol} takes no Blob: await blob.arrayBuffer()`)
    const bytes = ArrayBuffer.isView(data)
      ? new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
      : new Uint8Array(data)
    return this.say({ type: BINARY, payload: bytes })
  }

  private get codec(): Codec | undefined {
    return this.wanted && this.socket.protocol === this.wanted.protocol ? this.wanted : undefined
  }

  private write(data: string | Binary): boolean {
    if (this.isStream || this.socket.readyState !== OPEN) return false
    this.socket.send(data)
    return true
  }

  private receive(data: unknown): void {
    const { codec } = this
    if (!codec && typeof data !== 'string') return this.events.binary(data)
    const message = parse(data, codec)
    const { type, payload } = message ?? {}
    // Bytes are a part of the frame: the application gets its own.
    if (codec && type === BINARY && payload instanceof Uint8Array) this.events.binary(payload.slice().buffer)
    else this.events.received(message, data)
  }

  /** Starts to ping. `interval` is that of the server's own heartbeat. */
  watch(interval: unknown): void {
    const every = Number.isFinite(interval) ? (interval as number) : PING_EVERY
    // The server sends a comment after each interval without a message.
    if (this.isStream) this.every = every + MISSED_PONGS * PONG_WITHIN
    else this.every = Math.max(PING_EVERY_AT_LEAST, Math.min(PING_EVERY, every))
    this.rest()
  }

  /** The connection may have ended while the page slept: asks at once. */
  wake(): void {
    // Each call would extend the time: a page that is looked at often would never notice a dead link.
    if (this.isWaking || this.isStream) return
    this.isWaking = true
    this.ping(0, PONG_WITHIN_AWAKE)
  }

  leave(code?: number, reason?: string): void {
    const { socket } = this
    clearTimeout(this.timer)
    // A dead peer never ends the close handshake, so nothing waits for it. `ws` throws an error that has no handler.
    socket.onmessage = socket.onclose = null
    socket.onerror = () => {}
    // If the server closed it, `code` may be 1008 or 1009, for which close() of a browser throws.
    if (!this.isClosed) socket.close(code, reason)
  }

  private rest(): void {
    this.isWaking = false
    this.pongDue = this.isStream
    clearTimeout(this.timer)
    this.timer = setTimeout(() => this.look(), this.every)
  }

  private look(): void {
    if (this.isStream) this.events.silent(`nothing came for ${this.every} ms`)
    else this.ping()
  }

  private ping(missed = 0, within = PONG_WITHIN): void {
    this.pongDue = true
    this.say({ type: 'ping' })
    clearTimeout(this.timer)
    this.timer = setTimeout(() => {
      if (missed + 1 < MISSED_PONGS) this.ping(missed + 1)
      else this.events.silent(`${MISSED_PONGS} pings went unanswered`)
    }, within)
  }
}
