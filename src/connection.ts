import { errors } from './errors.ts'
import type { Gates } from './gate.ts'
import type { Identity, PushConnection } from './identity.ts'
import { CLOSE, closeProblem, encodeMessage, type Gap, type GapReason, type Ref } from './protocol.ts'
import {
  countMessages,
  directSegment,
  gapSegment,
  isPublished,
  lastBytes,
  type Queue,
  queueWith,
  type Segment,
} from './queue.ts'
import { type Joined, topicsOf } from './registry.ts'
import type { Tail } from './tail.ts'
import type { Topic } from './topic.ts'
import { type Part, partBytes, type Transport } from './transport.ts'

/** What a connection needs of the node: shared by all, so that a connection holds one reference. */
export interface Outlet {
  /** Bytes a connection may have waiting before it counts as slow. */
  readonly budget: number
  readonly slowConsumer: 'close' | 'drop'
  /** Asks for `flush` soon. */
  schedule(connection: Connection): void
  /** The socket takes no more (`true`) or takes more again (`false`). */
  stalled(connection: Connection, stalled: boolean): void
  /** Bytes were queued on a stalled connection, or left it when negative. */
  held(bytes: number): void
  /** Messages were dropped unwritten for a slow connection, which was told. */
  dropped(messages: number, reason: GapReason | 'closed'): void
  /** A client was told of a gap. */
  gapped(reason: GapReason): void
  closing(connection: Connection): void
}

const NOTHING: readonly Part[] = []
/** Shared, since nearly all connections have none: never added to. */
const NOBODY: (() => void)[] = []

type State = 'opening' | 'open' | 'closing'

/** One socket: what it waits to be told, how much of that may wait, and its end. */
export class Connection implements PushConnection {
  // What every delivery reads stands first, side by side: two lines of the processor's cache instead of four.
  /** Topics on which it is being brought up to date; undefined while there are none. */
  gates: Gates | undefined
  #state: State = 'opening'
  #stalled = false
  #scheduled = false
  #queue: Queue | undefined
  /** What waits behind the queue, and may grow. */
  #tail: Tail | undefined
  #unwritten = 0
  #outlet: Outlet
  #transport: Transport
  /** Replays that wait for the socket. */
  #onDrained: (() => void)[] = NOBODY
  readonly id: string
  readonly user: string | null
  readonly data: unknown
  readonly allow: readonly string[]
  readonly expires: number
  /** Topics beyond those that every connection has; undefined while there are none. */
  subscriptions: Joined
  /** Ticks of the heartbeat since the last byte came in, and how many bytes had come by then. */
  idle = 0
  seen = 0
  /** Ticks since the close frame was sent; counted by the heartbeat. */
  closingFor = 0
  /** Parts of a flush that the socket did not take; `#unwritten` are their bytes. */
  #rest: readonly Part[] = NOTHING
  /** The queue that `#rest` is the end of. */
  #flushing: Queue | undefined
  #held = 0

