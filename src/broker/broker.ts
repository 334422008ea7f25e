import type { PushError } from '../protocol/errors.ts'
import type { EncodedEvent } from '../protocol/event.ts'
import type { GapReason } from '../protocol/messages.ts'
import type { Position } from '../protocol/position.ts'
import type { Misquestion, Question } from '../protocol/question.ts'
import type { Slice } from '../protocol/slice.ts'
import type { Topic } from '../protocol/topic.ts'
import type { Inquiry, TopicTrouble } from './inquiry.ts'
import type { PresenceStore } from './presence.ts'
import type { StreamQueue, StreamQueueOptions } from './stream-queue.ts'
import type { NodeStep } from './trace-steps.ts'

/** A publication or control message for the nodes. */
export interface Outgoing {
  topic: Topic
  /** Envelope as JSON text. */
  envelope: string
  /** The token inside the envelope, if the publisher wants a receipt. */
  receipt?: string | undefined
  /** Whether the publisher wants to know when it was taken. */
  trace?: boolean | undefined
  /** Present if the publication is to be recorded. */
  history?: HistoryRule | undefined
  /** A repeat with the same key is recognised and not published again; only if it is recorded. */
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
  /** How many connections acknowledged it in time, if the publisher asked for that. */
  acknowledged?: number
  /** How many were skipped for each reason; absent if none were. */
  reasons?: Record<string, number>
  /** Why the node could not use the envelope. */
  rejected?: { reason: string; message: string }
  /** What happened when, if the publisher asked for that. */
  trace?: readonly NodeStep[]
}

/** `answers` and `complete` come with a receipt. `complete` is false if a node had not answered by the deadline. */
export interface Sent {
  nodes: number
  answers?: NodeAnswer[]
  complete?: boolean
  /** When the broker had taken it, in milliseconds since 1970, if that was asked for. */
  takenAt?: number
  /** Its position, if it was recorded. */
  position?: Position
  /** True if it had been recorded before with the same idempotency key: nothing was published now. */
  duplicate?: boolean
}

/** A publication as the broker gives it to a node: bytes, because any program may have written them. */
export interface Incoming {
  topic: Topic
  envelope: Slice
  /** How many subscribers of this process received it: their answers are added up to one answer of the node. */
  sharers: number
  /** The position of a recorded publication. */
  position?: Position | undefined
}

/** A recorded publication, read from the history. */
export interface HistoryEntry {
  position: Position
  envelope: Buffer
}

/** A part of a topic's history, after a position, or the newest of it. */
export interface HistoryPage {
  /** Why the entries may not be complete; then there are none. */
  gap?: GapReason
  /** The head of the topic at the time of reading. */
  head: Position
  entries: readonly HistoryEntry[]
  /** Whether the entries reach the head. */
  isComplete: boolean
}

export interface PageLimits {
  count: number
  /** Bytes of envelopes. A larger envelope comes alone. */
  bytes: number
}

/** An envelope that could not be used. */
export interface RejectedNote {
  topic: Topic
  reason: string
  message: string
  envelope: Uint8Array
}

/** How much of a stream of events is kept, about. */
export interface StreamLimits {
  /** Entries. */
  maxLength: number
  /** Milliseconds. */
  maxAge: number
}

/** What a broker calls on a node. None of these may throw. */
export interface Subscriber {
  receive(incoming: Incoming): void
  /** More came than the broker has room for: instead of this one comes `lost` with the reason `overload`. */
  dropped(incoming: Incoming): void
  /** A backend published it in a way that reaches nobody. */
  misdirected(incoming: Incoming): void
  /**
   * Messages of these topics were or may have been missed before the next one that is received. A client that is told
   * so continues from the given position.
   */
  lost(reason: GapReason, topics: ReadonlyMap<Topic, Position | undefined>): void
  /** For the counters: this many missed publications of `topic` were received from its history. */
  filled(topic: Topic, publications: number): void
  holds(topic: Topic): boolean
  /** Whether a rule of this node says that publications on `topic` are recorded. */
  isRecorded(topic: Topic): boolean
  /** Every topic that has a connection here, each once. */
  topics(): Iterable<Topic>
  /** Everything, or these topics, is received again after an interruption. Commands that were published meanwhile are lost. */
  restored?(topics?: readonly Topic[]): void
  /** The answer to a question that was put to all nodes; undefined if there is none. */
  asked?(question: Question): object | undefined
  /** For the counters: a question was not answered. */
  misasked?(reason: Misquestion['reason']): void
}

