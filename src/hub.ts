import type { Broker, Incoming, Subscriber } from './broker.ts'
import { Connection, type Identity } from './connection.ts'
import { type CloseControl, type Control, decodeEnvelope, type Publication, type Rejection } from './envelope.ts'
import { errors } from './errors.ts'
import { encodeFrame, type Frame, Segment } from './frame.ts'
import { Heartbeat } from './heartbeat.ts'
import type { Metrics } from './metrics.ts'
import { Outbox } from './outbox.ts'
import {
  CLOSE,
  encodeMessage,
  encodePublication,
  type Gap,
  type GapReason,
  type TopicState,
  type Welcome,
} from './protocol.ts'
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

export type SkipReason = 'except' | 'closing' | 'slow'

/** A client is told at the latest after this long that it is subscribed; a `gap` says that it may not be yet. */
const CONFIRM_TIMEOUT = 1000

/** How long publications are dealt with, and sockets are written to, before other events of the process get a turn. */
const SLICE = 8

/** Joining more would make one step longer than a slice on a node with 100,000 connections. */
const MAX_RUN = 256

/** Where registry and broker meet: whatever the broker brings goes to the connections it is for. */
export class Hub implements Subscriber {
  readonly registry = new Registry<Connection>()
  readonly broker: Broker
  readonly options: HubOptions
  readonly metrics: Metrics
  readonly #schemas: SchemaTable
  readonly #events: HubEvents
  readonly #outbox: Outbox
  readonly #heartbeat: Heartbeat<Connection>
  readonly #closing = new Set<Connection>()
  #inbox: Incoming[] = []
  #inboxBytes = 0
  #gaps: { connections: Iterator<Connection>; reason: GapReason } | undefined
  #awake = false
  #draining = false
  #onEmpty: (() => void) | undefined

