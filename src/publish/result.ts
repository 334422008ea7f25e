import type { NodeAnswer, Sent } from '../broker/broker.ts'
import { MAX_STEPS, stepsOf, type TraceStep } from '../broker/trace-steps.ts'
import type { PushError } from '../protocol/errors.ts'
import type { Topic } from '../protocol/topic.ts'

/** The result of a publication on one topic. */
export interface PublishResult {
  topic: string
  /**
   * How many nodes were listening, as a hint: Redis counts other subscribers of the channel too. 0: nobody is there.
   */
  nodes: number
  /** With a receipt: for how many connections it was queued, on all nodes. */
  delivered?: number
  skipped?: number
  /** With `ack`: how many clients acknowledged in time that they have handled it. */
  acknowledged?: number
  /** How many connections were skipped for each reason; absent if none were. */
  reasons?: Record<string, number>
  /** False when a node had not answered by the deadline. */
  complete?: boolean
  /** Of a recorded publication: a client that names `id` gets what comes after it; `seq` is its number in the topic. */
  id?: string
  seq?: number
  /** True if it had been recorded before with the same idempotency key: nothing was published now. */
  duplicate?: boolean
  /** Why nodes rejected it, for example because the payload does not match their schema. */
  rejected?: { node: string; reason: string; message: string }[]
  /** With `trace`: its whole way, by the clocks of those who say so. */
  trace?: TraceStep[]
}

export interface PublishFailure {
  topic: string
  error: { code: string; message: string }
}

export type Result = PublishResult | Failed

/** Keeps the error itself, which a single publication rejects with, out of the JSON that answers a batch. */
export class Failed implements PublishFailure {
  readonly topic: string
  readonly error: { code: string; message: string }
  readonly #cause: PushError

  constructor(topic: unknown, cause: PushError) {
    this.topic = typeof topic === 'string' ? topic : ''
    this.error = { code: cause.code, message: cause.message }
    this.#cause = cause
  }

  get cause(): PushError {
    return this.#cause
  }
}

/** The answer of the broker as a result for the publisher. `begun`: who published and when, if the way is to be told. */
export function resultOf(topic: Topic, sent: Sent | PushError, begun?: Begun): Result {
  if (sent instanceof Error) return new Failed(topic, sent)
  const { answers, position, duplicate } = sent
  const recorded = position ? { ...position, ...(duplicate && { duplicate }) } : {}
  const traced = begun && { trace: traceOf(begun, sent) }
  if (!answers) return { topic, nodes: sent.nodes, ...recorded, ...traced }
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
    ...traced,
  }
}

type Begun = Pick<TraceStep, 'node' | 'at'>

/** The steps of all, by time; clocks of different machines may disagree. */
function traceOf({ node, at }: Begun, { nodes, answers = [], takenAt = Date.now(), duplicate }: Sent): TraceStep[] {
  const steps = answers.flatMap(answer => {
    const { node: of, rejected, trace } = answer
    if (!rejected) return stepsOf(of, trace)
    return [{ node: of, at: takenAt, what: 'rejected' as const, reason: rejected.reason }]
  })
  const own: TraceStep[] = [
    { node, at, what: 'published' },
    // What was published before with the same key is not taken again.
    ...(duplicate ? [] : [{ node, at: takenAt, what: 'taken' as const, nodes }]),
  ]
  return [...own, ...steps].sort((a, b) => a.at - b.at).slice(0, MAX_STEPS)
}

function sum(answers: readonly NodeAnswer[], field: 'delivered' | 'skipped' | 'acknowledged'): number {
  return answers.reduce((total, answer) => total + (answer[field] ?? 0), 0)
}
