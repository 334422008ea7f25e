import type { Redis } from 'ioredis'
import { Answers } from '../answers.ts'
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
import { errors, isPushError, type PushError } from '../errors.ts'
import type { Position } from '../position.ts'
import type { Slice } from '../slice.ts'
import type { Topic } from '../topic.ts'
import { RedisCarrier } from './carrier.ts'
import { CommandLink } from './commands.ts'
import { Feed } from './feed.ts'
import { Functions } from './functions.ts'
import { Names } from './names.ts'
import { answerCommands } from './receipts.ts'
import type { Refusal } from './refusals.ts'

export interface RedisBrokerOptions {
  node: string
  prefix: string
  publishTimeout: number
  /** Bytes of the largest envelope that may be recorded. */
  maxBytes: number
  /** Whether `push:rejected` holds the beginning of what was rejected. */
  noteRejected: boolean
}

/** What becomes of the link of the node to Redis: for the log. */
export interface LinkNews {
  change(isUp: boolean, error: Error | undefined): void
  /** What comes in is so many milliseconds late, or was at most before the node caught up. */
  lagging(isBehind: boolean, milliseconds: number): void
  refused(refusal: Refusal): void
}

const MAX_REJECTED = 100
const REJECTED_TTL = 24 * 60 * 60
const REJECTED_SAMPLE = 200
/** Junk may come in by the thousand; notes of it must not. */
const MAX_NOTES_PER_SECOND = 20

/** Carries publications over Redis pub/sub: `docs/redis.md` is the contract. */
export class RedisBroker implements Broker {
  readonly kind = 'redis'
  readonly node: string
  readonly #names: Names
  readonly #options: RedisBrokerOptions
  readonly #commands: CommandLink
  readonly #functions: Functions
  readonly #feed: Feed
  readonly #carrier: RedisCarrier
  readonly #subscribers = new Set<Subscriber>()
  readonly #answers: Answers
  readonly #whenLive: Promise<void>
  #notes = { second: 0, count: 0 }
  #wasUp = false
  #hasBeenUp = false
  #lastProblem: string | undefined
  #isClosed = false

