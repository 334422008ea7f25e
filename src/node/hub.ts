import { setTimeout as sleep } from 'node:timers/promises'
import type { Broker } from '../broker/broker.ts'
import type { Metrics } from '../broker/metrics.ts'
import { within } from '../broker/waiting.ts'
import { createConnection, type Line } from '../connection/coded-connection.ts'
import type { Connection } from '../connection/connection.ts'
import type { Identity } from '../connection/identity.ts'
import { countOf, Registry, topicsOf } from '../connection/registry.ts'
import { WriteQueue } from '../connection/write-queue.ts'
import { Acknowledgements } from '../delivery/acks.ts'
import type { Decoder } from '../delivery/decoder.ts'
import { Delivery, type DeliveryEvents } from '../delivery/delivery.ts'
import { held, Recovery, type Since } from '../delivery/recovery.ts'
import type { Rounds } from '../delivery/rounds.ts'
import type { Options } from '../options/options.ts'
import { errors, limitError, type PushError } from '../protocol/errors.ts'
import { CLOSE, PROTOCOL_VERSION, type Ref } from '../protocol/messages.ts'
import type { Question } from '../protocol/question.ts'
import { ownTopics, type Topic } from '../protocol/topic.ts'
import type { HistoryRules } from '../publish/history-rules.ts'
import { executeControl } from './commands.ts'
import { Confirmation } from './confirmation.ts'
import { closeAll } from './drain.ts'
import type { LifeEvents } from './events/events.ts'
import { Heartbeat } from './heartbeat.ts'
import { takesMessages } from './identities.ts'
import { Lifecycle } from './lifecycle.ts'
import { RefusalNotes } from './monitoring/refusal-notes.ts'
import { Presence } from './presence/presence.ts'
import { Revocations } from './revocations.ts'
import { featuresOf, Welcomes } from './welcome.ts'

/** What the hub reports to the plugin. */
export interface HubEvents extends Pick<DeliveryEvents, 'rejected' | 'failed'> {
  life?: LifeEvents | undefined
  /** The broker refuses what this node tells it of who is here. */
  presenceFailed(fields: object, more: number): void
}

/** Clients have this share of the publisher's time to acknowledge; the rest is for the answer to travel back. */
const ACK_SHARE = 0.75

/** `subscribed` waits for who is there for this many milliseconds; later the list comes in a message of its own. */
const PRESENCE_WAIT = 1000

/** The life of connections on this node: connect, welcome, subscribe, disconnect, drain. Delivery brings what is published. */
export class Hub {
  readonly registry = new Registry<Connection>()
  readonly broker: Broker
  readonly options: Options
  readonly metrics: Metrics
  /** Undefined if no topic has presence. */
  readonly presence: Presence<Connection> | undefined
  readonly revocations: Revocations
  readonly refusals = new RefusalNotes()
  /** Sockets of clients that have not said yet who they are. */
  unidentified = 0
  /** What this node answers when all are asked. */
  respond: ((question: Question) => object) | undefined
  readonly #writeQueue: WriteQueue
  readonly delivery: Delivery
  readonly #recovery: Recovery
  readonly #confirmation: Confirmation
  readonly #acks: Acknowledgements<Connection>
  readonly #heartbeat: Heartbeat<Connection>
  readonly #welcomes: Welcomes
  readonly #lifecycle: Lifecycle
  #draining = false
  #onEmpty: (() => void) | undefined

