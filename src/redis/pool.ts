import { type OnLinkChange, RedisBroker, type RedisBrokerOptions } from './broker.ts'
import { checkSource, createClient, identityOf, type RedisSource } from './client.ts'

interface Shared {
  broker: RedisBroker
  users: number
}

const shared = new Map<string, Shared>()

/**
 * The broker for a Redis and a prefix: one for a whole process, however many registrations use it. `release` closes
 * the connections with the last of them.
 */
export function acquireBroker(
  source: unknown,
  options: RedisBrokerOptions,
  onChange: OnLinkChange,
): { broker: RedisBroker; release(): Promise<void> } {
  const redis: RedisSource = checkSource(source)
  const key = `${options.prefix} ${identityOf(redis)}`
  const entry = shared.get(key) ?? { broker: connect(redis, options, onChange), users: 0 }
  shared.set(key, entry)
  entry.users++
  let isReleased = false
  return {
    broker: entry.broker,
    async release() {
      if (isReleased) return
      isReleased = true
      if (--entry.users > 0) return
      shared.delete(key)
      await entry.broker.close()
    },
  }
}

function connect(redis: RedisSource, options: RedisBrokerOptions, onChange: OnLinkChange): RedisBroker {
  const clients = {
    commands: createClient(redis, `${options.prefix}commands`),
    subscriber: createClient(redis, `${options.prefix}subscriber`),
  }
  return new RedisBroker(clients, options, onChange)
}
