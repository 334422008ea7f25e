import { CLOSE, type Gap, MAX_CLOSE_REASON_BYTES, shouldReconnect, type TopicState, type Welcome } from './protocol.ts'

const PING_EVERY = 25_000
// Twice this is how long a dead connection goes unnoticed; less would cut a slow link in the middle of a large message.
const PONG_WITHIN = 10_000
// Somebody has just looked at the page: what they see should soon be true.
const PONG_WITHIN_AWAKE = 5_000
// A SYN that meets silence takes a browser two minutes; this also bounds the application's ticket().
const WELCOME_WITHIN = 20_000
const STABLE_AFTER = 10_000
const MAX_DELAY = 30_000
const UNREACHABLE_AFTER = 3
const MISSED_PONGS = 2
const PING_EVERY_AT_LEAST = 1_000
const REPLY_WITHIN = 10_000
const MAX_REQUESTS = 256
const MAX_TIMER = 2 ** 31 - 1
const NO_CODE = 1005
const ABNORMAL = 1006
const OPEN = 1
const WAKING = ['online', 'pageshow']
// Reserved for the protocol, now or later: an application never gets one as a published message.
const NOT_PUBLISHED = /^(p[io]ng|ack|(un)?subscribe|authenticated?|presence|history|push\..*)$/

/** `waiting`: between two attempts. `open`: welcomed by the server. `closed`: for good; `connect` makes another. */
export type ClientState = 'connecting' | 'open' | 'waiting' | 'closed'

/** A message for the application. `topic` is absent when the server sent it to this connection alone. */
export type PublishedMessage<T = unknown> = { type: string; payload: T; topic?: string; seq?: number; id?: string }

export type Subscribed = TopicState & { topic: string }

/** What `listen` tells of: the client itself, never a published message. */
export interface ClientEvents {
  /** `code` and `reason`: why the connection ended; `delay`: milliseconds until the next attempt. */
  state: { state: ClientState; code?: number; reason?: string; delay?: number }
  welcome: Welcome
  /** Messages were or may have been missed: fetch again what the page shows of these topics. */
  gap: Gap
  /** What failed with nobody waiting for it, and every refused topic. To the console when nobody listens. */
  error: ClientError
  /** Three attempts in a row went unanswered; trying goes on. `message`: what to check. To the console likewise. */
  unreachable: { attempts: number; message: string }
  /** The server sent what is no message of the protocol: `data`, as it came. */
  invalid: { data: string }
  binary: ArrayBuffer
  /** The node is draining: it will close, and the next attempt follows `after` milliseconds later. */
  reconnect: { after: number }
}

type Binary = ArrayBuffer | ArrayBufferView | Blob

/** The part of a WebSocket that is used: the browser's, Node's own (22 and later) and that of `ws` fit. */
export interface WebSocketLike {
  binaryType: string
  readonly readyState: number
  onmessage: ((event: never) => unknown) | null
  onclose: ((event: never) => unknown) | null
  onerror: ((event: never) => unknown) | null
  send(data: string | Binary): void
  close(code?: number, reason?: string): void
}

export interface ClientOptions {
  /** Topics to subscribe to from the start, as with `subscribe`. */
  topics?: readonly string[]
  /** Asked anew at every attempt, because a ticket is good for one. A failure is an `error` and a failed attempt. */
  ticket?: () => Promise<string>
  /** Default: the built-in one. Node 20 has none: `import { WebSocket } from 'ws'`. */
  WebSocket?: new (
    url: string,
  ) => WebSocketLike
}

