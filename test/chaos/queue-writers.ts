import { setTimeout as sleep } from 'node:timers/promises'
import type { Cluster, Redis } from 'ioredis'
import { Kafka, Partitioners } from 'kafkajs'
import { Connection } from 'rabbitmq-client'
import { within } from '../helpers/waiting.ts'
import {
  argumentsOf,
  type IngressConfig,
  type KafkaConfig,
  PARTITIONS,
  type RabbitmqConfig,
  type StreamsConfig,
} from './ingress.ts'
import type { QueueWriter, Request, Taken } from './ingress-lane.ts'
import { kafkaSettings } from './kafka-link.ts'
import { TOPICS } from './topics.ts'

/** How long a queue may take to confirm, in milliseconds. */
const CONFIRM = 4000
const RETRY = 200
/** So long RabbitMQ is told again what it did not confirm: it may be on its way up. */
const GIVE_UP = 40_000

/** A writer for each queue that the run has. */
export async function writersOf(config: IngressConfig, redis: () => Redis | Cluster): Promise<QueueWriter[]> {
  const writers: QueueWriter[] = []
  if (config.streams) writers.push(streamsWriter(config.streams, redis()))
  if (config.rabbitmq) writers.push(rabbitmqWriter(config.rabbitmq))
  if (config.kafka) writers.push(await kafkaWriter(config.kafka))
  return writers
}

/** To write a request again would be another one, since the stream gives the id. So each is written once. */
function streamsWriter({ isOrdered }: StreamsConfig, redis: Redis | Cluster): QueueWriter {
  return {
    kind: 'streams',
    async write({ body }: Request): Promise<Taken> {
      const added = redis.xadd('push:ingress', '*', 'body', JSON.stringify(body))
      const key = `ingress/${await within(added, 'an entry', CONFIRM)}`
      return { key, ...(isOrdered && { sequence: 'push:ingress' }) }
    },
    close: () => redis.disconnect(),
  }
}

/** Tells RabbitMQ again what it did not confirm, with the same id, as a backend does. */
function rabbitmqWriter(config: RabbitmqConfig): QueueWriter {
  const { url, queue, isOrdered } = config
  const connection = new Connection({ url, retryLow: 100, retryHigh: 1000, acquireTimeout: CONFIRM })
  connection.on('error', () => {})
  const settings = { queue, durable: true, arguments: argumentsOf(config) }
  const publisher = connection.createPublisher({ confirm: true, queues: [settings] })
  return {
    kind: 'rabbitmq',
    async write({ k, body }: Request): Promise<Taken> {
      const deadline = Date.now() + GIVE_UP
      for (;;) {
        try {
          const sent = publisher.send({ routingKey: queue, durable: true, messageId: k }, body)
          await within(sent, 'a confirm', CONFIRM)
          return { key: k, ...(isOrdered && { sequence: queue }) }
        } catch (error) {
          if (Date.now() > deadline) throw error
          await sleep(RETRY)
        }
      }
    },
    close: () => connection.unsafeDestroy(),
  }
}

/** A message that is produced again is another one. So each is produced once, and its key is where and when. */
async function kafkaWriter(config: KafkaConfig): Promise<QueueWriter> {
  const { topic } = config
  const kafka = new Kafka({ ...(kafkaSettings(config) as { brokers: string[] }), logLevel: 0 })
  const settings = { createPartitioner: Partitioners.DefaultPartitioner, retry: { retries: 0 } }
  const producer = kafka.producer(settings)
  await producer.connect()
  return {
    kind: 'kafka',
    async write({ body }: Request): Promise<Taken> {
      // All of a topic in one partition, as a key does it: their order is to hold.
      const partition = TOPICS.indexOf(body.to) % PARTITIONS
      const timestamp = String(Date.now())
      const messages = [{ partition, timestamp, value: JSON.stringify(body) }]
      const sent = producer.send({ topic, acks: -1, messages })
      const [place] = await within(sent, 'an offset', CONFIRM)
      const offset = place?.baseOffset
      if (offset === undefined) throw new Error('Kafka gave no offset')
      return { key: `${topic}:${partition}:${offset}:${timestamp}`, sequence: `${topic}/${partition}` }
    },
    close: () => producer.disconnect(),
  }
}
