import type { Topic } from '../../protocol/topic.ts'
import { isRefused, type TopicCommands } from './topic-commands.ts'

/** Milliseconds between two attempts, and how many topics are tried then: the others stay until the link is a new one. */
const RETRY_INTERVAL = 2000
const MOST = 10_000

export interface KeptTopicsParts {
  commands: Pick<TopicCommands, 'parts' | 'leave'>
  isWanted(topic: Topic): boolean
  /** Redis sends nothing more of these topics. */
  left(topics: readonly Topic[]): void
}

/**
 * Leaves topics, and keeps in mind those that Redis sends all the same, since it refuses UNSUBSCRIBE to this node. Every
 * two seconds one of them is tried; once that is granted, all are left.
 */
export class KeptTopics {
  readonly #parts: KeptTopicsParts
  readonly #topics = new Set<Topic>()
  #timer: NodeJS.Timeout | undefined
  /** Counts connections: an answer from an older one says nothing about the present one. */
  #era = 0

  constructor(parts: KeptTopicsParts) {
    this.#parts = parts
  }

  /** False if Redis refuses it, or the link was lost. */
  async leave(topics: readonly Topic[]): Promise<boolean> {
    const answers = this.#parts.commands.parts(topics).map(part => this.#leave(part))
    return (await Promise.all(answers)).every(Boolean)
  }

  async #leave(part: readonly Topic[]): Promise<boolean> {
    const era = this.#era
    const error = await this.#parts.commands.leave(part)
    if (era !== this.#era) return false
    const left = part.filter(topic => !this.#parts.isWanted(topic))
    const isKept = error !== undefined && isRefused(error)
    if (isKept) this.#keep(left)
    else this.#parts.left(left)
    return !isKept
  }

  #keep(topics: readonly Topic[]): void {
    for (const topic of topics) if (this.#topics.size < MOST) this.#topics.add(topic)
    if (this.#topics.size > 0) this.#timer ??= setTimeout(() => void this.#retry(), RETRY_INTERVAL)
  }

  async #retry(): Promise<void> {
    this.#timer = undefined
    const [first] = this.#topics
    if (first === undefined || !(await this.leave([first]))) return
    this.#topics.delete(first)
    const others = [...this.#topics]
    this.#topics.clear()
    if (others.length > 0) await this.leave(others)
  }

  /** It is wanted again. */
  delete(topic: Topic): void {
    this.#topics.delete(topic)
  }

  /** The link is lost: over the next one Redis sends nothing yet. */
  clear(): void {
    this.#era++
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#topics.clear()
  }
}