/** `Messages` maps types to payloads: `connect<{ 'order.created': Order }>('/ws')`. */
export interface Client<Messages extends object = Record<string, unknown>> {
  readonly state: ClientState
  /** What the server said when it last welcomed this client. */
  readonly welcome: Welcome | undefined
  /**
   * Calls `handler` for every message of a type, or of any with `'*'`; returns the way to stop it. Register before
   * subscribing: what was missed follows at once. A handler that throws or rejects is an `error` with code `HANDLER`.
   */
  on<Type extends keyof Messages & string>(
    type: Type,
    handler: (payload: Messages[Type], message: PublishedMessage<Messages[Type]>) => unknown,
  ): () => void
  on(type: '*', handler: (payload: unknown, message: PublishedMessage) => unknown): () => void
  /** Calls `handler` for every such event; returns the way to stop it. */
  listen<Event extends keyof ClientEvents>(event: Event, handler: (detail: ClientEvents[Event]) => unknown): () => void
  /**
   * Subscribes now or when next welcomed, and after every reconnect. Twice is once. Rejects with the server's code when
   * refused, and the topic is given up; with `CLOSED` (connection lost) or `TIMEOUT` (no answer in 10 s), and the topic
   * is asked for again when next welcomed; with `UNSUBSCRIBED`. It need not be awaited.
   */
  subscribe(topic: string): Promise<Subscribed>
  unsubscribe(topic: string): void
  /** False when not open, and then nothing is sent; true says no more than that the socket took it. */
  send(type: string, payload?: unknown): boolean
  send(bytes: Binary): boolean
  /**
   * Resolves with the payload of the `reply`. Rejects with the server's code, `CLOSED` (not open, or lost before the
   * answer), `TIMEOUT` (`timeout`: milliseconds, default 10,000) or `BUSY` (256 are unanswered).
   */
  request<Reply = unknown>(type: string, payload?: unknown, options?: { timeout?: number }): Promise<Reply>
  /** Closes for good. `code`: 1000 (default) or 3000–4999, `reason`: up to 123 bytes; RangeError for any other. */
  close(code?: number, reason?: string): void
}

/**
 * `code`: the server's (`PUSH_ERR_…`), or `CLOSED`, `TIMEOUT`, `BUSY`, `UNSUBSCRIBED`, or with a `cause` `TICKET`
 * (ticket() failed), `CONNECT` (no WebSocket could be made), `HANDLER` (a handler failed).
 */
export class ClientError extends Error {
  readonly code: string
  constructor(code: string, message: string, cause?: unknown) {
    super(message, { cause })
    this.code = code
  }
}

/**
 * Connects, and stays connected until `close` or until the server closes with a code that forbids it.
 * `url`: ws, wss, http, https or relative to the page; a TypeError for any other, and where there is no WebSocket.
 */
export function connect<Messages extends object = Record<string, unknown>>(
  url: string | URL,
  options: ClientOptions = {},
): Client<Messages> {
  const WebSocket = options.WebSocket ?? globalThis.WebSocket
  if (!WebSocket) throw new TypeError('this runtime has no WebSocket: pass { WebSocket } from the package "ws"')
  return new PushClient(resolveUrl(url), { ...options, WebSocket })
}

type Handler = (...args: never[]) => unknown
type Timer = ReturnType<typeof setTimeout> | undefined
type Message = PublishedMessage & { ref?: unknown }

interface Answer<T = unknown> {
  promise: Promise<T>
  resolve(payload: T): void
  reject(error: ClientError): void
}

class PushClient {
  state: ClientState = 'connecting'
  welcome: Welcome | undefined
  private url: URL
  private options: ClientOptions & Required<Pick<ClientOptions, 'WebSocket'>>
  private handlers = new Map<string, Set<Handler>>()
  /** The topics to hear, and the answer of the connection at hand: a loss brings a new one, not yet asked for. */
  private topics = new Map<string, Answer<Subscribed> & { asked?: boolean }>()
  private pending = new Map<unknown, Answer>()
  private lastRef = 0
  private socket: WebSocketLike | undefined
  /** What ticket() brings too late finds another number here. */
  private attempt = 0
  /** Each state has one: to give the attempt up, to call the connection stable, to try again. */
  private timer: Timer
  private pingTimer: Timer
  private pongDue = false
  private pingEvery = PING_EVERY
  private failures = 0
  private unanswered = 0
  /** The delay that a `reconnect` asked for, until it is over. */
  private after: number | undefined
  private leavePage = watchPage(() => this.wake())

  constructor(url: URL, options: PushClient['options']) {
    this.url = url
    this.options = options
    for (const topic of options.topics ?? []) this.subscribe(topic)
    this.connect()
  }

  on(type: string, handler: Handler): () => void {
    return this.add(`message ${type}`, handler)
  }

  listen(event: string, handler: Handler): () => void {
    return this.add(`event ${event}`, handler)
  }

  subscribe(topic: string): Promise<Subscribed> {
    const answer = this.topics.get(topic) ?? defer()
    if (this.state === 'closed') answer.reject(lost())
    else this.topics.set(topic, answer)
    if (this.state === 'open') this.join(topic)
    return answer.promise
  }

