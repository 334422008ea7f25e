import type { Slice } from '../../protocol/slice.ts'
import type { Topic } from '../../protocol/topic.ts'

/** More bytes than this are lost; the gap that is about to be told says so. */
const MAX_BYTES = 16 * 1024 * 1024

/** Messages that arrive while the link is being restored: they wait, so that a gap is told before them. */
export class EarlyMessages {
  #messages: [Topic, Slice][] = []
  #bytes = 0

  push(topic: Topic, message: Slice): void {
    if (this.#bytes + message.length > MAX_BYTES) return
    this.#messages.push([topic, message])
    this.#bytes += message.length
  }

  /** Empties it. */
  take(): [Topic, Slice][] {
    const messages = this.#messages
    this.#messages = []
    this.#bytes = 0
    return messages
  }
}
