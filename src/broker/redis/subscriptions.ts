import type { Redis } from 'ioredis'
import { Slice } from '../../protocol/slice.ts'
import type { Topic } from '../../protocol/topic.ts'
import { LoopLoad } from '../loop-load.ts'
import { EarlyMessages } from './early-messages.ts'
import { Link } from './link.ts'
import type { Names } from './names.ts'
import { Pending } from './pending.ts'
import { PushReader } from './push-reader.ts'
import { ReadAhead } from './read-ahead.ts'
import { type RefusedTopic, RefusedTopics } from './refused-topics.ts'
import { TopicCache } from './topic-cache.ts'

export interface SubscriptionEvents {
  message(topic: Topic, envelope: Slice): void
  /** A message on the channel that only this node holds. */
  heard(message: Buffer): void
  /** A PING of that time was answered. */
  answered(askedAt: number): void
  /** Every wanted topic that is not refused is subscribed again; what was published before may have been missed. */
  restored(): void
  /** Redis refused these until now. */
  granted(topics: readonly Topic[]): void
  refused(refusal: RefusedTopic): void
  change(isUp: boolean, error: Error | undefined): void
}

/** Channels of one SUBSCRIBE: keeps a single command, and its reply, from blocking others. */
const BATCH = 1000

/** After an error that leaves the connection up another one is made. */
const FAILED_RETRY = 2000

/** For so long a busy node gathers topics for one command: clients that come by the thousand come a few at a time. */
const GATHER = 10

/**
 * The connection that subscribes. What is wanted and what Redis was last told are two sets; a flush per turn of the
 * event loop sends the difference, so that a topic that is left and joined at once costs nothing. Commands of one
 * connection are executed in order, hence the last one sent decides.
 */
export class Subscriptions {
  readonly #link: Link
  readonly #names: Names
  readonly #events: SubscriptionEvents
  readonly #wanted = new Set<Topic>()
  /** What Redis was last told to send, and by which SUBSCRIBE. */
  readonly #told = new Map<Topic, number>()
  readonly #pending = new Pending()
  readonly #dirty = new Set<Topic>()
  readonly #refusedTopics: RefusedTopics
  /** The channel that only this node holds. */
  readonly #own: Topic
  readonly #load = new LoopLoad()
  readonly #readAhead = new ReadAhead()
  readonly #topics: TopicCache
  readonly #early = new EarlyMessages()
  #flushing: NodeJS.Timeout | NodeJS.Immediate | undefined
  #batch = 0
  /** The last SUBSCRIBE that was answered; answers come in the order of the commands. */
  #answered = 0
  /** Counts connections: what an older one answers says nothing of the present. */
  #era = 0
  #isLive = false
  #isClosed = false
  #retry: NodeJS.Timeout | undefined

