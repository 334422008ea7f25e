import { errors, isPushError, type PushError } from '../../protocol/errors.ts'
import type { Position } from '../../protocol/position.ts'
import type { Topic } from '../../protocol/topic.ts'
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
} from '../broker.ts'
import type { RedisBroker } from './broker.ts'
import type { Command } from './commands.ts'
import { PublishCommands } from './publish-commands.ts'

/** Options that each registration has for itself, although the links are shared. */
export interface RedisRegistrationOptions {
  publishTimeout: number
  /** Size limit of a recorded envelope, in bytes. */
  maxBytes: number
  /** Whether `push:rejected` contains the beginning of rejected envelopes. */
  noteRejected: boolean
}

/** The broker of one registration, over Redis pub/sub: `docs/redis.md` is the contract. */
export class RedisRegistration implements Broker {
  readonly kind = 'redis'
  readonly #shared: RedisBroker
  readonly #options: RedisRegistrationOptions
  readonly #publishing: PublishCommands

  constructor(shared: RedisBroker, options: RedisRegistrationOptions) {
    this.#shared = shared
    this.#options = options
    this.#publishing = new PublishCommands(shared.commands, shared.functions, shared.names, options)
  }

  get node(): string {
    return this.#shared.node
  }

  get filling(): number {
    return this.#shared.filling
  }

  get backlog(): number {
    return this.#shared.backlog
  }

  get lag(): number {
    return this.#shared.lag
  }

  get refused(): number {
    return this.#shared.refused
  }

  get connected(): boolean {
    return this.#shared.connected
  }

  get canRecord(): boolean {
    return this.#shared.canRecord
  }

  get whenLive(): Promise<void> {
    return this.#shared.whenLive
  }

  attach(subscriber: Subscriber): void {
    this.#shared.attach(subscriber)
  }

  detach(subscriber: Subscriber): void {
    this.#shared.detach(subscriber)
  }

  subscribe(topics: readonly Topic[]): Promise<ReadonlyMap<Topic, Position>> {
    return this.#shared.subscribe(topics)
  }

  unsubscribe(topic: Topic): void {
    this.#shared.unsubscribe(topic)
  }

  history(topic: Topic, since: string, limits: PageLimits): Promise<HistoryPage> {
    return this.#shared.history(topic, since, limits)
  }

  answer(incoming: Incoming, token: string, answer: Omit<NodeAnswer, 'node'>): void {
    this.#shared.answer(incoming, token, answer)
  }

  publish(items: readonly Outgoing[]): Promise<(Sent | PushError)[]> {
    return this.#publishing.publish(items)
  }

  note(rejected: RejectedNote): void {
    this.#shared.note(rejected, this.#options.noteRejected)
  }

  async nodes(): Promise<number> {
    const reply = await this.#ask(['PUBSUB', 'NUMSUB', this.#shared.names.nodes])
    if (isPushError(reply)) throw reply
    return Number((reply as unknown[])[1])
  }

  async putTicket(token: string, identity: string, ttlSeconds: number): Promise<void> {
    const reply = await this.#ask(['SET', this.#shared.names.ticket(token), identity, 'EX', ttlSeconds, 'NX'])
    if (isPushError(reply)) throw reply
  }

  async takeTicket(token: string): Promise<string | null> {
    const reply = await this.#ask(['GETDEL', this.#shared.names.ticket(token)])
    if (isPushError(reply)) throw new errors.BROKER_AWAY('the ticket cannot be looked up', { cause: reply })
    return reply as string | null
  }

  async #ask(command: Command): Promise<unknown> {
    const { publishTimeout } = this.#options
    const [reply] = await this.#shared.commands.run([command], publishTimeout, { patience: publishTimeout })
    return reply
  }

  close(): Promise<void> {
    return this.#shared.close()
  }
}
