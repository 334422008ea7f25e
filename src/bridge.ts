import type { Connection } from './connection/connection.ts'
import type { PushConnection } from './connection/identity.ts'
import { topicsOf } from './connection/registry.ts'
import type { IngressStatus } from './ingress/roads.ts'
import { checkInfo } from './node/authentication.ts'
import type { Hub } from './node/hub.ts'
import { askNodes, explain, type NodesQuery } from './node/monitoring/inquirer.ts'
import type { Explanation, Nodes } from './node/monitoring/report-schemas.ts'
import type { Presence } from './node/presence/presence.ts'
import type { Members, MembersQuery, OnlineUser } from './node/presence/reader.ts'
import { issueTicket } from './node/tickets.ts'
import type { Authentication } from './options/options.ts'
import { errors } from './protocol/errors.ts'
import type { Topic } from './protocol/topic.ts'
import { Commands } from './publish/commands.ts'
import { type HistoryQuery, type HistoryReader, parseHistory, type TopicHistory } from './publish/history-page.ts'
import type { Publish, Publisher, PublishResult } from './publish/publish.ts'
import { revoke } from './publish/revoke.ts'

/** The connections of this node. */
export interface Connections {
  readonly size: number
  get(id: string): PushConnection | undefined
  values(): IterableIterator<PushConnection>
  /** The connections of this node that are subscribed to `topic`. */
  of(topic: Topic): Iterable<PushConnection>
}

export interface Status {
  node: string
  broker: 'memory' | 'redis'
  /** Whether publications can be sent and received. */
  connected: boolean
  /** Why not, if that is known: what Redis or the network said last. */
  problem: string | undefined
  /** How many nodes are alive, this one included; undefined while the broker cannot be asked. */
  nodes: number | undefined
  draining: boolean
  connections: number
  topics: number
  /** Topics that this node is filling from their history: their messages arrive late. */
  fillingTopics: number
  /** Topics that the broker refuses to this node: their connections get no messages. */
  refusedTopics: number
  /** How late publications reach this node, in milliseconds. */
  lag: number
  stalledConnections: number
  /** Bytes queued for connections whose sockets are full. */
  heldBytes: number
  /** Upgrades that are not finished. */
  pendingUpgrades: number
  /** Addresses that are limited, and have connections or had upgrades lately. */
  addresses: number
  /** The queues from which publications come in: how much waits there, and why nothing comes, if nothing does. */
  ingress: IngressStatus[]
  /** The option `limits` with its defaults. */
  limits: Readonly<Record<string, number>>
  metrics: Record<string, number>
}

/** The part of the status that is about those who come in. */
export type Entrance = Pick<Status, 'pendingUpgrades' | 'addresses' | 'limits'>

/** The decorator `app.push`. */
export class PushBridge {
  /**
   * Publishes to every subscribed connection on every node. `publish('user:42', { type, payload })` resolves with
   * `{ topic, nodes, … }` or rejects with a PUSH_ERR_ code within `publishTimeout`.
   */
  readonly publish: Publish
  readonly connections: Connections
  readonly #hub: Hub
  readonly #commands: Commands
  readonly #histories: HistoryReader
  readonly #publisher: Publisher
  readonly #entrance: () => Entrance & Pick<Status, 'ingress'>

  constructor(
    hub: Hub,
    publisher: Publisher,
    histories: HistoryReader,
    entrance: () => Entrance & Pick<Status, 'ingress'>,
  ) {
    this.#hub = hub
    this.#publisher = publisher
    this.#entrance = entrance
    this.#commands = new Commands(publisher)
    this.#histories = histories
    this.publish = publisher.publish
    const { registry } = hub
    this.connections = {
      get size() {
        return registry.size
      },
      get: id => registry.get(id),
      values: () => registry.values(),
      of: topic => registry.members(topic) as Iterable<Connection>,
    }
  }

