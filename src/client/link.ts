import type { Binary, WebSocketLike } from './options.ts'

const PING_EVERY = 25_000
const PING_EVERY_AT_LEAST = 1_000
// Twice this is how long a dead connection goes unnoticed; less would cut a slow link in the middle of a large message.
const PONG_WITHIN = 10_000
// Somebody has just looked at the page: what they see should soon be true.
const PONG_WITHIN_AWAKE = 5_000
const MISSED_PONGS = 2
const OPEN = 1

interface LinkEvents {
  received(data: unknown): void
  closed(code: number, reason: string): void
  silent(reason: string): void
}

/** One WebSocket, until it is left, and whether anybody answers at its other end. */
export class Link {
  private socket: WebSocketLike
  private events: LinkEvents
  private timer: ReturnType<typeof setTimeout> | undefined
  private pongDue = false
  private isWaking = false
  private isClosed = false
  private every = PING_EVERY

  constructor(socket: WebSocketLike, events: LinkEvents) {
    let problem = ''
    this.socket = socket
    this.events = events
    socket.binaryType = 'arraybuffer'
    socket.onmessage = (event: { data: unknown }) => {
      if (this.pongDue) this.rest()
      events.received(event.data)
    }
    // Only `ws` says what happened; a browser keeps it from the page.
    socket.onerror = (event: { message?: string }) => {
      problem = event.message ?? ''
    }
    socket.onclose = (event: { code: number; reason: string }) => {
      this.isClosed = true
      events.closed(event.code, event.reason || problem)
    }
  }

  write(data: string | Binary): boolean {
    if (this.socket.readyState !== OPEN) return false
    this.socket.send(data)
    return true
  }

  /** From now on it is asked for life; `interval` is what the server does for its part. */
  watch(interval: unknown): void {
    const every = Number.isFinite(interval) ? (interval as number) : PING_EVERY
    this.every = Math.max(PING_EVERY_AT_LEAST, Math.min(PING_EVERY, every))
    this.rest()
  }

  /** The page may have slept through the end of it. Looked at often, a dead link would otherwise be given time for ever. */
  wake(): void {
    if (this.isWaking) return
    this.isWaking = true
    this.ping(0, PONG_WITHIN_AWAKE)
  }

  leave(code?: number, reason?: string): void {
    const { socket } = this
    clearTimeout(this.timer)
    // A dead peer never ends the close handshake. The handler of nothing is for `ws`, which throws what nobody takes.
    socket.onmessage = socket.onclose = null
    socket.onerror = () => {}
    // A browser throws when it is asked to close with the server's own code, 1008 or 1009.
    if (!this.isClosed) socket.close(code, reason)
  }

  private rest(): void {
    this.pongDue = this.isWaking = false
    clearTimeout(this.timer)
    this.timer = setTimeout(() => this.ping(), this.every)
  }

  private ping(missed = 0, within = PONG_WITHIN): void {
    this.pongDue = true
    this.write('{"type":"ping"}')
    clearTimeout(this.timer)
    this.timer = setTimeout(() => {
      if (missed + 1 < MISSED_PONGS) this.ping(missed + 1)
      else this.events.silent(`${MISSED_PONGS} pings went unanswered`)
    }, within)
  }
}
