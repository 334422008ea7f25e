import type { Topic } from '../../protocol/topic.ts'
import { within } from '../waiting.ts'
import { isElsewhere } from './topic-commands.ts'

export interface RefusedTopicsEvents {
  /** For the log: the number of refused topics, with one as an example and the error of Redis. */
  told(refusal: RefusedTopic): void
  /** Asks for these topics again; resolves when each has been granted or added again. */
  retry(topics: readonly Topic[]): Promise<unknown>
  /** There was no answer for long: it may have been taken for that to another command, and then it never comes. */
  silent(): void
}

export interface RefusedTopic {
  topics: number
  example: Topic
  error: Error
}

/**
 * Milliseconds between two attempts, and topics of one attempt: thousands of refused topics must not keep Redis busy.
 */
const RETRY_INTERVAL = 2000
const RETRY_AT_ONCE = 500

/** The same for a topic whose slot has moved, until it is known which server has it; reported after so many attempts. */
const MOVED_INTERVAL = 100
const MOVED_ATTEMPTS = 20

/** Milliseconds for the answer to an attempt. */
const ANSWER_TIME = 5000

/** For the log: the first line at once, then at most one line for new topics in this many milliseconds. */
const TELL_INTERVAL = 10_000

/** Topics that Redis refuses to this node. Each is asked for again until it is granted or nobody wants it any more. */
export class RefusedTopics {
  readonly #events: RefusedTopicsEvents
  /** In the order of the next attempts. */
  readonly #topics = new Set<Topic>()
  #untold: Omit<RefusedTopic, 'topics'> | undefined
  #toldAt = Number.NEGATIVE_INFINITY
  #timer: NodeJS.Timeout | undefined
  #isAsking = false
  /** Milliseconds until the next attempt, after the last error. */
  #interval = RETRY_INTERVAL
  /** Since no topic was refused. */
  #attempts = 0

  constructor(events: RefusedTopicsEvents) {
    this.#events = events
  }

  get size(): number {
    return this.#topics.size
  }

  has(topic: Topic): boolean {
    return this.#topics.has(topic)
  }

  add(topic: Topic, error: Error): void {
    const isNew = !this.#topics.delete(topic)
    this.#topics.add(topic)
    const isWorthTelling = isElsewhere(error) ? this.#attempts === MOVED_ATTEMPTS : isNew
    if (isWorthTelling) this.#untold ??= { example: topic, error }
    this.#interval = isElsewhere(error) ? MOVED_INTERVAL : RETRY_INTERVAL
    if (!this.#isAsking) this.#retryIn(this.#interval)
  }

  /** True if the topic was refused. */
  delete(topic: Topic): boolean {
    return this.#topics.delete(topic)
  }

  #retryIn(milliseconds: number): void {
    this.#timer ??= setTimeout(() => void this.#retry(), milliseconds)
  }

  async #retry(): Promise<void> {
    this.#timer = undefined
    this.tell(performance.now())
    const asked = [...this.#topics].slice(0, RETRY_AT_ONCE)
    this.#attempts++
    this.#isAsking = true
    const answered = await within(
      ANSWER_TIME,
      this.#events.retry(asked).then(() => true),
    )
    this.#isAsking = false
    if (answered === undefined && this.#topics.size > 0) this.#events.silent()
    if (this.#topics.size === 0) {
      this.#attempts = 0
      return
    }
    // If one was granted, the rights have changed: the others are asked for at once.
    const isGranting = asked.some(topic => !this.#topics.has(topic))
    this.#retryIn(isGranting ? 0 : this.#interval)
  }

  /** Reports newly refused topics. Too soon after the last report, the next attempt does it. */
  tell(now: number): void {
    if (!this.#untold || now - this.#toldAt < TELL_INTERVAL) return
    const refusal = this.#untold
    this.#untold = undefined
    this.#toldAt = now
    if (this.#topics.has(refusal.example)) this.#events.told({ topics: this.#topics.size, ...refusal })
  }

  clear(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#untold = undefined
    this.#attempts = 0
    this.#topics.clear()
  }
}
