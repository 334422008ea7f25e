import type { Broker } from '../broker.ts'
import type { RedisBroker } from './broker.ts'
import { EventAppender } from './event-streams.ts'
import { RedisInquiry } from './inquiry.ts'
import type { Masters } from './masters.ts'
import { PlainCommands } from './plain-commands.ts'
import { RedisPresence } from './presence.ts'
import { PublishCommands } from './publish-commands.ts'
import { RedisRevocations } from './revocations.ts'
import { RedisStreamQueue } from './stream-queue.ts'
import type { RedisSubscriber } from './subscriber.ts'

/** Options that each registration has for itself, although the links are shared. */
export interface RedisRegistrationOptions {
  publishTimeout: number
  /** Size limit of a recorded envelope, in bytes. */
  maxBytes: number
  /** Whether `push:rejected` contains the beginning of rejected envelopes. */
  noteRejected: boolean
}

export interface RedisRegistration extends Broker {
  /** Resolves when both links are up for the first time. */
  readonly whenLive: Promise<void>
}

/** Registrations of a process share the name of the node, and none may have the messages of another. */
let consumers = 0

/** The broker of one registration, over Redis pub/sub: `docs/redis.md` is the contract. */
export function createRegistration(
  shared: RedisBroker,
  options: RedisRegistrationOptions,
  openLinks: () => Masters,
): RedisRegistration {
  const { publishTimeout, noteRejected } = options
  const { masters, names, pubSub } = shared
  const publishing = new PublishCommands(masters, names, { ...options, pubSub })
  const isSharded = pubSub.publish === 'SPUBLISH'
  const presence = new RedisPresence(masters, names, { timeout: publishTimeout, isSharded })
  const plain = new PlainCommands(masters, names, publishTimeout)
  const revocations = new RedisRevocations(masters, names, publishTimeout)
  const appender = new EventAppender(masters)
  const sum = (of: (subscriber: RedisSubscriber) => number) => masters.all.reduce((n, it) => n + of(it.subscriber), 0)

  return {
    kind: 'redis',
    presence,
    inquiry: new RedisInquiry(masters, names, shared.asking),
    node: shared.node,
    whenLive: shared.whenLive,
    get connected() {
      return shared.connected
    },
    get problem() {
      if (!shared.connected) return shared.problem
      const problems = new Set(masters.all.flatMap(({ commands }) => commands.refusals.problems()))
      return problems.size > 0 ? [...problems].join('; ') : undefined
    },
    get downSince() {
      return shared.downSince
    },
    get canRecord() {
      return masters.all.every(({ functions }) => functions.isSupported)
    },
    get filling() {
      return sum(({ filling }) => filling)
    },
    get backlog() {
      return sum(({ backlog }) => backlog)
    },
    get lag() {
      return Math.max(0, ...masters.all.map(({ subscriber }) => subscriber.lag))
    },
    get lags() {
      const { byAddress } = masters
      return (
        byAddress && Object.fromEntries([...byAddress].map(([address, { subscriber }]) => [address, subscriber.lag]))
      )
    },
    get links() {
      return { total: masters.all.length, up: masters.all.filter(({ isLive }) => isLive).length }
    },
    get refused() {
      return sum(({ refused }) => refused)
    },
    attach: it => shared.attach(it),
    detach: it => shared.detach(it),
    subscribe: (topics, confirmed) => shared.subscribe(topics, confirmed),
    shardOf: topic => shared.shardOf(topic),
    troubleWith: topic => shared.troubleWith(topic),
    unsubscribe: topic => shared.unsubscribe(topic),
    history: (topic, since, limits) => shared.history(topic, since, limits),
    publish: items => publishing.publish(items),
    answer: (incoming, token, answer) => shared.answer(incoming, token, answer),
    note: rejected => shared.note(rejected, noteRejected),
    appendEvents: (stream, events, limits) => appender.append(names.events(stream), events, limits),
    openStreamQueue: queue =>
      new RedisStreamQueue(
        { masters, reading: openLinks(), key: names.ingress(queue.stream), consumer: `${shared.node}.${++consumers}` },
        queue,
      ),
    nodes: () => plain.nodes(),
    putTicket: (token, identity, ttlSeconds, bound) => plain.putTicket(token, identity, ttlSeconds, bound),
    takeTicket: token => plain.takeTicket(token),
    putRevocation: (user, time, ttlSeconds) => revocations.put(user, time, ttlSeconds),
    revokedAt: users => revocations.of(users),
    close: () => shared.close(),
  }
}
