import type { Acknowledgements } from './acks.ts'
import type { Broker, Incoming } from './broker.ts'
import type { Connection } from './connection.ts'
import type { Control, Decoded, Publication, Rejection } from './envelope.ts'
import { isExcepted } from './identity.ts'
import type { Intake } from './intake.ts'
import { Loss } from './loss.ts'
import type { Metrics } from './metrics.ts'
import type { Outbox } from './outbox.ts'
import { Pace } from './pace.ts'
import type { Position } from './position.ts'
import type { GapReason } from './protocol.ts'
import { Segment } from './queue.ts'
import type { Registry } from './registry.ts'
import type { Topic } from './topic.ts'

export type SkipReason = 'except' | 'closing' | 'slow'

export type Skipped = Partial<Record<SkipReason, number>>

/** What a delivery needs of the node. */
export interface DeliveryParts {
  registry: Registry<Connection>
  outbox: Outbox
  intake: Intake
  acks: Acknowledgements<Connection>
  metrics: Metrics
  broker: Pick<Broker, 'answer' | 'note'>
  limits: { nodeBuffer: number }
}

export interface DeliveryEvents {
  rejected(topic: Topic, rejection: Rejection): void
  /** A command for these connections; resolves with how many obeyed. */
  control(connections: Connection[], control: Control): Promise<number>
  /** Whatever happened here must not end the process. */
  failed(error: unknown): void
}

/** How long publications are dealt with, and sockets are written to, before other events of the process get a turn. */
const SLICE = 8

/** How many runs are delivered between two looks at the clock. */
const RUNS_PER_LOOK = 8

/** What an entry of the inbox costs beside its bytes, roughly: empty envelopes fill memory as well. */
const ENTRY_COST = 256

/** What goes to a choice of connections, is to be counted, or is a command. */
interface Special {
  incoming: Incoming
  decoded: Decoded
}

type Entry = Segment | Special | Loss

/**
 * From the broker to the sockets: publications become frames at once, which wait in the inbox for the turn after the
 * poll phase, neighbours on one topic as one segment. Every connection is given them in the order of arrival, and
 * sockets are written to in slices.
 */
export class Delivery {
  readonly #parts: DeliveryParts
  readonly #events: DeliveryEvents
  #inbox: Entry[] = []
  #inboxBytes = 0
  #received = 0
  #deliveries = 0
  /** Topics of which something was dropped since the last turn; one is due, since the inbox is full. */
  readonly #overloaded = new Set<Topic>()
  #isAwake = false
  readonly #pace = new Pace()
  #timer: NodeJS.Timeout | undefined

  constructor(parts: DeliveryParts, events: DeliveryEvents) {
    this.#parts = parts
    this.#events = events
  }

  receive(incoming: Incoming): void {
    if (this.#inboxBytes > this.#parts.limits.nodeBuffer) return this.#overload(incoming)
    this.#received++
    const { topic, envelope } = incoming
    const decoded = this.#parts.intake.decode(topic, envelope)
    const isForAll = decoded.kind === 'publication' && decoded.except.length === 0 && decoded.receipt === undefined
    if (isForAll) this.#addFrame(incoming, decoded)
    else this.#add({ incoming, decoded })
    this.wake()
  }

  #addFrame({ topic, envelope, position }: Incoming, publication: Publication): void {
    const frame = this.#parts.intake.frame(topic, envelope, publication, position, true)
    const last = this.#inbox.at(-1)
    if (last instanceof Segment && last.topic === topic && last.extend(frame, position)) {
      this.#inboxBytes += frame.end - frame.start
    } else this.#add(new Segment(frame, topic, { position }))
  }

