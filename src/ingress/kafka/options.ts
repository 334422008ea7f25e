import { type Static, Type } from 'typebox'
import { nameOption, parseRoad, ROAD_OPTIONS } from '../../options/road.ts'
import { fail } from '../../options/values.ts'
import { isClient } from './library.ts'

/** What Kafka takes as the name of a topic. */
const KafkaTopic = (description: string) => Type.String({ pattern: '^[A-Za-z0-9._-]{1,249}$', description })

export const KafkaSchema = Type.Object(
  {
    // Without properties of its own: a client is taken as it is, not copied.
    kafka: Type.Unsafe<object>({
      type: 'object',
      description: 'options of kafkajs such as { brokers: ["kafka1:9092"] }, or a Kafka of it',
    }),
    ...ROAD_OPTIONS,
    kafkaTopics: Type.Array(KafkaTopic('a topic of Kafka: 1 to 249 of A-Z a-z 0-9 . _ -'), {
      minItems: 1,
      maxItems: 100,
      description: 'the topics of Kafka that are read: up to 100',
    }),
    group: Type.String({
      minLength: 1,
      maxLength: 255,
      default: 'push-ingress',
      description: 'the consumer group of all nodes',
    }),
    fromBeginning: Type.Boolean({
      default: false,
      description: 'where the group has no offset yet, begin with the oldest message, not with the next one',
    }),
    concurrency: Type.Integer({
      minimum: 1,
      maximum: 1000,
      default: 4,
      description: 'partitions of which this node publishes at the same time; within each the order is kept',
    }),
    fetchBytes: Type.Integer({
      minimum: 1024,
      maximum: 2 ** 30,
      default: 1_048_576,
      description: 'bytes of messages taken at once from each broker of Kafka',
    }),
    sessionTimeout: Type.Integer({
      minimum: 1000,
      maximum: 3_600_000,
      default: 15_000,
      description: 'milliseconds after which the partitions of a node that has died go to others',
    }),
    deadLetters: Type.Optional(KafkaTopic('a topic of Kafka for dead letters; without it they are logged and skipped')),
    name: nameOption('kafka'),
  },
  { additionalProperties: false },
)

type Parsed = Static<typeof KafkaSchema>
type Required = 'kafka' | 'topics' | 'kafkaTopics'

/** What has a default may be left out. */
export type KafkaIngressOptions = Pick<Parsed, Required> & {
  [K in Exclude<keyof Parsed, Required>]?: Parsed[K] | undefined
}

export type KafkaOptions = Parsed

export function parseKafka(given: unknown): KafkaOptions {
  const options = parseRoad(KafkaSchema, given, 'kafkaIngress')
  const { brokers } = options.kafka as { brokers?: unknown }
  const hasBrokers = typeof brokers === 'function' || (Array.isArray(brokers) && brokers.length > 0)
  if (!isClient(options.kafka) && !hasBrokers) {
    fail('kafkaIngress.kafka', 'has no brokers: write { brokers: ["kafka1:9092", "kafka2:9092"] }')
  }
  if (options.deadLetters !== undefined && options.kafkaTopics.includes(options.deadLetters)) {
    fail('kafkaIngress.deadLetters', 'is one of kafkaTopics: dead letters would come again')
  }
  return options
}
