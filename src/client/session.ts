import type { Authenticated, Gap, Welcome } from '../protocol/messages.ts'
import { CLOSE, isReservedType, MAX_CLOSE_REASON_BYTES, shouldReconnect } from '../protocol/messages.ts'
import { Connector } from './connector.ts'
import { Credentials } from './credentials.ts'
import { Dialer } from './dialer.ts'
import { ClientError, type Handler, Handlers, messageName } from './handlers.ts'
import { keptPositions } from './kept-positions.ts'
import { ABNORMAL } from './link.ts'
import { areTexts, type Message } from './message.ts'
import type {
  Binary,
  ClientOptions,
  ClientPublishOptions,
  ClientState,
  Published,
  RequestOptions,
  Subscribed,
} from './options.ts'
import { Outbox } from './outbox.ts'
import { watchPage } from './page.ts'
import type { Positions } from './positions.ts'
import { MAX_TIMER, Requests } from './requests.ts'
import { type Roster, Rosters } from './roster.ts'
import { Topics } from './topics.ts'

// A browser waits two minutes for the answer to a SYN. This also limits the application's ticket().
const WELCOME_WITHIN = 20_000
const STABLE_AFTER = 10_000
const MAX_DELAY = 30_000
const UNREACHABLE_AFTER = 3
const NO_CODE = 1005

type Timer = ReturnType<typeof setTimeout> | undefined

/** One client, from the first attempt to its end: its states, and which parts act in which state. */
export class PushClient {
  state: ClientState = 'connecting'
  welcome: Welcome | undefined
  private url: URL
  private handlers = new Handlers()
  private places: Positions
  private topics: Topics
  private requests = new Requests(message => this.say(message))
  private outbox: Outbox
  private credentials: Credentials
  private rosters = new Rosters(this.handlers, topic => this.requests.ask('subscribe', { topic, presence: true }))
  private connector: Connector
  /** Each state has one timer: to give up the attempt, to call the connection stable, or to try again. */
  private timer: Timer
  private failures = 0
  private unanswered = 0
  /** The delay that a `reconnect` asked for, until the next attempt. */
  private after: number | undefined
  private leavePage = watchPage(() => this.wake())

  constructor(url: URL, options: ClientOptions & Required<Pick<ClientOptions, 'WebSocket'>>) {
    this.url = url
    this.places = keptPositions(url, options, this.handlers)
    this.outbox = new Outbox(this.requests, this.handlers, () => !this.connector.isStream, options.queue)
    this.credentials = new Credentials(options, this.handlers, payload => this.authenticate(payload))
    const { handlers, places, credentials } = this
    const reopen = () => this.refresh()
    this.topics = new Topics(places, handlers, payload => this.ask('subscribe', payload), reopen)
    const dialer = new Dialer({ url, options, handlers, places, credentials, topics: () => this.topics.forStream() })
    this.connector = new Connector(dialer, !!options.fallback, {
      received: (message, data) => {
        if (!message || !this.dispatch(message)) handlers.tell('invalid', { data })
      },
      binary: data => handlers.emit('event binary', data),
      closed: (code, reason) => (shouldReconnect(code) ? this.lose(code, reason) : this.end(code, reason)),
      silent: reason => this.lose(ABNORMAL, reason),
      failed: ({ message }) => this.lose(ABNORMAL, message),
      report: error => handlers.report(error),
      leaving: () => this.detach(),
      taken: () => this.awaitWelcome(),
    })
    for (const topic of options.topics ?? []) this.subscribe(topic)
    this.connect()
  }

  get transport(): 'websocket' | 'sse' | undefined {
    if (this.state !== 'open') return undefined
    return this.connector.isStream ? 'sse' : 'websocket'
  }

  get positions(): Record<string, string> {
    return this.places.ids
  }

  on(type: string, handler: Handler, { topic }: { topic?: string } = {}): () => void {
    return this.handlers.add(messageName(type, topic), handler)
  }

  listen(event: string, handler: Handler): () => void {
    return this.handlers.add(`event ${event}`, handler)
  }