  constructor(client: Redis, names: Names, node: string, events: SubscriptionEvents) {
    this.#names = names
    this.#topics = new TopicCache(names.prefix)
    this.#own = names.topic(names.node(node))
    this.#events = events
    this.#refusedTopics = new RefusedTopics({
      told: refusal => events.refused(refusal),
      retry: topics => Promise.all(topics.map(topic => this.#send([topic]))),
    })
    // Only the Buffer event: a 'message' listener would have ioredis decode every message to a string first.
    client.on('messageBuffer', (channel: Buffer, message: Buffer) => {
      this.#onMessage(names.topic(channel.toString()), new Slice(message))
    })
    this.#link = new Link(client, {
      up: () => void this.#restore(),
      down: error => this.#onDown(error),
      answered: askedAt => events.answered(askedAt),
      isBehind: () => this.#readAhead.bytes > 0,
    })
  }

  /** Whether messages of every wanted topic that Redis does not refuse are being received. */
  get isLive(): boolean {
    return this.#isLive
  }

  /** Bytes that were read and are still to be dealt with. */
  get backlog(): number {
    return this.#readAhead.bytes
  }

  /** How many topics are wanted that Redis refuses. */
  get refused(): number {
    return this.#refusedTopics.size
  }

  /** Resolves when every one of `topics` is subscribed, or left. */
  async subscribe(topics: readonly Topic[]): Promise<void> {
    if (this.#isClosed) return
    for (const topic of topics) {
      this.#wanted.add(topic)
      if (this.#isLive && this.#isConfirmed(topic)) continue
      if (!this.#told.has(topic) && !this.#refusedTopics.has(topic)) this.#markDirty(topic)
      this.#pending.add(topic)
    }
    await this.#pending.over(topics)
  }

  wants(topic: Topic): boolean {
    return this.#wanted.has(topic)
  }

  #isConfirmed(topic: Topic): boolean {
    const batch = this.#told.get(topic)
    return batch !== undefined && batch <= this.#answered
  }

  unsubscribe(topic: Topic): void {
    if (!this.#wanted.delete(topic)) return
    this.#refusedTopics.delete(topic)
    this.#pending.settle(topic)
    this.#markDirty(topic)
  }

  #markDirty(topic: Topic): void {
    this.#dirty.add(topic)
    const flush = () => this.#flush()
    this.#flushing ??= this.#load.isHigh(performance.now()) ? setTimeout(flush, GATHER) : setImmediate(flush)
  }

  #flush(): void {
    this.#flushing = undefined
    this.#pending.cut()
    // While the link is down or being restored, the restoration reads what is wanted.
    if (!this.#link.isUp) return this.#dirty.clear()
    const dirty = [...this.#dirty]
    this.#dirty.clear()
    const leave = dirty.filter(topic => !this.#wanted.has(topic) && this.#told.delete(topic))
    const join = dirty.filter(topic => this.#wanted.has(topic) && !this.#told.has(topic))
    for (let i = 0; i < leave.length; i += BATCH) {
      const channels = leave.slice(i, i + BATCH).map(topic => this.#names.channel(topic))
      this.#link.client.unsubscribe(...channels).catch(() => {})
    }
    void this.#tell(join)
  }

  /** Subscribes `topics`; true when Redis has granted or refused each of them on the present connection. */
  async #tell(topics: readonly Topic[]): Promise<boolean> {
    const answers: Promise<boolean>[] = []
    for (let i = 0; i < topics.length; i += BATCH) answers.push(this.#send(topics.slice(i, i + BATCH)))
    const areAnswered = (await Promise.all(answers)).every(Boolean)
    this.#refusedTopics.tell(performance.now())
    return areAnswered
  }

  async #send(topics: readonly Topic[]): Promise<boolean> {
    const era = this.#era
    const batch = ++this.#batch
    for (const topic of topics) this.#told.set(topic, batch)
    const error = await this.#subscribe(topics.map(topic => this.#names.channel(topic)))
    if (era !== this.#era) return false
    if (error) return this.#onRefused(error, topics, batch)
    this.#answered = batch
    this.#onGranted(topics.filter(topic => this.#told.get(topic) === batch && this.#refusedTopics.delete(topic)))
    if (this.#isLive) this.#settleConfirmed(topics)
    return true
  }

  async #subscribe(channels: readonly string[]): Promise<Error | undefined> {
    try {
      await this.#link.client.subscribe(...channels)
      return undefined
    } catch (error) {
      return error as Error
    }
  }

  #onGranted(topics: readonly Topic[]): void {
    if (topics.length > 0) this.#events.granted(topics)
  }

  /** NOPERM does not say for which of the topics: halves are asked for, until those are found that are refused alone. */
  async #onRefused(error: Error, topics: readonly Topic[], batch: number): Promise<boolean> {
    // What was left or told again meanwhile has an answer of its own to come.
    const refused = topics.filter(topic => this.#told.get(topic) === batch)
    // Else the answer to a later command would confirm them.
    for (const topic of refused) this.#told.delete(topic)
    if (error.name !== 'ReplyError') return this.#fail(error)
    const wanted = refused.filter(topic => this.#wanted.has(topic))
    if (wanted.length > 1) {
      const middle = wanted.length >> 1
      const halves = [wanted.slice(0, middle), wanted.slice(middle)]
      return (await Promise.all(halves.map(half => this.#send(half)))).every(Boolean)
    }
    for (const topic of wanted) {
      this.#refusedTopics.add(topic, error)
      this.#pending.part(topic)
    }
    return true
  }

  /** The connection is up and of no use: after a while another one is made. */
  #fail(error: Error): false {
    this.#events.change(false, error)
    this.#retry ??= setTimeout(() => this.#link.reset(error), FAILED_RETRY)
    return false
  }

  /** A topic that was left and joined again meanwhile waits for the answer to its last SUBSCRIBE. */
  #settleConfirmed(topics: Iterable<Topic>): void {
    for (const topic of topics) if (this.#isConfirmed(topic)) this.#pending.settle(topic)
  }

  async #restore(): Promise<void> {
    const era = ++this.#era
    this.#told.clear()
    await this.#readDirectly()
    if (era !== this.#era) return
    // Without its own channel the node would not notice that it hears nothing.
    const error = await this.#subscribe([this.#names.nodes, this.#names.channel(this.#own)])
    if (era !== this.#era) return
    if (error) return void this.#fail(error)
    // The answers to SUBSCRIBE are the barrier: from the last of them on nothing is missed.
    const done = await this.#tell([...this.#wanted])
    if (!done || era !== this.#era) return
    this.#isLive = true
    this.#settleConfirmed(this.#pending.topics())
    this.#events.change(true, undefined)
    this.#events.restored()
    for (const [topic, envelope] of this.#early.take()) this.#events.message(topic, envelope)
  }

  /**
   * Puts our reader between the socket and the decoder of ioredis, which gets all that is no message. Once every
   * command is answered no element is under way, so that both begin at the beginning of one.
   */
  async #readDirectly(): Promise<void> {
    const { client } = this.#link
    await client.ping().catch(() => {})
    const { stream } = client
    const listeners = stream.listeners('data') as ((chunk: Buffer) => void)[]
    if (client.commandQueue.length > 0 || listeners.length === 0) return
    const era = this.#era
    const reader = new PushReader(this.#topics, {
      message: (topic, payload) => (era === this.#era ? this.#onMessage(topic, payload) : this.#onLate(topic, payload)),
      other: bytes => {
        // What an older connection answered would be taken for an answer of the present one.
        if (client.stream === stream) for (const listener of listeners) listener.call(stream, bytes)
      },
    })
    for (const listener of listeners) stream.off('data', listener)
    stream.on('data', (chunk: Buffer) => this.#readAhead.add(stream, reader, chunk))
  }

  #onDown(error: Error | undefined): void {
    const wasLive = this.#isLive
    this.#era++
    this.#isLive = false
    clearTimeout(this.#retry)
    this.#retry = undefined
    this.#told.clear()
    this.#refusedTopics.clear()
    this.#early.take()
    if (wasLive) this.#events.change(false, error)
  }

  /** It came over a connection that is lost by now, and was read before anything of the next one. */
  #onLate(topic: Topic, message: Slice): void {
    if (!this.#isLive && this.#wanted.has(topic)) this.#events.message(topic, message)
  }

  #onMessage(topic: Topic, message: Slice): void {
    if (topic === this.#own) return this.#events.heard(message.view())
    if (topic === ('nodes' as Topic)) return
    // It may have been granted since, of which `granted` will tell: no message comes before the gap.
    if (this.#refusedTopics.size > 0 && this.#refusedTopics.has(topic)) return
    if (this.#isLive) return this.#events.message(topic, message)
    this.#early.push(topic, message)
  }

  /** Something has come that Redis was asked to publish at `askedAt`. */
  overtaken(askedAt: number): void {
    this.#link.overtaken(askedAt)
  }

  /** Gives the connection up and makes another. */
  reset(reason: Error): void {
    this.#link.reset(reason)
  }

  close(): void {
    this.#isClosed = true
    clearTimeout(this.#retry)
    this.#refusedTopics.clear()
    // An immediate, which this leaves alone, finds the link down.
    clearTimeout(this.#flushing as NodeJS.Timeout)
    this.#era++
    for (const topic of this.#pending.topics()) this.#pending.settle(topic)
    this.#wanted.clear()
    this.#early.take()
    this.#readAhead.clear()
    this.#link.close()
  }
}