  /** Subscribes the current connections of `user:ID` or `connection:ID` on any node, without asking `authorize`. */
  subscribe(target: string, topic: string): Promise<PublishResult> {
    return this.#commands.subscribe(target, topic)
  }

  /** Unsubscribes the current connections of `user:ID` or `connection:ID` on any node. */
  unsubscribe(target: string, topic: string): Promise<PublishResult> {
    return this.#commands.unsubscribe(target, topic)
  }

  /** Closes the connections of `user:ID` or `connection:ID` on any node; `delivered` is how many were closed. */
  close(target: string, code?: number, reason?: string): Promise<PublishResult> {
    return this.#commands.close(target, code, reason)
  }

  /**
   * Closes the connections of `user:ID` on every node with 4401, and keeps out the tickets and identities that the user had
   * until now: also on a node that is cut off, as soon as it is back.
   */
  revoke(target: string): Promise<PublishResult> {
    const { broker, options } = this.#hub
    return revoke(target, { publisher: this.#publisher, broker, ttl: options.revocation.ttl })
  }

  /**
   * A page of what is kept of a recorded topic: the newest messages, or those after `since`. Rights are not checked: the
   * application decides who may see it.
   */
  async history(topic: string, query?: HistoryQuery): Promise<TopicHistory> {
    return parseHistory(await this.#histories.read(topic, query))
  }

  /**
   * Resolves with a single-use secret that stands for `identity`: the page connects with `?ticket=…` within `ttl`
   * seconds, at most a day. Rejects with PUSH_ERR_FIELD when a page with that identity would be refused.
   */
  async ticket(identity: Authentication, ttl?: number): Promise<string> {
    const { broker, metrics, options } = this.#hub
    const { token, ended } = await issueTicket(broker, identity, ttl, options.limits.userTickets)
    if (ended > 0) metrics.count('tickets_ended_total', ended)
    return token
  }

  /** Who is on `topic`, if the option `presence` names it: about `count` users, and the `cursor` of the next page. */
  presence(topic: string, query?: MembersQuery): Promise<Members> {
    return this.#presence.members(topic, query)
  }

  /** Whether a user is online, and on which connections: with `presence: { users: true }`. */
  user(user: string): Promise<OnlineUser> {
    return this.#presence.user(user)
  }

  /** Who is online, in pages. */
  users(query?: MembersQuery): Promise<Members> {
    return this.#presence.members('all', query)
  }

  /** Changes what others see of the user of a connection of this node: JSON of at most 1,024 bytes, or null. */
  setInfo(connection: PushConnection, info: unknown): void {
    const known = this.#hub.registry.get(connection.id)
    if (!known) return
    try {
      known.info = checkInfo(info, 'setInfo()')
    } catch (error) {
      throw new errors.FIELD((error as Error).message)
    }
    this.#hub.presence?.inform(known, topicsOf(known))
  }

  /** How every node is. Who does not answer within a second is missing: then `complete` is false. */
  nodes(query?: NodesQuery): Promise<Nodes> {
    return askNodes(this.#hub.broker.inquiry, query)
  }

  /** Why something did or did not arrive on `topic`: what every node knows of it, and what to conclude. */
  explain(topic: string): Promise<Explanation> {
    const { broker, delivery } = this.#hub
    return explain(broker.inquiry, topic, it => delivery.isRecorded(it))
  }

  get #presence(): Presence<Connection> {
    const { presence } = this.#hub
    if (!presence) throw new errors.UNSUPPORTED('no topic has presence: see the option presence')
    return presence
  }

  async status(): Promise<Status> {
    const { broker } = this.#hub
    const nodes = await broker.nodes().catch(() => undefined)
    return {
      node: broker.node,
      broker: broker.kind,
      connected: broker.connected,
      problem: broker.problem,
      nodes,
      draining: this.#hub.isDraining,
      ...this.#hub.status(),
      ...this.#entrance(),
    }
  }
}
