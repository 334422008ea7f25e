import type { Welcome } from '../protocol/messages.ts'
import { ClientError, type Handlers } from './handlers.ts'
import { stringify } from './json.ts'
import type { ClientOptions, ClientState, RequestOptions } from './options.ts'
import { type Answer, defer, lost, MAX_TIMER, type Requests } from './requests.ts'

const TTL = 60_000
const MAX_HELD = 100
const MAX_HELD_BYTES = 256 * 1024
// By default a node closes who sends more than 100 messages a second for good. Half of them remain for everything else.
const SEND_EVERY = 20

/** A request that may wait. It is held from the call until it is settled, however often it is sent. */
interface Held extends Answer {
  /** Its place among the others, which it keeps when it goes back. */
  order: number
  type: string
  payload: unknown
  bytes: number
  timeout: number | undefined
  mayRepeat: boolean
  /** For whom it was asked. Undefined before the first welcome. */
  user: string | null | undefined
  /** It may have been handled, whatever becomes of it now. */
  wasSent: boolean
  isExpired: boolean
  timer: ReturnType<typeof setTimeout>
}

/** Sends requests, and keeps those that may wait until there is a connection to send them on. */
export class Outbox {
  private requests: Requests
  private limits: Required<NonNullable<ClientOptions['queue']>>
  /** False over an event stream: what may wait then waits for a WebSocket. */
  private canSend: () => boolean
  private isOpen = false
  private user: string | null | undefined
  private held = new Set<Held>()
  private bytes = 0
  /** Those of `held` that are not on their way, in the order of the calls. */
  private waiting: Held[] = []
  private lastOrder = 0
  /** One that had waited is on its way. */
  private isSending = false
  private timer: ReturnType<typeof setTimeout> | undefined

  constructor(requests: Requests, handlers: Handlers, canSend: () => boolean, limits: ClientOptions['queue'] = {}) {
    this.requests = requests
    this.canSend = canSend
    this.limits = { limit: limits.limit ?? MAX_HELD, bytes: limits.bytes ?? MAX_HELD_BYTES }
    handlers.add('event welcome', ({ user }: Welcome) => this.begin(user))
    handlers.add('event state', ({ state }: { state: ClientState }) => this.entered(state))
  }

  async request(type: string, payload: unknown, options: RequestOptions, state: ClientState): Promise<never> {
    if (options.queue && state !== 'closed') return this.put(type, payload, options).promise as Promise<never>
    if (state !== 'open') throw lost()
    if (this.requests.isFull) throw new ClientError('BUSY', 'too many requests are unanswered')
    return this.requests.ask(type, payload, options.timeout)
  }

  private put(type: string, payload: unknown, { timeout, queue }: RequestOptions): Held {
    const { ttl = TTL, repeat: mayRepeat = false } = Object(queue) as { ttl?: number; repeat?: boolean }
    const text = stringify(payload) as string | undefined
    const bytes = text === undefined ? 0 : new TextEncoder().encode(text).length
    if (this.held.size >= this.limits.limit || this.bytes + bytes > this.limits.bytes) {
      throw new ClientError('BUSY', 'the queue of requests is full')
    }
    const held: Held = {
      ...defer(),
      order: ++this.lastOrder,
      type,
      // A copy: the page may change what it gave before it is sent.
      payload: text === undefined ? undefined : JSON.parse(text),
      bytes,
      timeout,
      mayRepeat,
      user: this.user,
      wasSent: false,
      isExpired: false,
      timer: setTimeout(() => this.expire(held), Math.min(ttl, MAX_TIMER)),
    }
    this.held.add(held)
    this.bytes += bytes
    const isFirst = this.waiting.length === 0 && !this.isSending
    if (this.isOpen && isFirst && !this.requests.isFull) this.send(held)
    else this.wait(held)
    return held
  }

  private wait(held: Held): void {
    this.waiting.push(held)
    // Those that were on their way together come back in any order.
    this.waiting.sort((a, b) => a.order - b.order)
    this.next()
  }

  private async send(held: Held): Promise<void> {
    const sent = () => {
      held.wasSent = true
      held.user = this.user
    }
    try {
      const reply = await this.requests.ask(held.type, held.payload, held.timeout, sent)
      this.settle(held)
      held.resolve(reply)
    } catch (error) {
      if ((error as ClientError).code === 'CLOSED') this.lost(held)
      else this.fail(held, error as ClientError)
    }
  }

  /** Sends the first that waits when the one before is answered, and not too soon after it. */
  private next(): void {
    if (!this.isOpen || this.isSending || this.timer !== undefined) return
    const held = this.waiting.shift()
    if (!held) return
    this.isSending = true
    this.timer = setTimeout(() => {
      this.timer = undefined
      this.next()
    }, SEND_EVERY)
    this.send(held).then(() => {
      this.isSending = false
      this.next()
    })
  }

  private lost(held: Held): void {
    // It is held no longer if the client was closed.
    const mayWait = this.held.has(held) && !held.isExpired && (held.mayRepeat || !held.wasSent)
    if (mayWait) this.wait(held)
    else this.giveUp(held, held.isExpired ? expired(held) : lost())
  }

  private expire(held: Held): void {
    held.isExpired = true
    // One that is on its way has its answer or its timeout to come.
    const at = this.waiting.indexOf(held)
    if (at < 0) return
    this.waiting.splice(at, 1)
    this.giveUp(held, expired(held))
  }

  private begin(user: string | null): void {
    this.isOpen = this.canSend()
    this.user = user
    // What one user asked for must not be done in the name of another, who has logged in meanwhile.
    for (const held of this.waiting.filter(({ user }) => user !== undefined && user !== this.user)) {
      this.waiting.splice(this.waiting.indexOf(held), 1)
      this.giveUp(held, new ClientError('OTHER_USER', `${held.type} was asked for by another user`))
    }
    this.next()
  }

  private entered(state: ClientState): void {
    if (state !== 'open') this.isOpen = false
    if (state !== 'closed') return
    clearTimeout(this.timer)
    for (const held of this.waiting.splice(0)) this.giveUp(held, lost())
    // Those that are on their way learn of it by themselves, and need not go back.
    for (const held of this.held) this.settle(held)
  }

  /** `error`: why it was not sent, if that is true. */
  private giveUp(held: Held, error: ClientError): void {
    this.fail(held, held.wasSent ? unconfirmed(held) : error)
  }

  private fail(held: Held, error: ClientError): void {
    this.settle(held)
    held.reject(error)
  }

  private settle(held: Held): void {
    clearTimeout(held.timer)
    if (this.held.delete(held)) this.bytes -= held.bytes
  }
}

function unconfirmed({ type }: Held): ClientError {
  return new ClientError(
    'UNCONFIRMED',
    `the connection was lost before the answer to ${type}: it may have been handled`,
  )
}

function expired({ type }: Held): ClientError {
  return new ClientError('EXPIRED', `${type} could not be sent in time`)
}
