import { CLOSE, encodeMessage, type GapReason } from '../protocol/messages.ts'
import type { Topic } from '../protocol/topic.ts'
import { Backlog, type HeldMemory } from './backlog.ts'
import { countMessages, directSegment, isPublished, type Queue, queueWith, type Segment } from './queue.ts'
import { ReplayBarriers } from './replay-barrier.ts'
import type { SlowConsumers } from './slow-consumers.ts'
import type { Tail } from './tail.ts'
import { type Part, partBytes, type Transport } from './transport.ts'

/** What a writer needs of the node: shared by all, so that each holds one reference. */
export interface WriterOutlet {
  /** Bytes that may wait for a connection for as long as it likes, and what it never has more of. */
  readonly budget: number
  readonly ceiling: number
  readonly slowConsumer: 'close' | 'drop'
  readonly slow: SlowConsumers<Writer>
  readonly held: HeldMemory
  /** Asks for `flush` soon. */
  schedule(writer: Writer): void
  /** `bytes` of new frames are about to be given to connections: makes room for them. */
  delivered(bytes: number): void
  /** Messages were dropped unwritten for a slow connection, which was told. */
  dropped(messages: number, reason: GapReason | 'closed'): void
  /** A client was told of a gap. */
  gapped(reason: GapReason): void
  /** Milliseconds after which a connection that is cut now is to come back. */
  reconnectAfter(): number
}

/** Shared, since nearly all connections have none: never added to. */
const NOBODY: (() => void)[] = []

/** What waits to be written to one socket, and who pays when that does not take it. The end is what extends it. */
export abstract class Writer {
  // What every delivery reads stands first, side by side: two lines of the processor's cache instead of four.
  /** Topics on which it is being brought up to date; undefined while there are none. */
  barriers: ReplayBarriers | undefined
  protected state: 'opening' | 'open' | 'closing' = 'opening'
  #scheduled = false
  /** What is to be written. */
  #queue: Queue | undefined
  /** What waits behind the queue, and may grow. */
  #tail: Tail | undefined
  /** Everything that is pushed, in the place of the queue, while the socket takes no more or there was no welcome yet. */
  #backlog: Backlog | undefined
  protected outlet: WriterOutlet
  protected transport: Transport
  /** Replays that wait for the socket. */
  #onDrained: (() => void)[] = NOBODY
  /** The socket takes no more. */
  #stalled = false

  constructor(transport: Transport, outlet: WriterOutlet) {
    this.transport = transport
    this.outlet = outlet
    this.#backlog = new Backlog(outlet.held)
  }

  /** Closes the socket, behind all that was written. */
  protected abstract finish(code: number, reason: string): void
  /** The socket took something. */
  protected abstract progressed(): void

  /** Bytes that wait here or in the socket. */
  get buffered(): number {
    return this.#waiting + this.transport.buffered
  }

