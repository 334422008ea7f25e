import type { Redis } from 'ioredis'
import type { Position } from '../../protocol/position.ts'
import type { Slice } from '../../protocol/slice.ts'
import type { Topic } from '../../protocol/topic.ts'
import type { HistoryPage, Incoming, NodeAnswer, PageLimits, RejectedNote, Subscriber } from '../broker.ts'
import { ReceiptAnswers } from '../receipt-answers.ts'
import { type Command, CommandLink } from './commands.ts'
import { Functions } from './functions.ts'
import { Names } from './names.ts'
import { answerCommands } from './receipts.ts'
import type { RefusedTopic } from './refused-topics.ts'
import { RedisSubscriber } from './subscriber.ts'

export interface RedisBrokerOptions {
  node: string
  prefix: string
  /** Size limit of a recorded envelope, in bytes. */
  maxBytes: number
}

/** Changes of the links to Redis, for the log. */
export interface LinkNews {
  change(isUp: boolean, error: Error | undefined): void
  /**
   * Messages are received late: `milliseconds` is the present delay, or the longest one once the node has caught up.
   */
  lagging(isBehind: boolean, milliseconds: number): void
  refused(refusal: RefusedTopic): void
}

const MAX_REJECTED = 100
const REJECTED_TTL = 24 * 60 * 60
const REJECTED_SAMPLE = 200
/** Even if thousands of envelopes are rejected, only this many notes are written. */
const MAX_NOTES_PER_SECOND = 20

/** Milliseconds that Redis has for commands that the node sends on its own account. */
const TIMEOUT = 2000

/** The links of a process to one Redis with one prefix. All registrations that use them share this object. */
export class RedisBroker {
  readonly node: string
  readonly names: Names
  readonly commands: CommandLink
  readonly functions: Functions
  readonly #subscriber: RedisSubscriber
  #subscribers: readonly Subscriber[] = []
  readonly #answers: ReceiptAnswers
  readonly #whenLive: Promise<void>
  #notes = { second: 0, count: 0 }
  #wasUp = false
  #hasBeenUp = false
  #lastProblem: string | undefined
  #isClosed = false

