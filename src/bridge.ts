import { randomBytes } from 'node:crypto'
import type { Connection } from './connection/connection.ts'
import { isExpired, type PushConnection } from './connection/identity.ts'
import { checkAuthentication } from './node/authentication.ts'
import type { Hub } from './node/hub.ts'
import type { Authentication } from './options/options.ts'
import { errors } from './protocol/errors.ts'
import { CLOSE, closeProblem } from './protocol/messages.ts'
import { type Topic, topicProblem } from './protocol/topic.ts'
import { type HistoryQuery, type HistoryReader, parseHistory, type TopicHistory } from './publish/history-page.ts'
import type { Publish, Publisher, PublishResult } from './publish/publish.ts'

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
  metrics: Record<string, number>
}

const TICKET_TTL = 30
const MAX_TICKET_TTL = 24 * 60 * 60

/** The decorator `app.push`. */
export class PushBridge {
  /**
   * Publishes to every subscribed connection on every node. `publish('user:42', { type, payload })` resolves with
   * `{ topic, nodes, … }` or rejects with a PUSH_ERR_ code within `publishTimeout`.
   */
  readonly publish: Publish
  readonly connections: Connections
  readonly #hub: Hub
  readonly #publisher: Publisher
  readonly #histories: HistoryReader

  constructor(hub: Hub, publisher: Publisher, histories: HistoryReader) {
    this.#hub = hub
    this.#publisher = publisher
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
    return this.#publisher.command(target, { kind: 'subscribe', topic: channelTopic(topic) })
  }

  /** Unsubscribes the current connections of `user:ID` or `connection:ID` on any node. */
  unsubscribe(target: string, topic: string): Promise<PublishResult> {
    return this.#publisher.command(target, { kind: 'unsubscribe', topic: channelTopic(topic) })
  }

  /** Closes the connections of `user:ID` or `connection:ID` on any node; `delivered` is how many were closed. */
  async close(target: string, code: number = CLOSE.NORMAL, reason = ''): Promise<PublishResult> {
    const problem = closeProblem(code, reason)
    if (problem) throw new errors.FIELD(problem)
    return this.#publisher.command(target, { kind: 'close', code, reason })
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
  async ticket(identity: Authentication, ttl: number = TICKET_TTL): Promise<string> {
    if (!Number.isInteger(ttl) || ttl < 1 || ttl > MAX_TICKET_TTL) {
      throw new errors.FIELD(`the ttl of a ticket must be a whole number of seconds from 1 to ${MAX_TICKET_TTL}`)
    }
    const token = randomBytes(24).toString('hex')
    await this.#hub.broker.putTicket(token, encodeTicket(identity), ttl)
    return token
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
    }
  }
}

/** Keeps only what `authenticate()` may return, whatever else the object has. */
function encodeTicket({ user, join, allow, data, expires }: Authentication): string {
  try {
    const { identity } = checkAuthentication({ user, join, allow, data, expires }, 'ticket()')
    if (isExpired(identity, Date.now())) throw new TypeError('ticket() gave an expires in the past')
    return JSON.stringify({ user, join, allow, data, expires: expires instanceof Date ? expires.getTime() : expires })
  } catch (error) {
    throw new errors.FIELD((error as Error).message)
  }
}

function channelTopic(topic: string): Topic {
  const problem = topicProblem(topic) ?? (topic.startsWith('channel:') ? undefined : `${topic} is not a channel`)
  if (problem) throw new errors.TOPIC(problem)
  return topic as Topic
}
