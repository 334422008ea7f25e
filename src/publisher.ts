import { checkSource, pubSubOf, type RedisSource, targetOf } from './broker/redis/client.ts'
import { Names } from './broker/redis/names.ts'
import { PublishCommands } from './broker/redis/publish-commands.ts'
import { mastersFor } from './broker/redis/publisher-links.ts'
import { fail } from './options/values.ts'
import { errors } from './protocol/errors.ts'
import { PREFIX_PATTERN } from './protocol/topic.ts'
import { unknownKey } from './protocol/unknown-keys.ts'
import { HistoryRules, rulesProblem } from './publish/history-rules.ts'
import { type Publish, Publisher } from './publish/publish.ts'
import { type PublicationSchemas, SchemaTable } from './publish/schemas.ts'

export interface CreatePublisherOptions {
  /** URL, ioredis options or a client, which is duplicated and never used itself. */
  redis: RedisSource
  /** Prefix of every Redis name, the same as on the nodes. Default `push:`. */
  redisPrefix?: string
  /** Milliseconds until a publish answers or fails. Default 2000. */
  publishTimeout?: number
  /** Bytes of one publication. Default 262144, as on the nodes. */
  maxBytes?: number
  /**
   * Which topics are recorded; use the same rules as on the nodes. Default: none, unless a call of `publish` says so.
   */
  history?: Readonly<Record<string, { size: number; ttl: number }>>
  /** Payloads are checked here before anything is sent. The nodes check their own schemas in any case. */
  schemas?: PublicationSchemas
}

export interface ScriptPublisher {
  /** The same as `app.push.publish`: same arguments, same result, same errors. */
  publish: Publish
  /** Closes the connection, so that the script can end. */
  close(): Promise<void>
}

const KEYS = ['redis', 'redisPrefix', 'publishTimeout', 'maxBytes', 'history', 'schemas'] as const

/** Publishes from any script, without Fastify and without a node: `createPublisher({ redis: 'redis://127.0.0.1' })`. */
export function createPublisher(options: CreatePublisherOptions): ScriptPublisher {
  const unknown = unknownKey(options, KEYS)
  if (unknown) throw new errors.OPTIONS(unknown)
  const {
    redis,
    redisPrefix = 'push:',
    publishTimeout = 2000,
    maxBytes = 256 * 1024,
    history = {},
    schemas = {},
  } = options
  if (!redis) fail('redis', 'is missing or empty: REDIS_URL not set?')
  if (!new RegExp(PREFIX_PATTERN).test(redisPrefix)) {
    fail('redisPrefix', 'is not 1 to 64 characters without white space, braces and wildcards')
  }
  refuseLess('publishTimeout', publishTimeout, 10)
  refuseLess('maxBytes', maxBytes, 1)
  const problem = rulesProblem(history)
  if (problem) fail('history', problem)
  const target = targetOf(checkSource(redis))
  const masters = mastersFor(target, redisPrefix)
  const pubSub = pubSubOf(target)
  const publishing = new PublishCommands(masters, new Names(redisPrefix), { publishTimeout, maxBytes, pubSub })
  const { publish } = new Publisher(publishing, new SchemaTable(schemas), new HistoryRules(history), maxBytes)
  return {
    publish,
    async close() {
      masters.close()
    },
  }
}

function refuseLess(name: string, value: number, least: number): void {
  if (!Number.isInteger(value) || value < least) fail(name, `is not a whole number of at least ${least}`)
}
