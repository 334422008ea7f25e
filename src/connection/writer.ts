import { tracing } from '../broker/tracing.ts'
import { CLOSE, type GapReason } from '../protocol/messages.ts'
import type { Topic } from '../protocol/topic.ts'
import { Backlog, type HeldMemory } from './backlog.ts'
import { countMessages, isPublished, type Queue, queueWith, reconnectSegment, type Segment } from './queue.ts'
import { ReplayBarriers } from './replay-barrier.ts'
import type { SlowConsumers } from './slow-consumers.ts'
import type { Tail } from './tail.ts'
import { type Part, partBytes, type Transport } from './transport.ts'

/** The part of the node that a writer uses. All writers share it, so that each holds a single reference. */
export interface WriterOutlet {
  /** Bytes that may wait for a connection without limit of time, and the most that may ever wait. */
  readonly budget: number
  readonly ceiling: number
  readonly slowConsumer: 'close' | 'drop'
  readonly slow: SlowConsumers<Writer>
  readonly held: HeldMemory
  /** Counts bytes that were written to sockets. */
  writtenBytes: number
  /** Asks for `flush` soon. */
  schedule(writer: Writer): void
  /** `bytes` of new frames are about to be queued for connections: makes room for them. */
  delivered(bytes: number): void
  /** Messages were dropped unwritten, because the connection was slow or has closed. */
  dropped(messages: number, reason: GapReason | 'closed'): void
  /** A limit was applied to a connection. */
  limited(writer: Writer, reason: GapReason): void
  /** A client was sent a `gap`. */
  gapped(reason: GapReason): void
  /** Milliseconds after which a client that is cut off now is to reconnect. */
  reconnectAfter(): number
}

/** Shared, since nearly all connections have none. Never changed. */
const NOBODY: (() => void)[] = []

/** What waits to be written to one socket, and what happens when that is full. */
export abstract class Writer {
  // The fields that every delivery reads come first, side by side: two lines of the processor's cache instead of four.
  /** Topics on which a replay is bringing it up to date; undefined while there are none. */
  barriers: ReplayBarriers | undefined
  protected state: 'opening' | 'open' | 'closing' = 'opening'
  #scheduled = false
  /** What is to be written. */
  #queue: Queue | undefined
  /** What follows the queue, and may still grow. */
  #tail: Tail | undefined
  /** Takes all that is pushed, instead of the queue, while the socket is full or before the welcome. */
  #backlog: Backlog | undefined
  protected outlet: WriterOutlet
  protected wire: Transport
  /** Replays that wait for the socket. */
  #onDrained: (() => void)[] = NOBODY
  /** The socket is full. */
  isStalled = false

  constructor(transport: Transport, outlet: WriterOutlet) {
    this.wire = transport
    this.outlet = outlet
    this.#backlog = new Backlog(outlet.held)
  }

  /** Closes the socket after all that was written. */
  protected abstract finish(code: number, reason: string): void
  /** The socket took some bytes. */
  protected abstract progressed(): void
  /** Tells whoever follows writes that `bytes` of `queue` were written. */
  protected abstract traceWrite(queue: Queue, bytes: number): void
  /** The same messages as the client of this connection reads them. */
  protected abstract coded(segment: Segment): Segment

  /** Bytes that wait here and in the socket. */
  get buffered(): number {
    return this.#waiting + this.wire.buffered
  }

