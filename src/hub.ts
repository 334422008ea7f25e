import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises'
import type { Broker, Incoming, Subscriber } from './broker.ts'
import { Connection, type Identity } from './connection.ts'
import { Delivery } from './delivery.ts'
import type { Control, Rejection } from './envelope.ts'
import { errors } from './errors.ts'
import { Heartbeat } from './heartbeat.ts'
import type { Metrics } from './metrics.ts'
import { Outbox } from './outbox.ts'
import { CLOSE, encodeMessage, type GapReason, type Ref, type TopicState, type Welcome } from './protocol.ts'
import { Registry } from './registry.ts'
import type { SchemaTable } from './schemas.ts'
import { ownTopics, type Topic } from './topic.ts'
import type { Transport } from './transport.ts'

export interface HubOptions {
  heartbeat: { interval: number; timeout: number }
  limits: { buffer: number; nodeBuffer: number; publication: number; topics: number; connections: number }
  slowConsumer: 'close' | 'drop'
  drain: { delay: number; window: number; timeout: number }
}

/** What the hub tells the program it is part of. */
export interface HubEvents {
  rejected(topic: Topic, rejection: Rejection): void
  /** Whatever happened here must not end the process. */
  failed(error: unknown): void
}

/** A client is told at the latest after this long that it is subscribed; a `gap` says that it may not be yet. */
const CONFIRM_TIMEOUT = 1000

/** Connections closed in one turn of the event loop. */
const DRAIN_BATCH = 250

/** Where registry and broker meet: whatever the broker brings goes to the connections it is for. */
export class Hub implements Subscriber {
  readonly registry = new Registry<Connection>()
  readonly broker: Broker
  readonly options: HubOptions
  readonly metrics: Metrics
  readonly #events: HubEvents
  readonly #outbox: Outbox
  readonly #delivery: Delivery
  readonly #heartbeat: Heartbeat<Connection>
  readonly #closing = new Set<Connection>()
  #draining = false
  #onEmpty: (() => void) | undefined

