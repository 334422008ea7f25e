import { type Static, Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { refuseTopics } from '../../options/ingress.ts'
import { fail, isPlainObject, refuse, withDefaults } from '../../options/values.ts'

/** The options of `streamsIngress`, with their defaults. */
export const StreamsIngressSchema = Type.Object(
  {
    topics: Type.Array(Type.String(), {
      description: 'what may be published on: topics or patterns such as "channel:orders.*"; required',
    }),
    name: Type.String({
      pattern: '^[A-Za-z0-9_.:-]{1,64}$',
      default: 'streams',
      description: 'name in metrics, status and log; a second road needs another one',
    }),
    stream: Type.String({
      pattern: '^ingress(:(?!(?:dead|lead)$)[A-Za-z0-9_.-]{1,100})?$',
      default: 'ingress',
      description: 'the stream is redisPrefix and this name: "ingress", or "ingress:" and a name',
    }),
    group: Type.String({
      pattern: '^[A-Za-z0-9_.:-]{1,100}$',
      default: 'bridge',
      description: 'the consumer group that all nodes share',
    }),
    count: Type.Integer({
      minimum: 1,
      maximum: 5000,
      default: 100,
      description: 'messages that a node has taken and not finished, at most',
    }),
    tries: Type.Integer({
      minimum: 1,
      maximum: 1000,
      default: 5,
      description: 'how often a message is tried before it is a dead letter; an outage of Redis does not count',
    }),
    claimAfter: Type.Integer({
      minimum: 200,
      maximum: 24 * 60 * 60 * 1000,
      default: 30_000,
      description: 'how long a node says nothing before others take its messages, in milliseconds',
    }),
    strictOrder: Type.Boolean({
      default: false,
      description: 'one node at a time reads, and publishes one message after the other',
    }),
    deadLetters: Type.Integer({
      minimum: 1,
      maximum: 10_000_000,
      default: 10_000,
      description: 'dead letters that are kept, about',
    }),
    trim: Type.Boolean({
      default: true,
      description: 'remove from the stream what all its groups have handled',
    }),
  },
  { additionalProperties: false },
)

export type StreamsIngressOptions = Static<typeof StreamsIngressSchema>

/** `topics` is required; everything else has a default. */
export type StreamsIngressInput = Pick<StreamsIngressOptions, 'topics'> & {
  [K in keyof StreamsIngressOptions]?: StreamsIngressOptions[K] | undefined
}

const check = Compile(StreamsIngressSchema)

/** Throws PUSH_ERR_OPTIONS, which names the wrong option and says what to write instead. */
export function parseStreamsIngress(input: unknown): StreamsIngressOptions {
  if (!isPlainObject(input)) fail('streamsIngress', 'must be an object such as { topics: ["channel:orders.*"] }')
  refuseTopics('streamsIngress.topics', input.topics)
  const options = withDefaults(StreamsIngressSchema, input)
  if (!check.Check(options)) refuse(StreamsIngressSchema, check.Errors(options), options, 'streamsIngress.')
  return options as StreamsIngressOptions
}
