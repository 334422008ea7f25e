import { errors } from '../protocol/errors.ts'
import { CLOSE, closeProblem, encodeMessage, type Gap, type GapReason, type Ref } from '../protocol/messages.ts'
import type { Topic } from '../protocol/topic.ts'
import type { Identity, PushConnection } from './identity.ts'
import { countMessages, directSegment, gapSegment } from './queue.ts'
import { type Joined, topicsOf } from './registry.ts'
import type { Transport } from './transport.ts'
import { Writer, type WriterOutlet } from './writer.ts'

/** What a connection needs of the node. */
export interface Outlet extends WriterOutlet {
  closing(connection: Connection): void
}

/** One socket: whose it is, what it is told, and its end. */
export class Connection extends Writer implements PushConnection {
  declare protected outlet: Outlet
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

  constructor(identity: Identity, transport: Transport, outlet: Outlet) {
    super(transport, outlet)
    this.id = identity.id
    this.user = identity.user
    this.data = identity.data
    this.allow = identity.allow
    this.expires = identity.expires
  }

  get topics(): ReadonlySet<Topic> {
    return new Set(topicsOf(this))
  }

  /** Not welcomed yet: what is pushed waits. */
  get isOpening(): boolean {
    return this.state === 'opening'
  }

  get isClosing(): boolean {
    return this.state === 'closing'
  }

  /** Undefined where the socket does not count what it receives. */
  get received(): number | undefined {
    return this.transport.received
  }

  /** Sends the welcome, then whatever was pushed meanwhile. */
  open(welcome: string): void {
    if (this.state === 'opening') this.start(directSegment(welcome))
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

  /** Tells the client that messages of `topics` were or may have been missed here. */
  gap(topics: readonly Topic[], reason: GapReason, positions?: Gap['positions']): void {
    this.outlet.gapped(reason)
    this.push(gapSegment(topics, reason, positions))
  }

  close(code: number = CLOSE.NORMAL, reason = ''): void {
    if (this.state === 'closing') return
    // Before anything else: ws throws for these, and a connection that is half closed is never ended.
    const problem = closeProblem(code, reason)
    if (problem) throw new errors.FIELD(problem)
    this.flush()
    const unsent = this.discard()
    if (this.state === 'opening') this.outlet.dropped(countMessages(unsent), 'closed')
    // One by one: joining all that waits would copy what others share.
    else for (const segment of unsent) this.writeAll(segment)
    this.finish(code, reason)
  }

  protected finish(code: number, reason: string): void {
    if (this.state === 'closing') return
    this.state = 'closing'
    this.transport.close(code, reason)
    this.outlet.closing(this)
    this.tellDrained()
  }

  /** A peer that takes what is written is alive, even if its answer to a ping is behind all that. */
  protected progressed(): void {
    this.idle = 0
  }

  ping(): void {
    this.transport.ping()
  }

  terminate(): void {
    this.transport.terminate()
  }

  /** The socket is gone: nothing is counted or written any more. */
  gone(): void {
    this.state = 'closing'
    this.outlet.dropped(countMessages(this.discard()), 'closed')
    this.tellDrained()
  }
}