  subscribe(topic: string, { last }: { last?: number } = {}): Promise<Subscribed> {
    const isNew = !this.topics.isWanted(topic)
    const answer = this.topics.want(topic, last)
    if (this.state === 'closed') this.topics.end()
    if (this.connector.isStream && isNew && !this.places.own(topic)) this.refresh()
    else if (this.state === 'open') this.topics.join(topic)
    return answer
  }

  presence(topic: string): Roster {
    // Who fails to subscribe is told by an `error`.
    this.subscribe(topic).catch(() => {})
    return this.rosters.want(topic, this.state === 'open')
  }

  unsubscribe(topic: string): void {
    this.topics.forget(topic)
    this.rosters.forget(topic)
    if (this.connector.isStream) return this.refresh()
    // Without a ref the answer would look like an unsubscription by the server.
    if (this.state === 'open') this.say({ type: 'unsubscribe', payload: { topic }, ref: this.requests.nextRef() })
  }

  send(what: string | Binary, payload?: unknown): boolean {
    if (this.state !== 'open') return false
    return typeof what === 'string' ? this.say({ type: what, payload }) : this.connector.sayBinary(what)
  }

  async request(type: string, payload?: unknown, options: RequestOptions = {}): Promise<never> {
    if (!options.queue && this.state === 'open') this.connector.needWebSocket(type)
    return this.outbox.request(type, payload, options, this.state)
  }

  private async ask(type: string, payload: unknown): Promise<never> {
    if (this.state === 'open') this.connector.needWebSocket(type)
    return this.requests.ask(type, payload)
  }

  authenticate(payload: object): Promise<Authenticated> {
    return this.request('authenticate', payload)
  }

  publish(topic: string, type: string, payload?: unknown, options: ClientPublishOptions = {}): Promise<Published> {
    const { echo, key, ...how } = options
    const published = this.request('push.publish', { topic, type, payload, echo, key }, how)
    const remember = ({ id }: Published) => id && echo === false && this.places.said(topic, id)
    // Nobody has to await it: that somebody is typing may get lost.
    published.then(remember, () => {})
    return published
  }

  close(code: number = CLOSE.NORMAL, reason = ''): void {
    if (code !== CLOSE.NORMAL && !(code >= 3000 && code <= 4999)) throw new RangeError('code is not 1000 or 3000–4999')
    if (new TextEncoder().encode(reason).length > MAX_CLOSE_REASON_BYTES) throw new RangeError('reason is too long')
    if (this.state !== 'closed') this.end(code, reason)
  }

  private connect(): void {
    this.after = undefined
    this.awaitWelcome()
    // A `state` handler may have closed the client.
    if (this.state === 'connecting') this.connector.open()
  }

  private awaitWelcome(): void {
    this.enter('connecting', {}, () => this.lose(ABNORMAL, 'no welcome came'), WELCOME_WITHIN)
  }

  /** The topics of an event stream are in its request: another one takes its place. */
  private refresh(): void {
    this.connector.refresh(() => {
      this.detach()
      this.connect()
    })
  }

  private lose(code: number, reason: string): void {
    const answered = this.state === 'open' || (code !== NO_CODE && code !== ABNORMAL)
    this.detach()
    // Full jitter: clients that were disconnected together must not return together.
    const delay = this.after ?? Math.random() * Math.min(MAX_DELAY, 1000 * 2 ** this.failures++)
    this.unanswered = answered ? 0 : this.unanswered + 1
    this.connector.lost(this.unanswered)
    this.enter('waiting', { code, reason, delay }, () => this.connect(), delay)
    if (this.unanswered === UNREACHABLE_AFTER) this.handlers.unreachable(this.url, this.unanswered, `${code} ${reason}`)
  }

  private end(code: number, reason: string): void {
    this.detach(code, reason)
    this.leavePage()
    this.topics.end()
    this.enter('closed', { code, reason })
  }

  private detach(code?: number, reason?: string): void {
    this.connector.leave(code, reason)
    this.requests.fail()
    this.topics.reset()
    this.rosters.reset()
  }

  private enter(state: ClientState, detail?: object, then?: () => void, ms?: number): void {
    clearTimeout(this.timer)
    this.state = state
    if (then) this.timer = setTimeout(then, ms)
    this.handlers.emit('event state', { state, ...detail })
  }