  get #waiting(): number {
    const queued = (this.#queue ? this.#queue.bytes : 0) + (this.#tail ? this.#tail.bytes : 0)
    return queued + (this.#backlog ? this.#backlog.bytes : 0)
  }

  /** Writes `first`, then what was pushed before. */
  protected start(first: Segment): void {
    this.state = 'open'
    if (!this.#write(first)) return
    if (this.#waiting > 0) return this.#schedule()
    this.#backlog = undefined
    this.tellDrained()
  }

  /** Resolves when nothing waits for the socket, or the connection is closing. */
  drained(): Promise<void> {
    if (this.#isDrained) return Promise.resolve()
    return new Promise(resolve => {
      this.#onDrained = [...this.#onDrained, resolve]
    })
  }

  get #isDrained(): boolean {
    return this.state === 'closing' || !(this.#backlog || this.#queue || this.#tail)
  }

  protected tellDrained(): void {
    if (this.#onDrained === NOBODY || !this.#isDrained) return
    for (const resolve of this.#onDrained) resolve()
    this.#onDrained = NOBODY
  }

  /** The tail, if a message on `topic` may be added to it. */
  tailFor(topic: Topic): Tail | undefined {
    return this.barriers?.get(topic) ? undefined : this.#tail
  }

  /** The last segment that was pushed and not yet written. */
  get last(): Segment | undefined {
    return this.#tail ?? this.#queue?.last
  }

  /** Whether `begin` would take a tail; it may still refuse one that is too large. */
  takesTail(topic: Topic): boolean {
    return this.state === 'open' && !this.#backlog && !this.barriers?.get(topic)
  }

  /**
   * Puts `tail`, which holds a message on `topic`, at the end. False when the connection needs a segment instead: before
   * the welcome, during a replay of the topic, when its socket is full, when much waits, or when it is closing.
   */
  begin(tail: Tail, topic: Topic): boolean {
    if (!this.takesTail(topic)) return false
    if (this.#tail) this.#seal(this.#tail)
    if (this.#queue && this.#queue.bytes + tail.bytes > this.outlet.budget) return false
    this.#tail = tail
    tail.join()
    this.#schedule()
    return true
  }

  /** From now on live messages of `topic` wait at a barrier. What was pushed before is written before. */
  withhold(topic: Topic): void {
    if (this.#tail) this.#seal(this.#tail)
    this.barriers ??= new ReplayBarriers()
    this.barriers.close(topic)
  }

  /** Removes the barrier of `topic`. */
  unbar(topic: Topic): void {
    this.barriers?.forget(topic)
    if (this.barriers?.isEmpty) this.barriers = undefined
  }

  /** Pushes `segment`, or hands it to the barrier of its topic. False when there is no room for it. */
  give(segment: Segment): boolean {
    if (this.barriers === undefined) return this.push(segment)
    const admitted = this.barriers.admit(segment)
    if (this.barriers.isEmpty) this.barriers = undefined
    // What the barrier holds back counts as pushed, and false is what it has no room for.
    return admitted === undefined || (admitted !== false && this.push(admitted))
  }

  /** Moves the tail into the queue, since something else follows it. */
  #seal(tail: Tail): void {
    this.#queue = queueWith(this.#queue, tail)
    this.#tail = undefined
    tail.leave(true)
  }

  /** Queues `segment`; false when it was not taken. Called for every connection and delivery, so it does little. */
  push(segment: Segment): boolean {
    if (this.state === 'closing') return false
    if (this.#tail) this.#seal(this.#tail)
    const bytes = (this.#queue ? this.#queue.bytes : 0) + segment.bytes
    if (this.#backlog !== undefined || bytes > this.outlet.budget) return this.#hold(segment)
    return this.#enqueue(segment)
  }

  #enqueue(segment: Segment): true {
    this.#queue = queueWith(this.#queue, segment)
    this.#schedule()
    return true
  }

  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    this.outlet.schedule(this)
  }

  /** Keeps `segment` until the socket takes more. */
  #hold(segment: Segment): boolean {
    const { budget, ceiling, slow } = this.outlet
    // The client is not to blame for what the node itself has not written yet.
    if (!this.isStalled && this.#waiting + segment.bytes > budget) this.writeOut()
    const backlog = this.#backlog
    if (!backlog) return this.#enqueue(segment)
    const buffered = this.buffered + segment.bytes
    if (buffered > ceiling) return this.#overflow(segment)
    if (backlog.bytes === 0) slow.waits(this)
    backlog.push(segment)
    if (buffered > budget) slow.exceeds(this)
    return true
  }

  flush(): void {
    this.#scheduled = false
    this.writeOut()
  }

  /** Writes what is queued, as far as the socket takes it, at once or when it is due. */
  writeOut(): void {
    if (this.#backlog !== undefined) return this.#flushBacklog(this.#backlog)
    if (this.#tail && !this.#queue) return this.#flushTail(this.#tail)
    if (this.#tail) this.#seal(this.#tail)
    const queue = this.#queue
    this.#queue = undefined
    if (queue && this.#write(queue)) this.tellDrained()
  }

  #flushTail(tail: Tail): void {
    this.#tail = undefined
    const isWritten = this.#write(tail)
    // The socket reads its memory until it has taken everything.
    tail.leave(!isWritten || this.wire.buffered > 0)
    if (isWritten) this.tellDrained()
  }

  /** False when the socket is full: what it did not take then waits. */
  #write(queue: Queue): boolean {
    const parts = this.wire.parts(queue)
    for (let i = 0; i < parts.length; i++) {
      if (this.wire.write(parts[i]!)) continue
      this.#stall(queue, parts.slice(i + 1))
      return false
    }
    this.#wrote(queue, queue.bytes)
    return true
  }

  /** The socket did not take `rest`, the end of `queue`. */
  #stall(queue: Queue, rest: readonly Part[]): void {
    this.isStalled = true
    this.#backlog ??= new Backlog(this.outlet.held)
    const left = rest.reduce((bytes, part) => bytes + partBytes(part), 0)
    this.#wrote(queue, queue.bytes - left)
    this.#backlog.putBack(queue, left)
    if (this.#backlog.bytes > 0) this.outlet.slow.progressed(this)
    else this.outlet.slow.forget(this)
    this.wire.drained(() => this.#resume())
  }

  #resume(): void {
    this.isStalled = false
    this.progressed()
    this.flush()
  }

  #flushBacklog(backlog: Backlog): void {
    if (this.isStalled || this.state !== 'open') return
    for (let next = backlog.take(); next; next = backlog.take()) if (!this.#write(next)) return
    this.outlet.slow.forget(this)
    this.#backlog = undefined
    this.tellDrained()
  }

  #overflow(segment: Segment): boolean {
    if (this.outlet.slowConsumer === 'close') this.cut(segment)
    else this.#shed(segment)
    return this.state !== 'closing' && !isPublished(segment)
  }

  /** Closes a connection that is too slow, or drops what waits for it. False when there was nothing to drop. */
  giveUp(): boolean {
    if (this.outlet.slowConsumer === 'drop') return this.#shed() > 0
    this.cut()
    return true
  }

  /** Closes a connection that is too slow, without writing what it has not taken. */
  cut(refused?: Segment): void {
    this.outlet.dropped(countMessages(this.discard(refused)), 'slow_consumer')
    this.outlet.limited(this, 'slow_consumer')
    // After what the socket has taken, like the close frame. Clients that are cut off together reconnect one by one.
    if (this.state === 'open') this.writeAll(this.coded(reconnectSegment(this.outlet.reconnectAfter())))
    this.finish(CLOSE.SLOW_CONSUMER, 'slow consumer')
  }

  /** Drops the publications that wait, sends a `gap` and returns how many they were. */
  #shed(refused?: Segment): number {
    const backlog = this.#backlog!
    const { lost, isTold } = backlog.drop(refused, gap => this.coded(gap))
    this.outlet.dropped(lost, 'slow_consumer')
    if (lost > 0) this.outlet.limited(this, 'slow_consumer')
    if (isTold) this.outlet.gapped('slow_consumer')
    this.outlet.slow.forget(this)
    // Only replies are left: a client that asks and does not read is cut off.
    if (backlog.bytes > this.outlet.budget) this.cut()
    else if (backlog.bytes > 0) this.outlet.slow.waits(this)
    return lost
  }

  /** Removes and returns what was not written, in order, with `refused` at the end. */
  protected discard(refused?: Segment): Segment[] {
    if (this.#tail) this.#seal(this.#tail)
    const unsent = [...(this.#backlog?.clear() ?? []), ...(this.#queue?.segments() ?? [])]
    this.#queue = undefined
    this.outlet.slow.forget(this)
    return refused ? [...unsent, refused] : unsent
  }

  /** Writes `queue` even if the socket is full: only the close follows. */
  protected writeAll(queue: Queue): void {
    for (const part of this.wire.parts(queue)) this.wire.write(part)
    this.#wrote(queue, queue.bytes)
  }

  #wrote(queue: Queue, bytes: number): void {
    this.outlet.writtenBytes += bytes
    if (tracing.write.hasSubscribers) this.traceWrite(queue, bytes)
  }
}
