import type { PushError } from './errors.ts'
import type { GapReason } from './protocol.ts'
import type { Topic } from './topic.ts'

/** One publication or command on its way to the nodes. */
export interface Outgoing {
  topic: Topic
  /** Envelope as JSON text. */
  envelope: string
  /** The token inside the envelope, when the publisher wants to know what the nodes did. */
  receipt?: string | undefined
}

/** What one node did with an envelope that carried a receipt token. */
export interface NodeAnswer {
  node: string
  delivered: number
  skipped: number
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
}

/** One publication as the broker hands it to a node: bytes, because any program may have written them. */
export interface Incoming {
  topic: Topic
  envelope: Uint8Array
  /** How many subscribers of this node were handed it: their answers make one answer of the node. */
  sharers: number
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
  /** Messages of every topic held may have been missed; called when they flow again. */
  lost(reason: GapReason): void
  holds(topic: Topic): boolean
  /** Every topic that is held, each once. */
  topics(): Iterable<Topic>
}

/** Carries publications between nodes. Every implementation passes `test/broker-suite.ts`. */
export interface Broker {
  readonly kind: 'memory' | 'redis'
  readonly node: string
  /** False while publications cannot be sent or received. */
  readonly connected: boolean

  attach(subscriber: Subscriber): void
  detach(subscriber: Subscriber): void

  /** Resolves when every publication from now on is received; may take as long as Redis is away. Idempotent. */
  subscribe(topic: Topic): Promise<void>
  /** Leaves the topic unless an attached subscriber still holds it. */
  unsubscribe(topic: Topic): void

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