  unsubscribe(topic: string): void {
    this.topics.get(topic)?.reject(new ClientError('UNSUBSCRIBED', `${topic} is no longer wanted`))
    this.topics.delete(topic)
    // Without a ref the answer could be taken for an unsubscription that the server decided on.
    if (this.state === 'open')
      this.write(JSON.stringify({ type: 'unsubscribe', payload: { topic }, ref: ++this.lastRef }))
  }

  send(what: string | Binary, payload?: unknown): boolean {
    return (
      this.state === 'open' && this.write(typeof what === 'string' ? JSON.stringify({ type: what, payload }) : what)
    )
  }

  async request(type: string, payload?: unknown, { timeout = REPLY_WITHIN } = {}): Promise<never> {
    if (this.state !== 'open') throw lost()
    if (this.pending.size >= MAX_REQUESTS) throw new ClientError('BUSY', `${MAX_REQUESTS} requests are unanswered`)
    return this.ask(type, payload, timeout)
  }

  close(code: number = CLOSE.NORMAL, reason = ''): void {
    if (code !== CLOSE.NORMAL && !(code >= 3000 && code <= 4999)) throw new RangeError('code is not 1000 or 3000–4999')
    if (new TextEncoder().encode(reason).length > MAX_CLOSE_REASON_BYTES) throw new RangeError('reason is too long')
    if (this.state !== 'closed') this.end(code, reason)
  }

  private connect(): void {
    this.after = undefined
    this.enter('connecting', WELCOME_WITHIN, () => this.lose(ABNORMAL, 'no welcome came'))
    // A handler of `state` may have closed it.
    if (this.state === 'connecting') this.open(++this.attempt)
  }

  private async open(attempt: number): Promise<void> {
    const { ticket, WebSocket } = this.options
    let failure: [code: string, message: string] = ['TICKET', 'ticket() failed']
    try {
      // So that whoever called connect() can listen before anything happens.
      await undefined
      if (attempt !== this.attempt) return
      // `since` of the topics that the connection has by itself belongs here.
      const url = new URL(this.url)
      if (ticket) url.searchParams.set('ticket', usable(await ticket()))
      failure = ['CONNECT', 'no WebSocket could be made']
      if (attempt === this.attempt) this.attach(new WebSocket(url.href))
    } catch (cause) {
      if (attempt !== this.attempt) return
      this.lose(ABNORMAL, failure[1])
      this.report(new ClientError(...failure, cause))
    }
  }

  private attach(socket: WebSocketLike): void {
    let problem = ''
    this.socket = socket
    socket.binaryType = 'arraybuffer'
    socket.onmessage = (event: { data: unknown }) => this.receive(event.data)
    // Only `ws` says what happened; a browser keeps it from the page.
    socket.onerror = (event: { message?: string }) => {
      problem = event.message ?? ''
    }
    socket.onclose = (event: { code: number; reason: string }) => {
      if (shouldReconnect(event.code)) this.lose(event.code, event.reason || problem)
      else this.end(event.code, event.reason)
    }
  }

  private lose(code: number, reason: string): void {
    const answered = this.state === 'open' || (code !== NO_CODE && code !== ABNORMAL)
    this.detach()
    // Full jitter: clients that fell together must not come back together.
    const delay = this.after ?? Math.random() * Math.min(MAX_DELAY, 1000 * 2 ** this.failures++)
    this.unanswered = answered ? 0 : this.unanswered + 1
    this.enter('waiting', delay, () => this.connect(), { code, reason, delay })
    if (this.unanswered === UNREACHABLE_AFTER) this.warn(`${code} ${reason}`)
  }

  private end(code: number, reason: string): void {
    this.detach(code, reason)
    this.leavePage()
    for (const answer of this.topics.values()) answer.reject(lost())
    this.topics.clear()
    this.enter('closed', undefined, noop, { code, reason })
  }

  private detach(code?: number, reason?: string): void {
    const { socket } = this
    this.socket = undefined
    this.attempt++
    clearTimeout(this.pingTimer)
    for (const answer of this.pending.values()) answer.reject(lost())
    for (const [topic, { asked }] of this.topics) if (asked) this.topics.set(topic, defer())
    if (!socket) return
    // A dead peer never ends the close handshake. The handler of nothing is for `ws`, which throws what nobody takes.
    socket.onmessage = socket.onclose = null
    socket.onerror = noop
    socket.close(code, reason)
  }

