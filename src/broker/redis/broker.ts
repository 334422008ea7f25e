import type { Redis } from 'ioredis'
import type { Topic } from '../../protocol/topic.ts'
import type { Incoming, NodeAnswer, RejectedNote, Subscriber } from '../broker.ts'
import { ReceiptAnswers } from '../receipt-answers.ts'
import { type Command, CommandLink } from './commands.ts'
import { Functions } from './functions.ts'
import { Names } from './names.ts'
import { answerCommands } from './receipts.ts'
import { RedisSubscriber, type RedisSubscriberEvents, type RedisSubscriberOptions } from './subscriber.ts'

export interface RedisBrokerOptions extends Omit<RedisSubscriberOptions, 'timeout'> {
  prefix: string
}

/** Changes of the links to Redis, for the log. */
export interface LinkNews extends Pick<RedisSubscriberEvents, 'lagging' | 'refused'> {
  change(isUp: boolean, error: Error | undefined): void
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
  readonly subscriber: RedisSubscriber
  /** Resolves when both links are up for the first time. */
  readonly whenLive: Promise<void>
  readonly #news: LinkNews
  readonly #answers: ReceiptAnswers
  #attached: readonly Subscriber[] = []
  #onLive = () => {}
  #notes = { second: 0, count: 0 }
  #wasUp = false
  #hasBeenUp = false
  #lastProblem: string | undefined
  #isClosed = false

  constructor(clients: { commands: Redis; subscriber: Redis }, options: RedisBrokerOptions, news: LinkNews) {
    this.node = options.node
    this.#news = news
    this.#answers = new ReceiptAnswers(options.node)
    this.names = new Names(options.prefix)
    this.whenLive = new Promise(resolve => {
      this.#onLive = resolve
    })
    this.commands = new CommandLink(clients.commands, (isUp, error) => {
      if (isUp) void this.subscriber.commandsUp()
      else this.subscriber.commandsDown()
      this.#changed(error)
    })
    this.functions = new Functions(this.commands)
    this.subscriber = new RedisSubscriber(
      clients.subscriber,
      this,
      { ...options, timeout: TIMEOUT },
      {
        deliver: (topic, envelope, position) => {
          const receivers = this.#receiversOf(topic)
          const sharers = receivers.length
          for (const subscriber of receivers) subscriber.receive({ topic, envelope, sharers, position })
        },
        lost: (reason, topics) => this.#each(subscriber => subscriber.lost(reason, topics)),
        filled: (topic, publications) => this.#each(subscriber => subscriber.filled(topic, publications)),
        isRecorded: topic => this.#attached.some(subscriber => subscriber.isRecorded(topic)),
        topics: () => new Set(this.#attached.flatMap(subscriber => [...subscriber.topics()])),
        change: error => this.#changed(error),
        lagging: news.lagging,
        refused: news.refused,
      },
    )
  }

  get connected(): boolean {
    return !this.#isClosed && this.commands.isUp && this.subscriber.isLive
  }

  #changed(error: Error | undefined): void {
    const isUp = this.connected
    if (isUp) this.#onLive()
    // Until the first success an operator needs the reason, such as a wrong password or a refused port.
    const isReason = !this.#hasBeenUp && error !== undefined && error.message !== this.#lastProblem
    const isNews = isUp !== this.#wasUp || isReason
    this.#hasBeenUp ||= isUp
    if (this.#isClosed || !isNews) return
    this.#wasUp = isUp
    this.#lastProblem = error?.message
    this.#news.change(isUp, error)
  }

  attach(subscriber: Subscriber): void {
    this.#attached = [...this.#attached, subscriber]
  }

  detach(subscriber: Subscriber): void {
    this.#attached = this.#attached.filter(it => it !== subscriber)
    for (const topic of subscriber.topics()) this.unsubscribe(topic)
  }

  #each(call: (subscriber: Subscriber) => void): void {
    for (const subscriber of this.#attached) call(subscriber)
  }

  unsubscribe(topic: Topic): void {
    for (const subscriber of this.#attached) if (subscriber.holds(topic)) return
    this.subscriber.unsubscribe(topic)
  }

  /**
   * The subscribers that hold the topic. If the last one has just left, any other, so that a receipt gets an answer.
   */
  #receiversOf(topic: Topic): readonly Subscriber[] {
    const all = this.#attached
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
    this.subscriber.close()
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
