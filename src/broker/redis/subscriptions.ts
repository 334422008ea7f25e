import type { Redis } from 'ioredis'
import type { Slice } from '../../protocol/slice.ts'
import type { Topic } from '../../protocol/topic.ts'
import { ChangedTopics } from './changed-topics.ts'
import { readDirectly, readThroughIoredis } from './direct-reading.ts'
import { type EarlyMessageEvents, EarlyMessages } from './early-messages.ts'
import { KeptTopics } from './kept-topics.ts'
import { type Address, Link } from './link.ts'
import type { Names } from './names.ts'
import { Pending } from './pending.ts'
import type { PubSub } from './pub-sub.ts'
import { ReadAhead } from './read-ahead.ts'
import type { Refusals } from './refusals.ts'
import { type RefusedTopic, RefusedTopics } from './refused-topics.ts'
import { ToldTopics } from './told-topics.ts'
import { TopicCache } from './topic-cache.ts'
import { errorOf, isElsewhere, isUnknownCommand, slotMoved, TopicCommands } from './topic-commands.ts'

export interface SubscriptionEvents extends EarlyMessageEvents {
  /** A message on the node's own channel. */
  heard(message: Buffer): void
  /** Whoever published this asks all nodes. */
  asked(message: Buffer): void
  /** The PING of that time was answered. */
  answered(askedAt: number): void
  /** Every wanted topic is subscribed again, except refused ones. Earlier publications may have been missed. */
  restored(): void
  /** Redis has granted these topics, which it refused before. */
  granted(topics: readonly Topic[]): void
  refused(refusal: RefusedTopic): void
  /** Another server of the Cluster has, or gets, the slot of a topic. */
  redirected(): void
  /** Messages are no longer received, or still are not: why, if known. */
  down(error: Error | undefined): void
}

/** Milliseconds until a connection that is up but failed is replaced. */
const FAILED_RETRY = 2000

/**
 * The connection that subscribes. It keeps the set of wanted topics and the set that Redis was told. Once in a turn of
 * the event loop it sends the difference, so a topic that is left and joined again at once costs nothing. Redis
 * executes the commands of a connection in order, so the last one decides.
 */
export class Subscriptions {
  readonly #link: Link
  readonly #names: Names
  readonly #commands: TopicCommands
  readonly #events: SubscriptionEvents
  readonly #wanted = new Set<Topic>()
  readonly #told = new ToldTopics()
  readonly #pending = new Pending()
  readonly #changed = new ChangedTopics(topics => this.#onChanged(topics))
  /** Wanted topics that Redis refuses. */
  readonly refusedTopics: RefusedTopics
  readonly #kept: KeptTopics
  /** The node's own channel. */
  readonly #own: Topic
  readonly #readAhead = new ReadAhead()
  readonly #topics: TopicCache
  readonly #early: EarlyMessages
  /** Topics that another link has from now on or had until now: what comes here as well is dropped. */
  readonly #muted = new Set<Topic>()
  /** Counts connections: an answer from an older one says nothing about the present one. */
  #era = 0
  #isLive = false
  #isClosed = false
  #retry: NodeJS.Timeout | undefined

