import type { Position } from '../protocol/position.ts'
import type { Question } from '../protocol/question.ts'
import type { Topic } from '../protocol/topic.ts'

/** Milliseconds that nodes have to answer a question. Who is late is missing, and nobody waits longer. */
export const ANSWER_TIME = 1000

/** A node says less rather than write an answer of more bytes; one that is larger is not read. */
export const MAX_ANSWER_BYTES = 256 * 1024

/** What one registration of a node answers. It comes from outside: whoever reads it checks it. */
export interface Answer {
  node: string
  answer: unknown
}

export interface Asked {
  answers: Answer[]
  /** How many nodes there are; undefined while that cannot be asked. */
  expected: number | undefined
  /** False when a node had not answered in time. */
  complete: boolean
  /** Why other nodes could not be asked. */
  problem?: string
}

/** A recorded topic: its head, undefined before the first publication, and how many are kept. */
export interface RecordedTopic {
  head: Position | undefined
  size: number
}

/** An envelope that nodes could not use, without what was in it. */
export interface NotedRejection {
  /** Milliseconds since 1970. */
  at: number
  node: string
  reason: string
  message: string
}

/** What people ask, about nodes and topics. Nothing here is needed to deliver anything. */
export interface Inquiry {
  /** Asks every node, this one included, which answers in any case. Settles within `ANSWER_TIME`, and never rejects. */
  ask(question: Question): Promise<Asked>
  /** Undefined if nothing was recorded on the topic. Rejects with a PushError while the broker is away. */
  recorded(topic: Topic): Promise<RecordedTopic | undefined>
  /** The newest notes about the topic, the newest first. Rejects with a PushError while the broker is away. */
  rejected(topic: Topic): Promise<NotedRejection[]>
}

/** What keeps a topic from being received as it should be. */
export interface TopicTrouble {
  /** The broker refuses it to this node. */
  refused?: boolean
  /** It is being filled from its history: messages come late. */
  filling?: boolean
}
