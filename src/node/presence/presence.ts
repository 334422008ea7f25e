import type { Broker } from '../../broker/broker.ts'
import type { PresenceReply } from '../../broker/presence.ts'
import type { PresenceRules } from '../../options/presence.ts'
import { errors } from '../../protocol/errors.ts'
import type { PresenceMessage } from '../../protocol/presence.ts'
import type { PresenceDelta } from '../../protocol/presence-delta.ts'
import { type Topic, topicProblem } from '../../protocol/topic.ts'
import { type Members, type MembersQuery, type OnlineUser, readMembers, readUser } from './reader.ts'
import { type Present, Share } from './share.ts'
import { ShareWriter } from './share-writer.ts'
import { type Watcher, Watches } from './watches.ts'

export type { PresenceMessage, Watcher }

/** Registrations of one process that share a broker, each of which counts its own connections. */
let registrations = 0

/** Who is on which topic: tells the broker who is here, and clients who is where. */
export class Presence<C extends Present & Watcher> {
  readonly #rules: PresenceRules
  readonly #broker: Pick<Broker, 'presence' | 'node'>
  readonly #shares = new Map<Topic, Share>()
  readonly #writer: ShareWriter
  readonly #watches: Watches<C>

  constructor(
    broker: Pick<Broker, 'presence' | 'node'>,
    rules: PresenceRules,
    failed: (fields: object, more: number) => void,
  ) {
    this.#rules = rules
    this.#broker = broker
    this.#watches = new Watches(broker.presence, rules)
    const owner = `${broker.node}.${++registrations}`
    const seen = (topic: Topic, reply: PresenceReply) => this.#watches.seen(topic, reply)
    const ended = ({ topic }: Share) => this.#shares.delete(topic)
    this.#writer = new ShareWriter(broker.presence, { owner, lease: rules.lease }, { seen, ended, failed })
  }

  /** Topics on which somebody of this node is, how many those are, and how many topics its clients follow. */
  get counts(): { topics: number; members: number; followed: number } {
    let members = 0
    for (const share of this.#shares.values()) members += share.size
    return { topics: this.#shares.size, members, followed: this.#watches.size }
  }

  /** `connection` has these topics from now on. */
  enter(connection: C, topics: readonly Topic[]): void {
    const now = Date.now()
    for (const topic of topics) {
      const share = this.#shareOf(topic)
      if (!share) continue
      share.enter(connection, now)
      this.#writer.changed(share)
    }
  }

  #shareOf(topic: Topic): Share | undefined {
    const known = this.#shares.get(topic)
    if (known) return known
    const rule = this.#rules.of(topic)
    if (!rule) return undefined
    const share = new Share(topic, rule)
    this.#shares.set(topic, share)
    return share
  }

  leave(connection: C, topics: readonly Topic[]): void {
    for (const topic of topics) {
      const share = this.#shares.get(topic)
      if (!share) continue
      this.#watches.end(topic, connection)
      share.leave(connection, performance.now())
      this.#writer.changed(share)
    }
  }

  /** The info of `connection` was changed. */
  inform(connection: C, topics: readonly Topic[]): void {
    for (const topic of topics) {
      const share = this.#shares.get(topic)
      if (!share) continue
      share.inform(connection)
      this.#writer.changed(share)
    }
  }

  take(topic: Topic, delta: PresenceDelta): void {
    const share = this.#shares.get(topic)
    share?.hear(delta)
    this.#watches.take(topic, delta)
  }

  /** Resolves when the list of `topic` is known. Rejects with PUSH_ERR_UNSUPPORTED if the topic has no presence. */
  ready(topic: Topic): Promise<void> {
    return this.#watches.ready(topic)
  }

  watch(topic: Topic, connection: C): PresenceMessage[] | undefined {
    return this.#watches.begin(topic, connection)
  }

  isWatching(topic: Topic, connection: C): boolean {
    return this.#watches.has(topic, connection)
  }

  unwatch(topic: Topic, connection: C): void {
    this.#watches.end(topic, connection)
  }

  /** A page of who is on `topic`. */
  async members(topic: string, query?: MembersQuery): Promise<Members> {
    if (!topicProblem(topic) && !this.#rules.of(topic as Topic)) {
      throw new errors.TOPIC(`${topic} has no presence: see the option presence`)
    }
    return readMembers(this.#broker.presence, topic, query)
  }

  /** Whether `user` is online, and on which connections. */
  async user(user: string): Promise<OnlineUser> {
    if (!this.#rules.of('all')) throw new errors.UNSUPPORTED('nobody knows who is online: see presence.users')
    return readUser(this.#broker.presence, user)
  }

  /** Hands over to the other nodes. */
  async close(): Promise<void> {
    this.#watches.close()
    await this.#writer.close()
  }
}
