import { randomUUID } from 'node:crypto'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { DeadLetter } from '../settling.ts'
import type { RabbitClient, RabbitMessage, RabbitPublisher } from './library.ts'

/** Headers with a long reason would not fit into a frame. */
const MAX_REASON = 500

/** In place of headers that a frame has no room for, or that the library cannot write. */
const LEFT_OUT = { 'x-push-headers': 'left out' }

interface DeadLetterParts {
  queue: string
  /** The queue from which the letters come. */
  source: string
  /** Whether the queue may be created. */
  declare: boolean
  /**
   * The connection. For our own it is one beside that of the consumer: RabbitMQ blocks connections that publish when memory
   * is short, and then no acknowledgement would get through either.
   */
  connect(): RabbitClient
  isOwn: boolean
}

/** A queue of RabbitMQ for what will not be published. A letter is there when RabbitMQ has confirmed it. */
export class DeadLetterQueue {
  readonly #parts: DeadLetterParts
  #client: RabbitClient | undefined
  #publisher: RabbitPublisher | undefined
  /** Letters that came back, since the queue is gone: those alone that are being sent. */
  readonly #returned = new Set<string>()

  constructor(parts: DeadLetterParts) {
    this.#parts = parts
  }

  /** Rejects unless the queue has the letter. */
  async put(message: RabbitMessage, body: Buffer, { code, reason }: DeadLetter): Promise<void> {
    const { queue, source } = this.#parts
    this.#publisher ??= this.#open()
    const { messageId, contentType, contentEncoding, headers, exchange, routingKey } = message
    const correlationId = randomUUID()
    const why = {
      'x-push-code': code,
      'x-push-reason': reason.slice(0, MAX_REASON),
      'x-push-queue': source,
      'x-push-exchange': exchange,
      'x-push-routing-key': routingKey,
    }
    const publisher = this.#publisher
    const properties = { messageId, contentType, contentEncoding, routingKey: queue, correlationId }
    const send = (all: Record<string, unknown>) =>
      publisher.send({ ...properties, headers: all, durable: true, mandatory: true }, body)
    try {
      await send({ ...headers, ...why })
    } catch (error) {
      // Nothing of it was sent, and it would fail for ever: the letter matters more than its headers.
      if ((error as { code?: unknown }).code !== 'CODEC') throw error
      await send({ ...why, ...LEFT_OUT })
    }
    // The library tells that a message came back in a turn of its own, after it was confirmed.
    await nextTurn()
    if (this.#returned.delete(correlationId)) throw new Error('the queue does not exist')
  }

  #open(): RabbitPublisher {
    const { queue, declare, connect, isOwn } = this.#parts
    this.#client = connect()
    // What fails is told by `send`. Without a listener the event would end the process.
    if (isOwn) this.#client.on('error', () => {})
    const settings = declare ? { queue, durable: true } : { queue, passive: true }
    const publisher = this.#client.createPublisher({ confirm: true, queues: [settings] })
    publisher.on('basic.return', ({ correlationId }) => void (correlationId && this.#returned.add(correlationId)))
    return publisher
  }

  async close(): Promise<void> {
    await this.#publisher?.close()
    if (this.#parts.isOwn) await this.#client?.close()
  }

  /** For what `close` does not end in time. */
  destroy(): void {
    if (this.#parts.isOwn) this.#client?.unsafeDestroy()
  }
}
