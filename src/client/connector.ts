import type { Dialer } from './dialer.ts'
import { Fallback } from './fallback.ts'
import type { ClientError } from './handlers.ts'
import { Link } from './link.ts'
import { parse } from './message.ts'
import type { Binary, WebSocketLike } from './options.ts'

interface ConnectorEvents {
  received(data: unknown): void
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

  async open(): Promise<void> {
    const { isStream } = this.fallback
    const attempt = ++this.attempt
    try {
      await this.dialer.dial({
        isStream,
        isOver: () => attempt !== this.attempt,
        take: socket => {
          this.link = this.linkOf(socket, isStream)
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

  /** The topics of a stream are in its URL: `open` replaces it when they have changed. */
  refresh(open: () => void): void {
    this.fallback.refresh(open)
  }

  write(data: string | Binary): boolean {
    return this.link?.write(data) ?? false
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

  private linkOf(socket: WebSocketLike, isStream: boolean): Link {
    const link: Link = new Link(socket, isStream, {
      received: data => {
        if (link !== this.fallback.candidate || this.takes(link, data)) this.events.received(data)
      },
      closed: (code, reason) => {
        if (link === this.fallback.candidate) this.fallback.drop()
        else this.events.closed(code, reason)
      },
      silent: reason => this.events.silent(reason),
    })
    return link
  }

  private async tryWebSocket(): Promise<void> {
    const { attempt } = this
    try {
      await this.dialer.dial({
        isStream: false,
        isOver: () => attempt !== this.attempt,
        take: socket => {
          this.fallback.candidate = this.linkOf(socket, false)
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
  private takes(link: Link, data: unknown): boolean {
    if (typeof data !== 'string' || parse(data)?.type !== 'welcome') return false
    this.fallback.candidate = undefined
    this.events.leaving()
    this.link = link
    this.events.taken()
    // A `state` handler may have closed the client.
    return this.link === link
  }
}