  private wake(): void {
    if (this.state === 'open') this.connector.wake()
    // Not before the delay that the server asked for: it spreads reconnects.
    else if (this.state === 'waiting' && this.after === undefined) this.connect()
  }

  /** False if it is not a valid message of the protocol. */
  private dispatch(message: Message): boolean {
    const payload = Object(message.payload)
    switch (message.type) {
      case 'welcome':
        return this.state === 'connecting' && this.begin(payload)
      case 'subscribed':
        return this.subscribed(payload, message.ref)
      case 'reply':
      case 'push.published':
        this.requests.get(message.ref)?.resolve(message.payload)
        return true
      case 'unsubscribed':
        // The server decided this: the next reconnect must not subscribe again.
        if (message.ref === undefined) this.topics.left(payload.topic)
        return true
      case 'error':
        return this.fail(payload, message.ref)
      case 'gap':
        return this.gap(payload)
      case 'push.presence':
        return this.rosters.take(payload)
      case 'reconnect':
        return this.obey(payload)
      case 'push.expiring':
        this.handlers.emit('event expiring', payload)
        // A stream is closed at its end, and the next one begins with a new identity.
        if (!this.connector.isStream) this.credentials.renew()
        return true
      case 'authenticated':
        if (areTexts(payload.unseen)) for (const topic of payload.unseen) this.rosters.forget(topic)
        this.handlers.emit('event authenticated', payload)
        this.requests.get(message.ref)?.resolve(payload)
        return true
      default:
        // What is reserved for the protocol, now or later, is never given to the application as a published message.
        if (!isReservedType(message.type)) this.deliver(message)
        return true
    }
  }

  private begin(welcome: Welcome): boolean {
    if (typeof welcome.connection !== 'string') return false
    this.welcome = welcome
    const behind = this.places.welcomed(welcome, this.topics.isWanted)
    this.connector.welcomed(welcome.heartbeat?.interval)
    this.topics.canAsk = !this.connector.isStream
    const stable = () => {
      this.failures = 0
    }
    this.enter('open', {}, stable, STABLE_AFTER)
    // A `state` handler may have closed the client.
    if (this.state !== 'open') return true
    this.topics.begin(behind)
    this.rosters.begin()
    this.handlers.emit('event welcome', welcome)
    return true
  }

  private subscribed(payload: Subscribed, ref: unknown): boolean {
    // The answer to a question about who is there says nothing new about the position.
    if (payload.presence !== undefined) {
      this.requests.get(ref)?.resolve(payload)
      return payload.presence === null || this.rosters.take(payload.presence)
    }
    if (!this.topics.answered(payload, ref === undefined)) return false
    this.handlers.emit('event subscribed', payload)
    this.requests.get(ref)?.resolve(payload)
    return true
  }

  private gap(gap: Gap): boolean {
    if (!areTexts(gap.topics)) return false
    this.places.lost(gap.topics, gap.positions)
    this.handlers.tell('gap', gap)
    return true
  }

  private fail({ code, message, topic }: Record<string, unknown>, ref: unknown): boolean {
    if (typeof code !== 'string' || typeof message !== 'string') return false
    const error = new ClientError(code, message)
    const answer = this.requests.get(ref)
    if (answer) answer.reject(error)
    else if (typeof topic === 'string') this.topics.refuse(topic, error)
    else this.handlers.report(error)
    return true
  }

  private obey({ after }: Record<string, unknown>): boolean {
    if (typeof after !== 'number' || !(after >= 0)) return false
    this.after = Math.min(after, MAX_TIMER)
    this.handlers.emit('event reconnect', { after })
    return true
  }

  private async deliver(message: Message): Promise<void> {
    // A repeated message is not acknowledged either: its handler may have failed or may still be running.
    if (!this.places.take(message)) return
    const isHandled = await this.handlers.deliver(message)
    if (isHandled && typeof message.ack === 'string') this.send('ack', { token: message.ack })
  }

  private say(message: object): boolean {
    return this.connector.say(message)
  }
}
