import type { DeadLetter } from '../settling.ts'
import type { KafkaClient, KafkaMessage, KafkaProducer } from './library.ts'

const MAX_REASON = 500

/** All in-sync replicas have it. */
const ALL = -1

/** A topic of Kafka for what will not be published, with the key, the value and the headers of the message. */
export class DeadLetterTopic {
  readonly #client: KafkaClient
  readonly #topic: string
  #producer: Promise<KafkaProducer> | undefined

  constructor(client: KafkaClient, topic: string) {
    this.#client = client
    this.#topic = topic
  }

  /** Rejects unless Kafka has the letter. */
  async put(message: KafkaMessage, from: { topic: string; partition: number }, { code, reason }: DeadLetter) {
    this.#producer ??= this.#connect()
    const producer = await this.#producer
    const why = {
      'push-code': code,
      'push-reason': reason.slice(0, MAX_REASON),
      'push-topic': from.topic,
      'push-partition': String(from.partition),
      'push-offset': message.offset,
    }
    const letter = { key: message.key, value: message.value, headers: { ...message.headers, ...why } }
    await producer.send({ topic: this.#topic, acks: ALL, messages: [letter] })
  }

  async #connect(): Promise<KafkaProducer> {
    const producer = this.#client.producer({ allowAutoTopicCreation: false })
    try {
      await producer.connect()
      return producer
    } catch (error) {
      this.#producer = undefined
      throw error
    }
  }

  async close(): Promise<void> {
    const producer = await this.#producer?.catch(() => undefined)
    await producer?.disconnect()
  }
}