  #add(entry: Entry): void {
    this.#inbox.push(entry)
    this.#inboxBytes += costOf(entry)
  }

  /** Tells the connections concerned that they may have missed something, before they are given the next message. */
  lost(reason: GapReason, topics: ReadonlyMap<Topic, Position | undefined>): void {
    this.#add(new Loss(reason, topics, this.#parts.registry))
    this.wake()
  }

  clear(): void {
    clearTimeout(this.#timer)
    this.#inbox = []
    this.#inboxBytes = 0
    this.#overloaded.clear()
  }

  /** More came in than this node can deal with. One gap a topic and turn: telling must not cost more than delivering. */
  #overload({ topic }: Incoming): void {
    this.#parts.metrics.count('messages_dropped_total', 1, 'overload')
    this.#overloaded.add(topic)
  }

  #tellOverload(): void {
    for (const topic of this.#overloaded) {
      for (const connection of this.#parts.registry.members(topic)) connection.gap([topic], 'overload')
    }
    this.#overloaded.clear()
  }

  /** Asks for a turn soon. */
  wake(): void {
    if (this.#isAwake) return
    this.#isAwake = true
    // After the poll phase: whatever else has arrived by then is delivered and written together with this.
    setImmediate(() => this.#turn())
  }

  #turn(): void {
    if (!this.#pace.isFlushing) this.#deliverSome(performance.now() + SLICE)
    const rest = this.#flushSome(performance.now())
    this.#isAwake = false
    if (this.#inbox.length > 0 || (rest === 0 && !this.#parts.outbox.isIdle)) this.wake()
    else if (rest > 0) this.#timer ??= setTimeout(() => this.#onRested(), rest)
  }

  #onRested(): void {
    this.#timer = undefined
    this.wake()
  }

  /** Flushes, unless the last round was too short a time ago: says how many milliseconds are left of that. */
  #flushSome(now: number): number {
    const { outbox } = this.#parts
    if (outbox.isIdle) return 0
    const rest = this.#pace.rest(now, this.#inbox.length > 0)
    // A timer knows whole milliseconds only.
    if (rest >= 1) return rest
    outbox.flush(now + SLICE)
    this.#pace.flushed(now, performance.now(), outbox.isIdle)
    return 0
  }

  #deliverSome(deadline: number): void {
    this.#tellOverload()
    let done = 0
    while (done < this.#inbox.length) {
      if (done % RUNS_PER_LOOK === RUNS_PER_LOOK - 1 && performance.now() >= deadline) break
      if (!this.#deliverOrSkip(this.#inbox[done]!, deadline)) break
      done++
    }
    this.#forget(done)
    this.#count()
  }

  #forget(done: number): void {
    for (let i = 0; i < done; i++) this.#inboxBytes -= costOf(this.#inbox[i]!)
    this.#inbox = done === this.#inbox.length ? [] : this.#inbox.slice(done)
  }

  /** Counted once for many: the counters are looked up by name. */
  #count(): void {
    const { metrics } = this.#parts
    if (this.#received > 0) metrics.count('publications_received_total', this.#received)
    if (this.#deliveries > 0) metrics.count('deliveries_total', this.#deliveries)
    this.#received = 0
    this.#deliveries = 0
  }

  /** False when it is not done yet. A publication that cannot be delivered must not keep those behind it back. */
  #deliverOrSkip(entry: Entry, deadline: number): boolean {
    this.#pace.gather()
    try {
      if (entry instanceof Loss) return entry.tell(deadline)
      if (entry instanceof Segment) this.#deliverSegment(entry)
      else this.#deliverSpecial(entry)
    } catch (error) {
      this.#events.failed(error)
    }
    return true
  }

  #deliverSegment(segment: Segment): void {
    this.#parts.outbox.delivered(segment.bytes)
    let delivered = 0
    let closing = 0
    let slow = 0
    for (const connection of this.#parts.registry.members(segment.topic!)) {
      if (connection.isClosing) closing++
      else if (pushTo(connection, segment)) delivered++
      else slow++
    }
    const { metrics } = this.#parts
    this.#deliveries += delivered * segment.count
    if (closing > 0) metrics.count('deliveries_skipped_total', closing * segment.count, 'closing')
    if (slow > 0) metrics.count('deliveries_skipped_total', slow * segment.count, 'slow')
  }

  #deliverSpecial({ incoming, decoded }: Special): void {
    if (decoded.kind === 'rejected') return this.#reject(incoming, decoded)
    if (decoded.kind !== 'publication') return void this.#obey(incoming, decoded)
    const { topic, envelope, position } = incoming
    const segment = new Segment(this.#parts.intake.frame(topic, envelope, decoded, position, true), topic, { position })
    this.#parts.outbox.delivered(segment.bytes)
    const skipped: Skipped = {}
    const reached: Connection[] = []
    for (const connection of this.#parts.registry.members(topic)) {
      const skip = skipReason(connection, decoded.except) ?? (pushTo(connection, segment) ? undefined : 'slow')
      if (skip) skipped[skip] = (skipped[skip] ?? 0) + 1
      else reached.push(connection)
    }
    this.#deliveries += reached.length
    for (const [reason, count] of Object.entries(skipped))
      this.#parts.metrics.count('deliveries_skipped_total', count, reason)
    if (decoded.ack && decoded.receipt !== undefined)
      void this.#answerAcknowledged(incoming, decoded.receipt, reached, skipped)
    else this.#answer(incoming, decoded.receipt, { delivered: reached.length }, skipped)
  }

  async #answerAcknowledged(
    incoming: Incoming,
    receipt: string,
    reached: Connection[],
    skipped: Skipped,
  ): Promise<void> {
    const acknowledged = await this.#parts.acks.collect(receipt, reached)
    this.#answer(incoming, receipt, { delivered: reached.length, acknowledged }, skipped)
  }

  #answer(
    incoming: Incoming,
    receipt: string | undefined,
    counts: { delivered: number; acknowledged?: number },
    reasons: Skipped,
  ): void {
    if (receipt === undefined) return
    const skipped = Object.values(reasons).reduce((sum, count) => sum + count, 0)
    this.#parts.broker.answer(incoming, receipt, { ...counts, skipped, ...(skipped > 0 && { reasons }) })
  }

  #reject(incoming: Incoming, rejection: Rejection): void {
    const { reason, message, receipt } = rejection
    this.#parts.metrics.count('publications_rejected_total', 1, reason)
    this.#events.rejected(incoming.topic, rejection)
    this.#parts.broker.note({ topic: incoming.topic, envelope: incoming.envelope, reason, message })
    if (incoming.position) this.#tellRejected(incoming.topic, incoming.position)
    if (receipt === undefined) return
    this.#parts.broker.answer(incoming, receipt, { delivered: 0, skipped: 0, rejected: { reason, message } })
  }

  /** Others may have been able to use it, and it has a number: a hole in the numbers is told. */
  #tellRejected(topic: Topic, position: Position): void {
    for (const connection of this.#parts.registry.members(topic)) {
      if (!connection.gates?.get(topic)?.lost('rejected', position))
        connection.gap([topic], 'rejected', { [topic]: position })
    }
  }

  async #obey(incoming: Incoming, control: Control): Promise<void> {
    const members = [...this.#parts.registry.members(incoming.topic)]
    const open = members.filter(connection => !connection.isClosing)
    const closing = members.length - open.length
    try {
      const obeyed = await this.#events.control(open, control)
      this.#answer(incoming, control.receipt, { delivered: obeyed }, closing > 0 ? { closing } : {})
    } catch (error) {
      this.#events.failed(error)
    }
  }
}

/** What an entry of the inbox holds of memory. */
function costOf(entry: Entry): number {
  if (entry instanceof Loss) return ENTRY_COST
  return ENTRY_COST + (entry instanceof Segment ? entry.bytes : entry.incoming.envelope.length)
}

/** False when the connection is too slow; what a replay brings instead counts as pushed. */
function pushTo(connection: Connection, segment: Segment): boolean {
  if (connection.gates === undefined) return connection.push(segment)
  const admitted = connection.gates.admit(segment)
  return admitted === undefined || connection.push(admitted)
}

function skipReason(connection: Connection, except: readonly Topic[]): SkipReason | undefined {
  if (connection.isClosing) return 'closing'
  return isExcepted(connection, except) ? 'except' : undefined
}
