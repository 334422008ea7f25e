import type { Redis } from 'ioredis'
import { errors } from '../../protocol/errors.ts'
import type { Position } from '../../protocol/position.ts'
import type { Question } from '../../protocol/question.ts'
import type { Slice } from '../../protocol/slice.ts'
import type { Topic } from '../../protocol/topic.ts'
import type { Confirmed, HistoryPage, Incoming, NodeAnswer, PageLimits, RejectedNote, Subscriber } from '../broker.ts'
import type { TopicTrouble } from '../inquiry.ts'
import { ReceiptAnswers } from '../receipt-answers.ts'
import type { Command } from './commands.ts'
import type { AskingNode } from './inquiry.ts'
import { type Masters, OneMaster } from './masters.ts'
import { Names } from './names.ts'
import type { PubSub } from './pub-sub.ts'
import { Questions } from './questions.ts'
import { answerCommands } from './receipts.ts'
import { Shard, type ShardOptions } from './shard.ts'
import type { RedisSubscriberEvents } from './subscriber.ts'
import { TopicRoutes } from './topic-routes.ts'

export type RedisBrokerOptions = Omit<ShardOptions, 'timeout' | 'isCluster'>

/** Changes of the links to Redis, for the log. */
export interface LinkNews extends Pick<RedisSubscriberEvents, 'lagging' | 'refused' | 'blind'> {
  change(isUp: boolean, error: Error | undefined): void
}

const MAX_REJECTED = 100
const REJECTED_TTL = 24 * 60 * 60
const REJECTED_SAMPLE = 200
/** Even if thousands of envelopes are rejected, only this many notes are written. */
const MAX_NOTES_PER_SECOND = 20

/** Once Redis was reached, another reason for an outage is logged at most once in this many milliseconds. */
const TELL_INTERVAL = 10_000

/** Milliseconds that Redis has for commands that the node sends on its own account. */
const TIMEOUT = 2000

/** What is needed to open the links: `shard` makes those to one master. */
export interface ShardMaker {
  shard(clients: { commands: Redis; subscriber: Redis }, isCluster: boolean): Shard
  /** Topics may have other masters now. */
  moved(gone: readonly Shard[]): void
  failed(error: Error): void
}

/** The links of a process to Redis with one prefix. All registrations that use them share this object. */
export class RedisBroker {
  readonly node: string
  readonly names: Names
  readonly masters: Masters<Shard>
  readonly pubSub: PubSub
  /** Resolves when all links are up for the first time. */
  readonly whenLive: Promise<void>
  readonly #routes: TopicRoutes
  readonly #options: RedisBrokerOptions
  readonly #news: LinkNews
  readonly #answers: ReceiptAnswers
  readonly #questions: Questions
  #attached: readonly Subscriber[] = []
  #onLive = () => {}
  #notes = { second: 0, count: 0 }
  #downSince: number | undefined
  #wasUp = false
  #hasBeenUp = false
  #problem: string | undefined
  #told: { problem: string | undefined; at: number } = { problem: undefined, at: Number.NEGATIVE_INFINITY }
  #isClosed = false
  /** How many shards there were. */
  #shards = 0

