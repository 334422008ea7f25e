import { errors } from '../errors.ts'
import { type LinkNews, RedisBroker, type RedisBrokerOptions } from './broker.ts'
import { checkSource, createClient, identityOf, type RedisSource } from './client.ts'

interface Shared {
  broker: RedisBroker
  options: RedisBrokerOptions
  users: Set<{ news: LinkNews }>
}

/** What the users of one link have to agree on, by the names that the options have for a host. */
const AGREED = [
  ['publishTimeout', 'publishTimeout'],
  ['noteRejected', 'noteRejected'],
  ['maxBytes', 'limits.publication'],
] as const

const shared = new Map<string, Shared>()

/**
 * The broker for a Redis and a prefix: one for a whole process, however many registrations use it. `release` closes
 * the connections with the last of them.
 */
export function acquireBroker(
  source: unknown,
  options: RedisBrokerOptions,
  news: LinkNews,
): { broker: RedisBroker; release(): Promise<void> } {
  const redis: RedisSource = checkSource(source)
  const key = `${options.prefix} ${identityOf(redis)}`
  const entry = shared.get(key) ?? open(redis, options)
  refuseDisagreement(entry.options, options)
  shared.set(key, entry)
  const user = { news }
  entry.users.add(user)
  return {
    broker: entry.broker,
    async release() {
      if (!entry.users.delete(user) || entry.users.size > 0) return
      shared.delete(key)
      await entry.broker.close()
    },
  }
}

/** The link can do only one of two things, and which of them would depend on who registered first. */
function refuseDisagreement(first: RedisBrokerOptions, second: RedisBrokerOptions): void {
  const found = AGREED.find(([key]) => first[key] !== second[key])
  if (!found) return
  const [key, name] = found
  throw new errors.OPTIONS(
    `option ${name} is ${second[key]} here and ${first[key]} in another registration with the same Redis and ` +
      'redisPrefix: both share one link and must agree, or take another redisPrefix',
  )
}

function open(redis: RedisSource, options: RedisBrokerOptions): Shared {
  const users: Shared['users'] = new Set()
  const broker = connect(redis, options, {
    change(isUp, error) {
      for (const { news } of users) news.change(isUp, error)
    },
    lagging(isBehind, milliseconds) {
      for (const { news } of users) news.lagging(isBehind, milliseconds)
    },
    refused(refusal) {
      for (const { news } of users) news.refused(refusal)
    },
  })
  return { broker, options, users }
}

function connect(redis: RedisSource, options: RedisBrokerOptions, news: LinkNews): RedisBroker {
  const clients = {
    commands: createClient(redis, `${options.prefix}commands`),
    subscriber: createClient(redis, `${options.prefix}subscriber`),
  }
  return new RedisBroker(clients, options, news)
}
