import type { Redis } from 'ioredis'
import { LoopLoad } from '../loop-load.ts'
import { Slice } from '../slice.ts'
import type { Topic } from '../topic.ts'
import { Link } from './link.ts'
import type { Names } from './names.ts'
import { PushReader } from './push-reader.ts'
import { ReadAhead } from './read-ahead.ts'
import { TopicNames } from './topic-names.ts'

export interface SubscriptionEvents {
  message(topic: Topic, envelope: Slice): void
  /** A message on the channel that only this node holds. */
  heard(message: Buffer): void
  /** A PING of that time was answered. */
  answered(askedAt: number): void
  /** Every wanted topic is subscribed again; what was published before may have been missed. */
  restored(): void
  change(isUp: boolean, error: Error | undefined): void
}

/** Topics that are confirmed by one answer: thousands of connections wait for a few of these. */
interface Pending {
  /** How many of them are neither confirmed nor left. */
  open: number
  promise: Promise<void>
  resolve(): void
}

/** Channels of one SUBSCRIBE: keeps a single command, and its reply, from blocking others. */
const BATCH = 1000

const REFUSED_RETRY = 2000

/** For so long a busy node gathers topics for one command: clients that come by the thousand come a few at a time. */
const GATHER = 10

/** Messages that arrive while the link is being restored wait, so that a gap is told before them. */
const MAX_EARLY_BYTES = 16 * 1024 * 1024

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
  readonly #pending = new Map<Topic, Pending>()
  /** Of the topics that the next command will name. */
  #gathering: Pending | undefined
  readonly #dirty = new Set<Topic>()
  /** The channel that only this node holds. */
  readonly #own: Topic
  readonly #load = new LoopLoad()
  readonly #readAhead = new ReadAhead()
  readonly #topicNames: TopicNames
  #flushing: NodeJS.Timeout | NodeJS.Immediate | undefined
  #batch = 0
  /** The last SUBSCRIBE that was answered; answers come in the order of the commands. */
  #answered = 0
  /** Counts connections: what an older one answers says nothing of the present. */
  #era = 0
  #isLive = false
  #isClosed = false
  #retry: NodeJS.Timeout | undefined
  #early: [Topic, Slice][] = []
  #earlyBytes = 0

  constructor(client: Redis, names: Names, node: string, events: SubscriptionEvents) {
    this.#names = names
    this.#topicNames = new TopicNames(names.prefix)
    this.#own = names.topic(names.node(node))
    this.#events = events
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

  /** Whether messages of every wanted topic are being received. */
  get isLive(): boolean {
    return this.#isLive
  }

  /** Bytes that were read and are still to be dealt with. */
  get backlog(): number {
    return this.#readAhead.bytes
  }

  /** Resolves when every one of `topics` is subscribed, or left. */
  async subscribe(topics: readonly Topic[]): Promise<void> {
    if (this.#isClosed) return
    for (const topic of topics) {
      this.#wanted.add(topic)
      if (this.#isLive && this.#isConfirmed(topic)) continue
      if (!this.#told.has(topic)) this.#markDirty(topic)
      if (!this.#pending.has(topic)) this.#addPending(topic)
    }
    // Looked at again each time: a topic that was left and joined meanwhile waits for another answer.
    const next = () => topics.find(topic => this.#pending.has(topic))
    for (let topic = next(); topic !== undefined; topic = next()) await this.#pending.get(topic)!.promise
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
    this.#settle(topic)
    this.#markDirty(topic)
  }

  #addPending(topic: Topic): void {
    this.#gathering ??= newPending()
    this.#gathering.open++
    this.#pending.set(topic, this.#gathering)
  }

  #settle(topic: Topic): void {
    const pending = this.#pending.get(topic)
    if (!pending) return
    this.#pending.delete(topic)
    if (--pending.open > 0) return
    pending.resolve()
    if (pending === this.#gathering) this.#gathering = undefined
  }

  #markDirty(topic: Topic): void {
    this.#dirty.add(topic)
    const flush = () => this.#flush()
    this.#flushing ??= this.#load.isHigh(performance.now()) ? setTimeout(flush, GATHER) : setImmediate(flush)
  }

  #flush(): void {
    this.#flushing = undefined
    this.#gathering = undefined
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

  /** Subscribes `topics`; true when Redis has confirmed them all on the present connection. */
  async #tell(topics: readonly Topic[], channels: readonly string[] = []): Promise<boolean> {
    const era = this.#era
    const answers: Promise<boolean>[] = channels.length > 0 ? [this.#send(channels, [], era)] : []
    for (let i = 0; i < topics.length; i += BATCH) {
      const part = topics.slice(i, i + BATCH)
      answers.push(
        this.#send(
          part.map(topic => this.#names.channel(topic)),
          part,
          era,
        ),
      )
    }
    return (await Promise.all(answers)).every(Boolean)
  }

  async #send(channels: readonly string[], topics: readonly Topic[], era: number): Promise<boolean> {
    const batch = ++this.#batch
    for (const topic of topics) this.#told.set(topic, batch)
    try {
      await this.#link.client.subscribe(...channels)
    } catch (error) {
      if (era === this.#era) this.#onRefused(error as Error, topics, batch)
      return false
    }
    if (era !== this.#era) return false
    this.#answered = batch
    if (this.#isLive) this.#settleConfirmed(topics)
    return true
  }

  /** NOPERM for example leaves the connection up: after a while another one is made, until Redis agrees. */
  #onRefused(error: Error, topics: readonly Topic[], batch: number): void {
    // Else the answer to a later command would confirm them.
    for (const topic of topics) if (this.#told.get(topic) === batch) this.#told.delete(topic)
    this.#events.change(false, error)
    this.#retry ??= setTimeout(() => {
      this.#retry = undefined
      this.#link.reset(error)
    }, REFUSED_RETRY)
  }

  /** A topic that was left and joined again meanwhile waits for the answer to its last SUBSCRIBE. */
  #settleConfirmed(topics: Iterable<Topic>): void {
    for (const topic of topics) if (this.#isConfirmed(topic)) this.#settle(topic)
  }

  async #restore(): Promise<void> {
    this.#era++
    this.#told.clear()
    const era = this.#era
    await this.#readDirectly()
    if (era !== this.#era) return
    // The answers to SUBSCRIBE are the barrier: from the last of them on nothing is missed.
    const done = await this.#tell([...this.#wanted], [this.#names.nodes, this.#names.channel(this.#own)])
    if (!done || era !== this.#era) return
    this.#isLive = true
    this.#settleConfirmed([...this.#pending.keys()])
    this.#events.change(true, undefined)
    this.#events.restored()
    const early = this.#early
    this.#forgetEarly()
    for (const [topic, envelope] of early) this.#events.message(topic, envelope)
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
    const reader = new PushReader(this.#topicNames, {
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
    this.#told.clear()
    this.#forgetEarly()
    if (wasLive) this.#events.change(false, error)
  }

  /** It came over a connection that is lost by now, and was read before anything of the next one. */
  #onLate(topic: Topic, message: Slice): void {
    if (!this.#isLive && this.#wanted.has(topic)) this.#events.message(topic, message)
  }

  #onMessage(topic: Topic, message: Slice): void {
    if (topic === this.#own) return this.#events.heard(message.view())
    if (topic === ('nodes' as Topic)) return
    if (this.#isLive) return this.#events.message(topic, message)
    // Beyond the bound they are lost, and the gap that is about to be told says so.
    if (this.#earlyBytes + message.length > MAX_EARLY_BYTES) return
    this.#early.push([topic, message])
    this.#earlyBytes += message.length
  }

  #forgetEarly(): void {
    this.#early = []
    this.#earlyBytes = 0
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
    // An immediate, which this leaves alone, finds the link down.
    clearTimeout(this.#flushing as NodeJS.Timeout)
    this.#era++
    for (const topic of [...this.#pending.keys()]) this.#settle(topic)
    this.#wanted.clear()
    this.#forgetEarly()
    this.#readAhead.clear()
    this.#link.close()
  }
}

function newPending(): Pending {
  let resolve = () => {}
  const promise = new Promise<void>(done => {
    resolve = done
  })
  return { open: 0, promise, resolve }
}
