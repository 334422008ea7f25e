import { type Static, Type } from 'typebox'
import { nameOption, parseRoad, ROAD_OPTIONS } from '../../options/road.ts'
import { fail } from '../../options/values.ts'

/** RabbitMQ keeps names in one byte of length. */
const Name = (description: string, default_?: string) =>
  Type.String({ minLength: 1, maxLength: 255, description, ...(default_ !== undefined && { default: default_ }) })

export const RabbitmqSchema = Type.Object(
  {
    rabbitmq: Type.Union([Type.String({ minLength: 1 }), Type.Unsafe<object>(Type.Object({}))], {
      description: 'a URL amqp:// or amqps://, options of rabbitmq-client, or a Connection of it',
    }),
    ...ROAD_OPTIONS,
    queue: Name('the queue that all nodes take from', 'push-ingress'),
    exchange: Type.Optional(Name('an exchange that is bound to the queue')),
    exchangeType: Type.Union([Type.Literal('topic'), Type.Literal('direct'), Type.Literal('fanout')], {
      default: 'topic',
      description: 'of the exchange: topic, direct or fanout',
    }),
    patterns: Type.Array(Type.String({ maxLength: 255 }), {
      minItems: 1,
      default: ['#'],
      description: 'the routing keys, or patterns of them, that the exchange passes on to the queue',
    }),
    declare: Type.Boolean({
      default: true,
      description: 'create what is missing, durable; false: everything is there, and this user may not configure it',
    }),
    arguments: Type.Record(Type.String(), Type.Union([Type.String(), Type.Number(), Type.Boolean()]), {
      default: {},
      description: 'of the queue when it is declared, such as { "x-queue-type": "quorum" }',
    }),
    prefetch: Type.Integer({
      minimum: 1,
      maximum: 65_535,
      default: 64,
      description: 'messages that this node holds without an acknowledgement',
    }),
    concurrency: Type.Integer({
      minimum: 1,
      maximum: 65_535,
      default: 1,
      description: 'messages that are published at the same time; 1 keeps their order',
    }),
    deadLetters: Type.Optional(Name('a queue for dead letters; without it they are rejected')),
    name: nameOption('rabbitmq'),
  },
  { additionalProperties: false },
)

type Parsed = Static<typeof RabbitmqSchema>

/** What has a default may be left out. */
export type RabbitmqIngressOptions = Pick<Parsed, 'rabbitmq' | 'topics'> & {
  [K in Exclude<keyof Parsed, 'rabbitmq' | 'topics'>]?: Parsed[K] | undefined
}

export type RabbitmqOptions = Parsed

export function parseRabbitmq(given: unknown): RabbitmqOptions {
  const options = parseRoad(RabbitmqSchema, given, 'rabbitmqIngress')
  const { concurrency, prefetch, queue, deadLetters, declare, exchange } = options
  if (concurrency > prefetch) {
    fail('rabbitmqIngress.concurrency', `is ${concurrency}, and prefetch lets only ${prefetch} messages in`)
  }
  if (deadLetters === queue) fail('rabbitmqIngress.deadLetters', 'is the queue itself: dead letters would come again')
  if (!declare && (exchange !== undefined || Object.keys(options.arguments).length > 0)) {
    fail('rabbitmqIngress.declare', 'is false, so exchange and arguments do nothing: leave them out')
  }
  return options
}
