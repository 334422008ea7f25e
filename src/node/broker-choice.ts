import { randomBytes } from 'node:crypto'
import type { FastifyInstance } from 'fastify'
import type { Broker } from '../broker/broker.ts'
import { MemoryBroker } from '../broker/memory/broker.ts'
import { acquireBroker, type RedisNews } from '../broker/redis/pool.ts'
import { problemOf } from '../broker/redis/refusals.ts'
import { within } from '../broker/waiting.ts'
import type { Options } from '../options/options.ts'
import { errors } from '../protocol/errors.ts'

/** New for every process. */
export const nodeId = randomBytes(6).toString('base64url')

/** An application starts without Redis too, and uses it once it is up. Startup waits this long for Redis. */
const BOOT_WAIT = 2000

/** The first in-process broker of each server and prefix: registrations on one server hear each other through it. */
const memoryBrokers = new WeakMap<object, Map<string, MemoryBroker>>()

export interface OpenBroker {
  broker: Broker
  release(): Promise<void>
}

/** The broker that the options ask for. Resolves in bounded time, with or without Redis. */
export async function openBroker(app: FastifyInstance, options: Options): Promise<OpenBroker> {
  if (options.redis === false) return openMemoryBroker(app, options)
  const { redisPrefix: prefix, publishTimeout, noteRejected } = options
  const opened = acquireBroker(
    options.redis === true ? hostRedis(app) : options.redis,
    { node: nodeId, prefix, publishTimeout, noteRejected, maxBytes: options.limits.publication },
    logOf(app, prefix),
  )
  const isLive = opened.broker.whenLive.then(() => true)
  if (await within(BOOT_WAIT, isLive)) {
    if (!opened.broker.canRecord && Object.keys(options.history).length > 0) {
      app.log.warn({ prefix }, 'push: this Redis allows neither functions nor scripts: nothing is recorded')
    }
    app.log.info(`push: Redis channels and keys begin with "${prefix}", for example "${prefix}user:42"`)
  } else {
    app.log.warn({ prefix }, 'push: Redis cannot be reached yet; starting without it and retrying')
  }
  return opened
}

function logOf({ log }: FastifyInstance, prefix: string): RedisNews {
  return {
    change(isUp, error) {
      if (isUp) log.info({ prefix }, 'push: the link to Redis is up')
      else log.warn({ prefix, err: error }, 'push: the link to Redis is lost; clients are told when it is back')
    },
    lagging(isBehind, milliseconds) {
      if (isBehind) log.warn({ prefix, lag: milliseconds }, 'push: this node is behind what is published')
      else log.info({ prefix, lag: milliseconds }, 'push: this node has caught up with what is published')
    },
    refused({ topics, example, error }) {
      log.warn({ prefix, topics, err: error }, `push: Redis refuses ${example}: ${whyRefused(error, prefix + example)}`)
    },
    blind(error) {
      log.warn({ prefix, err: error }, 'push: what backends PUBLISH instead of SPUBLISH will go unnoticed')
    },
    lacks(refusal) {
      log.warn({ prefix, err: refusal.error }, `push: ${problemOf(refusal)}`)
    },
  }
}

function whyRefused({ message }: Error, channel: string): string {
  if (!message.startsWith('NOPERM')) return message
  const [, command] = /'(s?subscribe)' command/.exec(message) ?? []
  return `its user lacks the right ${command ? `+${command}` : `&${channel}`}`
}

function openMemoryBroker(app: FastifyInstance, { redisPrefix, publishTimeout }: Options): OpenBroker {
  app.log.info('push: in-process broker, for one node; give the option redis to join several')
  const brokers = memoryBrokers.get(app.server) ?? new Map<string, MemoryBroker>()
  memoryBrokers.set(app.server, brokers)
  const first = brokers.get(redisPrefix)
  const broker = new MemoryBroker({ node: nodeId, publishTimeout }, first)
  brokers.set(redisPrefix, first ?? broker)
  return { broker, release: () => broker.close() }
}

function hostRedis(app: FastifyInstance): unknown {
  const { redis } = app as { redis?: unknown }
  if (redis === undefined) {
    throw new errors.OPTIONS('option redis is true, but @fastify/redis is not registered: register it first')
  }
  if (typeof (redis as { duplicate?: unknown }).duplicate !== 'function') {
    throw new errors.OPTIONS(
      'option redis is true, but @fastify/redis has namespaces: give the client, redis: app.redis.NAME',
    )
  }
  return redis
}