  constructor(open: (maker: ShardMaker) => Masters<Shard>, options: RedisBrokerOptions, news: LinkNews) {
    this.node = options.node
    this.#options = options
    this.#news = news
    this.pubSub = options.pubSub
    this.#answers = new ReceiptAnswers(options.node)
    this.names = new Names(options.prefix)
    this.whenLive = new Promise(resolve => {
      this.#onLive = resolve
    })
    this.#routes = new TopicRoutes({
      names: this.names,
      shardOf: channel => this.masters.of(channel),
      isWanted: topic => this.#attached.some(subscriber => subscriber.holds(topic)),
      moved: topics => this.#each(subscriber => subscriber.restored?.(topics)),
    })
    this.#questions = new Questions({
      node: this.node,
      names: this.names,
      answers: question => this.#answersTo(question),
      refused: reason => this.#attached[0]?.misasked?.(reason),
      write: (key, commands) => void this.masters.run(key, commands, TIMEOUT),
    })
    this.masters = open({
      shard: (clients, isCluster) => this.#shard(clients, isCluster),
      moved: gone => this.#moved(gone),
      failed: error => this.#changed(error),
    })
  }

  #shard(clients: { commands: Redis; subscriber: Redis }, isCluster: boolean): Shard {
    const { node } = this.#options
    // Each link of a Cluster has a channel for its own ticks, since others hear what is published there too.
    const name = isCluster ? `${node}.${++this.#shards}` : node
    const shard: Shard = new Shard(
      clients,
      { ...this.#options, node: name, isCluster, timeout: TIMEOUT },
      {
        deliver: (topic, envelope, position) => {
          const receivers = this.#receiversOf(topic)
          const sharers = receivers.length
          for (const subscriber of receivers) subscriber.receive({ topic, envelope, sharers, position })
        },
        dropped: (topic, envelope) => {
          const receivers = this.#receiversOf(topic)
          for (const subscriber of receivers) subscriber.dropped({ topic, envelope, sharers: receivers.length })
        },
        asked: question => this.#questions.heard(question),
        misdirected: (topic, envelope) => this.#misdirected(topic, envelope),
        blind: error => this.#news.blind(error),
        lost: (reason, topics) => this.#each(subscriber => subscriber.lost(reason, topics)),
        filled: (topic, publications) => this.#each(subscriber => subscriber.filled(topic, publications)),
        isRecorded: topic => this.#attached.some(subscriber => subscriber.isRecorded(topic)),
        topics: () => (isCluster ? this.#topicsOf(shard) : this.#topics()),
        change: error => this.#changed(error),
        lagging: this.#news.lagging,
        refused: this.#news.refused,
        redirected: () => void this.masters.look(),
      },
    )
    return shard
  }

  /** Every topic that has a connection on this node. */
  #topics(): Set<Topic> {
    return new Set(this.#attached.flatMap(subscriber => [...subscriber.topics()]))
  }

  #topicsOf(shard: Shard): Topic[] {
    return [...this.#topics()].filter(topic => this.#routes.shardOf(topic) === shard)
  }

  get connected(): boolean {
    return !this.#isClosed && this.masters?.isComplete && this.masters.all.every(({ isLive }) => isLive)
  }

  #changed(error: Error | undefined): void {
    const isUp = this.connected
    if (isUp) this.#onLive()
    this.#downSince = isUp ? undefined : (this.#downSince ?? (this.#hasBeenUp ? Date.now() : undefined))
    this.#problem = isUp ? undefined : (error?.message ?? this.#problem)
    const isNews = isUp !== this.#wasUp || (!isUp && error !== undefined && this.#isNewReason(error))
    this.#hasBeenUp ||= isUp
    if (this.#isClosed || !isNews) return
    this.#wasUp = isUp
    this.#told = { problem: error?.message, at: performance.now() }
    if (isUp) this.#each(subscriber => subscriber.restored?.())
    this.#news.change(isUp, error)
  }

  /** An operator needs the reason, such as a wrong password or a missing right, but not twice a second. */
  #isNewReason({ message }: Error): boolean {
    const { problem, at } = this.#told
    return message !== problem && (!this.#hasBeenUp || performance.now() - at >= TELL_INTERVAL)
  }

  /** Why it is not connected, if that is known. */
  get problem(): string | undefined {
    return this.connected ? undefined : this.#problem
  }

  get downSince(): number | undefined {
    return this.connected ? undefined : this.#downSince
  }

  /** The masters of a Cluster have other slots. */
  #moved(gone: readonly Shard[]): void {
    this.#routes.moved(this.masters.all, gone)
    this.#changed(undefined)
  }

  subscribe(topics: readonly Topic[], confirmed?: Confirmed): Promise<ReadonlyMap<Topic, Position>> {
    const { masters } = this
    if (masters instanceof OneMaster) return masters.of().subscriber.subscribe(topics, confirmed)
    return this.#routes.subscribe(topics, confirmed)
  }

  shardOf(topic: Topic): Shard | undefined {
    return this.masters instanceof OneMaster ? undefined : this.#routes.shardOf(topic)
  }

  async history(topic: Topic, since: string, limits: PageLimits): Promise<HistoryPage> {
    const shard = this.#routes.shardOf(topic)
    if (!shard) throw new errors.BROKER_AWAY('no master of the Cluster is known for this topic')
    return shard.subscriber.history(topic, since, limits)
  }

  /** What is needed to ask all nodes from this one. */
  get asking(): AskingNode {
    return {
      node: this.node,
      answers: question => this.#answersTo(question),
      expect: token => this.#questions.expect(token),
      forget: token => this.#questions.forget(token),
      problem: () => this.problem,
    }
  }

  #answersTo(question: Question): unknown[] {
    return this.#attached.flatMap(subscriber => subscriber.asked?.(question) ?? [])
  }

  troubleWith(topic: Topic): TopicTrouble {
    return this.#routes.shardOf(topic)?.subscriber.troubleWith(topic) ?? {}
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
    this.#routes.unsubscribe(topic)
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

  /** Every node notices it; those that hold the topic report it. */
  #misdirected(topic: Topic, envelope: Slice): void {
    const holders = this.#attached.filter(subscriber => subscriber.holds(topic))
    for (const subscriber of holders) subscriber.misdirected({ topic, envelope, sharers: holders.length })
  }

  answer(incoming: Incoming, token: string, answer: Omit<NodeAnswer, 'node'>): void {
    const whole = this.#answers.add(incoming, token, answer)
    if (whole) void this.masters.run(this.names.receipt(token), answerCommands(this.names, token, whole), TIMEOUT)
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
    void this.masters.run(this.names.rejected, commands, TIMEOUT)
  }

  async close(): Promise<void> {
    // The links now go down on purpose: nothing more is reported.
    this.#isClosed = true
    this.#routes.close()
    this.masters.close()
    this.#answers.clear()
  }
}

function sampleOf(envelope: Uint8Array): string {
  // A character takes up to four bytes. Bytes that are not UTF-8 become U+FFFD.
  return Buffer.from(envelope.subarray(0, REJECTED_SAMPLE * 4))
    .toString('utf8')
    .slice(0, REJECTED_SAMPLE)
}