  private enter(state: ClientState, ms: number | undefined, then: () => void, detail?: object): void {
    clearTimeout(this.timer)
    this.state = state
    if (ms !== undefined) this.timer = setTimeout(then, ms)
    this.emit('event state', { state, ...detail })
  }

  private wake(): void {
    if (this.state === 'open') this.ping(0, PONG_WITHIN_AWAKE)
    // What a draining server asked for stands: it spreads the crowd.
    else if (this.state === 'waiting' && this.after === undefined) this.connect()
  }

  private ping(missed = 0, within = PONG_WITHIN): void {
    this.pongDue = true
    this.write('{"type":"ping"}')
    clearTimeout(this.pingTimer)
    this.pingTimer = setTimeout(() => {
      if (missed + 1 < MISSED_PONGS) this.ping(missed + 1)
      else this.lose(ABNORMAL, `${MISSED_PONGS} pings went unanswered`)
    }, within)
  }

  private receive(data: unknown): void {
    if (this.pongDue) this.rest()
    if (typeof data !== 'string') {
      this.emit('event binary', data)
      return
    }
    const message = parse(data)
    if (!message || !this.dispatch(message)) this.emit('event invalid', { data })
  }

  private rest(): void {
    this.pongDue = false
    clearTimeout(this.pingTimer)
    this.pingTimer = setTimeout(() => this.ping(), this.pingEvery)
  }

  /** False for what the protocol does not know. */
  private dispatch(message: Message): boolean {
    const payload = Object(message.payload)
    switch (message.type) {
      case 'welcome':
        return this.state === 'connecting' && this.begin(payload)
      case 'subscribed':
      case 'reply':
        this.pending.get(message.ref)?.resolve(message.payload)
        return true
      case 'unsubscribed':
        // The server's own decision: it should not be undone by the next reconnect.
        if (message.ref === undefined) this.topics.delete(payload.topic)
        return true
      case 'error':
        return this.fail(payload, message.ref)
      case 'gap':
        if (Array.isArray(payload.topics)) this.emit('event gap', payload)
        return Array.isArray(payload.topics)
      case 'reconnect':
        return this.obey(payload)
      default:
        if (!NOT_PUBLISHED.test(message.type)) this.publish(message)
        return true
    }
  }

  private begin(welcome: Welcome): boolean {
    if (typeof welcome.connection !== 'string') return false
    const interval = Number.isFinite(welcome.heartbeat?.interval) ? welcome.heartbeat.interval : PING_EVERY
    this.welcome = welcome
    this.pingEvery = Math.max(PING_EVERY_AT_LEAST, Math.min(PING_EVERY, interval))
    this.rest()
    this.enter('open', STABLE_AFTER, () => {
      this.failures = 0
    })
    for (const topic of this.topics.keys()) this.join(topic)
    if (this.state === 'open') this.emit('event welcome', welcome)
    return true
  }

  private fail({ code, message }: Record<string, unknown>, ref: unknown): boolean {
    if (typeof code !== 'string' || typeof message !== 'string') return false
    const error = new ClientError(code, message)
    const answer = this.pending.get(ref)
    if (answer) answer.reject(error)
    else this.report(error)
    return true
  }

  private obey({ after }: Record<string, unknown>): boolean {
    if (typeof after !== 'number' || !(after >= 0)) return false
    this.after = Math.min(after, MAX_TIMER)
    this.emit('event reconnect', { after })
    return true
  }

  private publish(message: Message): void {
    // The `id` to recover from is at hand here, for topics in `this.topics`.
    this.emit(`message ${message.type}`, message.payload, message)
    this.emit('message *', message.payload, message)
  }

  private join(topic: string): void {
    const answer = this.topics.get(topic)
    if (!answer || answer.asked) return
    answer.asked = true
    // `since` belongs here.
    this.ask('subscribe', { topic }).then(answer.resolve, error => this.refused(topic, answer, error))
  }

  private refused(topic: string, answer: Answer<Subscribed>, error: ClientError): void {
    answer.reject(error)
    if (this.topics.get(topic) !== answer) return
    if (error.code === 'CLOSED' || error.code === 'TIMEOUT') this.topics.set(topic, defer())
    else this.topics.delete(topic)
    this.report(error)
  }

