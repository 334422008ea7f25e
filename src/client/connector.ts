import type { Dialer } from './dialer.ts'
import { Fallback } from './fallback.ts'
import { ClientError } from './handlers.ts'
import { Link } from './link.ts'
import type { Message } from './message.ts'
import type { Binary, WebSocketLike } from './options.ts'

interface ConnectorEvents {
  /** A message, or undefined for what is none. */
  received(message: Message | undefined, data: unknown): void
  binary(data: unknown): void
  closed(code: number, reason: string): void
  silent(reason: string): void
  /** The attempt could not begin; `report` follows. */
  failed(error: ClientError): void
  report(error: ClientError): void
  /** A WebSocket takes the place of the open stream, which is left now. */
  leaving(): void
  taken(): void
}

/** The present link, and how one follows the other. */
export class Connector {
  private link: Link | undefined
  private dialer: Dialer
  private fallback: Fallback
  private events: ConnectorEvents
  /** Counts attempts: a ticket that comes too late finds another number. */
  private attempt = 0

  constructor(dialer: Dialer, hasFallback: boolean, events: ConnectorEvents) {
    this.dialer = dialer
    this.fallback = new Fallback(hasFallback)
    this.events = events
  }

  get isStream(): boolean {
    return !!this.link?.isStream
  }

  needWebSocket(type: string): void {
    if (!this.isStream) return
    throw new ClientError('SSE', `${type} needs a WebSocket: over an event stream nothing can be sent`)
  }

  async open(): Promise<void> {
    const isStream = this.fallback.isStream && this.dialer.canStream
    const attempt = ++this.attempt
    try {
      await this.dialer.dial({
        isStream,
        isOver: () => attempt !== this.attempt,
        take: (socket, first) => {
          this.link = this.linkOf(socket, isStream, first)
        },
      })
    } catch (error) {
      this.events.failed(error as ClientError)
      this.events.report(error as ClientError)
    }
  }

  /** The server has welcomed the client. `interval`: that of its heartbeat. */
  welcomed(interval: unknown): void {
    this.link?.watch(interval)
    if (this.isStream) this.fallback.look(() => this.tryWebSocket())
    else this.fallback.opened()
  }

  /** The connection was lost, or never there: so many attempts in a row got no answer. */
  lost(unanswered: number): void {
    this.fallback.lost(unanswered)
  }

  /** The topics of a stream are in its request: `open` replaces it when they have changed. */
  refresh(open: () => void): void {
    this.fallback.refresh(open)
  }

  say(message: object): boolean {
    return this.link?.say(message) ?? false
  }

  sayBinary(data: Binary): boolean {
    return this.link?.sayBinary(data) ?? false
  }

  wake(): void {
    this.link?.wake()
  }

  leave(code?: number, reason?: string): void {
    const { link } = this
    this.link = undefined
    this.attempt++
    this.fallback.stop()
    link?.leave(code, reason)
  }

  private linkOf(socket: WebSocketLike, isStream: boolean, first?: object): Link {
    const events = {
      received: (message: Message | undefined, data: unknown) => {
        if (link !== this.fallback.candidate || this.takes(link, message)) this.events.received(message, data)
      },
      binary: (data: unknown) => this.events.binary(data),
      closed: (code: number, reason: string) => {
        if (link === this.fallback.candidate) this.fallback.drop()
        else this.events.closed(code, reason)
      },
      silent: (reason: string) => this.events.silent(reason),
    }
    const link: Link = new Link(socket, isStream, events, this.dialer.codec)
    if (first) socket.onopen = () => link.say(first)
    return link
  }

  private async tryWebSocket(): Promise<void> {
    const { attempt } = this
    try {
      await this.dialer.dial({
        isStream: false,
        isOver: () => attempt !== this.attempt,
        take: (socket, first) => {
          // An attempt before may have waited for its ticket until now.
          this.fallback.drop()
          this.fallback.candidate = this.linkOf(socket, false, first)
        },
      })
    } catch (error) {
      this.events.report(error as ClientError)
    }
  }

  /**
   * The first message of a WebSocket that was opened beside the stream. What the stream brought meanwhile comes again, and is
   * known by its position.
   */
  private takes(link: Link, message: Message | undefined): boolean {
    if (message?.type !== 'welcome') return false
    this.fallback.candidate = undefined
    this.events.leaving()
    this.link = link
    this.events.taken()
    // A `state` handler may have closed the client.
    return this.link === link
  }
}
