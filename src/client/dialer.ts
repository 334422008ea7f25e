import type { Codec } from '../protocol/codecs/codec.ts'
import type { Credentials } from './credentials.ts'
import { EventStream } from './event-stream.ts'
import { ClientError, type Handlers } from './handlers.ts'
import type { ClientOptions, WebSocketLike } from './options.ts'
import { resolveUrl } from './page.ts'
import type { Positions } from './positions.ts'

/** Proxies accept 8 KB, and the rest of the request line needs space too. */
const MAX_SINCE = 4_000
/** A stream whose URL would be longer is asked for with a POST. */
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
  /** How many topics were too many for a stream on this way. */
  private tooMany = Infinity

  constructor(parts: DialerParts) {
    this.parts = parts
  }

  /** False if a stream would be refused again: its request would be as long as one that was. */
  get canStream(): boolean {
    return [...this.parts.topics()].length < this.tooMany
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
      if (isStream) return take(this.stream(url, first))
      const since = places.forRequest(MAX_SINCE)
      if (since) url.searchParams.set('since', since)
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

  private stream(url: URL, first: object | undefined): EventStream {
    const topics = [...this.parts.topics()]
    const since = this.parts.places.forRequest(Infinity, topics)
    const short = new URL(url)
    for (const topic of topics) short.searchParams.append('topics', topic)
    if (since) short.searchParams.set('since', since)
    const isShort = short.href.length <= MAX_URL
    return new EventStream(isShort ? short.href : url.href, {
      first,
      body: isShort ? undefined : `{"topics":${JSON.stringify(topics)},"since":${since || '{}'}}`,
      late: isAnswered => this.late(isAnswered),
      tooLong: (status, message) => this.tooLong(topics.length, `${status}${message ? `: ${message}` : ''}`),
    })
  }

  private tooLong(count: number, answer: string): void {
    this.tooMany = count
    const problem = `an event stream with ${count} topics is refused for good (${answer})`
    const remedy = 'subscribe fewer, or raise limits.inbound of the server or the limit of the proxy in front of it'
    this.parts.handlers.report(
      new ClientError('TOO_LONG', `${problem}: ${remedy}; until then only WebSockets are tried`),
    )
  }

  private late(isAnswered: boolean): void {
    const what = isAnswered ? 'the event stream was opened, but no message comes' : 'the event stream is not answered'
    this.parts.handlers.report(new ClientError('BUFFERED', `${what}: ${BUFFERED}`))
  }
}