  constructor(
    broker: Broker,
    options: Options,
    { decoder, rules }: { decoder: Decoder; rules: HistoryRules },
    metrics: Metrics,
    events: HubEvents,
  ) {
    this.broker = broker
    this.options = options
    this.metrics = metrics
    this.presence = options.presence.areAny ? new Presence(broker, options.presence, events.presenceFailed) : undefined
    this.#lifecycle = new Lifecycle({ presence: this.presence, life: events.life, metrics })
    this.#writeQueue = new WriteQueue({ ...options.limits, slowConsumer: options.slowConsumer }, metrics, {
      wake: () => this.delivery.wake(),
      closing: connection => this.#heartbeat.closing(connection),
      limited: (connection, reason) => this.delivery.limitNotes.add(topicsOf(connection), reason),
    })
    const { registry, limits } = { registry: this.registry, limits: options.limits }
    this.#acks = new Acknowledgements(options.publishTimeout * ACK_SHARE)
    this.#recovery = new Recovery({ broker, registry, decoder, metrics, budget: limits.buffer })
    this.#confirmation = new Confirmation(registry, limits.buffer, events.failed)
    this.delivery = new Delivery(
      { registry, writeQueue: this.#writeQueue, decoder, acks: this.#acks, metrics, broker, rules, limits },
      {
        ...events,
        control: (connections, control) => executeControl(connections, control, this, events.failed),
        asked: question => this.respond?.(question),
        presence: (topic, delta) => this.presence?.take(topic, delta),
        missed: (isOver, topics) => this.revocations.missed(isOver, topics),
      },
    )
    this.revocations = new Revocations(broker, registry, events.failed)
    const warn = takesMessages(options) ? options.expiry.warn : 0
    this.#heartbeat = new Heartbeat(
      registry,
      { ...options.heartbeat, warn },
      {
        silent: connection => this.#endSilent(connection),
        expired: connection => connection.close(CLOSE.EXPIRED, 'expired'),
        expiring: connection => connection.send('push.expiring', { expires: connection.expires }),
      },
    )
    const { interval, timeout } = options.heartbeat
    this.#welcomes = new Welcomes({ node: broker.node, protocol: PROTOCOL_VERSION, heartbeat: { interval, timeout } })
    metrics.follow('written_bytes_total', () => this.#writeQueue.writtenBytes)
    broker.attach(this.delivery)
  }

  get rounds(): Rounds {
    return this.delivery.rounds
  }

  get isDraining(): boolean {
    return this.#draining
  }

  get isFull(): boolean {
    return this.registry.size + this.unidentified >= this.options.limits.connections
  }

  /** Makes a connection of a socket. Live messages of the topics in `since` wait for the replay. */
  connect(identity: Identity, line: Line, topics: readonly Topic[], since: Since): Connection {
    const connection = createConnection(identity, line, this.#writeQueue)
    this.registry.add(connection)
    for (const topic of topics) if (!this.registry.has(connection, topic)) this.registry.join(connection, topic)
    for (const topic of since.keys()) {
      if (this.registry.has(connection, topic)) this.#recovery.withhold(connection, topic)
    }
    this.#lifecycle.connected(connection)
    return connection
  }

  /** Sends `welcome` once the broker has confirmed the topics, then what the connection missed. */
  async welcome(connection: Connection, since: Since): Promise<void> {
    const topics = topicsOf(connection)
    const start = this.#recovery.start(connection, topics, since)
    const known = await this.#confirmation.known(connection, start)
    const late = await this.#confirmation.late(start, known)
    if (connection.isClosing || !(await this.revocations.admits(connection, start.answers, late))) return
    connection.open(this.#welcomes.encode(connection, featuresOf(this, connection), topics, known))
    if (late.length > 0) connection.gap(late, 'broker_away')
    this.#confirmation.follow(connection, start, late)
  }

  /**
   * Joins `topic` at once; `confirm` tells the client when the broker has confirmed it. True when the topic is new to the
   * connection. Throws when the connection has too many topics.
   */
  join(connection: Connection, topic: Topic, { since, last }: Wanted = {}): boolean {
    const isHeld = this.registry.has(connection, topic)
    const { topics } = this.options.limits
    if (!isHeld && countOf(connection.subscriptions) >= topics) {
      const refusal = limitError('topics', `a connection may have ${topics} topics (limits.topics)`)
      this.refusals.add(connection, topic, refusal)
      throw refusal
    }
    if (since !== undefined || last !== undefined) this.#recovery.withhold(connection, topic)
    if (isHeld) return false
    this.registry.join(connection, topic)
    this.#lifecycle.subscribed(connection, topic)
    return true
  }

  /**
   * Sends `subscribed` once the broker has confirmed the topic, then what was missed. For a topic that the connection
   * already had, `subscribed` has no position: messages before it may not have been sent yet. Throws when the topic was
   * left meanwhile.
   */
  async confirm(connection: Connection, topic: Topic, subscription: Subscription): Promise<void> {
    const { isNew, since, last, ref, isCommand, presence, renewals } = subscription
    const listed = presence ? within(PRESENCE_WAIT, this.presence!.ready(topic).catch(nothing)) : undefined
    const start = this.#recovery.start(connection, [topic], held(topic, since), last)
    const known = await this.#confirmation.known(connection, start, isCommand)
    await listed
    const late = await this.#confirmation.late(start, known)
    if (connection.isClosing) return
    if (!this.registry.has(connection, topic)) throw new errors.UNSUBSCRIBED(topic)
    if (presence && connection.renewals !== renewals) throw new errors.LIMIT('the identity was replaced: ask again')
    const list = presence ? this.presence?.watch(topic, connection) : undefined
    const isAsked = isNew || since !== undefined || last !== undefined
    const state = isAsked ? known.get(topic) : {}
    connection.reply('subscribed', { topic, ...state, ...(presence && { presence: list?.[0] ?? null }) }, ref)
    for (const part of list?.slice(1) ?? []) connection.send('push.presence', part)
    if (late.length > 0) connection.gap(late, 'broker_away')
    if (isAsked) this.#confirmation.follow(connection, start, late)
  }

  unsubscribe(connection: Connection, topic: Topic, ref?: Ref): void {
    if (ownTopics(connection.id, connection.user).includes(topic)) {
      throw new errors.TOPIC(`${topic} belongs to every connection of its kind and cannot be left`)
    }
    if (this.registry.has(connection, topic)) this.#lifecycle.unsubscribed(connection, topic)
    this.registry.leave(connection, topic)
    connection.unbar(topic)
    if (!this.registry.holds(topic)) this.broker.unsubscribe(topic)
    connection.reply('unsubscribed', { topic }, ref)
  }

  /** Why a client cannot ask with `presence` who is on `topic`; undefined when it can. */
  presenceProblem(topic: Topic, presence: unknown): PushError | undefined {
    if (presence === undefined || presence === false) return undefined
    if (presence !== true) return new errors.BAD_MESSAGE('payload.presence is neither true nor false')
    return this.options.presence.of(topic) ? undefined : new errors.TOPIC(`${topic} has no presence on this server`)
  }

  /** The client has handled the publication that carried `token`. */
  acknowledge(connection: Connection, token: string): void {
    this.#acks.acknowledge(connection, token)
  }

  /** The socket of `connection` is gone. */
  disconnect(connection: Connection, code: number, reason: string): void {
    connection.gone()
    this.#heartbeat.forget(connection)
    this.#acks.forget(connection)
    const topics = this.registry.get(connection.id) === connection ? topicsOf(connection) : []
    for (const topic of this.registry.remove(connection)) this.broker.unsubscribe(topic)
    this.#lifecycle.disconnected(connection, topics, { code, reason })
    if (this.registry.size === 0) this.#onEmpty?.()
  }

  /** Milliseconds since the last sign of life of `connection`, about. */
  idleTime(connection: Connection): number {
    return this.#heartbeat.idleTime(connection)
  }

  #endSilent(connection: Connection): void {
    connection.close(CLOSE.HEARTBEAT_TIMEOUT, 'heartbeat timeout')
    // One turn later, so that a client that was only frozen still finds the close frame.
    setImmediate(() => connection.terminate())
  }

  // ── shutdown ───────────────────────────────────────────────────────────────────────────────────────────────────

  /** Refuses upgrades, waits `drain.delay`, then tells every client when to reconnect and closes with 1012. */
  async drain(): Promise<void> {
    if (this.#draining) return
    this.#draining = true
    const { delay } = this.options.drain
    // Load balancers now see that the node is not ready; its connections go on working meanwhile.
    if (delay > 0 && this.registry.size > 0) await sleep(delay)
    const empty = new Promise<void>(resolve => {
      this.#onEmpty = resolve
    })
    await closeAll([...this.registry.values()], empty, this.options.drain)
    for (const connection of this.registry.values()) connection.terminate()
  }

  async close(): Promise<void> {
    await this.presence?.close()
    this.#heartbeat.close()
    this.revocations.close()
    this.broker.detach(this.delivery)
    this.delivery.clear()
    this.#recovery.clear()
    this.#acks.close()
    this.#writeQueue.close()
  }

  /** What waits for sockets: connections that are about to be written to, those whose sockets are full, and for these bytes. */
  get waiting(): { connections: number; stalled: number; bytes: number } {
    const { size: connections, slow, held } = this.#writeQueue
    return { connections, stalled: slow.size, bytes: held.bytes }
  }

  status() {
    return {
      connections: this.registry.size,
      topics: this.registry.topicCount,
      fillingTopics: this.broker.filling,
      refusedTopics: this.broker.refused,
      lag: Math.round(this.broker.lag),
      stalledConnections: this.#writeQueue.slow.size,
      heldBytes: this.#writeQueue.held.bytes,
      metrics: this.metrics.snapshot(),
    }
  }
}

/** What a client wants of the history of a topic. */
export interface Wanted {
  /** What came after the last id that it holds. */
  since?: string | undefined
  /** So many of the newest messages, if it holds none or what came after is lost. */
  last?: number | undefined
}

const nothing = () => {}

interface Subscription extends Wanted {
  /** The connection did not have the topic. */
  isNew: boolean
  ref?: Ref | undefined
  /** A command asked for it, not the client. */
  isCommand?: boolean
  /** The client wants to know who is there. */
  presence?: boolean | undefined
  /** The connection's count of identities when that was granted. */
  renewals?: number
}