  constructor(broker: Broker, options: HubOptions, schemas: SchemaTable, metrics: Metrics, events: HubEvents) {
    this.broker = broker
    this.options = options
    this.metrics = metrics
    this.#events = events
    this.#outbox = new Outbox({ ...options.limits, slowConsumer: options.slowConsumer }, metrics, {
      wake: () => this.#delivery.wake(),
      closing: connection => this.#onClosing(connection),
    })
    const { registry, limits } = { registry: this.registry, limits: options.limits }
    this.#delivery = new Delivery(
      { registry, outbox: this.#outbox, schemas, metrics, broker, limits },
      { ...events, control: (connections, control) => this.#obey(connections, control) },
    )
    this.#heartbeat = new Heartbeat(this.registry, options.heartbeat, {
      silent: connection => this.#endSilent(connection),
      expired: connection => connection.close(CLOSE.UNAUTHENTICATED, 'expired'),
    })
    broker.attach(this)
  }

  get isDraining(): boolean {
    return this.#draining
  }

  get isFull(): boolean {
    return this.registry.size >= this.options.limits.connections
  }

  /** Makes a connection of a socket and welcomes it once the broker has confirmed its topics. */
  connect(identity: Identity, transport: Transport, topics: readonly Topic[]): Connection {
    const connection = new Connection(identity, transport, this.#outbox)
    this.registry.add(connection)
    for (const topic of topics) if (!this.registry.has(connection, topic)) this.registry.join(connection, topic)
    this.metrics.count('connections_opened_total')
    return connection
  }

  async welcome(connection: Connection): Promise<void> {
    const topics = [...connection.topics]
    const confirmed = await this.#confirmed(topics)
    if (connection.isClosing) return
    const { heartbeat } = this.options
    const states: Record<string, TopicState> = Object.fromEntries(topics.map(topic => [topic, {}]))
    connection.open(
      encodeMessage('welcome', {
        connection: connection.id,
        user: connection.user,
        node: this.broker.node,
        heartbeat: { interval: heartbeat.interval, timeout: heartbeat.timeout },
        topics: states,
      } satisfies Welcome),
    )
    if (!confirmed) connection.gap(topics, 'broker_away')
  }

  /** Whether the broker has confirmed `topics` in time. They stay subscribed either way. */
  async #confirmed(topics: readonly Topic[]): Promise<boolean> {
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<boolean>(resolve => {
      timer = setTimeout(resolve, CONFIRM_TIMEOUT, false)
    })
    const subscribed = Promise.all(topics.map(topic => this.broker.subscribe(topic))).then(
      () => true,
      () => false,
    )
    const confirmed = await Promise.race([subscribed, late])
    clearTimeout(timer)
    return confirmed
  }

  /** Joins `topic` at once; `confirm` says when it holds. Throws when the connection has too many topics. */
  join(connection: Connection, topic: Topic): void {
    if (this.registry.has(connection, topic)) return
    const { topics } = this.options.limits
    if ((connection.subscriptions?.size ?? 0) >= topics) {
      throw new errors.LIMIT(`a connection may have ${topics} topics (limits.topics)`)
    }
    this.registry.join(connection, topic)
  }

  /** Sends `subscribed` once the broker has confirmed the topic. Throws when it was left meanwhile. */
  async confirm(connection: Connection, topic: Topic, ref?: Ref): Promise<void> {
    const confirmed = await this.#confirmed([topic])
    if (connection.isClosing) return
    if (!this.registry.has(connection, topic)) throw new errors.UNSUBSCRIBED(topic)
    connection.reply('subscribed', { topic }, ref)
    if (!confirmed) connection.gap([topic], 'broker_away')
  }

  unsubscribe(connection: Connection, topic: Topic, ref?: Ref): void {
    if (ownTopics(connection.id, connection.user).includes(topic)) {
      throw new errors.TOPIC(`${topic} belongs to every connection of its kind and cannot be left`)
    }
    this.registry.leave(connection, topic)
    if (!this.registry.holds(topic)) this.broker.unsubscribe(topic)
    connection.reply('unsubscribed', { topic }, ref)
  }

  /** The socket of `connection` is gone. */
  disconnect(connection: Connection, code: number): void {
    connection.gone()
    this.#heartbeat.forget(connection)
    this.#closing.delete(connection)
    for (const topic of this.registry.remove(connection)) this.broker.unsubscribe(topic)
    this.metrics.count('connections_closed_total', 1, code)
    if (this.registry.size === 0) this.#onEmpty?.()
  }

  #onClosing(connection: Connection): void {
    this.#closing.add(connection)
    this.#heartbeat.closing(connection)
  }

  #endSilent(connection: Connection): void {
    connection.close(CLOSE.HEARTBEAT_TIMEOUT, 'heartbeat timeout')
    // One turn later, so that a client that was only frozen finds the close frame when it thaws.
    setImmediate(() => connection.terminate())
  }

  // ── what the broker calls ──────────────────────────────────────────────────────────────────────────────────────

  holds(topic: Topic): boolean {
    return this.registry.holds(topic)
  }

  topics(): Iterable<Topic> {
    return this.registry.topics()
  }

  receive(incoming: Incoming): void {
    this.#delivery.receive(incoming)
  }

  lost(reason: GapReason): void {
    this.#delivery.gapForAll(reason)
  }

  // ── commands from any node ─────────────────────────────────────────────────────────────────────────────────────

  async #obey(connections: readonly Connection[], control: Control): Promise<number> {
    if (control.kind === 'close') {
      for (const connection of connections) connection.close(control.code, control.reason)
      return connections.length
    }
    const moved = await Promise.all(connections.map(connection => this.#move(connection, control)))
    return moved.filter(Boolean).length
  }

  async #move(connection: Connection, control: { kind: 'subscribe' | 'unsubscribe'; topic: Topic }): Promise<boolean> {
    try {
      if (control.kind === 'unsubscribe') this.unsubscribe(connection, control.topic)
      else {
        this.join(connection, control.topic)
        await this.confirm(connection, control.topic)
      }
      return true
    } catch (error) {
      this.#events.failed(error)
      return false
    }
  }

  // ── the end ────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Stops accepting, tells every client when to come back elsewhere, closes with 1012; bounded by `drain.timeout`. */
  async drain(): Promise<void> {
    if (this.#draining) return
    this.#draining = true
    const { delay, timeout } = this.options.drain
    // Load balancers go by the readiness that has just gone down; meanwhile everything works as before.
    if (delay > 0 && this.registry.size > 0) await sleep(delay)
    const empty = new Promise<void>(resolve => {
      this.#onEmpty = resolve
    })
    const deadline = performance.now() + timeout
    await this.#closeInBatches(deadline)
    if (this.registry.size > 0) await within(deadline - performance.now(), empty)
    for (const connection of [...this.registry.values(), ...this.#closing]) connection.terminate()
  }

  async #closeInBatches(deadline: number): Promise<void> {
    const connections = [...this.registry.values()]
    // A few clients come back at once; many are spread over the window, about one a millisecond.
    const spread = Math.min(this.options.drain.window, connections.length)
    for (const [i, connection] of connections.entries()) {
      if (i % DRAIN_BATCH === DRAIN_BATCH - 1) await nextTurn()
      if (performance.now() >= deadline) return
      connection.send('reconnect', { after: Math.floor(Math.random() * spread) })
      connection.close(CLOSE.RESTART, 'restart')
    }
  }

  close(): void {
    this.#heartbeat.close()
    this.broker.detach(this)
    this.#delivery.clear()
  }

  status() {
    return {
      connections: this.registry.size,
      topics: this.registry.topicCount,
      stalledConnections: this.#outbox.stalledConnections,
      heldBytes: this.#outbox.heldBytes,
      metrics: this.metrics.snapshot(),
    }
  }
}

async function within(milliseconds: number, done: Promise<void>): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  await Promise.race([
    done,
    new Promise(resolve => {
      timer = setTimeout(resolve, milliseconds)
    }),
  ])
  clearTimeout(timer)
}
