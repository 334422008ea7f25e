import { randomUUID } from 'node:crypto'
import { within } from '../../broker/waiting.ts'
import type { IngressParts, OpenIngress } from '../ingress.ts'
import { QueueLink } from '../queue-link.ts'
import { type DeadLetter, messageOf, Settling, waitingRoom } from '../settling.ts'
import { bodyOf, isDeadLetter } from './body.ts'
import { DeadLetterQueue } from './dead-letters.ts'
import {
  ACK,
  connector,
  DROP,
  isClient,
  type RabbitClient,
  type RabbitConsumer,
  type RabbitMessage,
  REQUEUE,
} from './library.ts'
import type { RabbitmqOptions } from './options.ts'

/** Milliseconds between two looks at how many messages wait. */
const LAG_INTERVAL = 10_000

interface Connecting {
  connect(): RabbitClient
  isOwn: boolean
}

/** Opens the road. Rejects only for what will never work. */
export async function openQueue(parts: IngressParts, options: RabbitmqOptions): Promise<OpenIngress> {
  const { rabbitmq } = options
  if (typeof rabbitmq === 'object' && isClient(rabbitmq)) {
    return new RabbitmqQueue(parts, options, { connect: () => rabbitmq, isOwn: false })
  }
  const connect = await connector(rabbitmq, `push ingress of ${parts.node}`)
  return new RabbitmqQueue(parts, options, { connect, isOwn: true })
}

/**
 * A consumer of one queue. A message is acknowledged when it is published, or is with the dead letters; until then it is
 * RabbitMQ's, which gives it to another node when this one ends.
 */
class RabbitmqQueue implements OpenIngress {
  readonly #parts: IngressParts
  readonly #options: RabbitmqOptions
  readonly #isOwn: boolean
  readonly #client: RabbitClient
  readonly #consumer: RabbitConsumer
  readonly #link: QueueLink
  readonly #settling: Settling
  readonly #deadLetters: DeadLetterQueue | undefined
  readonly #timer: NodeJS.Timeout
  /** Aborted when the messages that are held can no longer be acknowledged: they come again. */
  #held = waitingRoom()
  #lag: number | undefined
  #isClosing = false

  constructor(parts: IngressParts, options: RabbitmqOptions, { connect, isOwn }: Connecting) {
    const { name, queue, deadLetters, declare } = options
    this.#parts = parts
    this.#options = options
    this.#isOwn = isOwn
    this.#link = new QueueLink(name, 'RabbitMQ', parts.log)
    this.#settling = new Settling(parts, options)
    this.#deadLetters =
      deadLetters === undefined
        ? undefined
        : new DeadLetterQueue({ queue: deadLetters, source: queue, declare, connect, isOwn })
    this.#client = connect()
    this.#client.on('error', this.#failed)
    this.#consumer = this.#consume()
    this.#timer = setInterval(() => void this.#look(), LAG_INTERVAL).unref()
  }

  get lag(): number | undefined {
    return this.#lag
  }

  get problem(): string | undefined {
    return this.#link.problem ?? this.#settling.problem
  }

  async close(): Promise<void> {
    this.#isClosing = true
    clearInterval(this.#timer)
    this.#held.abort()
    const letGo = this.#letGo().then(() => true)
    if (!(await within(this.#parts.closeTimeout, letGo)) && !this.#isOwn) {
      const { name } = this.#options
      this.#parts.log.warn({ ingress: name }, 'push: the channel of an ingress is still open: close the connection')
    }
    if (!this.#isOwn) return void this.#client.off('error', this.#failed)
    this.#client.unsafeDestroy()
    this.#deadLetters?.destroy()
  }

  async #letGo(): Promise<void> {
    // Setting up the consumer would wait for the connection, and closing it for the setup.
    if (this.#isOwn && !this.#client.ready) this.#client.unsafeDestroy()
    await this.#consumer.close()
    await this.#deadLetters?.close()
    if (this.#isOwn) await this.#client.close()
  }

  #consume(): RabbitConsumer {
    const { queue, exchange, exchangeType, patterns, declare, prefetch, concurrency, ...options } = this.#options
    const consumer = this.#client.createConsumer(
      {
        queue,
        queueOptions: declare ? { durable: true, arguments: options.arguments } : { passive: true },
        ...(exchange !== undefined && {
          exchanges: [{ exchange, type: exchangeType, durable: true }],
          queueBindings: patterns.map(routingKey => ({ queue, exchange, routingKey })),
        }),
        qos: { prefetchCount: prefetch },
        concurrency,
      },
      message => this.#handle(message),
    )
    consumer.on('error', this.#lost)
    consumer.on('ready', () => {
      this.#link.found()
      void this.#look()
    })
    return consumer
  }

  /** Channels of the application on its connection fail here too, and that is not ours. */
  readonly #failed = (error: unknown): void => {
    if (!this.#client.ready) this.#lost(error)
  }

  /** The connection, or the channel alone: the library opens another one, and RabbitMQ gives what is held again. */
  readonly #lost = (error: unknown): void => {
    if (this.#isClosing) return
    const problem = messageOf(error)
    const hint = problem.includes('inequivalent arg') ? ': write its arguments as they are, or declare: false' : ''
    this.#link.lost(`RabbitMQ gives no messages: ${problem}${hint}`)
    this.#held.abort()
    this.#held = waitingRoom()
  }

  async #handle(message: RabbitMessage): Promise<number> {
    // Whatever an error seemed to say.
    this.#link.found()
    const { signal } = this.#held
    const body = bodyOf(message)
    if (isDeadLetter(body)) return this.#bury(message, '', body, signal)
    // Without an id of its own it is told apart only for as long as it is held here.
    const settled = await this.#settling.settle(body, message.messageId || randomUUID(), signal)
    if (settled === undefined) return REQUEUE
    return settled === 'published' ? ACK : this.#bury(message, body, settled, signal)
  }

  async #bury(message: RabbitMessage, body: Buffer | string, letter: DeadLetter, signal: AbortSignal): Promise<number> {
    const { queue, deadLetters } = this.#options
    const place = this.#deadLetters
      ? {
          to: `the queue ${deadLetters}`,
          put: () => this.#deadLetters!.put(message, Buffer.from(body), letter),
        }
      : { to: `the dead letter exchange of the queue ${queue}; without one it is gone`, put: async () => {} }
    if (!(await this.#settling.bury(letter, place, signal))) return REQUEUE
    return this.#deadLetters ? ACK : DROP
  }

  async #look(): Promise<void> {
    // On a connection that is away this would wait, and the next one too.
    const isThere = !this.#isClosing && this.#client.ready
    const { queue } = this.#options
    this.#lag = isThere
      ? await this.#client.queueDeclare({ queue, passive: true }).then(
          ({ messageCount }) => messageCount,
          () => undefined,
        )
      : undefined
  }
}
