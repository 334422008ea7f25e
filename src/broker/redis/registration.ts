import { errors, isPushError } from '../../protocol/errors.ts'
import type { Broker } from '../broker.ts'
import type { RedisBroker } from './broker.ts'
import type { Command } from './commands.ts'
import { PublishCommands } from './publish-commands.ts'

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

/** The broker of one registration, over Redis pub/sub: `docs/redis.md` is the contract. */
export function createRegistration(shared: RedisBroker, options: RedisRegistrationOptions): RedisRegistration {
  const { publishTimeout, noteRejected } = options
  const { commands, functions, names, subscriber } = shared
  const publishing = new PublishCommands(commands, functions, names, options)

  async function ask(command: Command): Promise<unknown> {
    const [reply] = await commands.run([command], publishTimeout, { patience: publishTimeout })
    if (isPushError(reply)) throw reply
    return reply
  }

  return {
    kind: 'redis',
    node: shared.node,
    whenLive: shared.whenLive,
    get connected() {
      return shared.connected
    },
    get canRecord() {
      return functions.isSupported
    },
    get filling() {
      return subscriber.filling
    },
    get backlog() {
      return subscriber.backlog
    },
    get lag() {
      return subscriber.lag
    },
    get refused() {
      return subscriber.refused
    },
    attach: it => shared.attach(it),
    detach: it => shared.detach(it),
    subscribe: topics => subscriber.subscribe(topics),
    unsubscribe: topic => shared.unsubscribe(topic),
    history: (topic, since, limits) => subscriber.history(topic, since, limits),
    publish: items => publishing.publish(items),
    answer: (incoming, token, answer) => shared.answer(incoming, token, answer),
    note: rejected => shared.note(rejected, noteRejected),
    async nodes() {
      const [, nodes] = (await ask(['PUBSUB', 'NUMSUB', names.nodes])) as unknown[]
      return Number(nodes)
    },
    async putTicket(token, identity, ttlSeconds) {
      await ask(['SET', names.ticket(token), identity, 'EX', ttlSeconds, 'NX'])
    },
    async takeTicket(token) {
      try {
        return (await ask(['GETDEL', names.ticket(token)])) as string | null
      } catch (cause) {
        throw new errors.BROKER_AWAY('the ticket cannot be looked up', { cause })
      }
    },
    close: () => shared.close(),
  }
}
