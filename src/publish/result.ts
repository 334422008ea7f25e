import type { NodeAnswer, Sent } from '../broker/broker.ts'
import type { PushError } from '../protocol/errors.ts'
import type { Topic } from '../protocol/topic.ts'

/** What became of a publication on one topic. */
export interface PublishResult {
  topic: string
  /** How many nodes the broker saw listening. 0: nobody is there. */
  nodes: number
  /** With a receipt: how many connections it was queued for, on all nodes. */
  delivered?: number
  skipped?: number
  /** With `ack`: how many connections acknowledged that they have handled it. */
  acknowledged?: number
  /** Why connections were skipped; only when some were. */
  reasons?: Record<string, number>
  /** False when a node had not answered by the deadline. */
  complete?: boolean
  /** Of a recorded publication: what a client names to get what comes after it, and its number in the topic. */
  id?: string
  seq?: number
  /** True when it had been recorded before under the same idempotency key; then nothing was done now. */
  duplicate?: boolean
  /** Why nodes refused it, for example because its payload does not match their schema. */
  rejected?: { node: string; reason: string; message: string }[]
}

export interface PublishFailure {
  topic: string
  error: { code: string; message: string }
}

export type Outcome = PublishResult | Failed

/** Keeps the error itself for the caller of a single publication, out of the JSON that a batch is answered with. */
export class Failed implements PublishFailure {
  readonly topic: string
  readonly error: { code: string; message: string }
  readonly #cause: PushError

  constructor(topic: string, cause: PushError) {
    this.topic = topic
    this.error = { code: cause.code, message: cause.message }
    this.#cause = cause
  }

  get cause(): PushError {
    return this.#cause
  }
}

export function failed(topic: unknown, error: PushError): Failed {
  return new Failed(typeof topic === 'string' ? topic : '', error)
}

export function unwrap(result: Outcome): PublishResult {
  if (result instanceof Failed) throw result.cause
  return result
}

/** What the broker said, for whoever published. */
export function resultOf(topic: Topic, sent: Sent | PushError): Outcome {
  if (sent instanceof Error) return failed(topic, sent)
  const { answers, position, duplicate } = sent
  const recorded = position ? { ...position, ...(duplicate && { duplicate }) } : {}
  if (!answers) return { topic, nodes: sent.nodes, ...recorded }
  const reasons: Record<string, number> = {}
  for (const answer of answers) {
    for (const [reason, count] of Object.entries(answer.reasons ?? {})) reasons[reason] = (reasons[reason] ?? 0) + count
  }
  const rejected = answers.flatMap(answer => (answer.rejected ? [{ node: answer.node, ...answer.rejected }] : []))
  return {
    topic,
    nodes: sent.nodes,
    delivered: sum(answers, 'delivered'),
    skipped: sum(answers, 'skipped'),
    ...(answers.some(({ acknowledged }) => acknowledged !== undefined) && {
      acknowledged: sum(answers, 'acknowledged'),
    }),
    complete: sent.complete ?? true,
    ...recorded,
    ...(Object.keys(reasons).length > 0 && { reasons }),
    ...(rejected.length > 0 && { rejected }),
  }
}

function sum(answers: readonly NodeAnswer[], field: 'delivered' | 'skipped' | 'acknowledged'): number {
  return answers.reduce((total, answer) => total + (answer[field] ?? 0), 0)
}
