import type { Broker, Incoming, Subscriber } from '../broker/broker.ts'
import { tracing } from '../broker/tracing.ts'
import type { Connection } from '../connection/connection.ts'
import type { WriteQueue } from '../connection/write-queue.ts'
import type { Control, Decoded, Rejection } from '../protocol/envelope.ts'
import type { GapReason } from '../protocol/messages.ts'
import type { Position } from '../protocol/position.ts'
import type { PresenceDelta } from '../protocol/presence-delta.ts'
import type { Misquestion, Question } from '../protocol/question.ts'
import { isOwnTopic, type Topic } from '../protocol/topic.ts'
import type { HistoryRules } from '../publish/history-rules.ts'
import type { Acknowledgements } from './acks.ts'
import { FanOut, type FanOutParts, isForAll } from './fan-out.ts'
import type { Flow } from './flush-scheduler.ts'
import { GapNotice } from './gap-notice.ts'
import { LimitNotes } from './limit-notes.ts'
import { ReceiptWriter } from './receipt-writer.ts'
import type { RecentPublications } from './recent.ts'
import { Rounds } from './rounds.ts'
import { traceDeliver, traceReceive } from './trace.ts'
import { MISDIRECTED, OVERLOADED, receiptOf } from './unusable.ts'

/** The parts of the node that a delivery uses. */
export interface DeliveryParts extends FanOutParts {
  writeQueue: WriteQueue
  acks: Acknowledgements<Connection>
  broker: Pick<Broker, 'answer' | 'note' | 'backlog'>
  rules: HistoryRules
  limits: { nodeBuffer: number }
}

export interface DeliveryEvents {
  rejected(topic: Topic, rejection: Rejection): void
  /** A command for these connections. Resolves with how many obeyed. */
  control(connections: Connection[], control: Control): Promise<number>
  /** Who is on a topic has changed. */
  presence(topic: Topic, delta: PresenceDelta): void
  /** Commands were or may have been missed; `isOver`: everything, or these topics, is received again. */
  missed?(isOver: boolean, topics?: readonly Topic[]): void
  /** A question to all nodes. */
  asked?(question: Question): object | undefined
  /** An unexpected error, to be logged: it must not end the process. */
  failed(error: unknown): void
}

/** Milliseconds for which gaps are sent before other events of the process get a turn. */
const SLICE = 8

/** More publications than this in one turn of the event loop are a flow: the next turn will bring more. */
const FLOW = 8

/** A node that has read this many bytes ahead of what it delivers is behind: by thousands of small publications. */
const BEHIND = 1024 * 1024

/** About what a waiting envelope costs besides its bytes: even empty ones fill memory. */
const ENTRY_COST = 256

/**
 * From the broker to the sockets: publications are queued for their connections at once, in order of arrival. Sockets
 * are written to after the poll phase, in slices of time.
 */
export class Delivery implements Subscriber {
  readonly #parts: DeliveryParts
  readonly #events: DeliveryEvents
  readonly #fanOut: FanOut
  readonly #receipts: ReceiptWriter
  /** A gap that is being sent to clients, and what arrived after it. */
  #waiting: (Incoming | GapNotice)[] = []
  #waitingBytes = 0
  #received = 0
  #receivedBytes = 0
  #isAwake = false
  readonly rounds: Rounds
  /** What limits did to those who have a topic. */
  readonly limitNotes = new LimitNotes()
  #timer: NodeJS.Timeout | undefined

