import type { Redis } from 'ioredis'
import type { Position } from '../../protocol/position.ts'
import type { Slice } from '../../protocol/slice.ts'
import { type Topic, topicKind } from '../../protocol/topic.ts'
import type { Confirmed, HistoryPage, PageLimits } from '../broker.ts'
import type { TopicTrouble } from '../inquiry.ts'
import { RETRY, retrying } from '../waiting.ts'
import { BusBarrier } from './bus-barrier.ts'
import { CheckedAnswers } from './checked-answers.ts'
import { ClassicWatch, type ClassicWatchEvents } from './classic-watch.ts'
import type { CommandLink } from './commands.ts'
import type { TopicCursor } from './cursor.ts'
import type { Functions } from './functions.ts'
import { GapFiller, type GapFillerEvents } from './gap-filler.ts'
import { Heads } from './heads.ts'
import { historyIn, parseRecorded, type RedisHistory } from './history.ts'
import { Lag, MAX_DIGITS, type Tick } from './lag.ts'
import type { Address } from './link.ts'
import type { Names } from './names.ts'
import type { PubSub } from './pub-sub.ts'
import type { RefusedTopic } from './refused-topics.ts'
import { type SubscriptionEvents, Subscriptions } from './subscriptions.ts'
import { Timeline } from './timeline.ts'

export interface RedisSubscriberOptions {
  node: string
  timeout: number
  /** Size limit of a recorded envelope, in bytes. */
  maxBytes: number
  pubSub: PubSub
}

export interface RedisSubscriberEvents
  extends Omit<GapFillerEvents, 'failed'>,
    ClassicWatchEvents,
    Pick<SubscriptionEvents, 'asked'> {
  /** The state of the link has changed, or the reason why it is down. */
  change(error: Error | undefined): void
  /** For the log: `milliseconds` is the present delay, or the longest one once the node has caught up. */
  lagging(isBehind: boolean, milliseconds: number): void
  refused(refusal: RefusedTopic): void
  /** Another server of the Cluster has a slot that this one was thought to have. */
  redirected(): void
}

/** Heads are compared this often: a loss that nothing else notices is found after half a minute. */
const COMPARE_INTERVAL = 30_000

const DEAF = 'this node does not receive what it publishes to itself'
const CUT_OFF = 'Redis no longer sends to this node: killed, or cut off by client-output-buffer-limit'

const NO_POSITIONS: ReadonlyMap<Topic, Position> = new Map()

/** The topic of a connection is never recorded, because it ends with the connection. */
const isRecordable = (topic: Topic) => topicKind(topic) !== 'connection'

type Released = ReadonlyMap<Topic, TopicCursor | undefined>

/**
 * Receives publications from Redis without holes: Subscriptions receives messages, Timeline notices when Redis went
 * back in time, GapFiller reads missed publications from the history. After an outage they act in this order.
 */
export class RedisSubscriber {
  readonly #options: RedisSubscriberOptions
  readonly #events: RedisSubscriberEvents
  readonly #functions: Functions
  readonly #history: RedisHistory
  readonly #checked: CheckedAnswers
  readonly #subscriptions: Subscriptions
  readonly #gapFiller: GapFiller
  readonly #timeline: Timeline
  readonly #classicWatch: ClassicWatch | undefined
  readonly #comparing: NodeJS.Timeout
  #isCaughtUp = false
  #isClosed = false
  #restoration = 0
  /** When the subscriptions became live. */
  #liveSince = Number.POSITIVE_INFINITY
  readonly #lag: Lag
  readonly #bus: BusBarrier

