import { errors } from '../../protocol/errors.ts'
import { type LinkNews, RedisBroker, type RedisBrokerOptions, type ShardMaker } from './broker.ts'
import {
  checkSource,
  createClient,
  identityOf,
  pubSubOf,
  type RedisSource,
  type SingleSource,
  targetOf,
} from './client.ts'
import { ClusterMasters, OneMaster } from './masters.ts'
import { mastersFor } from './publisher-links.ts'
import type { Refusal } from './refusals.ts'
import { createRegistration, type RedisRegistration, type RedisRegistrationOptions } from './registration.ts'

export interface RedisNews extends LinkNews {
  /** The user of this node lacks a right. */
  lacks(refusal: Refusal): void
}

interface Shared {
  broker: RedisBroker
  maxBytes: number
  users: Set<{ news: RedisNews }>
}

const shared = new Map<string, Shared>()

/**
 * The broker for a Redis and a prefix. All registrations of a process share one pair of links; the last `release`
 * closes it.
 */
export function acquireBroker(
  source: unknown,
  options: Omit<RedisBrokerOptions, 'pubSub'> & RedisRegistrationOptions,
  news: RedisNews,
): { broker: RedisRegistration; release(): Promise<void> } {
  const redis: RedisSource = checkSource(source)
  const key = `${options.prefix} ${identityOf(redis)}`
  const entry = shared.get(key) ?? open(redis, options)
  refuseDisagreement(entry.maxBytes, options.maxBytes)
  shared.set(key, entry)
  const user = { news }
  entry.users.add(user)
  return {
    broker: createRegistration(entry.broker, options, () => mastersFor(targetOf(redis), options.prefix, 'ingress')),
    async release() {
      if (!entry.users.delete(user) || entry.users.size > 0) return
      shared.delete(key)
      await entry.broker.close()
    },
  }
}

/** The limit is stored in Redis for everybody who records: one registration would reject what the other publishes. */
function refuseDisagreement(first: number, second: number): void {
  if (first === second) return
  throw new errors.OPTIONS(
    `option limits.publication is ${second} here and ${first} in another registration with the same Redis and ` +
      'redisPrefix: it must be the same for the whole prefix, so use one value or another redisPrefix',
  )
}

function open(redis: RedisSource, given: Omit<RedisBrokerOptions, 'pubSub'>): Shared {
  const target = targetOf(redis)
  const options = { ...given, pubSub: pubSubOf(target) }
  const users: Shared['users'] = new Set()
  const tell = (about: (news: RedisNews) => void) => {
    for (const { news } of users) about(news)
  }
  const news: LinkNews = {
    change: (isUp, error) => tell(to => to.change(isUp, error)),
    lagging: (isBehind, milliseconds) => tell(to => to.lagging(isBehind, milliseconds)),
    refused: refusal => tell(to => to.refused(refusal)),
    blind: error => tell(to => to.blind(error)),
  }
  const clientsTo = (source: SingleSource) => ({
    commands: createClient(source, `${options.prefix}commands`),
    subscriber: createClient(source, `${options.prefix}subscriber`),
  })
  const open = ({ shard, moved, failed }: ShardMaker) => {
    const to = (source: SingleSource, isCluster: boolean) => {
      const made = shard(clientsTo(source), isCluster)
      made.commands.refusals.told = refusal => tell(to => to.lacks(refusal))
      return made
    }
    if (!target.isCluster) return new OneMaster(to(target.one, false))
    return new ClusterMasters(
      { seeds: target.seeds, connect: address => createClient(target.at(address), `${options.prefix}cluster`) },
      { create: address => to(target.at(address), true), changed: moved, failed },
    )
  }
  return { broker: new RedisBroker(open, options, news), maxBytes: options.maxBytes, users }
}
