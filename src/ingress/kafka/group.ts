import { within } from '../../broker/waiting.ts'
import type { IngressParts, OpenIngress } from '../ingress.ts'
import { QueueLink } from '../queue-link.ts'
import { longer, messageOf, pause, Settling, waitingRoom } from '../settling.ts'
import { DeadLetterTopic } from './dead-letters.ts'
import { Lag } from './lag.ts'
import {
  type BatchPayload,
  isClient,
  type KafkaClient,
  type KafkaConsumer,
  type KafkaMessage,
  newClient,
} from './library.ts'
import type { KafkaOptions } from './options.ts'

/** How long a fetch waits for messages, in milliseconds: closing waits for it too. */
const FETCH_WAIT = 1000
/** What is published is committed after so many milliseconds, and at the end of what was fetched. */
const COMMIT_INTERVAL = 1000
/** Milliseconds before another consumer takes the place of one that has failed: at first, and at most. */
const FIRST_WAIT = 500
const LONGEST_WAIT = 5000

/** Few: a consumer that fails makes room for another one, which looks for the brokers anew. */
const RETRY = { retries: 2, initialRetryTime: 200, maxRetryTime: 1000, restartOnFailure: async () => false }

interface Session {
  hasJoined: boolean
  end?: () => Promise<void>
}

/** Opens the road. Rejects only for what will never work. */
export async function openGroup(parts: IngressParts, options: KafkaOptions): Promise<OpenIngress> {
  const { kafka } = options
  const client = isClient(kafka) ? kafka : await newClient(kafka, `push ingress of ${parts.node}`, parts.log)
  return new KafkaGroup(parts, options, client)
}

/**
 * This node's part of a consumer group. The messages of a partition are published one after the other, and their offsets are
 * committed after that: what was not committed when this node ends comes to another one again.
 */
class KafkaGroup implements OpenIngress {
  readonly #parts: IngressParts
  readonly #options: KafkaOptions
  readonly #client: KafkaClient
  readonly #link: QueueLink
  readonly #settling: Settling
  readonly #deadLetters: DeadLetterTopic | undefined
  readonly #lag = new Lag()
  readonly #closing = waitingRoom()
  readonly #closed: Promise<unknown>
  /** One for each fetched batch: aborted when the group may give its partition to another node. */
  readonly #held = new Set<AbortController>()
  readonly #ended: Promise<void>

  constructor(parts: IngressParts, options: KafkaOptions, client: KafkaClient) {
    const { name, deadLetters } = options
    this.#parts = parts
    this.#options = options
    this.#client = client
    this.#link = new QueueLink(name, 'Kafka', parts.log)
    this.#settling = new Settling(parts, options)
    this.#deadLetters = deadLetters === undefined ? undefined : new DeadLetterTopic(client, deadLetters)
    this.#closed = new Promise(resolve => this.#closing.signal.addEventListener('abort', resolve, { once: true }))
    this.#ended = this.#live()
  }

  get lag(): number | undefined {
    return this.#lag.total
  }

  get problem(): string | undefined {
    return this.#link.problem ?? this.#settling.problem
  }

  async close(): Promise<void> {
    this.#closing.abort()
    for (const held of this.#held) held.abort()
    await within(
      this.#parts.closeTimeout,
      this.#ended.then(() => this.#deadLetters?.close()),
    )
  }

  /** One consumer after the other. kafkajs would start one again by itself, but not after every error. */
  async #live(): Promise<void> {
    const { signal } = this.#closing
    for (let wait = FIRST_WAIT; !signal.aborted; ) {
      const hasJoined = await this.#session()
      wait = hasJoined ? FIRST_WAIT : longer(wait, LONGEST_WAIT)
      await pause(wait, signal)
    }
  }

