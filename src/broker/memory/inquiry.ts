import type { Question } from '../../protocol/question.ts'
import type { Topic } from '../../protocol/topic.ts'
import type { Subscriber } from '../broker.ts'
import type { Asked, Inquiry, NotedRejection, RecordedTopic } from '../inquiry.ts'
import type { MemoryHistory } from './history.ts'

const MAX_NOTES = 10

/** The part of the broker that is asked about. */
export interface Known {
  readonly node: string
  readonly subscribers: Iterable<Subscriber>
  readonly history: MemoryHistory
  /** The oldest first. */
  readonly rejected: readonly { time: number; topic: Topic; reason: string; message: string }[]
}

/** Asks the only node there is: this one. */
export class MemoryInquiry implements Inquiry {
  readonly #known: Known

  constructor(known: Known) {
    this.#known = known
  }

  async ask(question: Question): Promise<Asked> {
    const { node, subscribers } = this.#known
    const answers = [...subscribers].flatMap(subscriber => subscriber.asked?.(question) ?? [])
    return { answers: answers.map(answer => ({ node, answer })), expected: 1, complete: true }
  }

  async recorded(topic: Topic): Promise<RecordedTopic | undefined> {
    return this.#known.history.recorded(topic)
  }

  async rejected(topic: Topic): Promise<NotedRejection[]> {
    const { node, rejected } = this.#known
    const notes = rejected.filter(note => note.topic === topic).slice(-MAX_NOTES)
    return notes.toReversed().map(({ time: at, reason, message }) => ({ at, node, reason, message }))
  }
}
