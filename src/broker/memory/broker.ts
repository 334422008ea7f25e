import { errors, isPushError, type PushError } from '../../protocol/errors.ts'
import type { EncodedEvent } from '../../protocol/event.ts'
import type { Position } from '../../protocol/position.ts'
import { Slice } from '../../protocol/slice.ts'
import { type Topic, topicKind } from '../../protocol/topic.ts'
import type {
  Broker,
  HistoryPage,
  Incoming,
  NodeAnswer,
  Outgoing,
  PageLimits,
  RejectedNote,
  Sent,
  Subscriber,
  TicketBound,
} from '../broker.ts'
import type { TopicTrouble } from '../inquiry.ts'
import { ReceiptAnswers } from '../receipt-answers.ts'
import { MemoryHistory } from './history.ts'
import { MemoryInquiry } from './inquiry.ts'
import { MemoryPresence } from './presence.ts'
import { MemoryRevocations } from './revocations.ts'

const MAX_TICKETS = 10_000
const MAX_REJECTED = 100

/** What all registrations of one application share. */
class Shared {
  readonly rejected: { time: number; topic: Topic; reason: string; message: string; size: number }[] = []
  readonly subscribers = new Set<Subscriber>()
  /** Who waits for the answer of this process, the only node. */
  readonly receipts = new Map<string, (answer?: NodeAnswer) => void>()
  readonly tickets = new Map<string, { identity: string; expires: number; user: string | undefined }>()
  readonly history = new MemoryHistory()
  readonly revocations = new MemoryRevocations()
  readonly presence = new MemoryPresence((topic, delta) => {
    const holders = [...this.subscribers].filter(subscriber => subscriber.holds(topic))
    const incoming = { topic, envelope: new Slice(Buffer.from(delta)), sharers: holders.length }
    for (const holder of holders) holder.receive(incoming)
  })
  readonly answers: ReceiptAnswers
  readonly node: string
  isClosed = false

  constructor(node: string) {
    this.node = node
    this.answers = new ReceiptAnswers(node)
  }
}

/** Carries publications inside one process: the default, for one node without Redis. */
export class MemoryBroker implements Broker {
  readonly kind = 'memory'
  readonly canRecord = true
  readonly filling = 0
  readonly backlog = 0
  readonly lag = 0
  readonly links = { total: 0, up: 0 }
  readonly refused = 0
  readonly problem = undefined
  readonly node: string
  readonly inquiry: MemoryInquiry
  readonly #timeout: number
  readonly #shared: Shared
  #turn: Promise<void> | undefined