  constructor(clients: { commands: Redis; subscriber: Redis }, options: RedisBrokerOptions, news: LinkNews) {
    this.node = options.node
    this.#answers = new ReceiptAnswers(options.node)
    this.names = new Names(options.prefix)
    let live = () => {}
    this.#whenLive = new Promise(resolve => {
      live = resolve
    })
    const changed = (error: Error | undefined) => {
      if (this.connected) live()
      // Until the first success an operator needs the reason, such as a wrong password or a refused port.
      const isReason = !this.#hasBeenUp && error !== undefined && error.message !== this.#lastProblem
      const isNews = this.connected !== this.#wasUp || isReason
      this.#hasBeenUp ||= this.connected
      if (this.#isClosed || !isNews) return
      this.#wasUp = this.connected
      this.#lastProblem = error?.message
      news.change(this.connected, error)
    }
    this.commands = new CommandLink(clients.commands, (isUp, error) => {
      if (isUp) void this.#subscriber.commandsUp()
      else this.#subscriber.commandsDown()
      changed(error)
    })
    this.functions = new Functions(this.commands)
    const parts = { commands: this.commands, functions: this.functions, names: this.names }
    const { node, maxBytes } = options
    this.#subscriber = new RedisSubscriber(
      clients.subscriber,
      parts,
      { node, timeout: TIMEOUT, maxBytes },
      {
        deliver: (topic, envelope, position) => this.#deliver(topic, envelope, position),
        lost: (reason, topics) => this.#each(subscriber => subscriber.lost(reason, topics)),
        filled: (topic, publications) => this.#each(subscriber => subscriber.filled(topic, publications)),
        isRecorded: topic => this.#subscribers.some(subscriber => subscriber.isRecorded(topic)),
        topics: () => new Set(this.#subscribers.flatMap(subscriber => [...subscriber.topics()])),
        change: changed,
        lagging: news.lagging,
        refused: news.refused,
      },
    )
  }

  get filling(): number {
    return this.#subscriber.filling
  }

  get backlog(): number {
    return this.#subscriber.backlog
  }

  get lag(): number {
    return this.#subscriber.lag
  }

  get refused(): number {
    return this.#subscriber.refused
  }

  get connected(): boolean {
    return !this.#isClosed && this.commands.isUp && this.#subscriber.isLive
  }

  /** Whether the node may load functions or scripts on this server; known once the links are up. */
  get canRecord(): boolean {
    return this.functions.isSupported
  }

  /** Resolves when both links are up for the first time. */
  get whenLive(): Promise<void> {
    return this.#whenLive
  }

  attach(subscriber: Subscriber): void {
    this.#subscribers = [...this.#subscribers, subscriber]
  }

  detach(subscriber: Subscriber): void {
    this.#subscribers = this.#subscribers.filter(it => it !== subscriber)
    for (const topic of subscriber.topics()) this.unsubscribe(topic)
  }

  #each(call: (subscriber: Subscriber) => void): void {
    for (const subscriber of this.#subscribers) call(subscriber)
  }

  subscribe(topics: readonly Topic[]): Promise<ReadonlyMap<Topic, Position>> {
    return this.#subscriber.subscribe(topics)
  }

  unsubscribe(topic: Topic): void {
    for (const subscriber of this.#subscribers) if (subscriber.holds(topic)) return
    this.#subscriber.unsubscribe(topic)
  }

  history(topic: Topic, since: string, limits: PageLimits): Promise<HistoryPage> {
    return this.#subscriber.history(topic, since, limits)
  }

  #deliver(topic: Topic, envelope: Slice, position: Position | undefined): void {
    const receivers = this.#receiversOf(topic)
    const sharers = receivers.length
    for (const subscriber of receivers) subscriber.receive({ topic, envelope, sharers, position })
  }

  /**
   * The subscribers that hold the topic. If the last one has just left, any other, so that a receipt gets an answer.
   */
  #receiversOf(topic: Topic): readonly Subscriber[] {
    const all = this.#subscribers
    if (all.length === 1) return all
    const holders = all.filter(subscriber => subscriber.holds(topic))
    return holders.length > 0 ? holders : all.slice(0, 1)
  }

  answer(incoming: Incoming, token: string, answer: Omit<NodeAnswer, 'node'>): void {
    const whole = this.#answers.add(incoming, token, answer)
    if (whole) void this.commands.run(answerCommands(this.names, token, whole), TIMEOUT)
  }

  /** `isSampled`: whether the note may contain the beginning of the envelope. */
  note({ topic, reason, message, envelope }: RejectedNote, isSampled: boolean): void {
    const second = Math.floor(performance.now() / 1000)
    if (this.#notes.second !== second) this.#notes = { second, count: 0 }
    if (++this.#notes.count > MAX_NOTES_PER_SECOND) return
    const sample = isSampled ? { sample: sampleOf(envelope) } : {}
    const note = { time: new Date().toISOString(), node: this.node, topic, reason, message, size: envelope.length }
    const commands: Command[] = [
      ['LPUSH', this.names.rejected, JSON.stringify({ ...note, ...sample })],
      ['LTRIM', this.names.rejected, 0, MAX_REJECTED - 1],
      ['EXPIRE', this.names.rejected, REJECTED_TTL],
    ]
    void this.commands.run(commands, TIMEOUT)
  }

  async close(): Promise<void> {
    // The links now go down on purpose: nothing more is reported.
    this.#isClosed = true
    this.#subscriber.close()
    this.commands.close()
    this.#answers.clear()
  }
}

function sampleOf(envelope: Uint8Array): string {
  // A character takes up to four bytes. Bytes that are not UTF-8 become U+FFFD.
  return Buffer.from(envelope.subarray(0, REJECTED_SAMPLE * 4))
    .toString('utf8')
    .slice(0, REJECTED_SAMPLE)
}
