import type { Slice } from '../../protocol/slice.ts'
import type { Topic } from '../../protocol/topic.ts'

/** Messages beyond this are dropped: the gap that follows the restoration covers them. */
const MAX_BYTES = 16 * 1024 * 1024

/** Messages that arrive while the link is being restored: they wait, so that the gap is told first. */
export class EarlyMessages {
  #messages: [Topic, Slice][] = []
  #bytes = 0

  push(topic: Topic, message: Slice): void {
    if (this.#bytes + message.length > MAX_BYTES) return
    this.#messages.push([topic, message])
    this.#bytes += message.length
  }

  /** Returns the messages and forgets them. */
  take(): [Topic, Slice][] {
    const messages = this.#messages
    this.#messages = []
    this.#bytes = 0
    return messages
  }
}