  constructor(
    client: Redis,
    names: Names,
    { node, pubSub, refusals }: { node: string; pubSub: PubSub; refusals: Refusals },
    events: SubscriptionEvents,
  ) {
    this.#names = names
    this.#commands = new TopicCommands(client, names, pubSub, { refusals, outOfStep: error => this.reset(error) })
    this.#topics = new TopicCache(names.prefix)
    this.#own = names.topic(names.node(node))
    this.#events = events
    this.#early = new EarlyMessages(events)
    this.refusedTopics = new RefusedTopics({
      told: refusal => events.refused(refusal),
      retry: topics => Promise.all(topics.map(topic => this.#send([topic]))),
      silent: () => this.backlog === 0 && this.reset(new Error('no answer to SUBSCRIBE: answers are out of step')),
    })
    this.#kept = new KeptTopics({
      commands: this.#commands,
      isWanted: topic => this.#wanted.has(topic),
      left: topics => this.unmute(topics),
    })
    readThroughIoredis(client, names, (topic, message) => this.#onMessage(topic, message))
    this.#link = new Link(client, {
      up: () => void this.#restore(),
      down: error => this.#onDown(error),
      answered: askedAt => events.answered(askedAt),
      isBehind: () => this.#readAhead.bytes > 0,
    })
  }

  /** Whether messages of all wanted topics are being received, except refused ones. */
  get isLive(): boolean {
    return this.#isLive
  }

  /** Bytes that were read and have not been processed. */
  get backlog(): number {
    return this.#readAhead.bytes
  }

  /** Resolves when each of `topics` is subscribed or was left. `held`: all but these are, which Redis refuses for now. */
  async subscribe(topics: readonly Topic[], held?: (refused: readonly Topic[]) => void): Promise<void> {
    if (this.#isClosed) return
    for (const topic of topics) {
      // One that has come back meanwhile is heard again; one that another link had is not yet.
      if (!this.#wanted.has(topic)) {
        this.#muted.delete(topic)
        this.#kept.delete(topic)
      }
      this.#wanted.add(topic)
      if (this.#isLive && this.#told.isConfirmed(topic)) continue
      if (!this.#told.has(topic) && !this.refusedTopics.has(topic)) this.#changed.add(topic)
      this.#pending.add(topic)
    }
    await this.#pending.over(topics, held)
  }

  get topics(): Iterable<Topic> {
    return this.#wanted
  }

  wants(topic: Topic): boolean {
    return this.#wanted.has(topic)
  }

  unsubscribe(topic: Topic): void {
    if (!this.#wanted.delete(topic)) return
    this.refusedTopics.delete(topic)
    this.#pending.settle(topic)
    this.#changed.add(topic)
  }

  /** Another link has the topic from now on. */
  release(topic: Topic): void {
    if (this.#told.has(topic)) this.#muted.add(topic)
    this.unsubscribe(topic)
  }

  /** Another link had these topics until now. Messages are dropped until `unmute`. */
  adopt(topics: readonly Topic[]): Promise<void> {
    const subscribed = this.subscribe(topics)
    for (const topic of topics) this.#muted.add(topic)
    return subscribed
  }

  unmute(topics: readonly Topic[]): void {
    if (this.#muted.size > 0) for (const topic of topics) this.#muted.delete(topic)
  }

  #onChanged(changed: readonly Topic[]): void {
    this.#pending.cut()
    // While the link is down, nothing is sent: the restoration subscribes all wanted topics.
    if (!this.#link.isUp) return
    const left = changed.filter(topic => !this.#wanted.has(topic) && this.#told.delete(topic))
    void this.#kept.leave(left)
    void this.#tell(changed.filter(topic => this.#wanted.has(topic) && !this.#told.has(topic)))
  }

  /** Subscribes `topics`. True if Redis has granted or refused each of them on the present connection. */
  async #tell(topics: readonly Topic[]): Promise<boolean> {
    const answers = this.#commands.parts(topics).map(part => this.#send(part))
    const areAnswered = (await Promise.all(answers)).every(Boolean)
    this.refusedTopics.tell(performance.now())
    return areAnswered
  }

  /** `topics`: those of one part. */
  async #send(topics: readonly Topic[]): Promise<boolean> {
    const era = this.#era
    const command = this.#told.add(topics)
    const error = await this.#commands.join(topics)
    if (era !== this.#era) return false
    // A topic that was left or asked for again meanwhile waits for its own answer.
    if (error) return this.#onRefused(error, this.#told.stillOf(command, topics))
    this.#told.answered(command)
    const granted = this.#told.stillOf(command, topics).filter(topic => this.refusedTopics.delete(topic))
    if (granted.length > 0) this.#events.granted(granted)
    if (this.#isLive) this.#settleConfirmed(topics)
    return true
  }

  /** NOPERM does not say which topic is refused: the topics are asked for in halves until each refused one is found. */
  async #onRefused(error: Error, refused: readonly Topic[]): Promise<boolean> {
    // Otherwise the answer to a later command would confirm them.
    for (const topic of refused) this.#told.delete(topic)
    this.#commands.leaveOtherKind(refused)
    if (error.name !== 'ReplyError' || isUnknownCommand(error)) return this.#fail(error)
    const wanted = refused.filter(topic => this.#wanted.has(topic))
    if (isElsewhere(error)) this.#events.redirected()
    else if (wanted.length > 1) {
      const middle = wanted.length >> 1
      const halves = [wanted.slice(0, middle), wanted.slice(middle)]
      return (await Promise.all(halves.map(half => this.#send(half)))).every(Boolean)
    }
    for (const topic of wanted) this.#refuse(topic, error)
    return true
  }

  #refuse(topic: Topic, error: Error): void {
    this.refusedTopics.add(topic, error)
    this.#pending.part(topic)
  }

  /** False if this node has asked for it. Otherwise the server has given the slot of the topic away. */
  #onUnsubscribed(topic: Topic): boolean {
    if (this.#commands.isLeaving(topic)) return false
    if (!this.#told.delete(topic)) return true
    this.#commands.leaveOtherKind([topic])
    if (this.#wanted.has(topic)) this.#refuse(topic, slotMoved())
    this.#events.redirected()
    return true
  }

  /** The connection is up but useless: after a while it is replaced. */
  #fail(error: Error): false {
    this.#events.down(error)
    this.#retry ??= setTimeout(() => this.#link.reset(error), FAILED_RETRY)
    return false
  }

  /** A topic that was left and joined again still waits for the answer to its last SUBSCRIBE. */
  #settleConfirmed(topics: Iterable<Topic>): void {
    for (const topic of topics) if (this.#told.isConfirmed(topic)) this.#pending.settle(topic)
  }

  async #restore(): Promise<void> {
    const era = ++this.#era
    this.#told.clear()
    const { client } = this.#link
    await readDirectly(client, this.#topics, this.#readAhead, () => this.#readerEvents(this.#era))
    if (era !== this.#era) return
    // Without its own channel the node would not notice that it receives nothing.
    const error = await errorOf([client.subscribe(this.#names.nodes, this.#names.channel(this.#own))])
    if (era !== this.#era) return
    if (error) return void this.#fail(error)
    // The answers to SUBSCRIBE are the barrier: after the last of them nothing is missed.
    const done = await this.#tell([...this.#wanted])
    if (!done || era !== this.#era) return
    this.#isLive = true
    this.#settleConfirmed(this.#pending.topics())
    this.#events.restored()
    this.#early.release()
  }

  /** For the messages of the connection that has this number. */
  #readerEvents(era: number) {
    return {
      message: (topic: Topic, message: Slice) =>
        era === this.#era ? this.#onMessage(topic, message) : this.#onStale(topic, message),
      unsubscribed: (topic: Topic) => era === this.#era && this.#onUnsubscribed(topic),
    }
  }

  #onDown(error: Error | undefined): void {
    const wasLive = this.#isLive
    this.#era++
    this.#isLive = false
    clearTimeout(this.#retry)
    this.#retry = undefined
    this.#told.clear()
    this.refusedTopics.clear()
    this.#kept.clear()
    this.#muted.clear()
    this.#early.clear()
    if (wasLive) this.#events.down(error)
  }

  /** The message came over a connection that is lost now; nothing of the next one has been processed yet. */
  #onStale(topic: Topic, message: Slice): void {
    if (!this.#isLive && this.#wanted.has(topic)) this.#events.message(topic, message)
  }

  #onMessage(topic: Topic, message: Slice): void {
    if (topic === this.#own) return this.#events.heard(message.view())
    if (topic === ('nodes' as Topic)) return this.#events.asked(message.view())
    // If it was granted meanwhile, `granted` comes next and tells the gap: no message may be delivered before that.
    if (this.refusedTopics.size > 0 && this.refusedTopics.has(topic)) return
    if (this.#muted.size > 0 && this.#muted.has(topic)) return
    if (this.#isLive) return this.#events.message(topic, message)
    this.#early.push(topic, message)
  }

  /** A message has arrived that Redis was asked to publish at `askedAt`. */
  overtaken(askedAt: number): void {
    this.#link.overtaken(askedAt)
  }

  reset(reason: Error): void {
    this.#link.reset(reason)
  }

  moveTo(address: Address): void {
    this.#link.moveTo(address)
  }

  close(): void {
    this.#isClosed = true
    clearTimeout(this.#retry)
    this.refusedTopics.clear()
    this.#kept.clear()
    this.#changed.close()
    this.#era++
    for (const topic of this.#pending.topics()) this.#pending.settle(topic)
    this.#wanted.clear()
    this.#early.clear()
    this.#readAhead.clear()
    this.#link.close()
  }
}
