import type { FastifyBaseLogger } from 'fastify'
import { errors } from '../../protocol/errors.ts'

/**
 * What is used of kafkajs. Not its own types: applications without this road need not install it to compile, and those without
 * `skipLibCheck` need not compile it.
 */
export interface KafkaClient {
  consumer(settings: ConsumerSettings): KafkaConsumer
  producer(settings?: { allowAutoTopicCreation: boolean }): KafkaProducer
}

interface ConsumerSettings {
  groupId: string
  sessionTimeout: number
  rebalanceTimeout: number
  heartbeatInterval: number
  maxWaitTimeInMs: number
  maxBytes: number
  maxBytesPerPartition: number
  allowAutoTopicCreation: boolean
  retry: {
    retries: number
    initialRetryTime: number
    maxRetryTime: number
    restartOnFailure(error: Error): Promise<boolean>
  }
}

export interface KafkaConsumer {
  connect(): Promise<void>
  disconnect(): Promise<void>
  subscribe(subscription: { topics: string[]; fromBeginning: boolean }): Promise<void>
  run(settings: RunSettings): Promise<void>
  on(event: 'consumer.group_join' | 'consumer.crash', listener: (event: { payload: unknown }) => void): unknown
}

interface RunSettings {
  eachBatchAutoResolve: boolean
  autoCommitInterval: number
  partitionsConsumedConcurrently: number
  eachBatch(payload: BatchPayload): Promise<void>
}

export interface BatchPayload {
  batch: {
    topic: string
    partition: number
    /** The offset that the next message of the partition will get. */
    highWatermark: string
    messages: KafkaMessage[]
  }
  resolveOffset(offset: string): void
  heartbeat(): Promise<void>
  commitOffsetsIfNecessary(): Promise<void>
  isRunning(): boolean
  isStale(): boolean
}

export interface KafkaMessage {
  offset: string
  timestamp: string
  key: Buffer | null
  /** Null is what deletes a key in a compacted topic. */
  value: Buffer | null
  headers?: Record<string, Buffer | string | (Buffer | string)[] | undefined>
}

export interface KafkaProducer {
  connect(): Promise<void>
  disconnect(): Promise<void>
  send(record: {
    topic: string
    acks: number
    messages: Omit<KafkaMessage, 'offset' | 'timestamp'>[]
  }): Promise<unknown>
}

interface LogEntry {
  log: { message: string; error?: unknown }
}

type KafkaClass = new (settings: object) => KafkaClient

/** A name that no bundler follows: the package is optional. */
const PACKAGE: string = 'kafkajs'

/** `logLevel.WARN` of the library. */
const WARN = 2

export function isClient(value: object): value is KafkaClient {
  return 'consumer' in value && typeof value.consumer === 'function'
}

/**
 * A client with the settings that were given. Throws PUSH_ERR_OPTIONS when they will never work. The library logs every attempt
 * as an error: ours are in `problem`, and its own lines for whoever looks for more.
 */
export async function newClient(settings: object, clientId: string, log: FastifyBaseLogger): Promise<KafkaClient> {
  const Kafka = await load()
  const logCreator = () => (entry: LogEntry) =>
    log.debug({ kafkajs: entry.log.message, error: entry.log.error }, 'kafkajs')
  try {
    return new Kafka({ clientId, logLevel: WARN, logCreator, ...settings })
  } catch (error) {
    throw new errors.OPTIONS(`option kafkaIngress.kafka cannot be used: ${(error as Error).message}`)
  }
}

async function load(): Promise<KafkaClass> {
  try {
    // A CommonJS module: what it exports by name depends on how it is loaded, and its default never does.
    const { default: library } = (await import(PACKAGE)) as { default: { Kafka: KafkaClass } }
    return library.Kafka
  } catch (cause) {
    throw new errors.OPTIONS('kafkaIngress needs kafkajs: npm install kafkajs', { cause })
  }
}
