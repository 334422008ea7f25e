import { ClientError, type Handler, Handlers } from './client-handlers.ts'
import type {
  Binary,
  ClientOptions,
  ClientState,
  PublishedMessage,
  Subscribed,
  WebSocketLike,
} from './client-options.ts'
import { watchPage } from './client-page.ts'
import { type Answer, defer, lost, MAX_TIMER, Requests } from './client-requests.ts'
import { CLOSE, MAX_CLOSE_REASON_BYTES, shouldReconnect, type Welcome } from './protocol.ts'

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
const NO_CODE = 1005
const ABNORMAL = 1006
const OPEN = 1
// Reserved for the protocol, now or later: an application never gets one as a published message.
const NOT_PUBLISHED = /^(p[io]ng|ack|(un)?subscribe|authenticated?|presence|history|push\..*)$/

type Timer = ReturnType<typeof setTimeout> | undefined
type Message = PublishedMessage & { ref?: unknown }

/** One client, from the first attempt to its end: the socket of the day, what is wanted, and what waits for answers. */
export class PushClient {
  state: ClientState = 'connecting'
  welcome: Welcome | undefined
  private url: URL
  private options: ClientOptions & Required<Pick<ClientOptions, 'WebSocket'>>
  private handlers = new Handlers()
  /** The topics to hear, and the answer of the connection at hand: a loss brings a new one, not yet asked for. */
  private topics = new Map<string, Answer<Subscribed> & { asked?: boolean }>()
  private requests = new Requests()
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
    return this.handlers.add(`message ${type}`, handler)
  }

  listen(event: string, handler: Handler): () => void {
    return this.handlers.add(`event ${event}`, handler)
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
      this.write(JSON.stringify({ type: 'unsubscribe', payload: { topic }, ref: this.requests.nextRef() }))
  }

  send(what: string | Binary, payload?: unknown): boolean {
    return (
      this.state === 'open' && this.write(typeof what === 'string' ? JSON.stringify({ type: what, payload }) : what)
    )
  }

  async request(type: string, payload?: unknown, { timeout }: { timeout?: number } = {}): Promise<never> {
    if (this.state !== 'open') throw lost()
    if (this.requests.isFull) throw new ClientError('BUSY', 'too many requests are unanswered')
    return this.ask(type, payload, timeout)
  }

  private ask(type: string, payload: unknown, timeout?: number): Promise<never> {
    return this.requests.ask(text => this.write(text), type, payload, timeout)
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
      this.handlers.report(new ClientError(...failure, cause))
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
      else this.end(event.code, event.reason, 'closed')
    }
  }

  private lose(code: number, reason: string): void {
    const answered = this.state === 'open' || (code !== NO_CODE && code !== ABNORMAL)
    this.detach()
    // Full jitter: clients that fell together must not come back together.
    const delay = this.after ?? Math.random() * Math.min(MAX_DELAY, 1000 * 2 ** this.failures++)
    this.unanswered = answered ? 0 : this.unanswered + 1
    this.enter('waiting', delay, () => this.connect(), { code, reason, delay })
    if (this.unanswered === UNREACHABLE_AFTER) this.warn(`${code} ${reason}`.trim())
  }

  private end(code: number, reason: string, socket: 'open' | 'closed' = 'open'): void {
    // A browser throws when it is asked to close with the server's own code, 1008 or 1009.
    if (socket === 'open') this.detach(code, reason)
    else this.detach()
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
    this.requests.fail()
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
    this.handlers.emit('event state', { state, ...detail })
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
      this.handlers.emit('event binary', data)
      return
    }
    const message = parse(data)
    if (!message || !this.dispatch(message)) this.handlers.emit('event invalid', { data })
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
        this.requests.get(message.ref)?.resolve(message.payload)
        return true
      case 'unsubscribed':
        // The server's own decision: it should not be undone by the next reconnect.
        if (message.ref === undefined) this.topics.delete(payload.topic)
        return true
      case 'error':
        return this.fail(payload, message.ref)
      case 'gap':
        if (Array.isArray(payload.topics)) this.handlers.emit('event gap', payload)
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
    if (this.state === 'open') this.handlers.emit('event welcome', welcome)
    return true
  }

  private fail({ code, message }: Record<string, unknown>, ref: unknown): boolean {
    if (typeof code !== 'string' || typeof message !== 'string') return false
    const error = new ClientError(code, message)
    const answer = this.requests.get(ref)
    if (answer) answer.reject(error)
    else this.handlers.report(error)
    return true
  }

  private obey({ after }: Record<string, unknown>): boolean {
    if (typeof after !== 'number' || !(after >= 0)) return false
    this.after = Math.min(after, MAX_TIMER)
    this.handlers.emit('event reconnect', { after })
    return true
  }

  private publish(message: Message): void {
    // The `id` to recover from is at hand here, for topics in `this.topics`.
    this.handlers.emit(`message ${message.type}`, message.payload, message)
    this.handlers.emit('message *', message.payload, message)
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
    this.handlers.report(error)
  }

  private write(data: string | Binary): boolean {
    if (this.socket?.readyState !== OPEN) return false
    this.socket.send(data)
    return true
  }

  private warn(last: string): void {
    const message =
      `no welcome from ${this.url.origin}${this.url.pathname} in ${UNREACHABLE_AFTER} attempts (the last: ${last}). ` +
      'Check that the path is the path option of the plugin, that the server runs, that the proxy passes the Upgrade ' +
      'and Connection headers, and that the origins option admits this page. Trying goes on.'
    if (!this.handlers.emit('event unreachable', { attempts: UNREACHABLE_AFTER, message })) console.warn(message)
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

function noop(): void {}
