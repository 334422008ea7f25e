import { errors } from '../../protocol/errors.ts'

/**
 * What is used of rabbitmq-client. Not its own types: applications without this road need not install it to compile, and those
 * without `skipLibCheck` need not compile it.
 */
export interface RabbitClient {
  /** Whether the connection is there. */
  readonly ready: boolean
  createConsumer(settings: ConsumerSettings, handler: (message: RabbitMessage) => Promise<number>): RabbitConsumer
  createPublisher(settings: PublisherSettings): RabbitPublisher
  queueDeclare(settings: QueueSettings): Promise<{ messageCount: number }>
  on(event: 'connection' | 'error', listener: (error?: unknown) => void): unknown
  off(event: 'connection' | 'error', listener: (error?: unknown) => void): unknown
  close(): Promise<void>
  unsafeDestroy(): void
}

export interface RabbitMessage {
  /** Bytes, unless the content type says text or JSON: then the library has decoded it. */
  body: unknown
  exchange: string
  routingKey: string
  messageId?: string | undefined
  contentType?: string | undefined
  contentEncoding?: string | undefined
  headers?: Record<string, unknown> | undefined
}

export interface RabbitConsumer {
  on(event: 'ready' | 'error', listener: (error?: unknown) => void): unknown
  close(): Promise<void>
}

export interface RabbitPublisher {
  send(envelope: Record<string, unknown>, body: Buffer): Promise<void>
  on(
    event: 'basic.return',
    listener: (message: { messageId?: string | undefined; correlationId?: string | undefined }) => void,
  ): unknown
  close(): Promise<void>
}

export interface QueueSettings {
  queue: string
  durable?: boolean
  passive?: boolean
  arguments?: Record<string, unknown>
}

interface ConsumerSettings {
  queue: string
  queueOptions: Omit<QueueSettings, 'queue'>
  exchanges?: { exchange: string; type: string; durable: boolean }[]
  queueBindings?: { queue: string; exchange: string; routingKey: string }[]
  qos: { prefetchCount: number }
  concurrency: number
}

interface PublisherSettings {
  confirm: boolean
  queues: QueueSettings[]
}

/** What a handler returns. The numbers of `ConsumerStatus` in the library. */
export const ACK = 0
export const REQUEUE = 1
export const DROP = 2

type RabbitClass = new (settings: object) => RabbitClient

/** A name that no bundler follows: the package is optional. */
const PACKAGE: string = 'rabbitmq-client'

/** How soon a dead connection is noticed and another one tried; whatever the application gives comes after it. */
const SETTINGS = { heartbeat: 20, retryLow: 250, retryHigh: 5000 }

export function isClient(value: object): value is RabbitClient {
  return 'createConsumer' in value
}

/**
 * Opens connections as `given` says. Throws PUSH_ERR_OPTIONS when that will never work. No error has the URL in it: it may
 * contain a password.
 */
export async function connector(given: string | object, connectionName: string): Promise<() => RabbitClient> {
  const settings = { ...SETTINGS, connectionName, ...(typeof given === 'string' ? { url: given } : given) }
  const Connection = await load()
  return () => {
    try {
      return new Connection(settings)
    } catch (error) {
      throw new errors.OPTIONS(`option rabbitmqIngress.rabbitmq cannot be used: ${(error as Error).message}`)
    }
  }
}

async function load(): Promise<RabbitClass> {
  try {
    const { Connection } = (await import(PACKAGE)) as { Connection: RabbitClass }
    return Connection
  } catch (cause) {
    throw new errors.OPTIONS('rabbitmqIngress needs rabbitmq-client: npm install rabbitmq-client', { cause })
  }
}
