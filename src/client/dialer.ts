import type { Codec } from '../protocol/codecs/codec.ts'
import type { Credentials } from './credentials.ts'
import { EventStream } from './event-stream.ts'
import { ClientError, type Handlers } from './handlers.ts'
import type { ClientOptions, WebSocketLike } from './options.ts'
import { resolveUrl } from './page.ts'
import type { Positions } from './positions.ts'

/** Proxies accept 8 KB, and the rest of the request line needs space too. */
const MAX_SINCE = 4_000
const MAX_URL = 7_000

const BUFFERED =
  'does a proxy hold the event stream back? nginx needs "proxy_buffering off" and no gzip for text/event-stream'

interface DialerParts {
  url: URL
  options: ClientOptions & Required<Pick<ClientOptions, 'WebSocket'>>
  credentials: Credentials
  places: Positions
  handlers: Handlers
  /** Topics that the application wants. */
  topics(): Iterable<string>
}

/** An attempt: whether it is over by now, and who takes its socket, in the same turn in which it is made. */
interface Attempt {
  isStream: boolean
  isOver(): boolean
  /** `first`: what is to be said as soon as it is open. */
  take(socket: WebSocketLike, first?: object): void
}

/** Begins attempts: with a fresh ticket and the positions of that moment. */
export class Dialer {
  private parts: DialerParts

  constructor(parts: DialerParts) {
    this.parts = parts
  }

  get codec(): Codec | undefined {
    return this.parts.options.codec
  }

  /** Rejects with a ClientError. */
  async dial({ isStream, isOver, take }: Attempt): Promise<void> {
    const { options, credentials, places } = this.parts
    let failure: [code: string, message: string] = ['TICKET', 'ticket() failed']
    try {
      // The caller of connect() can add listeners before anything happens.
      await undefined
      if (isOver()) return
      const url = isStream ? this.streamUrl() : new URL(this.parts.url)
      const first = credentials.areGiven ? await credentials.prepare(url) : undefined
      if (isOver()) return
      const topics = isStream ? [...this.parts.topics()] : undefined
      for (const topic of topics ?? []) url.searchParams.append('topics', topic)
      const since = places.forUrl(isStream ? MAX_URL - url.href.length : MAX_SINCE, topics)
      if (since) url.searchParams.set('since', since)
      if (isStream) return take(new EventStream(url.href, { first, late: isAnswered => this.late(isAnswered) }))
      failure = ['CONNECT', 'the WebSocket could not be created']
      // An older server selects the other one.
      const offered = this.codec && [this.codec.protocol, 'push.json']
      take(offered ? new options.WebSocket(url.href, offered) : new options.WebSocket(url.href), first)
    } catch (cause) {
      if (isOver()) return
      throw new ClientError(...failure, cause)
    }
  }

  private streamUrl(): URL {
    const { url, options } = this.parts
    const { fallback } = options
    const stream = typeof fallback === 'string' ? resolveUrl(fallback) : new URL(url)
    if (fallback === true) stream.pathname = `${stream.pathname.replace(/\/$/, '')}/-/events`
    stream.protocol = stream.protocol.replace('ws', 'http')
    return stream
  }

  private late(isAnswered: boolean): void {
    const what = isAnswered ? 'the event stream was opened, but no message comes' : 'the event stream is not answered'
    this.parts.handlers.report(new ClientError('BUFFERED', `${what}: ${BUFFERED}`))
  }
}
