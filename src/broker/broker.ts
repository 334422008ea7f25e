import type { PushError } from '../protocol/errors.ts'
import type { GapReason } from '../protocol/messages.ts'
import type { Position } from '../protocol/position.ts'
import type { Slice } from '../protocol/slice.ts'
import type { Topic } from '../protocol/topic.ts'

/** One publication or command on its way to the nodes. */
export interface Outgoing {
  topic: Topic
  /** Envelope as JSON text. */
  envelope: string
  /** The token inside the envelope, when the publisher wants to know what the nodes did. */
  receipt?: string | undefined
  /** Present when the publication is to be recorded. */
  history?: HistoryRule | undefined
  /** Makes a repeated recorded publication harmless. */
  idempotencyKey?: string | undefined
}

/** How much of a topic is kept: the newest `size` entries, none of them older than `ttl` seconds. */
export interface HistoryRule {
  size: number
  ttl: number
}

/** What one node did with an envelope that carried a receipt token. */
export interface NodeAnswer {
  node: string
  delivered: number
  skipped: number
  /** How many connections acknowledged it in time, when that was asked for. */
  acknowledged?: number
  /** How many were skipped for each reason; left out when none was. */
  reasons?: Record<string, number>
  /** Why the node could not use the envelope. */
  rejected?: { reason: string; message: string }
}

/** `answers` and `complete` come with a receipt; `complete` is false when a node stayed silent until the deadline. */
export interface Sent {
  nodes: number
  answers?: NodeAnswer[]
  complete?: boolean
  /** Where it was recorded. */
  position?: Position
  /** It had been recorded before, under the same idempotency key: nothing was done. */
  duplicate?: boolean
}

/** One publication as the broker hands it to a node: bytes, because any program may have written them. */
export interface Incoming {
  topic: Topic
  envelope: Slice
  /** How many subscribers of this node were handed it: their answers make one answer of the node. */
  sharers: number
  /** Where a recorded publication stands. */
  position?: Position | undefined
}

/** A recorded publication as it is read back. */
export interface HistoryEntry {
  position: Position
  envelope: Buffer
}

/** What of a topic's history comes after a position. */
export interface HistoryPage {
  /** Why it cannot be shown that nothing is missing; then there are no entries. */
  gap?: GapReason
  /** Where the topic stood when it was read. */
  head: Position
  entries: readonly HistoryEntry[]
  /** Whether the entries reach the head. */
  isComplete: boolean
}

export interface PageLimits {
  count: number
  /** Of envelopes; one that is larger than this comes alone. */
  bytes: number
}

/** An envelope that could not be used. */
export interface RejectedNote {
  topic: Topic
  reason: string
  message: string
  envelope: Uint8Array
}

/** The side of a node that a broker talks to. None of these may throw. */
export interface Subscriber {
  receive(incoming: Incoming): void
  /**
   * Messages of these topics were or may have been missed before what is received next. A client that was told so goes
   * on from the position given.
   */
  lost(reason: GapReason, topics: ReadonlyMap<Topic, Position | undefined>): void
  /** So many publications of `topic` that were missed have been received from its history: for the counters. */
  filled(topic: Topic, publications: number): void
  holds(topic: Topic): boolean
  /** Whether a rule of this node says that publications on `topic` are recorded. */
  isRecorded(topic: Topic): boolean
  /** Every topic that is held, each once. */
  topics(): Iterable<Topic>
}

/** Carries publications between nodes. Every implementation passes `test/broker/suite.ts`. */
export interface Broker {
  readonly kind: 'memory' | 'redis'
  readonly node: string
  /** False while publications cannot be sent or received. */
  readonly connected: boolean
  /** Whether publications can be recorded, as far as known. */
  readonly canRecord: boolean
  /** Topics that are being filled from their history: what their connections get is late. */
  readonly filling: number
  /** Bytes that have come in and wait to be handed to the subscribers. */
  readonly backlog: number
  /** Milliseconds that what is received is late: it was published so long ago. */
  readonly lag: number
  /** Topics that are held and cannot be received: the broker refuses them to this node. */
  readonly refused: number

  attach(subscriber: Subscriber): void
  detach(subscriber: Subscriber): void

  /**
   * Resolves when every publication after the positions given is received: where the topics stand, without those of
   * which that cannot be known. May take as long as Redis is away. Idempotent.
   */
  subscribe(topics: readonly Topic[]): Promise<ReadonlyMap<Topic, Position>>
  /** Leaves the topic unless an attached subscriber still holds it. */
  unsubscribe(topic: Topic): void

  /** What comes after `since` in a topic. Rejects with a PushError while the broker is away. */
  history(topic: Topic, since: string, limits: PageLimits): Promise<HistoryPage>

  /** Settles within the publish timeout, one result for each item and in its order. */
  publish(items: readonly Outgoing[]): Promise<(Sent | PushError)[]>
  /** Tells the publisher that asked for a receipt what this node did. */
  answer(incoming: Incoming, token: string, answer: Omit<NodeAnswer, 'node'>): void
  /** Keeps a trace of an envelope that could not be used. */
  note(rejected: RejectedNote): void

  /** How many nodes are alive. */
  nodes(): Promise<number>
  putTicket(token: string, identity: string, ttlSeconds: number): Promise<void>
  /** The identity behind a ticket, which is spent by asking; null when there is none. */
  takeTicket(token: string): Promise<string | null>

  close(): Promise<void>
}
