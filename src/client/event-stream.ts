import { ABNORMAL } from './link.ts'
import type { WebSocketLike } from './options.ts'

const OPEN = 1
const CLOSED = 3

/** A server says at once who is welcome. What comes later than this was held back on the way. */
const WELCOME_LATE = 10_000

/** What this client takes for a sign of life: it is reserved, and nobody asked. */
const SIGN_OF_LIFE = '{"type":"pong"}'

/** Refusals that another attempt would only repeat; from anything but the server itself, they mean nothing. */
const FINAL = [400, 401, 403]

/** Whoever answers this, the server or something on the way: the request is too long for it, or it takes no body. */
const TOO_LONG = [405, 413, 414, 431]

interface StreamRequest {
  /** JSON with what would make the URL too long. */
  body: string | undefined
  /** The first message, which a stream cannot send. */
  first: object | undefined
  /** The same request will never be taken. `status`: of the answer. */
  tooLong(status: number, message: unknown): void
  /** No message came in time. `isAnswered`: the headers did. */
  late(isAnswered: boolean): void
}

type Handler = ((event: never) => unknown) | null

/** An event stream that looks like a WebSocket, over which nothing can be sent. */
export class EventStream implements WebSocketLike {
  binaryType = ''
  readyState = 0
  onmessage: Handler = null
  onclose: Handler = null
  onerror: Handler = null
  private controller = new AbortController()
  private request: StreamRequest
  private reader: ReadableStreamDefaultReader<Uint8Array> | undefined
  private timer: ReturnType<typeof setTimeout>

  constructor(url: string, request: StreamRequest) {
    this.request = request
    this.timer = setTimeout(() => request.late(this.readyState === OPEN), WELCOME_LATE)
    this.read(url).then(
      () => this.end(ABNORMAL, 'the event stream ended'),
      error => this.end(ABNORMAL, `${error}`),
    )
  }

  send(): void {}

  close(): void {
    clearTimeout(this.timer)
    this.readyState = CLOSED
    this.controller.abort()
    // Node 20 may collect a request whose redirects are errors: then nothing hears the signal, and the stream would stay
    // open (nodejs/undici#4627).
    this.reader?.cancel().catch(() => {})
  }

  private async read(url: string): Promise<void> {
    const { body, first } = this.request
    const response = await fetch(url, {
      method: body === undefined ? 'GET' : 'POST',
      body: body ?? null,
      headers: {
        accept: 'text/event-stream',
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...(first && { 'push-authenticate': encodeURIComponent(JSON.stringify(first)) }),
      },
      // As a WebSocket does.
      credentials: 'include',
      cache: 'no-store',
      // As a WebSocket, which says who it is to nobody else.
      redirect: 'error',
      signal: this.controller.signal,
    })
    if (!/^text\/event-stream/.test(response.headers.get('content-type') ?? '')) return this.refuse(response)
    this.readyState = OPEN
    const reader = response.body!.getReader()
    this.reader = reader
    const decoder = new TextDecoder()
    let rest = ''
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const events = (rest + decoder.decode(part.value, { stream: true })).split('\n\n')
      rest = events.pop()!
      for (const event of events) this.take(event)
    }
  }

  private async refuse(response: Response): Promise<void> {
    const { code, message } = await response.json().catch(() => ({}))
    // A client that was closed meanwhile is told nothing.
    if (TOO_LONG.includes(response.status) && this.readyState !== CLOSED) this.request.tooLong(response.status, message)
    const isFinal = FINAL.includes(response.status) && /^PUSH_ERR_/.test(code)
    this.end(
      isFinal ? 4000 + response.status : ABNORMAL,
      `the event stream was answered with ${response.status}: ${message}`,
    )
  }

  private take(event: string): void {
    const fields = Object.fromEntries(event.split('\n').map(line => line.split(/: (.*)/s)))
    const { event: kind, data = SIGN_OF_LIFE } = fields
    if (kind === 'close') {
      const { code, reason } = JSON.parse(data)
      return this.end(code, reason)
    }
    if (fields.data) clearTimeout(this.timer)
    const bytes = kind === 'binary' && Uint8Array.from(atob(data), character => character.charCodeAt(0)).buffer
    this.onmessage?.({ data: bytes || data } as never)
  }

  private end(code: number, reason: string): void {
    if (this.readyState === CLOSED) return
    this.close()
    this.onclose?.({ code, reason } as never)
  }
}
