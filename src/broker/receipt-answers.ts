import type { Incoming, NodeAnswer } from './broker.ts'

type OwnAnswer = Omit<NodeAnswer, 'node'>

/** A subscriber that was detached never answers. So that its receipts do not pile up, the oldest is dropped. */
const MAX_WAITING = 10_000

/** Several registrations of one process are one node: their answers to a receipt token become one answer. */
export class ReceiptAnswers {
  readonly #node: string
  readonly #waiting = new Map<string, { answer: NodeAnswer; missing: number }>()

  constructor(node: string) {
    this.#node = node
  }

  /**
   * Adds the answer of one subscriber. Returns the answer of the node once all that received `incoming` have answered.
   */
  add({ sharers, topic }: Incoming, token: string, own: OwnAnswer): NodeAnswer | undefined {
    const key = `${token} ${topic}`
    const waiting = this.#waiting.get(key)
    const answer = waiting ? sum(waiting.answer, own) : { node: this.#node, ...own }
    const missing = (waiting?.missing ?? sharers) - 1
    this.#waiting.delete(key)
    if (missing <= 0) return answer
    this.#waiting.set(key, { answer, missing })
    if (this.#waiting.size > MAX_WAITING) this.#waiting.delete(this.#waiting.keys().next().value!)
    return undefined
  }

  clear(): void {
    this.#waiting.clear()
  }
}

function sum(a: NodeAnswer, b: OwnAnswer): NodeAnswer {
  const reasons = { ...a.reasons }
  for (const [reason, count] of Object.entries(b.reasons ?? {})) reasons[reason] = (reasons[reason] ?? 0) + count
  const rejected = a.rejected ?? b.rejected
  return {
    node: a.node,
    delivered: a.delivered + b.delivered,
    ...((a.acknowledged ?? b.acknowledged) !== undefined && {
      acknowledged: (a.acknowledged ?? 0) + (b.acknowledged ?? 0),
    }),
    skipped: a.skipped + b.skipped,
    ...(Object.keys(reasons).length > 0 && { reasons }),
    ...(rejected && { rejected }),
    ...((a.trace || b.trace) && { trace: [...(a.trace ?? []), ...(b.trace ?? [])] }),
  }
}
