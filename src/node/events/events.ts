import type { Broker } from '../../broker/broker.ts'
import type { Metrics } from '../../broker/metrics.ts'
import { RareLine } from '../../broker/rare-line.ts'
import { within } from '../../broker/waiting.ts'
import type { PushConnection } from '../../connection/identity.ts'
import type { EventsOptions } from '../../options/events.ts'
import { byMessage } from '../../options/identity.ts'
import type { Options } from '../../options/options.ts'
import type { Rejection } from '../../protocol/envelope.ts'
import { errors } from '../../protocol/errors.ts'
import { coversType, type EncodedEvent, type EventKind, type EventSource, EventWriter } from '../../protocol/event.ts'
import type { Topic } from '../../protocol/topic.ts'
import { Backend, type Log } from './backend.ts'
import { batchesTo } from './batches.ts'
import { BackendCalls } from './calls.ts'
import type { EventQueue, Loss } from './queue.ts'
import { type About, EventStreams } from './streams.ts'

/** What the hub tells of connections. */
export interface LifeEvents {
  connected(connection: EventSource, topics: readonly Topic[]): void
  disconnected(connection: EventSource, code: number, reason: string): void
  subscribed(connection: EventSource, topic: Topic): void
  unsubscribed(connection: EventSource, topic: Topic): void
}

/** Takes client messages for which there is no handler. */
export interface MessageTaker {
  takes(type: string): boolean
  /** Resolves with the reply as JSON text. `payload` is JSON text. `isAsked`: the client waits for the reply. */
  take(connection: PushConnection, message: { type: string; payload: string; isAsked: boolean }): Promise<string>
}

export interface EventsParts {
  broker: Broker
  metrics: Metrics
  log: Log
}

/** As many as notes in `push:rejected`: a publisher that is broken must not fill the streams. */
const MAX_REJECTED_PER_SECOND = 20

/** One sequence for a process: its registrations share the name of the node. */
let numbers = 0

/** Where events go, and what backends are asked, as the option `events` says. */
export class Events implements LifeEvents, MessageTaker {
  /** Stand in for those of the application. */
  readonly callbacks: Pick<Options['callbacks'], 'authenticate' | 'authorize'> = {}
  readonly #options: EventsOptions
  readonly #publishTimeout: number
  readonly #drainTimeout: number
  readonly #writer: EventWriter
  readonly #streams: EventStreams | undefined
  readonly #backend: Backend | undefined
  readonly #batches: EventQueue | undefined
  readonly #calls: BackendCalls | undefined
  /** Whether what connections have as `data` came from a backend, and may be told to it. */
  readonly #isDataTold: boolean
  #rejected = { second: 0, count: 0, omitted: 0 }