  constructor(
    client: Redis,
    { commands, functions, names }: { commands: CommandLink; functions: Functions; names: Names },
    options: RedisSubscriberOptions,
    events: RedisSubscriberEvents,
  ) {
    this.#options = options
    this.#events = events
    this.#functions = functions
    this.#history = historyIn(functions, names, options, () => this.#timeline.current)
    this.#checked = new CheckedAnswers(functions, () => this.#timeline)
    const heads = new Heads(topics => this.#checked.to(() => this.#history.heads(topics)))
    this.#gapFiller = new GapFiller(
      {
        heads: topics => heads.ask(topics),
        read: (topic, since, limits) => this.history(topic, since, limits),
        different: this.#history.different,
      },
      { ...events, failed: error => events.change(error as Error) },
    )
    this.#timeline = new Timeline(commands, functions, names, options, {
      changed: () => this.#onTimelineChanged(),
      ticked: (tick, receivers) => this.#onTicked(tick, receivers),
      failed: error => events.change(error),
    })
    this.#bus = new BusBarrier(names.node(options.node))
    this.#lag = new Lag({ heard: sentAt => this.#subscriptions.overtaken(sentAt), told: events.lagging })
    const heard = { ...options, refusals: commands.refusals }
    this.#subscriptions = new Subscriptions(client, names, heard, {
      message: (topic, message) => this.#receive(topic, message),
      dropped: events.dropped,
      overflowed: topic => this.#gapFiller.overflowed(topic),
      heard: message => {
        const text = message.toString('latin1', 0, MAX_DIGITS)
        this.#bus.heard(text)
        this.#lag.heard(Number(text), performance.now())
      },
      asked: events.asked,
      answered: askedAt => this.#onAnswered(askedAt),
      restored: () => void this.#restore(),
      granted: topics => void this.#gapFiller.regained(topics),
      refused: events.refused,
      redirected: events.redirected,
      down: error => {
        this.#interrupt()
        events.change(error)
      },
    })
    if (!options.pubSub.isClassic) this.#classicWatch = new ClassicWatch(client, names, events)
    this.#comparing = setInterval(() => void this.#compare(), COMPARE_INTERVAL)
    this.#comparing.unref()
  }

  /** Whether everything published is being received, and what was missed has been filled. */
  get isLive(): boolean {
    return this.#subscriptions.isLive && this.#isCaughtUp
  }

  /** Bytes that were read and have not been processed. */
  get backlog(): number {
    return this.#subscriptions.backlog
  }

  /** How many topics are being filled from their history. */
  get filling(): number {
    return this.#gapFiller.filling
  }

  troubleWith(topic: Topic): TopicTrouble {
    return { refused: this.#subscriptions.refusedTopics.has(topic), filling: this.#gapFiller.isFilling(topic) }
  }

  /** How many milliseconds late messages arrive. */
  get lag(): number {
    return this.#lag.at(performance.now())
  }

  /** How many topics Redis refuses to this node. */
  get refused(): number {
    return this.#subscriptions.refusedTopics.size
  }

  async subscribe(topics: readonly Topic[], confirmed?: Confirmed): Promise<ReadonlyMap<Topic, Position>> {
    await this.#subscriptions.subscribe(topics, refused => {
      const rest = new Set(refused)
      const others = topics.filter(topic => !rest.has(topic))
      // An error comes again when all are joined.
      if (confirmed && others.length > 0)
        this.#join(others)
          .then(at => confirmed(others, at))
          .catch(() => {})
    })
    return this.#join(topics)
  }

  async #join(topics: readonly Topic[]): Promise<ReadonlyMap<Topic, Position>> {
    if (!this.#functions.isSupported) return NO_POSITIONS
    // A topic that was left meanwhile must not get a cursor: nobody would remove it.
    const wanted = () => topics.filter(topic => isRecordable(topic) && this.#subscriptions.wants(topic))
    const isOpen = () => !this.#isClosed
    try {
      return (await retrying(isOpen, () => this.#gapFiller.join(wanted()))) ?? NO_POSITIONS
    } catch (error) {
      if (this.#functions.isSupported && isOpen()) throw error
      return NO_POSITIONS
    }
  }

  readonly whereabouts = (topic: Topic, then: Position): Position => this.#gapFiller.whereabouts(topic, then)

  unsubscribe(topic: Topic): void {
    this.#gapFiller.leave(topic)
    this.#subscriptions.unsubscribe(topic)
  }

  get topics(): Iterable<Topic> {
    return this.#subscriptions.topics
  }

  /** Another master has these topics: how far each was delivered. */
  release(topics: readonly Topic[]): Released {
    const released = new Map<Topic, TopicCursor | undefined>()
    for (const topic of topics) {
      released.set(topic, this.#gapFiller.release(topic))
      this.#subscriptions.release(topic)
    }
    return released
  }

  /** These topics come from another master. What was published meanwhile is filled, or told as a gap. */
  async adopt(released: Released, servers: readonly CommandLink[]): Promise<void> {
    const adopted = new Map<Topic, TopicCursor>()
    for (const [topic, cursor] of released) if (cursor) adopted.set(topic, this.#gapFiller.adopt(topic, cursor))
    const topics = [...released.keys()]
    await this.#subscriptions.adopt(topics)
    if (this.#options.pubSub.isClassic) await this.#bus.passed(servers)
    this.#subscriptions.unmute(topics)
    // The other master had not confirmed a topic that could have a cursor and has none: nobody was told where it is.
    const isToJoin = (topic: Topic) =>
      adopted.get(topic)?.isToJoin ?? (this.#functions.isSupported && isRecordable(topic))
    await this.#gapFiller.regained(topics.filter(topic => this.#subscriptions.wants(topic) && !isToJoin(topic)))
  }

  moveTo(address: Address): void {
    this.#subscriptions.moveTo(address)
  }

  keysMoved(): void {
    this.#timeline.keysMoved()
    if (this.#subscriptions.isLive) void this.#classicWatch?.update()
  }

  history(topic: Topic, since: string, limits: PageLimits): Promise<HistoryPage> {
    return this.#checked.to(() => this.#history.read(topic, since, limits))
  }

  commandsDown(): void {
    this.#timeline.linkLost()
  }

  /** The connection for commands is new and may lead to another server. */
  async commandsUp(): Promise<void> {
    await this.#functions.update(this.#options.timeout)
    await this.#timeline.tick()
  }

  #receive(topic: Topic, message: Slice): void {
    const recorded = parseRecorded(message)
    if (recorded) this.#gapFiller.receive(topic, recorded)
    else this.#gapFiller.receiveUnrecorded(topic, message)
  }

  #interrupt(): void {
    this.#isCaughtUp = false
    this.#liveSince = Number.POSITIVE_INFINITY
    this.#restoration++
    this.#lag.clear()
    this.#gapFiller.interrupted()
  }

  /** Every topic is subscribed again. The timeline must be checked before a history is read. */
  async #restore(): Promise<void> {
    const restoration = ++this.#restoration
    this.#liveSince = performance.now()
    this.#classicWatch?.begin()
    this.#gapFiller.restored()
    while (!(await this.#timeline.tick()) && this.#functions.isSupported) {
      await new Promise(resolve => setTimeout(resolve, RETRY).unref())
      if (restoration !== this.#restoration || this.#isClosed) return
    }
    if (restoration === this.#restoration) await this.#catchUp(restoration)
  }

  async #catchUp(restoration: number): Promise<void> {
    try {
      await this.#gapFiller.compareAll()
    } catch (error) {
      this.#gapFiller.abandon()
      this.#events.change(error as Error)
    }
    if (restoration !== this.#restoration || this.#isClosed) return
    this.#isCaughtUp = true
    this.#events.change(undefined)
  }

  #onTimelineChanged(): void {
    if (!this.#subscriptions.isLive) return
    this.#isCaughtUp = false
    this.#gapFiller.invalidate()
    void this.#catchUp(++this.#restoration)
  }

  /** Not while messages are late: they are not missing, and to read them from the histories would add delay. */
  async #compare(): Promise<void> {
    if (this.isLive && this.lag === 0) await this.#catchUp(this.#restoration)
  }

  /** A tick was published to the channel of this node. If Redis had no subscriber there, the link is dead. */
  #onTicked(tick: Tick, receivers: number): void {
    if (this.#liveSince > tick.sentAt) return
    if (receivers > 0) this.#lag.published(tick)
    else this.#subscriptions.reset(new Error(CUT_OFF))
  }

  /** Answers and messages come in order: a node that gets an answer but not an older tick receives no messages. */
  #onAnswered(askedAt: number): void {
    if (this.#lag.isDeaf(askedAt)) this.#subscriptions.reset(new Error(DEAF))
  }

  close(): void {
    this.#isClosed = true
    clearInterval(this.#comparing)
    this.#timeline.close()
    this.#gapFiller.close()
    this.#subscriptions.close()
  }
}