  /** From the beginning of a consumer to its end. Whether it became a member of the group. Never rejects. */
  async #session(): Promise<boolean> {
    const session: Session = { hasJoined: false }
    try {
      const consumer = this.#consumer()
      const crash = new Promise<never>((_resolve, reject) => {
        consumer.on('consumer.crash', ({ payload }) => reject((payload as { error: unknown }).error))
      })
      consumer.on('consumer.group_join', () => {
        session.hasJoined = true
        this.#lag.restart()
        this.#link.found()
      })
      // Whatever ends it, it is disconnected only once it runs: what is disconnected while it joins the group joins it yet,
      // and nobody would ever stop it.
      const running = this.#run(consumer)
      session.end = () => running.catch(() => {}).then(() => consumer.disconnect())
      await Promise.race([Promise.all([running, crash]), this.#closed])
    } catch (error) {
      this.#link.lost(`Kafka gives no messages of ${this.#options.kafkaTopics.join(', ')}: ${messageOf(error)}`)
    }
    this.#lag.forget()
    await session.end?.().catch(() => {})
    return session.hasJoined
  }

  #consumer(): KafkaConsumer {
    const { group, sessionTimeout, fetchBytes } = this.#options
    return this.#client.consumer({
      groupId: group,
      sessionTimeout,
      // A minute by default, and kafkajs waits for the answer to JoinGroup five seconds longer: on a connection that died in
      // silence the group would stand still for as long. A batch gives way within a heartbeat: nobody needs more time.
      rebalanceTimeout: sessionTimeout,
      heartbeatInterval: this.#heartbeat,
      maxWaitTimeInMs: FETCH_WAIT,
      maxBytes: fetchBytes,
      maxBytesPerPartition: fetchBytes,
      // A mistyped name would make a topic into which nobody writes.
      allowAutoTopicCreation: false,
      retry: RETRY,
    })
  }

  /** Milliseconds. */
  get #heartbeat(): number {
    return Math.floor(this.#options.sessionTimeout / 5)
  }

  /** Resolves when the consumer is at work. */
  async #run(consumer: KafkaConsumer): Promise<void> {
    const { kafkaTopics, fromBeginning, concurrency } = this.#options
    await consumer.connect()
    await consumer.subscribe({ topics: kafkaTopics, fromBeginning })
    await consumer.run({
      eachBatchAutoResolve: false,
      autoCommitInterval: COMMIT_INTERVAL,
      partitionsConsumedConcurrently: concurrency,
      eachBatch: payload => this.#handle(payload),
    })
  }

  async #handle(payload: BatchPayload): Promise<void> {
    const held = waitingRoom()
    this.#held.add(held)
    // kafkajs sends none while it waits for us, and the group would take this node for dead.
    const beat = () => void payload.heartbeat().catch(() => held.abort())
    const timer = setInterval(beat, this.#heartbeat)
    try {
      await this.#publish(payload, held.signal)
    } finally {
      clearInterval(timer)
      this.#held.delete(held)
    }
    // Rejects with what has ended the batch, so that kafkajs joins the group again.
    await payload.heartbeat()
  }

  async #publish({ batch, ...consumer }: BatchPayload, signal: AbortSignal): Promise<void> {
    const { topic, partition, messages, highWatermark } = batch
    const place = `${topic}/${partition}`
    this.#lag.fetched(place, highWatermark, messages[0]!.offset)
    for (const message of messages) {
      const isOver = this.#closing.signal.aborted || signal.aborted || consumer.isStale() || !consumer.isRunning()
      if (isOver || !(await this.#settle(batch, message, signal))) return
      consumer.resolveOffset(message.offset)
      this.#lag.handled(place, message.offset)
      await consumer.heartbeat()
      await consumer.commitOffsetsIfNecessary()
    }
  }

  /** False if the message is still Kafka's. */
  async #settle(
    { topic, partition }: BatchPayload['batch'],
    message: KafkaMessage,
    signal: AbortSignal,
  ): Promise<boolean> {
    const { offset, timestamp, value } = message
    // The time tells apart the messages of a topic that was deleted and made again: its offsets begin at 0 once more.
    const settled = await this.#settling.settle(value ?? '', `${topic}:${partition}:${offset}:${timestamp}`, signal)
    if (settled === undefined || settled === 'published') return settled === 'published'
    const { deadLetters } = this.#options
    const place = this.#deadLetters
      ? {
          to: `the topic ${deadLetters} of Kafka`,
          put: () => this.#deadLetters!.put(message, { topic, partition }, settled),
        }
      : { to: `nowhere, without the option deadLetters: ${topic}/${partition} at ${offset}`, put: async () => {} }
    return this.#settling.bury(settled, place, signal)
  }
}