/** These topics are confirmed, with their positions as far as known. */
export type Confirmed = (topics: readonly Topic[], positions: ReadonlyMap<Topic, Position>) => void

/** How many tickets of a user may be unspent. */
export interface TicketBound {
  user: string
  most: number
}

/** Carries publications between nodes. Every implementation passes `test/broker/suite.ts`. */
export interface Broker {
  readonly kind: 'memory' | 'redis'
  readonly presence: PresenceStore
  readonly inquiry: Inquiry
  readonly node: string
  /** False while publications cannot be sent or received. */
  readonly connected: boolean
  /** Whether publications can be recorded, as far as known. */
  readonly canRecord: boolean
  /** How many topics are being filled from their history: their connections get messages late. */
  readonly filling: number
  /** Bytes that were read and wait for the subscribers. */
  readonly backlog: number
  /** How late messages are received, in milliseconds after they were published. */
  readonly lag: number
  /** The same over the link to each master of a Cluster, by its address; undefined without a Cluster. */
  readonly lags?: Readonly<Record<string, number>> | undefined
  /** How many links to servers there are, and how many of them are up and caught up. None in the process itself. */
  readonly links: { readonly total: number; readonly up: number }
  /** How many topics the broker refuses to this node: connections have them, but nothing is received. */
  readonly refused: number
  /** Why it is not connected, if that is known. */
  readonly problem: string | undefined
  /** When it was connected last, in milliseconds since 1970; undefined while it is, and before it was for the first time. */
  readonly downSince?: number | undefined

  attach(subscriber: Subscriber): void
  detach(subscriber: Subscriber): void

  /**
   * Resolves when every publication after the returned positions will be received. A topic whose position is not known
   * is left out. May take as long as Redis is away. Idempotent. `confirmed` is told of topics for which that is true
   * before it is for the others.
   */
  subscribe(topics: readonly Topic[], confirmed?: Confirmed): Promise<ReadonlyMap<Topic, Position>>
  /** Topics of the same shard are confirmed together; those of another one do not wait for them. */
  shardOf(topic: Topic): unknown
  /** What is wrong with a topic of this node, if anything is. */
  troubleWith(topic: Topic): TopicTrouble
  /** Leaves the topic unless an attached subscriber still holds it. */
  unsubscribe(topic: Topic): void

  /**
   * The publications after the id `since`, or the newest ones, for which `newest(count)` stands in its place. Rejects with
   * a PushError while the broker is away.
   */
  history(topic: Topic, since: string, limits: PageLimits): Promise<HistoryPage>

  /** Settles within the publish timeout, with one result for each item, in the same order. */
  publish(items: readonly Outgoing[]): Promise<(Sent | PushError)[]>
  /** Tells the publisher of a receipt what this node did. */
  answer(incoming: Incoming, token: string, answer: Omit<NodeAnswer, 'node'>): void
  /** Keeps a note of an envelope that could not be used, for operators. */
  note(rejected: RejectedNote): void
  /** Appends events to a stream that backends read. One result for each, undefined if it was appended. Never rejects. */
  appendEvents(
    stream: string,
    events: readonly EncodedEvent[],
    limits: StreamLimits,
  ): Promise<(PushError | undefined)[]>

  /** A stream that all nodes read together. Only a broker with streams has it. The links of its own end with it. */
  openStreamQueue?(options: StreamQueueOptions): StreamQueue

  /** How many nodes are running. */
  nodes(): Promise<number>
  /** With `bound`, older tickets of the user end where there are too many. Resolves with how many did. */
  putTicket(token: string, identity: string, ttlSeconds: number, bound?: TicketBound): Promise<number>
  /** The identity of a ticket; null if there is none. The ticket is spent by this call. */
  takeTicket(token: string): Promise<string | null>

  /** What `user` proved up to `time`, in milliseconds since 1970, does not count any more. Kept for `ttlSeconds`. */
  putRevocation(user: string, time: number, ttlSeconds: number): Promise<void>
  /**
   * The times of these users, undefined for those who have none. Each rejects with a PushError while the part of the broker
   * that knows it is away.
   */
  revokedAt(users: readonly string[]): readonly Promise<number | undefined>[]

  close(): Promise<void>
}