  constructor(parts: DeliveryParts, events: DeliveryEvents) {
    this.#parts = parts
    this.#fanOut = new FanOut(parts)
    this.#receipts = new ReceiptWriter(parts)
    this.#events = events
    this.rounds = new Rounds(parts.writeQueue)
    parts.metrics.follow('publications_received_bytes_total', () => this.#receivedBytes)
  }

  holds(topic: Topic): boolean {
    return this.#parts.registry.holds(topic)
  }

  topics(): Iterable<Topic> {
    return this.#parts.registry.topics()
  }

  isRecorded(topic: Topic): boolean {
    return this.#parts.rules.of(topic) !== undefined
  }

  filled(_topic: Topic, publications: number): void {
    this.#parts.metrics.count('publications_filled_total', publications)
  }

  receive(received: Incoming): void {
    const incoming = this.#parts.decoder.inJson(received)
    if (tracing.receive.hasSubscribers) traceReceive(incoming)
    if (this.#waiting.length > 0) this.#wait(incoming)
    else this.#deliver(incoming)
    this.wake()
  }

  misdirected(received: Incoming): void {
    const incoming = this.#parts.decoder.inJson(received)
    this.#fanOut.endRun()
    this.recent.now = performance.now()
    try {
      this.#reject(incoming, { ...MISDIRECTED, receipt: receiptOf(incoming.envelope) })
    } catch (error) {
      this.#events.failed(error)
    }
  }

  /** A publication that cannot be delivered must not hold up those after it. */
  #deliver(incoming: Incoming): void {
    // One look at the clock for all of a turn.
    if (this.#received++ === 0) this.recent.now = performance.now()
    this.#receivedBytes += incoming.envelope.length
    this.rounds.gather(this.recent.now)
    try {
      const taken = this.#parts.decoder.decode(incoming.topic, incoming.envelope)
      if (tracing.deliver.hasSubscribers) traceDeliver(incoming, taken, this.#parts)
      if (taken.kind === 'plain' || isForAll(taken)) return this.#fanOut.toAll(incoming, taken)
      this.#fanOut.endRun()
      this.#deliverSpecial(incoming, taken)
    } catch (error) {
      this.#events.failed(error)
    }
  }

  get recent(): RecentPublications {
    return this.#fanOut.recent
  }

  asked(question: Question): object | undefined {
    try {
      const answer = this.#events.asked?.(question)
      if (answer) this.#parts.metrics.count('questions_answered_total')
      return answer
    } catch (error) {
      this.#events.failed(error)
      return undefined
    }
  }

  misasked(reason: Misquestion['reason']): void {
    this.#parts.metrics.count('questions_refused_total', 1, reason)
  }

  restored = (topics?: readonly Topic[]): void => this.#events.missed?.(true, topics)

  /** Sends a `gap` to all connections of these topics before their next message. */
  lost(reason: GapReason, topics: ReadonlyMap<Topic, Position | undefined>): void {
    this.#events.missed?.(false)
    this.#fanOut.endRun()
    this.#waiting.push(new GapNotice(reason, topics, this.#parts.registry))
    if (this.#waiting.length === 1) this.#deliverWaiting(performance.now() + SLICE)
    this.wake()
  }

  /** Keeps `incoming` until the gap before it has been sent to all. */
  #wait(incoming: Incoming): void {
    if (this.#waitingBytes > this.#parts.limits.nodeBuffer) return this.#overload(incoming)
    this.#waiting.push(incoming)
    this.#waitingBytes += costOf(incoming)
  }

  #deliverWaiting(deadline: number): void {
    let done = 0
    for (const entry of this.#waiting) {
      if (entry instanceof GapNotice) {
        if (!this.#tell(entry, deadline)) break
      } else {
        this.#waitingBytes -= costOf(entry)
        this.#deliver(entry)
      }
      done++
      if (performance.now() >= deadline) break
    }
    this.#waiting = this.#waiting.slice(done)
  }

  /** False when some connections are still to be told. */
  #tell(notice: GapNotice, deadline: number): boolean {
    this.#fanOut.endRun()
    try {
      return notice.tell(deadline)
    } catch (error) {
      this.#events.failed(error)
      return true
    }
  }

  clear(): void {
    clearTimeout(this.#timer)
    this.#fanOut.clear()
    this.#receipts.close()
    this.#waiting = []
    this.#waitingBytes = 0
  }

  /** More arrived than this node can handle: drops it, with one gap in the place of all that is dropped in a row. */
  #overload(incoming: Incoming): void {
    this.#drop(incoming)
    const last = this.#waiting.at(-1)
    if (last instanceof GapNotice && last.reason === 'overload' && last.add(incoming.topic)) return
    this.#waiting.push(new GapNotice('overload', new Map([[incoming.topic, undefined]]), this.#parts.registry))
  }

  dropped(received: Incoming): void {
    try {
      this.#drop(this.#parts.decoder.inJson(received))
    } catch (error) {
      this.#events.failed(error)
    }
  }

  #drop(incoming: Incoming): void {
    this.#parts.metrics.count('messages_dropped_total', 1, 'overload')
    this.#events.missed?.(false)
    // A run on the same topic is noted before it.
    this.#fanOut.endRun()
    this.recent.now = performance.now()
    this.recent.rejected(incoming.topic, 'overload', incoming.position?.id)
    this.limitNotes.add([incoming.topic], 'overload')
    const receipt = receiptOf(incoming.envelope)
    // The publisher that waits for a receipt gets its answer now, not at its deadline.
    if (receipt !== undefined) this.#parts.broker.answer(incoming, receipt, OVERLOADED)
  }

  /** Asks for a turn soon. */
  wake(): void {
    if (this.#isAwake) return
    this.#isAwake = true
    // After the poll phase: what has arrived by then is written together with this.
    setImmediate(() => this.#turn())
  }

  #turn(): void {
    this.#fanOut.endRun()
    if (this.#waiting.length > 0) this.#deliverWaiting(performance.now() + SLICE)
    const flow = this.#flow
    this.#count()
    const rest = this.rounds.flush(flow)
    this.#isAwake = false
    // During a flow the next turn looks again: once it stops, waiting gains nothing.
    if (this.#waiting.length > 0 || (!this.#parts.writeQueue.isIdle && (rest === 0 || flow !== 'calm'))) this.wake()
    else if (rest > 0) this.#timer ??= setTimeout(() => this.#onRested(), rest)
  }

  get #flow(): Flow {
    const { backlog } = this.#parts.broker
    if (backlog > BEHIND) return 'behind'
    return this.#received > FLOW || backlog > 0 || this.#waiting.length > 0 ? 'flowing' : 'calm'
  }

  #onRested(): void {
    this.#timer = undefined
    this.wake()
  }

  /** Counts many at once: each count looks up its counter by name. */
  #count(): void {
    const { metrics } = this.#parts
    if (this.#received > 0) metrics.count('publications_received_total', this.#received)
    this.#received = 0
    this.#fanOut.endTurn()
  }

  /** A publication with `except` or a receipt, a command, or a rejected envelope. */
  #deliverSpecial(incoming: Incoming, decoded: Decoded): void {
    if (decoded.kind === 'rejected') return this.#reject(incoming, decoded)
    if (decoded.kind === 'presence') return this.#events.presence(incoming.topic, decoded.delta)
    if (decoded.kind !== 'publication') return void this.#obey(incoming, decoded)
    const receivedAt = Date.now()
    const { reached, skipped } = this.#fanOut.toSome(incoming, decoded)
    this.#receipts.publication(incoming, decoded, { reached, skipped }, receivedAt)
  }

  #reject(incoming: Incoming, rejection: Rejection): void {
    const { topic, envelope, position } = incoming
    const { reason, message, receipt } = rejection
    const { metrics, broker, registry } = this.#parts
    metrics.count('publications_rejected_total', 1, reason)
    this.recent.rejected(topic, reason, position?.id)
    this.#events.rejected(topic, rejection)
    broker.note({ topic, envelope: envelope.view(), reason, message })
    // It has a position, and other nodes may have delivered it: clients are sent a `gap` in its place.
    if (position) new GapNotice('rejected', new Map([[topic, position]]), registry).tell(Number.POSITIVE_INFINITY)
    if (receipt !== undefined) {
      broker.answer(incoming, receipt, { delivered: 0, skipped: 0, rejected: { reason, message } })
    }
  }

  async #obey(incoming: Incoming, control: Control): Promise<void> {
    // Others may hear what is published to a user: a command is not for them.
    const members = [...this.#parts.registry.members(incoming.topic)].filter(it => isOwnTopic(incoming.topic, it))
    const open = members.filter(connection => !connection.isClosing)
    const closing = members.length - open.length
    try {
      const obeyed = await this.#events.control(open, control)
      this.#receipts.write(incoming, control.receipt, { delivered: obeyed }, closing > 0 ? { closing } : {})
    } catch (error) {
      this.#events.failed(error)
    }
  }
}

function costOf({ envelope }: Incoming): number {
  return ENTRY_COST + envelope.length
}