  constructor(options: Options & { events: EventsOptions }, { broker, metrics, log }: EventsParts) {
    const { events, callbacks } = options
    this.#options = events
    this.#publishTimeout = options.publishTimeout
    this.#drainTimeout = options.drain.timeout
    const { authenticate = byMessage, onAuthenticate } = callbacks
    this.#isDataTold = authenticate === byMessage && onAuthenticate === undefined
    this.#writer = new EventWriter(broker.node, () => ++numbers)
    const queue = (way: 'stream' | 'http') => ({
      limits: events.queue,
      lostEvent: (reasons: Record<string, number>) => this.#lostEvent(reasons),
      sent: (count: number) => metrics.count('events_sent_total', count, way),
      lost: lossCounter(way, metrics, log),
    })
    if (events.stream) {
      const line = new RareLine((fields, more) =>
        log.warn({ ...fields, more }, 'push: events cannot be written to Redis'),
      )
      const failed = (stream: string, error: Error) => line.tell({ stream, err: error })
      this.#streams = new EventStreams(events.stream, { ...queue('stream'), broker, failed })
    }
    if (!events.http) return
    this.#backend = new Backend(events.http, metrics, log)
    const calls = new BackendCalls(this.#backend, this.#writer, events.http)
    this.#calls = calls
    if (events.http.events.length > 0) this.#batches = batchesTo(this.#backend, this.#writer, queue('http'))
    if (events.http.connect) this.callbacks.authenticate = request => calls.connect(request)
    if (!events.http.subscribe) return
    this.callbacks.authorize = ({ id, user, data }, topic, { action }) =>
      calls.subscribe({ id, user, data: this.#isDataTold ? data : undefined }, topic, action)
  }

  // ── what happened ──────────────────────────────────────────────────────────────────────────────────────────────

  connected(connection: EventSource, topics: readonly Topic[]): void {
    this.#tell('connect', connection, { topics })
  }

  disconnected(connection: EventSource, code: number, reason: string): void {
    this.#tell('disconnect', connection, { code, reason })
  }

  subscribed(connection: EventSource, topic: Topic): void {
    this.#tell('subscribe', connection, { topic })
  }

  unsubscribed(connection: EventSource, topic: Topic): void {
    this.#tell('unsubscribe', connection, { topic })
  }

  rejected(topic: Topic, { reason, message }: Pick<Rejection, 'reason' | 'message'>): void {
    if (!this.#wants('rejected')) return
    const second = Math.floor(performance.now() / 1000)
    if (this.#rejected.second !== second) this.#rejected = { ...this.#rejected, second, count: 0 }
    if (++this.#rejected.count > MAX_REJECTED_PER_SECOND) return void this.#rejected.omitted++
    const { omitted } = this.#rejected
    this.#rejected.omitted = 0
    this.#tell('rejected', null, { topic, reason, message, omitted })
  }

  #wants(kind: EventKind): boolean {
    const { stream, http } = this.#options
    return Boolean(stream?.include.includes(kind) || http?.events.includes(kind))
  }

  #tell(kind: EventKind, source: EventSource | null, fields: About & Record<string, unknown>): void {
    if (this.#wants(kind)) this.#push(this.#writer.event(kind, source, fields), fields)
  }

  #push(event: EncodedEvent, about: About, settle?: (isWritten: boolean) => void): void {
    const kind = event.kind as EventKind
    if (this.#options.stream?.include.includes(kind)) this.#streams!.push(event, about, settle)
    if (this.#options.http?.events.includes(kind)) this.#batches!.push(event, settle)
  }

  #lostEvent(reasons: Record<string, number>): EncodedEvent {
    const count = Object.values(reasons).reduce((sum, n) => sum + n, 0)
    return this.#writer.event('lost', null, { count, reasons })
  }

  // ── what clients send ──────────────────────────────────────────────────────────────────────────────────────────

  takes(type: string): boolean {
    return coversType(this.#options.messages, type) || this.#isAnswered(type)
  }

  #isAnswered(type: string): boolean {
    return coversType(this.#options.http?.message ?? [], type)
  }

  async take(
    { id, user, data }: PushConnection,
    { type, payload, isAsked }: { type: string; payload: string; isAsked: boolean },
  ): Promise<string> {
    const source = { id, user }
    if (this.#isAnswered(type)) {
      const told = this.#isDataTold && data !== null ? { data } : {}
      return this.#calls!.message(this.#writer.message(source, { type, payload, ...told }))
    }
    const event = this.#writer.message(source, { type, payload })
    await this.#store(event, { type }, isAsked)
    return JSON.stringify({ id: event.id })
  }

  /** Throws when it is lost; `isAsked`: also when it has not arrived in time. */
  async #store(event: EncodedEvent, about: About, isAsked: boolean): Promise<void> {
    let isLost = false
    let open = 0
    const arrived = new Promise<boolean>(resolve => {
      const settle = (isWritten: boolean) => {
        isLost ||= !isWritten
        if (--open === 0 || isLost) resolve(!isLost)
      }
      const { stream, http } = this.#options
      open = Number(stream?.include.includes('message') ?? false) + Number(http?.events.includes('message') ?? false)
      this.#push(event, about, settle)
    })
    if (isAsked && !isLost && (await within(this.#publishTimeout, arrived)) === undefined) {
      throw new errors.BACKEND_UNCONFIRMED('the message is waiting for the backend: it may still be handled')
    }
    if (isLost) throw new errors.BACKEND_AWAY('too much is waiting for the backend already: send this again later')
  }

  /** How many events have not arrived yet, for each way that there is. */
  get waiting(): Readonly<Record<string, number>> {
    return {
      ...(this.#streams && { stream: this.#streams.size }),
      ...(this.#batches && { http: this.#batches.size }),
    }
  }

  // ── the end ────────────────────────────────────────────────────────────────────────────────────────────────────

  /** What waits is sent, for at most `drain.timeout`. */
  async close(): Promise<void> {
    await Promise.all([this.#streams?.close(this.#drainTimeout), this.#batches?.close(this.#drainTimeout)])
    this.#backend?.close()
  }
}

function lossCounter(way: 'stream' | 'http', metrics: Metrics, log: Log) {
  const line = new RareLine((fields, more) => log.warn({ ...fields, events: more }, 'push: events were lost'))
  return (loss: Loss, count: number) => {
    metrics.count('events_lost_total', count, loss)
    line.tell({ way, reason: loss }, count)
  }
}