  /** With `first`: another registration. Both receive each other's publications; each has its own timeout. */
  constructor(options: { node: string; publishTimeout: number }, first?: MemoryBroker) {
    this.node = options.node
    this.#timeout = options.publishTimeout
    this.#shared = first ? first.#shared : new Shared(options.node)
    this.inquiry = new MemoryInquiry(this.#shared)
  }

  get presence(): MemoryPresence {
    return this.#shared.presence
  }

  get connected(): boolean {
    return !this.#shared.isClosed
  }

  get rejected(): Shared['rejected'] {
    return this.#shared.rejected
  }

  attach(subscriber: Subscriber): void {
    this.#shared.subscribers.add(subscriber)
  }

  detach(subscriber: Subscriber): void {
    this.#shared.subscribers.delete(subscriber)
  }

  async subscribe(topics: readonly Topic[]): Promise<ReadonlyMap<Topic, Position>> {
    const recorded = topics.filter(topic => topicKind(topic) !== 'connection')
    return new Map(recorded.map(topic => [topic, this.#shared.history.head(topic)]))
  }

  shardOf(_topic: Topic): undefined {}

  troubleWith(_topic: Topic): TopicTrouble {
    return {}
  }

  unsubscribe(_topic: Topic): void {}

  async history(topic: Topic, since: string, limits: PageLimits): Promise<HistoryPage> {
    return this.#shared.history.page(topic, since, limits)
  }

  async publish(items: readonly Outgoing[]): Promise<(Sent | PushError)[]> {
    if (this.#shared.isClosed) return items.map(() => new errors.CLOSED())
    const sent = items.map(item => this.#publishOne(item))
    // Without this, a loop that awaits each publication would keep sockets from being written to.
    await this.#nextTurn()
    return Promise.all(sent)
  }

  /** One promise for all calls in this turn of the event loop. */
  #nextTurn(): Promise<void> {
    this.#turn ??= new Promise(resolve => {
      setImmediate(() => {
        this.#turn = undefined
        resolve()
      })
    })
    return this.#turn
  }

  #publishOne(item: Outgoing): Sent | PushError | Promise<Sent> {
    const { topic, envelope, receipt, trace, history, idempotencyKey } = item
    const bytes = Buffer.from(envelope)
    const holders = [...this.#shared.subscribers].filter(subscriber => subscriber.holds(topic))
    const nodes = holders.length > 0 ? 1 : 0
    let position: Position | undefined
    try {
      if (history) {
        const recorded = this.#shared.history.append(topic, bytes, history, idempotencyKey)
        position = recorded.position
        if (recorded.isDuplicate) return { nodes, position, duplicate: true }
      }
    } catch (error) {
      if (isPushError(error)) return error
      throw error
    }
    const answered = receipt === undefined ? undefined : this.#answered(receipt, nodes)
    const incoming = { topic, envelope: new Slice(bytes), sharers: holders.length, position }
    for (const holder of holders) holder.receive(incoming)
    const sent = { nodes, ...(position && { position }), ...(trace && { takenAt: Date.now() }) }
    return answered ? answered.then(answers => ({ ...sent, ...answers })) : sent
  }

  #answered(token: string, nodes: number): Promise<Pick<Sent, 'answers' | 'complete'>> {
    if (nodes === 0) return Promise.resolve({ answers: [], complete: true })
    return new Promise(resolve => {
      const settle = (answer?: NodeAnswer) => {
        clearTimeout(timer)
        this.#shared.receipts.delete(token)
        resolve({ answers: answer ? [answer] : [], complete: answer !== undefined })
      }
      const timer = setTimeout(settle, this.#timeout)
      this.#shared.receipts.set(token, settle)
    })
  }

  answer(incoming: Incoming, token: string, answer: Omit<NodeAnswer, 'node'>): void {
    const whole = this.#shared.answers.add(incoming, token, answer)
    if (whole) this.#shared.receipts.get(token)?.(whole)
  }

  note({ topic, reason, message, envelope }: RejectedNote): void {
    this.rejected.push({ time: Date.now(), topic, reason, message, size: envelope.length })
    if (this.rejected.length > MAX_REJECTED) this.rejected.shift()
  }

  /** Nobody could read them: the options refuse `events.stream` without Redis. */
  async appendEvents(_stream: string, events: readonly EncodedEvent[]): Promise<PushError[]> {
    return events.map(() => new errors.UNSUPPORTED('streams of events need Redis'))
  }

  async nodes(): Promise<number> {
    return 1
  }

  async putTicket(token: string, identity: string, ttlSeconds: number, bound?: TicketBound): Promise<number> {
    const { tickets } = this.#shared
    const now = Date.now()
    const own: string[] = []
    for (const [old, { expires, user }] of tickets) {
      if (expires <= now) tickets.delete(old)
      else if (bound && user === bound.user) own.push(old)
    }
    const ended = bound ? own.slice(0, Math.max(0, own.length + 1 - bound.most)) : []
    for (const old of ended) tickets.delete(old)
    if (tickets.size >= MAX_TICKETS) throw new errors.BUSY(`${MAX_TICKETS} tickets are waiting to be spent`)
    // Like SET … NX in Redis: an existing ticket is not replaced.
    if (!tickets.has(token)) tickets.set(token, { identity, expires: now + ttlSeconds * 1000, user: bound?.user })
    return ended.length
  }

  async takeTicket(token: string): Promise<string | null> {
    const ticket = this.#shared.tickets.get(token)
    this.#shared.tickets.delete(token)
    return ticket && ticket.expires > Date.now() ? ticket.identity : null
  }

  async putRevocation(user: string, time: number, ttlSeconds: number): Promise<void> {
    this.#shared.revocations.put(user, time, ttlSeconds)
  }

  revokedAt(users: readonly string[]): readonly Promise<number | undefined>[] {
    return users.map(async user => this.#shared.revocations.of(user))
  }

  async close(): Promise<void> {
    this.#shared.isClosed = true
    for (const settle of [...this.#shared.receipts.values()]) settle()
    this.#shared.tickets.clear()
  }
}
