import type { Topic } from '../protocol/topic.ts'

/** Topics of which this is remembered: the others are those to which something happened longest ago. */
const MAX_TOPICS = 1000

/** Of one connection, at most so many topics are noted: thousands of connections may be cut off together. */
const MAX_OF_CONNECTION = 10

/** Milliseconds after which nobody asks for it any more. */
const KEPT = 10 * 60_000

interface Note {
  at: number
  counts: Record<string, number>
}

/** What limits did lately to those who have a topic: for whoever asks why something did not arrive. */
export class LimitNotes {
  readonly #notes = new Map<Topic, Note>()

  add(topics: readonly Topic[], reason: string, now = performance.now()): void {
    for (const topic of topics.slice(0, MAX_OF_CONNECTION)) this.#add(topic, reason, now)
  }

  #add(topic: Topic, reason: string, now: number): void {
    const counts: Record<string, number> = this.#recent(topic, now)?.counts ?? {}
    counts[reason] = (counts[reason] ?? 0) + 1
    // The newest come last.
    this.#notes.delete(topic)
    this.#notes.set(topic, { at: now, counts })
    if (this.#notes.size > MAX_TOPICS) this.#notes.delete(this.#notes.keys().next().value!)
  }

  /** How often, by reason, in the last ten minutes or since nothing happened for so long. */
  of(topic: Topic, now = performance.now()): Record<string, number> {
    return { ...this.#recent(topic, now)?.counts }
  }

  #recent(topic: Topic, now: number): Note | undefined {
    const note = this.#notes.get(topic)
    return note && now - note.at < KEPT ? note : undefined
  }
}