  constructor(clients: { commands: Redis; subscriber: Redis }, options: RedisBrokerOptions, news: LinkNews) {
    this.node = options.node
    this.#options = options
    this.#answers = new Answers(options.node)
    this.#names = new Names(options.prefix)
    let live = () => {}
    this.#whenLive = new Promise(resolve => {
      live = resolve
    })
    const changed = (error: Error | undefined) => {
      if (this.connected) live()
      // Before the first success the reason is what an operator looks for: a wrong password, a refused port.
      const isReason = !this.#hasBeenUp && error !== undefined && error.message !== this.#lastProblem
      const isNews = this.connected !== this.#wasUp || isReason
      this.#hasBeenUp ||= this.connected
      if (this.#isClosed || !isNews) return
      this.#wasUp = this.connected
      this.#lastProblem = error?.message
      news.change(this.connected, error)
    }
    this.#commands = new CommandLink(clients.commands, (isUp, error) => {
      if (isUp) void this.#feed.commandsUp()
      else this.#feed.commandsDown()
      changed(error)
    })
    this.#functions = new Functions(this.#commands)
    const parts = { commands: this.#commands, functions: this.#functions, names: this.#names }
    const { node, publishTimeout: timeout, maxBytes } = options
    this.#feed = new Feed(
      clients.subscriber,
      parts,
      { node, timeout, maxBytes },
      {
        deliver: (topic, envelope, position) => this.#deliver(topic, envelope, position),
        lost: (reason, topics) => this.#each(subscriber => subscriber.lost(reason, topics)),
        filled: (topic, publications) => this.#each(subscriber => subscriber.filled(topic, publications)),
        isRecorded: topic => [...this.#subscribers].some(subscriber => subscriber.isRecorded(topic)),
        topics: () => new Set([...this.#subscribers].flatMap(subscriber => [...subscriber.topics()])),
        change: changed,
        lagging: news.lagging,
        refused: news.refused,
      },
    )
    this.#carrier = new RedisCarrier(parts.commands, parts.functions, this.#names, timeout)
  }

  get filling(): number {
    return this.#feed.filling
  }

  get backlog(): number {
    return this.#feed.backlog
  }

  get lag(): number {
    return this.#feed.lag
  }

  get refused(): number {
    return this.#feed.refused
  }

  get connected(): boolean {
    return !this.#isClosed && this.#commands.isUp && this.#feed.isLive
  }

  /** Whether this server lets the node load functions or scripts; known when the links are up. */
  get canRecord(): boolean {
    return this.#functions.isSupported
  }

  /** Resolves when both links are up for the first time. */
  get whenLive(): Promise<void> {
    return this.#whenLive
  }

  attach(subscriber: Subscriber): void {
    this.#subscribers.add(subscriber)
  }

  detach(subscriber: Subscriber): void {
    this.#subscribers.delete(subscriber)
    for (const topic of subscriber.topics()) this.unsubscribe(topic)
  }

  #each(call: (subscriber: Subscriber) => void): void {
    for (const subscriber of this.#subscribers) call(subscriber)
  }

  subscribe(topics: readonly Topic[]): Promise<ReadonlyMap<Topic, Position>> {
    return this.#feed.subscribe(topics)
  }

  unsubscribe(topic: Topic): void {
    for (const subscriber of this.#subscribers) if (subscriber.holds(topic)) return
    this.#feed.unsubscribe(topic)
  }

  history(topic: Topic, since: string, limits: PageLimits): Promise<HistoryPage> {
    return this.#feed.history(topic, since, limits)
  }

  #deliver(topic: Topic, envelope: Slice, position: Position | undefined): void {
    const sharers = this.#subscribers.size
    for (const subscriber of this.#subscribers) subscriber.receive({ topic, envelope, sharers, position })
  }

  publish(items: readonly Outgoing[]): Promise<(Sent | PushError)[]> {
    return this.#carrier.publish(items)
  }

  answer(incoming: Incoming, token: string, answer: Omit<NodeAnswer, 'node'>): void {
    const whole = this.#answers.add(incoming, token, answer)
    if (whole) void this.#run(answerCommands(this.#names, token, whole))
  }

  note({ topic, reason, message, envelope }: RejectedNote): void {
    const second = Math.floor(performance.now() / 1000)
    if (this.#notes.second !== second) this.#notes = { second, count: 0 }
    if (++this.#notes.count > MAX_NOTES_PER_SECOND) return
    const sample = this.#options.noteRejected ? { sample: sampleOf(envelope) } : {}
    const note = { time: new Date().toISOString(), node: this.node, topic, reason, message, size: envelope.length }
    void this.#run([
      ['LPUSH', this.#names.rejected, JSON.stringify({ ...note, ...sample })],
      ['LTRIM', this.#names.rejected, 0, MAX_REJECTED - 1],
      ['EXPIRE', this.#names.rejected, REJECTED_TTL],
    ])
  }

  async nodes(): Promise<number> {
    const [reply] = await this.#run([['PUBSUB', 'NUMSUB', this.#names.nodes]])
    if (isPushError(reply)) throw reply
    return Number((reply as unknown[])[1])
  }

  async putTicket(token: string, identity: string, ttlSeconds: number): Promise<void> {
    const [reply] = await this.#run([['SET', this.#names.ticket(token), identity, 'EX', ttlSeconds, 'NX']])
    if (isPushError(reply)) throw reply
  }

  async takeTicket(token: string): Promise<string | null> {
    const [reply] = await this.#run([['GETDEL', this.#names.ticket(token)]])
    if (isPushError(reply)) throw new errors.BROKER_AWAY('the ticket cannot be looked up', { cause: reply })
    return reply as string | null
  }

  #run(commands: Parameters<CommandLink['run']>[0]) {
    return this.#commands.run(commands, this.#options.publishTimeout)
  }

  async close(): Promise<void> {
    // From here on nothing is news: the links go down because they are told to.
    this.#isClosed = true
    this.#feed.close()
    this.#commands.close()
    this.#answers.clear()
  }
}

function sampleOf(envelope: Uint8Array): string {
  // A character takes up to four bytes, and what is no UTF-8 is shown as U+FFFD.
  return Buffer.from(envelope.subarray(0, REJECTED_SAMPLE * 4))
    .toString('utf8')
    .slice(0, REJECTED_SAMPLE)
}
