import type { Topic } from '../../protocol/topic.ts'

export interface RefusedTopicsEvents {
  /** So many topics are refused, of which this one is told as an example, with what Redis said. */
  told(refusal: RefusedTopic): void
  /** It is time to ask for these again; resolves when each has been granted or is added again. */
  retry(topics: readonly Topic[]): Promise<unknown>
}

export interface RefusedTopic {
  topics: number
  example: Topic
  error: Error
}

/** Between two attempts, and topics of one attempt: who lacks the right to thousands must not keep Redis busy. */
const RETRY_INTERVAL = 2000
const RETRY_AT_ONCE = 500

/** For the log: one line at once, and then of what is new so often at most. */
const TELL_INTERVAL = 10_000

/** Topics that Redis does not let this node subscribe: each is asked for again, until it is granted or nobody wants it. */
export class RefusedTopics {
  readonly #events: RefusedTopicsEvents
  /** In the order in which they are asked for again. */
  readonly #topics = new Set<Topic>()
  #untold: Omit<RefusedTopic, 'topics'> | undefined
  #toldAt = Number.NEGATIVE_INFINITY
  #timer: NodeJS.Timeout | undefined
  #isAsking = false

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
    if (isNew) this.#untold ??= { example: topic, error }
    if (!this.#isAsking) this.#retryIn(RETRY_INTERVAL)
  }

  /** True when it was one of them. */
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
    this.#isAsking = true
    await this.#events.retry(asked)
    this.#isAsking = false
    if (this.#topics.size === 0) return
    // The rights have changed: the others are not kept waiting.
    const isGranting = asked.some(topic => !this.#topics.has(topic))
    this.#retryIn(isGranting ? 0 : RETRY_INTERVAL)
  }

  /** Tells what is new, unless something was told a short time ago; then the next attempt does. */
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
    this.#topics.clear()
  }
}