  constructor(identity: Identity, transport: Transport, outlet: Outlet) {
    this.id = identity.id
    this.user = identity.user
    this.data = identity.data
    this.allow = identity.allow
    this.expires = identity.expires
    this.#transport = transport
    this.#outlet = outlet
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
    return (this.#queue?.bytes ?? 0) + (this.#tail?.bytes ?? 0) + this.#unwritten
  }

  /** Sends the welcome, then whatever was pushed meanwhile. */
  open(welcome: string): void {
    if (this.#state !== 'opening') return
    this.#state = 'open'
    this.#write(this.#transport.parts(directSegment(welcome)), undefined)
    if (this.#queue) this.#schedule()
    else this.#tellDrained()
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
    return this.push(directSegment(message))
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
    return this.#state === 'closing' || (this.#state === 'open' && !this.#stalled && !this.#queue && !this.#tail)
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
    if (this.#state !== 'open' || this.#stalled || this.gates !== undefined) return false
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
    if (this.#tail) this.#seal(this.#tail)
    const bytes = (this.#queue ? this.#queue.bytes : 0) + segment.bytes
    if ((this.#stalled || bytes > this.#outlet.budget) && !this.#hasRoom(segment)) return this.#overflow(segment)
    this.#queue = queueWith(this.#queue, this.#stalled ? segment.detached() : segment)
    if (this.#stalled) this.#account()
    else this.#schedule()
    return true
  }

  #hasRoom(segment: Segment): boolean {
    // What the node itself has not got round to writing is no fault of the client.
    if (!this.#stalled && !this.isOpening) {
      this.flush()
      if (!this.#stalled) return true
    }
    return this.buffered + segment.bytes <= this.#outlet.budget
  }

  #schedule(): void {
    if (this.#scheduled || this.#state === 'opening') return
    this.#scheduled = true
    this.#outlet.schedule(this)
  }

  /** Writes the queue as far as the socket takes it. */
  flush(): void {
    this.#scheduled = false
    if (this.#stalled || this.#state !== 'open') return
    if (this.#tail) {
      if (!this.#queue) return this.#flushTail(this.#tail)
      this.#seal(this.#tail)
    }
    const queue = this.#queue
    if (!queue) return
    this.#queue = undefined
    this.#write(this.#transport.parts(queue), queue)
    this.#tellDrained()
  }

  #flushTail(tail: Tail): void {
    this.#tail = undefined
    this.#write(this.#transport.parts(tail), tail)
    // The socket reads from it until it has taken everything.
    tail.leave(this.#stalled || this.#transport.buffered > 0)
    this.#tellDrained()
  }

  #write(parts: readonly Part[], queue: Queue | undefined): void {
    for (let i = 0; i < parts.length; i++) {
      if (this.#transport.write(parts[i]!)) continue
      this.#stall(parts.slice(i + 1), queue)
      return
    }
  }

  #stall(rest: readonly Part[], queue: Queue | undefined): void {
    this.#rest = rest
    this.#flushing = rest.length > 0 ? queue : undefined
    this.#unwritten = rest.reduce((sum, part) => sum + partBytes(part), 0)
    this.#stalled = true
    this.#outlet.stalled(this, true)
    this.#account()
    this.#transport.drained(() => this.#resume())
  }

  #resume(): void {
    const rest = this.#rest
    const flushing = this.#flushing
    this.#release()
    if (this.#state === 'closing') return
    this.#write(rest, flushing)
    this.flush()
    this.#tellDrained()
  }

  #release(): void {
    if (!this.#stalled) return
    this.#stalled = false
    this.#rest = NOTHING
    this.#flushing = undefined
    this.#unwritten = 0
    this.#outlet.stalled(this, false)
    this.#account()
  }

  /** Tells the node how much of its memory this connection holds for want of room in the socket. */
  #account(): void {
    const held = this.#stalled ? this.#waiting : 0
    this.#outlet.held(held - this.#held)
    this.#held = held
  }

  #overflow(segment: Segment): boolean {
    if (this.#outlet.slowConsumer === 'drop') return this.shed('slow_consumer', segment)
    this.cut(segment)
    return false
  }

  /** Closes a connection that is too slow, without writing what it has not taken. */
  cut(refused?: Segment): void {
    const lost = countMessages(this.#unsent(refused))
    this.#discard()
    this.#outlet.dropped(lost, 'slow_consumer')
    this.#finish(CLOSE.SLOW_CONSUMER, 'slow consumer')
  }

  /** Drops unwritten publications and puts a `gap` that names their topics where they stood. */
  shed(reason: GapReason, refused?: Segment): boolean {
    const all = this.#unsent(refused)
    const lost = all.filter(isPublished)
    // Replies and errors are not for dropping: a client that asks without reading is cut off.
    const kept = all.filter(segment => !isPublished(segment))
    const topics = new Set(lost.flatMap(segment => segment.topics))
    this.#discard()
    this.#outlet.dropped(countMessages(lost), reason)
    if (lost.length > 0) {
      this.#outlet.gapped(reason)
      kept.push(gapSegment([...topics], reason))
    }
    for (const segment of kept) this.#queue = queueWith(this.#queue, segment)
    if (kept.some(segment => !isPublished(segment)) && this.buffered > this.#outlet.budget) this.cut()
    else if (this.#stalled) this.#account()
    else this.#schedule()
    return this.#state !== 'closing' && refused !== undefined && kept.includes(refused)
  }

  /** What was taken and not written, in order, and `refused` behind it. */
  #unsent(refused?: Segment): Segment[] {
    if (this.#tail) this.#seal(this.#tail)
    const left: Segment[] = []
    let bytes = this.#unwritten
    // Parts are made of whole frames, so the bytes that are left end where a frame begins.
    for (let queue = this.#flushing; queue && bytes > 0; queue = queue.before) {
      left.unshift(lastBytes(queue.last, bytes))
      bytes -= queue.last.bytes
    }
    return [...left, ...(this.#queue?.segments() ?? []), ...(refused ? [refused] : [])]
  }

  #discard(): void {
    this.#queue = undefined
    this.#rest = NOTHING
    this.#flushing = undefined
    this.#unwritten = 0
    this.#account()
  }

  close(code: number = CLOSE.NORMAL, reason = ''): void {
    if (this.#state === 'closing') return
    // Before anything else: ws throws for these, and a connection that is half closed is never ended.
    const problem = closeProblem(code, reason)
    if (problem) throw new errors.FIELD(problem)
    if (this.#tail) this.#seal(this.#tail)
    const queued = this.#queue && this.#state === 'open' ? this.#transport.parts(this.#queue) : NOTHING
    const unheard = this.#state === 'opening' ? countMessages(this.#unsent()) : 0
    if (unheard > 0) this.#outlet.dropped(unheard, 'closed')
    for (const part of [...this.#rest, ...queued]) this.#transport.write(part)
    this.#discard()
    this.#finish(code, reason)
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
    const unwritten = countMessages(this.#unsent())
    this.#queue = undefined
    this.#release()
    this.#tellDrained()
    if (unwritten > 0) this.#outlet.dropped(unwritten, 'closed')
  }
}