  get #waiting(): number {
    const queued = (this.#queue ? this.#queue.bytes : 0) + (this.#tail ? this.#tail.bytes : 0)
    return queued + (this.#backlog ? this.#backlog.bytes : 0)
  }

  /** Writes `first`, then whatever was pushed before there was a first. */
  protected start(first: Segment): void {
    this.state = 'open'
    if (!this.#write(first)) return
    if (this.#waiting > 0) return this.#schedule()
    this.#backlog = undefined
    this.tellDrained()
  }

  /** Resolves when nothing waits for the socket any more, or the connection is closing. */
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

  /** The end of what waits, when a message on `topic` may be added to it. */
  tailFor(topic: Topic): Tail | undefined {
    return this.barriers?.get(topic) ? undefined : this.#tail
  }

  /** What it was given last and has not written. */
  get last(): Segment | undefined {
    return this.#tail ?? this.#queue?.last
  }

  /** Whether `begin` would take a tail, as far as can be said without one. */
  takesTail(topic: Topic): boolean {
    return this.state === 'open' && !this.#backlog && !this.barriers?.get(topic)
  }

  /**
   * Puts `tail`, which holds a message on `topic`, at the end. False when it has to be given a segment instead: it is
   * being opened or brought up to date, its socket takes no more, much waits, or it is closing.
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

  /** From now on live messages of `topic` go through a barrier: what was given before goes out before. */
  withhold(topic: Topic): void {
    if (this.#tail) this.#seal(this.#tail)
    this.barriers ??= new ReplayBarriers()
    this.barriers.close(topic)
  }

  /** Takes the barrier away. */
  unbar(topic: Topic): void {
    if (!this.barriers) return
    this.barriers.forget(topic)
    if (this.barriers.isEmpty) this.barriers = undefined
  }

  /** Gives `segment` to the connection, or to the barrier of its topic; false when it is too slow. */
  give(segment: Segment): boolean {
    if (this.barriers === undefined) return this.push(segment)
    const admitted = this.barriers.admit(segment)
    if (this.barriers.isEmpty) this.barriers = undefined
    // What a replay brings instead counts as pushed.
    return admitted === undefined || this.push(admitted)
  }

  /** Something else follows the tail. */
  #seal(tail: Tail): void {
    this.#queue = queueWith(this.#queue, tail)
    this.#tail = undefined
    tail.leave(true)
  }

  /** Queues `segment`; false when it was not taken. Called once per connection and delivery, so it does little. */
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

  /** Keeps `segment` for when the socket takes more. */
  #hold(segment: Segment): boolean {
    const { budget, ceiling, slow } = this.outlet
    // What the node itself has not got round to writing is no fault of the client.
    if (!this.#stalled && this.#waiting + segment.bytes > budget) this.flush()
    const backlog = this.#backlog
    if (!backlog) return this.#enqueue(segment)
    const buffered = this.buffered + segment.bytes
    if (buffered > ceiling) return this.#overflow(segment)
    if (backlog.bytes === 0) slow.waits(this)
    backlog.push(segment)
    if (buffered > budget) slow.exceeds(this)
    return true
  }

  /** Writes what is queued as far as the socket takes it. */
  flush(): void {
    this.#scheduled = false
    if (this.#backlog !== undefined) return this.#flushBacklog(this.#backlog)
    if (this.#tail) {
      if (!this.#queue) return this.#flushTail(this.#tail)
      this.#seal(this.#tail)
    }
    const queue = this.#queue
    if (!queue) return
    this.#queue = undefined
    if (this.#write(queue)) this.tellDrained()
  }

  #flushTail(tail: Tail): void {
    this.#tail = undefined
    const isWritten = this.#write(tail)
    // The socket reads from it until it has taken everything.
    tail.leave(!isWritten || this.transport.buffered > 0)
    if (isWritten) this.tellDrained()
  }

  /** False when the socket wants no more; what it did not take then waits. */
  #write(queue: Queue): boolean {
    const parts = this.transport.parts(queue)
    for (let i = 0; i < parts.length; i++) {
      if (this.transport.write(parts[i]!)) continue
      this.#stall(queue, parts.slice(i + 1))
      return false
    }
    return true
  }

  /** The socket did not take `rest`, which is the end of `queue`. */
  #stall(queue: Queue, rest: readonly Part[]): void {
    this.#stalled = true
    this.#backlog ??= new Backlog(this.outlet.held)
    const left = rest.reduce((bytes, part) => bytes + partBytes(part), 0)
    this.#backlog.putBack(queue, left)
    if (this.#backlog.bytes > 0) this.outlet.slow.progressed(this)
    else this.outlet.slow.forget(this)
    this.transport.drained(() => this.#resume())
  }

  #resume(): void {
    this.#stalled = false
    this.progressed()
    this.flush()
  }

  #flushBacklog(backlog: Backlog): void {
    if (this.#stalled || this.state !== 'open') return
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

  /** It is too slow. False when there was nothing to drop. */
  giveUp(): boolean {
    if (this.outlet.slowConsumer === 'drop') return this.#shed() > 0
    this.cut()
    return true
  }

  /** Closes a connection that is too slow, without writing what it has not taken. */
  cut(refused?: Segment): void {
    const isWelcome = this.state === 'open'
    this.outlet.dropped(countMessages(this.discard(refused)), 'slow_consumer')
    // Behind what the socket has taken already, as the close frame is. Those who are cut together come back one by one.
    if (isWelcome) this.writeAll(directSegment(encodeMessage('reconnect', { after: this.outlet.reconnectAfter() })))
    this.finish(CLOSE.SLOW_CONSUMER, 'slow consumer')
  }

  /** Drops what waits of publications, tells it, and says how many they were. */
  #shed(refused?: Segment): number {
    const backlog = this.#backlog!
    const { lost, isTold } = backlog.drop(refused)
    this.outlet.dropped(lost, 'slow_consumer')
    if (isTold) this.outlet.gapped('slow_consumer')
    this.outlet.slow.forget(this)
    // What is left are answers: a client that asks without reading is cut off.
    if (backlog.bytes > this.outlet.budget) this.cut()
    else if (backlog.bytes > 0) this.outlet.slow.waits(this)
    return lost
  }

  /** Gives up what was not written, and says what that was, in order, with `refused` behind it. */
  protected discard(refused?: Segment): Segment[] {
    if (this.#tail) this.#seal(this.#tail)
    const unsent = [...(this.#backlog?.clear() ?? []), ...(this.#queue?.segments() ?? [])]
    this.#queue = undefined
    this.outlet.slow.forget(this)
    return refused ? [...unsent, refused] : unsent
  }

  /** Writes `queue` whether or not the socket wants it: nothing comes behind it but the end. */
  protected writeAll(queue: Queue): void {
    for (const part of this.transport.parts(queue)) this.transport.write(part)
  }
}
