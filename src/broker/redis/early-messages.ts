import type { Slice } from '../../protocol/slice.ts'
import type { Topic } from '../../protocol/topic.ts'
import { isPresence, parseRecorded } from './history.ts'

export interface EarlyMessageEvents {
  message(topic: Topic, envelope: Slice): void
  /** There was no room for this message, which no history has: `overflowed` follows in its place. */
  dropped(topic: Topic, envelope: Slice): void
  /** Messages of `topic` were dropped after those that were told so far. */
  overflowed(topic: Topic): void
}

/** Bytes of messages that may wait. */
const MAX_BYTES = 16 * 1024 * 1024

/** Messages that arrive while the link is being restored: they wait, so that the gap is told first. */
export class EarlyMessages {
  readonly #events: EarlyMessageEvents
  #messages: [Topic, Slice][] = []
  #bytes = 0
  /** Topics of which messages were dropped that no history has. Others are read from their histories. */
  #lacking = new Set<Topic>()

  constructor(events: EarlyMessageEvents) {
    this.#events = events
  }

  push(topic: Topic, message: Slice): void {
    // After the first that was dropped, none of its topic: the gap stands where they are missing.
    if (this.#bytes + message.length > MAX_BYTES || this.#lacking.has(topic)) return this.#drop(topic, message)
    this.#messages.push([topic, message])
    this.#bytes += message.length
  }

  #drop(topic: Topic, message: Slice): void {
    if (parseRecorded(message)) return
    // Who is on a topic is read anew where a change is missing.
    if (!isPresence(message)) this.#lacking.add(topic)
    this.#events.dropped(topic, message)
  }

  /** The link is restored: hands on what waits. */
  release(): void {
    const messages = this.#messages
    const lacking = this.#lacking
    this.clear()
    for (const [topic, message] of messages) this.#events.message(topic, message)
    for (const topic of lacking) this.#events.overflowed(topic)
  }

  clear(): void {
    this.#messages = []
    this.#bytes = 0
    this.#lacking = new Set()
  }
}