  private async ask(type: string, payload: unknown, timeout = REPLY_WITHIN): Promise<never> {
    const ref = ++this.lastRef
    const answer = defer<never>()
    if (!this.write(JSON.stringify({ type, payload, ref }))) throw lost()
    const late = () => answer.reject(new ClientError('TIMEOUT', `no answer to ${type} in ${timeout} ms`))
    const timer = setTimeout(late, Math.min(timeout, MAX_TIMER))
    this.pending.set(ref, answer)
    try {
      return await answer.promise
    } finally {
      clearTimeout(timer)
      this.pending.delete(ref)
    }
  }

  private write(data: string | Binary): boolean {
    if (this.socket?.readyState !== OPEN) return false
    this.socket.send(data)
    return true
  }

  private add(name: string, handler: Handler): () => void {
    const handlers = this.handlers.get(name) ?? new Set()
    this.handlers.set(name, handlers.add(handler))
    return () => handlers.delete(handler)
  }

  /** Whether anybody listens. Inside a promise, so that what a handler throws or rejects with ends in one place. */
  private emit(name: string, ...args: unknown[]): boolean {
    const handlers = [...(this.handlers.get(name) ?? [])] as ((...args: unknown[]) => unknown)[]
    for (const handler of handlers) new Promise(done => done(handler(...args))).catch(cause => this.broke(name, cause))
    return handlers.length > 0
  }

  /** Not thrown on in a microtask: that would end a Node process for one odd payload. */
  private broke(name: string, cause: unknown): void {
    // A failing error handler would be called with its own failure for ever.
    if (name === 'event error') console.error(cause)
    else this.report(new ClientError('HANDLER', `the handler of the ${name} failed`, cause))
  }

  private report(error: ClientError): void {
    if (!this.emit('event error', error)) console.error(error)
  }

  private warn(last: string): void {
    const message =
      `no welcome from ${this.url.origin}${this.url.pathname} in ${UNREACHABLE_AFTER} attempts (the last: ${last}). ` +
      'Check that the path is the path option of the plugin, that the server runs, that the proxy passes the Upgrade ' +
      'and Connection headers, and that the origins option admits this page. Trying goes on.'
    if (!this.emit('event unreachable', { attempts: UNREACHABLE_AFTER, message })) console.warn(message)
  }
}

function resolveUrl(url: string | URL): URL {
  const resolved = new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href)
  resolved.protocol = resolved.protocol.replace(/^http/, 'ws')
  // A WebSocket refuses a fragment.
  resolved.hash = ''
  if (!/^wss?:$/.test(resolved.protocol)) throw new TypeError(`not ws, wss, http or https: ${resolved.protocol}`)
  return resolved
}

/** Calls `wake` when the page may have slept through the end of a connection. Node has neither object, workers one. */
function watchPage(wake: () => void): () => void {
  const { document } = globalThis
  const visible = () => document.visibilityState === 'visible' && wake()
  const page = (globalThis.addEventListener as unknown) ? globalThis : undefined
  document?.addEventListener('visibilitychange', visible)
  for (const event of WAKING) page?.addEventListener(event, wake)
  return () => {
    document?.removeEventListener('visibilitychange', visible)
    for (const event of WAKING) page?.removeEventListener(event, wake)
  }
}

function parse(text: string): Message | undefined {
  try {
    const message = JSON.parse(text)
    return typeof message?.type === 'string' ? message : undefined
  } catch {
    return undefined
  }
}

/** A ticket of `undefined` would be sent as that word, refused with 4401, and the client would stay closed. */
function usable(ticket: string): string {
  if (typeof ticket !== 'string' || !ticket) throw new TypeError('ticket() gave no string')
  return ticket
}

/** Nobody need wait for the promise: a loss that is mended by itself must not become an unhandled rejection. */
function defer<T>(): Answer<T> {
  const answer = {} as Answer<T>
  answer.promise = new Promise<T>((resolve, reject) => Object.assign(answer, { resolve, reject }))
  answer.promise.catch(noop)
  return answer
}

function lost(): ClientError {
  return new ClientError('CLOSED', 'the client is not connected')
}

function noop(): void {}
