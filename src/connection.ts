import { Backlog, type HeldMemory } from './backlog.ts'
import { errors } from './errors.ts'
import type { Gates } from './gate.ts'
import type { Identity, PushConnection } from './identity.ts'
import { CLOSE, closeProblem, encodeMessage, type Gap, type GapReason, type Ref } from './protocol.ts'
import { countMessages, directSegment, gapSegment, isPublished, type Queue, queueWith, type Segment } from './queue.ts'
import { type Joined, topicsOf } from './registry.ts'
import type { SlowConsumers } from './slow-consumers.ts'
import type { Tail } from './tail.ts'
import type { Topic } from './topic.ts'
import { partBytes, type Transport } from './transport.ts'

/** What a connection needs of the node: shared by all, so that a connection holds one reference. */
export interface Outlet {
  /** Bytes that may wait for a connection for as long as it likes, and what it never has more of. */
  readonly budget: number
  readonly ceiling: number
  readonly slowConsumer: 'close' | 'drop'
  readonly slow: SlowConsumers<Connection>
  readonly held: HeldMemory
  /** Asks for `flush` soon. */
  schedule(connection: Connection): void
  /** `bytes` of new frames are about to be given to connections: makes room for them. */
  delivered(bytes: number): void
  /** Messages were dropped unwritten for a slow connection, which was told. */
  dropped(messages: number, reason: GapReason | 'closed'): void
  /** A client was told of a gap. */
  gapped(reason: GapReason): void
  closing(connection: Connection): void
  /** Milliseconds after which a connection that is cut now is to come back. */
  reconnectAfter(): number
}

/** Shared, since nearly all connections have none: never added to. */
const NOBODY: (() => void)[] = []

type State = 'opening' | 'open' | 'closing'

/** One socket: what it waits to be told, how much of that may wait, and its end. */
export class Connection implements PushConnection {
  // What every delivery reads stands first, side by side: two lines of the processor's cache instead of four.
  /** Topics on which it is being brought up to date; undefined while there are none. */
  gates: Gates | undefined
  #state: State = 'opening'
  #scheduled = false
  /** What is to be written. */
  #queue: Queue | undefined
  /** What waits behind the queue, and may grow. */
  #tail: Tail | undefined
  /** Everything that is pushed, in the place of the queue, while the socket takes no more or there was no welcome yet. */
  #backlog: Backlog | undefined
  #outlet: Outlet
  #transport: Transport
  /** Replays that wait for the socket. */
  #onDrained: (() => void)[] = NOBODY
  readonly id: string
  readonly user: string | null
  readonly data: unknown
  readonly allow: Identity['allow']
  readonly expires: number | undefined
  /** Topics beyond those that every connection has; undefined while there are none. */
  subscriptions: Joined
  /** Ticks of the heartbeat since the last byte came in, and how many bytes had come by then. */
  idle = 0
  seen = 0
  /** Ticks since the close frame was sent; counted by the heartbeat. */
  closingFor = 0
  /** The socket takes no more. */
  #stalled = false

  constructor(identity: Identity, transport: Transport, outlet: Outlet) {
    this.id = identity.id
    this.user = identity.user
    this.data = identity.data
    this.allow = identity.allow
    this.expires = identity.expires
    this.#transport = transport
    this.#outlet = outlet
    this.#backlog = new Backlog(outlet.held)
  }

  get topics(): ReadonlySet<Topic> {
    return new Set(topicsOf(this))
  }

  /** Not welcomed yet: what is pushed waits. */
  get isOpening(): boolean {
    return this.#state === 'opening'
  }

  get isClosing(): boolean {
    return this.#state === 'closing'
  }

  /** Undefined where the socket does not count what it receives. */
  get received(): number | undefined {
    return this.#transport.received
  }

  /** Bytes that wait here or in the socket. */
  get buffered(): number {
    return this.#waiting + this.#transport.buffered
  }

