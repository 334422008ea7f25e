import { Answers } from './answers.ts'
import type { Broker, Incoming, NodeAnswer, Outgoing, RejectedNote, Sent, Subscriber } from './broker.ts'
import { errors, type PushError } from './errors.ts'
import type { Topic } from './topic.ts'

const MAX_TICKETS = 10_000
const MAX_REJECTED = 100

/** Carries publications inside one process: the default, for one node without Redis. */
export class MemoryBroker implements Broker {
  readonly kind = 'memory'
  readonly node: string
  readonly rejected: { time: number; topic: Topic; reason: string; size: number }[] = []
  readonly #subscribers = new Set<Subscriber>()
  readonly #receipts = new Map<string, { answers: NodeAnswer[]; missing: number; settle: () => void }>()
  readonly #tickets = new Map<string, { identity: string; expires: number }>()
  readonly #timeout: number
  readonly #answers: Answers
  #closed = false

  constructor(options: { node: string; publishTimeout: number }) {
    this.node = options.node
    this.#timeout = options.publishTimeout
    this.#answers = new Answers(options.node)
  }

  get connected(): boolean {
    return !this.#closed
  }

  attach(subscriber: Subscriber): void {
    this.#subscribers.add(subscriber)
  }

  detach(subscriber: Subscriber): void {
    this.#subscribers.delete(subscriber)
  }

  async subscribe(_topic: Topic): Promise<void> {}

  unsubscribe(_topic: Topic): void {}

  async publish(items: readonly Outgoing[]): Promise<(Sent | PushError)[]> {
    if (this.#closed) return items.map(() => new errors.CLOSED())
    return Promise.all(items.map(item => this.#publishOne(item)))
  }

  #publishOne({ topic, envelope, receipt }: Outgoing): Sent | Promise<Sent> {
    const holders = [...this.#subscribers].filter(subscriber => subscriber.holds(topic))
    const nodes = holders.length > 0 ? 1 : 0
    const answered = receipt === undefined ? undefined : this.#collect(receipt, nodes)
    const bytes = Buffer.from(envelope)
    for (const holder of holders) holder.receive({ topic, envelope: bytes, sharers: holders.length })
    return answered ? answered.then(({ answers, complete }) => ({ nodes, answers, complete })) : { nodes }
  }

  #collect(token: string, missing: number): Promise<{ answers: NodeAnswer[]; complete: boolean }> {
    const answers: NodeAnswer[] = []
    if (missing === 0) return Promise.resolve({ answers, complete: true })
    return new Promise(resolve => {
      const settle = () => {
        clearTimeout(timer)
        this.#receipts.delete(token)
        resolve({ answers, complete: answers.length === missing })
      }
      const timer = setTimeout(settle, this.#timeout)
      this.#receipts.set(token, { answers, missing, settle })
    })
  }

  answer(incoming: Incoming, token: string, answer: Omit<NodeAnswer, 'node'>): void {
    const whole = this.#answers.add(incoming, token, answer)
    const receipt = this.#receipts.get(token)
    if (!whole || !receipt) return
    receipt.answers.push(whole)
    receipt.settle()
  }

  note({ topic, reason, envelope }: RejectedNote): void {
    this.rejected.push({ time: Date.now(), topic, reason, size: envelope.length })
    if (this.rejected.length > MAX_REJECTED) this.rejected.shift()
  }

  async nodes(): Promise<number> {
    return 1
  }

  async putTicket(token: string, identity: string, ttlSeconds: number): Promise<void> {
    const now = Date.now()
    for (const [old, { expires }] of this.#tickets) if (expires <= now) this.#tickets.delete(old)
    if (this.#tickets.size >= MAX_TICKETS) throw new errors.BUSY(`${MAX_TICKETS} tickets are waiting to be spent`)
    // As with SET … NX: a ticket that stands is not replaced.
    if (!this.#tickets.has(token)) this.#tickets.set(token, { identity, expires: now + ttlSeconds * 1000 })
  }

  async takeTicket(token: string): Promise<string | null> {
    const ticket = this.#tickets.get(token)
    this.#tickets.delete(token)
    return ticket && ticket.expires > Date.now() ? ticket.identity : null
  }

  async close(): Promise<void> {
    this.#closed = true
    for (const { settle } of [...this.#receipts.values()]) settle()
    this.#tickets.clear()
  }
}
