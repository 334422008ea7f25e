import { checkSource, createClient, type RedisSource } from './broker/redis/client.ts'
import { CommandLink } from './broker/redis/commands.ts'
import { Functions } from './broker/redis/functions.ts'
import { Names } from './broker/redis/names.ts'
import { PublishCommands } from './broker/redis/publish-commands.ts'
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
  if (!redis) throw new errors.OPTIONS('option redis is missing or empty: REDIS_URL not set?')
  if (!new RegExp(PREFIX_PATTERN).test(redisPrefix)) {
    throw new errors.OPTIONS('option redisPrefix is not 1 to 64 characters without white space, braces and wildcards')
  }
  for (const [name, value, least] of [
    ['publishTimeout', publishTimeout, 10] as const,
    ['maxBytes', maxBytes, 1] as const,
  ]) {
    if (!Number.isInteger(value) || value < least)
      throw new errors.OPTIONS(`option ${name} is not a whole number of at least ${least}`)
  }
  const problem = rulesProblem(history)
  if (problem) throw new errors.OPTIONS(`option history ${problem}`)
  const commands = new CommandLink(createClient(checkSource(redis), `${redisPrefix}publisher`), () => {})
  const publishing = new PublishCommands(commands, new Functions(commands), new Names(redisPrefix), {
    publishTimeout,
    maxBytes,
  })
  const { publish } = new Publisher(publishing, new SchemaTable(schemas), new HistoryRules(history), maxBytes)
  return {
    publish,
    async close() {
      commands.close()
    },
  }
}