  get #waiting(): number {
    return (
      (this.#queue ? this.#queue.bytes : 0) +
      (this.#tail ? this.#tail.bytes : 0) +
      (this.#backlog ? this.#backlog.bytes : 0)
    )
  }

  /** Sends the welcome, then whatever was pushed meanwhile. */
  open(welcome: string): void {
    if (this.#state !== 'opening') return
    this.#state = 'open'
    if (!this.#write(directSegment(welcome))) return
    if (this.#waiting > 0) return this.#schedule()
    this.#backlog = undefined
    this.#tellDrained()
  }

  send(type: string, payload?: unknown): boolean {
    return this.tell(encodeMessage(type, payload))
  }

  reply(type: string, payload: unknown, ref: Ref | undefined): boolean {
    return this.tell(encodeMessage(type, payload, ref))
  }

  sendBinary(bytes: Uint8Array): boolean {
    return this.tell(bytes)
  }

  tell(message: string | Uint8Array): boolean {
    const segment = directSegment(message)
    this.#outlet.delivered(segment.bytes)
    return this.push(segment)
  }

  /** Tells the client that messages of `topics` were or may have been missed here. */
  gap(topics: readonly Topic[], reason: GapReason, positions?: Gap['positions']): void {
    this.#outlet.gapped(reason)
    this.push(gapSegment(topics, reason, positions))
  }

  /** Resolves when nothing waits for the socket any more, or the connection is closing. */
  drained(): Promise<void> {
    if (this.#isDrained) return Promise.resolve()
    return new Promise(resolve => {
      this.#onDrained = [...this.#onDrained, resolve]
    })
  }

  get #isDrained(): boolean {
    return this.#state === 'closing' || !(this.#backlog || this.#queue || this.#tail)
  }

  #tellDrained(): void {
    if (this.#onDrained === NOBODY || !this.#isDrained) return
    for (const resolve of this.#onDrained) resolve()
    this.#onDrained = NOBODY
  }

  /** The end of what waits, when it may be added to. */
  get tail(): Tail | undefined {
    return this.gates === undefined ? this.#tail : undefined
  }

  /** What it was given last and has not written. */
  get last(): Segment | undefined {
    return this.#tail ?? this.#queue?.last
  }

  /**
   * Puts `tail` at the end. False when this connection has to be given a segment instead: it is being opened or brought
   * up to date, reads too slowly, has much waiting, or is closing.
   */
  begin(tail: Tail): boolean {
    if (this.#state !== 'open' || this.#backlog || this.gates) return false
    if (this.#tail) this.#seal(this.#tail)
    if (this.#queue && this.#queue.bytes + tail.bytes > this.#outlet.budget) return false
    this.#tail = tail
    tail.join()
    this.#schedule()
    return true
  }

  /** Something else follows the tail. */
  #seal(tail: Tail): void {
    this.#queue = queueWith(this.#queue, tail)
    this.#tail = undefined
    tail.leave(true)
  }

  /** Queues `segment`; false when it was not taken. Called once per connection and delivery, so it does little. */
  push(segment: Segment): boolean {
    if (this.#state === 'closing') return false
    if (this.#backlog !== undefined) return this.#hold(segment)
    if (this.#tail) this.#seal(this.#tail)
    const bytes = (this.#queue ? this.#queue.bytes : 0) + segment.bytes
    // What the node itself has not got round to writing is no fault of the client: it is written now.
    if (bytes > this.#outlet.budget && !this.#flushed()) return this.#hold(segment)
    this.#queue = queueWith(this.#queue, segment)
    this.#schedule()
    return true
  }

  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    this.#outlet.schedule(this)
  }

  /** Keeps `segment` for when the socket takes more. */
  #hold(segment: Segment): boolean {
    if (this.buffered + segment.bytes > this.#outlet.ceiling && !this.#flushed()) return this.#overflow(segment)
    if (!this.#backlog) return this.push(segment)
    this.#backlog.push(segment)
    this.#outlet.slow.waits(this)
    return true
  }

  /** Whether everything is written that was queued. */
  #flushed(): boolean {
    this.flush()
    return this.#backlog === undefined
  }

  /** Writes what is queued as far as the socket takes it. */
  flush(): void {
    this.#scheduled = false
    if (this.#stalled || this.#state !== 'open') return
    if (this.#backlog) return this.#writeBacklog(this.#backlog)
    if (this.#tail) {
      if (!this.#queue) return this.#flushTail(this.#tail)
      this.#seal(this.#tail)
    }
    const queue = this.#queue
    if (!queue) return
    this.#queue = undefined
    if (this.#write(queue)) this.#tellDrained()
  }

  #flushTail(tail: Tail): void {
    this.#tail = undefined
    const isWritten = this.#write(tail)
    // The socket reads from it until it has taken everything.
    tail.leave(!isWritten || this.#transport.buffered > 0)
    if (isWritten) this.#tellDrained()
  }

  /** False when the socket wants no more; what it did not take then waits. */
  #write(queue: Queue): boolean {
    let left = queue.bytes
    for (const part of this.#transport.parts(queue)) {
      left -= partBytes(part)
      if (this.#transport.write(part)) continue
      this.#stall(queue, left)
      return false
    }
    return true
  }

  #stall(queue: Queue, left: number): void {
    this.#stalled = true
    this.#backlog ??= new Backlog(this.#outlet.held)
    this.#backlog.putBack(queue, left)
    if (this.#backlog.bytes > 0) this.#outlet.slow.progressed(this)
    else this.#outlet.slow.forget(this)
    this.#transport.drained(() => this.#resume())
  }

  #resume(): void {
    this.#stalled = false
    // A peer that takes what is written is alive, even if its answer to a ping is behind all that.
    this.idle = 0
    this.flush()
  }

  #writeBacklog(backlog: Backlog): void {
    for (let next = backlog.take(); next; next = backlog.take()) if (!this.#write(next)) return
    this.#outlet.slow.forget(this)
    this.#backlog = undefined
    this.#tellDrained()
  }

  #overflow(segment: Segment): boolean {
    if (this.#outlet.slowConsumer === 'close') this.cut(segment)
    else this.#shed(segment)
    return this.#state !== 'closing' && !isPublished(segment)
  }

  /** It is too slow. False when there was nothing to drop. */
  giveUp(): boolean {
    if (this.#outlet.slowConsumer === 'drop') return this.#shed() > 0
    this.cut()
    return true
  }

  /** Closes a connection that is too slow, without writing what it has not taken. */
  cut(refused?: Segment): void {
    const isWelcome = this.#state === 'open'
    this.#outlet.dropped(countMessages(this.#discard(refused)), 'slow_consumer')
    // Behind what the socket has taken already, as the close frame is. Those who are cut together come back one by one.
    if (isWelcome) this.#writeAll(directSegment(encodeMessage('reconnect', { after: this.#outlet.reconnectAfter() })))
    this.#finish(CLOSE.SLOW_CONSUMER, 'slow consumer')
  }

  /** Drops what waits of publications, tells it, and says how many they were. */
  #shed(refused?: Segment): number {
    const backlog = this.#backlog!
    const { lost, isTold } = backlog.drop(refused)
    this.#outlet.dropped(lost, 'slow_consumer')
    if (isTold) this.#outlet.gapped('slow_consumer')
    this.#outlet.slow.forget(this)
    // What is left are answers: a client that asks without reading is cut off.
    if (backlog.bytes > this.#outlet.budget) this.cut()
    else if (backlog.bytes > 0) this.#outlet.slow.waits(this)
    return lost
  }

  /** Gives up what was not written, and says what that was, in order, with `refused` behind it. */
  #discard(refused?: Segment): Segment[] {
    if (this.#tail) this.#seal(this.#tail)
    const unsent = [...(this.#backlog?.clear() ?? []), ...(this.#queue?.segments() ?? [])]
    this.#queue = undefined
    this.#outlet.slow.forget(this)
    return refused ? [...unsent, refused] : unsent
  }

  close(code: number = CLOSE.NORMAL, reason = ''): void {
    if (this.#state === 'closing') return
    // Before anything else: ws throws for these, and a connection that is half closed is never ended.
    const problem = closeProblem(code, reason)
    if (problem) throw new errors.FIELD(problem)
    if (this.#tail) this.#seal(this.#tail)
    const queue = this.#queue
    const unsent = this.#discard()
    if (this.#state === 'opening') this.#outlet.dropped(countMessages(unsent), 'closed')
    else if (queue) this.#writeAll(queue)
    // One by one: joining all that waits would copy what others share.
    else for (const segment of unsent) this.#writeAll(segment)
    this.#finish(code, reason)
  }

  /** Writes `queue` whether or not the socket wants it: nothing comes behind it but the end. */
  #writeAll(queue: Queue): void {
    for (const part of this.#transport.parts(queue)) this.#transport.write(part)
  }

  #finish(code: number, reason: string): void {
    if (this.#state === 'closing') return
    this.#state = 'closing'
    this.#transport.close(code, reason)
    this.#outlet.closing(this)
    this.#tellDrained()
  }

  ping(): void {
    this.#transport.ping()
  }

  terminate(): void {
    this.#transport.terminate()
  }

  /** The socket is gone: nothing is counted or written any more. */
  gone(): void {
    this.#state = 'closing'
    this.#outlet.dropped(countMessages(this.#discard()), 'closed')
    this.#tellDrained()
  }
}
