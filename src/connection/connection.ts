import { tracing } from '../broker/tracing.ts'
import type { Codec } from '../protocol/codecs/codec.ts'
import { errors } from '../protocol/errors.ts'
import { CLOSE, closeProblem, encodeMessage, type Gap, type GapReason, type Ref } from '../protocol/messages.ts'
import type { Topic } from '../protocol/topic.ts'
import { type Identity, type PushConnection, sinceStart } from './identity.ts'
import { countMessages, directSegment, gapSegment, type Queue, type Segment } from './queue.ts'
import { type Joined, topicsOf } from './registry.ts'
import type { Transport } from './transport.ts'
import { Writer, type WriterOutlet } from './writer.ts'

/** The part of the node that a connection uses. */
export interface Outlet extends WriterOutlet {
  closing(connection: Connection): void
  /** Messages were written anew in `codec`; `failed` of them, which were published, cannot be. */
  recoded(codec: string, messages: number, failed: number): void
}

/** One socket: who it belongs to, what is sent to it, and how it is closed. */
export class Connection extends Writer implements PushConnection {
  declare protected outlet: Outlet
  readonly id: string
  readonly user: string | null
  data: unknown
  info: string
  allow: Identity['allow']
  expires: number | undefined
  began: number
  /** When it was opened, as `sinceStart`. */
  readonly opened = sinceStart(Date.now())
  /** The client was told that its identity expires. */
  isWarned = false
  /** How often its identity was replaced. */
  renewals = 0
  /** Topics besides its own (`all`, `connection:ID`, `user:ID`); undefined while there are none. */
  subscriptions: Joined
  joined = 0
  /** Heartbeat ticks since the last byte arrived, and how many bytes had arrived by then. */
  idle = 0
  seen = 0
  /** Heartbeat ticks since the close frame was sent. */
  closingFor = 0

  constructor(identity: Identity, transport: Transport, outlet: Outlet) {
    super(transport, outlet)
    this.id = identity.id
    this.user = identity.user
    this.data = identity.data
    this.info = identity.info
    this.allow = identity.allow
    this.expires = identity.expires
    this.began = identity.began
  }

  /** Another identity of the same user takes the place of the one before. */
  become({ data, info, allow, expires, began }: Omit<Identity, 'id' | 'user'>): void {
    this.data = data
    this.info = info
    this.allow = allow
    this.expires = expires
    this.began = began
    this.isWarned = false
    this.renewals++
  }

  get transport(): 'websocket' | 'sse' {
    return this.wire.kind
  }

  /** What its messages are written with; undefined for JSON. */
  get codec(): Codec | undefined {
    return undefined
  }

  protected coded(segment: Segment): Segment {
    return segment
  }

  get topics(): ReadonlySet<Topic> {
    return new Set(topicsOf(this))
  }

  /** The welcome was not sent yet: what is pushed is queued. */
  get isOpening(): boolean {
    return this.state === 'opening'
  }

  get isClosing(): boolean {
    return this.state === 'closing'
  }

  /** Bytes received; undefined if the socket does not count them. */
  get received(): number | undefined {
    return this.wire.received
  }

  /** Sends the welcome, then what was queued until now. */
  open(welcome: string): void {
    if (this.state === 'opening') this.start(this.coded(directSegment(welcome)))
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
    this.outlet.delivered(segment.bytes)
    return this.push(segment)
  }

  /** Tells the client that it missed, or may have missed, messages of `topics` at this point. */
  gap(topics: readonly Topic[], reason: GapReason, positions?: Gap['positions']): void {
    this.outlet.gapped(reason)
    this.push(gapSegment(topics, reason, positions))
  }

  close(code: number = CLOSE.NORMAL, reason = ''): void {
    if (this.state === 'closing') return
    // First of all: `ws` throws for these, and a half-closed connection would never end.
    const problem = closeProblem(code, reason)
    if (problem) throw new errors.FIELD(problem)
    this.flush()
    const unsent = this.discard()
    if (this.state === 'opening') this.outlet.dropped(countMessages(unsent), 'closed')
    // One by one: joining them would copy what connections share.
    else for (const segment of unsent) this.writeAll(segment)
    this.finish(code, reason)
  }

  protected finish(code: number, reason: string): void {
    if (this.state === 'closing') return
    this.state = 'closing'
    this.#dropWithheld()
    this.wire.close(code, reason)
    this.outlet.closing(this)
    this.tellDrained()
  }

  /** A peer that reads what is written is alive, even if its answer to a ping is still waiting behind it. */
  protected progressed(): void {
    this.idle = 0
  }

  protected traceWrite(queue: Queue, bytes: number): void {
    const topics = [...new Set(queue.segments().flatMap(segment => segment.topics))]
    tracing.write.publish({ connection: this.id, user: this.user, topics, bytes })
  }

  ping(): void {
    this.wire.ping()
  }

  terminate(): void {
    this.wire.terminate()
  }

  /** The socket has closed. What is still queued counts as dropped. */
  gone(): void {
    this.state = 'closing'
    this.outlet.dropped(countMessages(this.discard()), 'closed')
    this.#dropWithheld()
    this.tellDrained()
  }

  /** A replay that has not ended by now never will. */
  #dropWithheld(): void {
    if (!this.barriers) return
    this.outlet.dropped(this.barriers.withheld, 'closed')
    this.barriers = undefined
  }
}