  constructor(broker: Broker, options: HubOptions, schemas: SchemaTable, metrics: Metrics, events: HubEvents) {
    this.broker = broker
    this.options = options
    this.metrics = metrics
    this.#schemas = schemas
    this.#events = events
    this.#outbox = new Outbox({ ...options.limits, slowConsumer: options.slowConsumer }, metrics, {
      wake: () => this.#wake(),
      closing: (connection, code) => this.#onClosing(connection, code),
    })
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
    if (!confirmed) this.#tellGap(connection, topics, 'broker_away')
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

  /** Subscribes and, once it holds, sends `subscribed`. Throws when the connection has too many topics. */
  async subscribe(connection: Connection, topic: Topic, ref?: number | string): Promise<void> {
    if (!this.registry.has(connection, topic)) {
      const { topics } = this.options.limits
      if ((connection.subscriptions?.size ?? 0) >= topics) {
        throw new errors.LIMIT(`a connection may have ${topics} topics (limits.topics)`)
      }
      this.registry.join(connection, topic)
    }
    const confirmed = await this.#confirmed([topic])
    if (connection.isClosing || !this.registry.has(connection, topic)) return
    connection.reply('subscribed', { topic }, ref)
    if (!confirmed) this.#tellGap(connection, [topic], 'broker_away')
  }

  unsubscribe(connection: Connection, topic: Topic, ref?: number | string): void {
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

  #onClosing(connection: Connection, _code: number): void {
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
    this.metrics.count('publications_received_total')
    if (this.#inboxBytes > this.options.limits.nodeBuffer) return this.#overload(incoming)
    this.#inbox.push(incoming)
    this.#inboxBytes += incoming.envelope.length
    this.#wake()
  }

  lost(reason: GapReason): void {
    this.#gaps = { connections: this.registry.values(), reason }
    this.#wake()
  }

  /** More came in than this node can deal with: the topic is told, so that nothing goes missing in silence. */
  #overload({ topic }: Incoming): void {
    this.metrics.count('messages_dropped_total', 1, 'overload')
    for (const connection of this.registry.members(topic)) this.#tellGap(connection, [topic], 'overload')
  }

  #tellGap(connection: Connection, topics: Topic[], reason: GapReason): void {
    this.metrics.count('gaps_total', 1, reason)
    connection.tell(encodeMessage('gap', { topics, reason } satisfies Gap))
  }

  // ── deliver and flush, in slices ───────────────────────────────────────────────────────────────────────────────

  #wake(): void {
    if (this.#awake) return
    this.#awake = true
    // After the poll phase: whatever else has arrived by then is delivered and written together with this.
    setImmediate(() => this.#turn())
  }

  #turn(): void {
    this.#awake = false
    this.#deliverSome(performance.now() + SLICE)
    this.#outbox.flush(performance.now() + SLICE)
    if (this.#inbox.length > 0 || this.#gaps || !this.#outbox.isIdle) this.#wake()
  }

  #deliverSome(deadline: number): void {
    this.#tellGaps(deadline)
    if (this.#gaps) return
    let done = 0
    while (done < this.#inbox.length && performance.now() < deadline) {
      try {
        done += this.#deliverRun(done)
      } catch (error) {
        this.#events.failed(error)
        done++
      }
    }
    for (let i = 0; i < done; i++) this.#inboxBytes -= this.#inbox[i]!.envelope.length
    this.#inbox = done === this.#inbox.length ? [] : this.#inbox.slice(done)
  }

  /** Tells every connection of a gap, before it is given the next message. */
  #tellGaps(deadline: number): void {
    if (!this.#gaps) return
    const { connections, reason } = this.#gaps
    for (let next = connections.next(); !next.done; next = connections.next()) {
      this.#tellGap(next.value, [...next.value.topics], reason)
      if (performance.now() >= deadline) return
    }
    this.#gaps = undefined
  }

  /** Delivers the publications from `start` on that belong together; says how many they were. */
  #deliverRun(start: number): number {
    const { topic } = this.#inbox[start]!
    const frames: Frame[] = []
    let i = start
    for (; i < this.#inbox.length && i - start < MAX_RUN && this.#inbox[i]!.topic === topic; i++) {
      const decoded = this.#decode(this.#inbox[i]!)
      if (decoded.kind === 'publication' && decoded.except.length === 0 && decoded.receipt === undefined) {
        frames.push(this.#encode(topic, decoded))
        continue
      }
      // This one goes to a choice of connections or is to be counted: what came before it goes first.
      this.#deliverFrames(topic, frames.splice(0))
      this.#deliverSingly(this.#inbox[i]!, decoded)
    }
    this.#deliverFrames(topic, frames)
    return i - start
  }

  #decode(incoming: Incoming): ReturnType<typeof decodeEnvelope> {
    const decoded = decodeEnvelope(incoming.envelope, this.options.limits.publication)
    if (decoded.kind !== 'publication') return decoded
    const mismatch = this.#schemas.problem(decoded.type, decoded.value)
    if (!mismatch) return decoded
    return { kind: 'rejected', reason: 'schema', message: mismatch, receipt: decoded.receipt }
  }

  #encode(topic: Topic, { type, payload, seq }: Publication): Frame {
    return encodeFrame(encodePublication(topic, type, payload, { seq }))
  }

  #deliverFrames(topic: Topic, frames: readonly Frame[]): void {
    if (frames.length === 0) return
    const segment = new Segment(frames, [topic])
    this.#outbox.delivered(segment.bytes)
    let delivered = 0
    let skipped = 0
    for (const connection of this.registry.members(topic)) {
      if (connection.push(segment)) delivered++
      else skipped++
    }
    this.metrics.count('deliveries_total', delivered * frames.length)
    if (skipped > 0) this.metrics.count('deliveries_skipped_total', skipped * frames.length)
  }

  #deliverSingly(incoming: Incoming, decoded: ReturnType<typeof decodeEnvelope>): void {
    if (decoded.kind === 'rejected') return this.#reject(incoming, decoded)
    if (decoded.kind !== 'publication') return void this.#obey(incoming, decoded)
    const segment = new Segment([this.#encode(incoming.topic, decoded)], [incoming.topic])
    this.#outbox.delivered(segment.bytes)
    const except = new Set<string>(decoded.except)
    const skipped: Partial<Record<SkipReason, number>> = {}
    let delivered = 0
    for (const connection of this.registry.members(incoming.topic)) {
      const skip = skipReason(connection, except) ?? (connection.push(segment) ? undefined : 'slow')
      if (skip) skipped[skip] = (skipped[skip] ?? 0) + 1
      else delivered++
    }
    this.metrics.count('deliveries_total', delivered)
    for (const [reason, count] of Object.entries(skipped)) this.metrics.count('deliveries_skipped_total', count, reason)
    this.#answer(incoming, decoded.receipt, delivered, skipped)
  }

  #answer(
    incoming: Incoming,
    receipt: string | undefined,
    delivered: number,
    reasons: Partial<Record<SkipReason, number>>,
  ): void {
    if (receipt === undefined) return
    const skipped = Object.values(reasons).reduce((sum, count) => sum + count, 0)
    this.broker.answer(incoming, receipt, { delivered, skipped, ...(skipped > 0 && { reasons }) })
  }

  #reject(incoming: Incoming, rejection: Rejection): void {
    const { reason, message, receipt } = rejection
    this.metrics.count('publications_rejected_total', 1, reason)
    this.#events.rejected(incoming.topic, rejection)
    this.broker.note({ topic: incoming.topic, envelope: incoming.envelope, reason, message })
    if (receipt === undefined) return
    this.broker.answer(incoming, receipt, { delivered: 0, skipped: 0, rejected: { reason, message } })
  }

  // ── commands from any node ─────────────────────────────────────────────────────────────────────────────────────

  async #obey(incoming: Incoming, control: Control): Promise<void> {
    const members = [...this.registry.members(incoming.topic)]
    const closing = members.filter(connection => connection.isClosing).length
    const open = members.filter(connection => !connection.isClosing)
    const done =
      control.kind === 'close' ? closeAll(open, control) : await Promise.all(open.map(one => this.#move(one, control)))
    const delivered = done.filter(Boolean).length
    const skipped: Partial<Record<SkipReason, number>> = {}
    if (closing > 0) skipped.closing = closing
    this.#answer(incoming, control.receipt, delivered, skipped)
  }

  async #move(connection: Connection, control: { kind: 'subscribe' | 'unsubscribe'; topic: Topic }): Promise<boolean> {
    try {
      if (control.kind === 'subscribe') await this.subscribe(connection, control.topic)
      else this.unsubscribe(connection, control.topic)
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
    const { window, timeout } = this.options.drain
    const empty = new Promise<void>(resolve => {
      this.#onEmpty = resolve
    })
    const connections = [...this.registry.values()]
    // A few clients come back at once; many are spread over the window, about one a millisecond.
    const spread = Math.min(window, connections.length)
    for (const connection of connections) {
      connection.send('reconnect', { after: Math.floor(Math.random() * spread) })
      connection.close(CLOSE.RESTART, 'restart')
    }
    if (this.registry.size > 0) await within(timeout, empty)
    for (const connection of [...this.registry.values(), ...this.#closing]) connection.terminate()
  }

  close(): void {
    this.#heartbeat.close()
    this.broker.detach(this)
    this.#inbox = []
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

function skipReason(connection: Connection, except: ReadonlySet<string>): SkipReason | undefined {
  if (connection.isClosing) return 'closing'
  if (except.size === 0) return undefined
  return except.has(`connection:${connection.id}`) ||
    (connection.user !== null && except.has(`user:${connection.user}`))
    ? 'except'
    : undefined
}

function closeAll(connections: readonly Connection[], { code, reason }: CloseControl): boolean[] {
  for (const connection of connections) connection.close(code, reason)
  return connections.map(() => true)
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
