import type { Slice } from '../../protocol/slice.ts'
import type { TopicCursor } from './cursor.ts'

/** Bytes of unrecorded messages that may wait until their topics are filled. */
const MAX_BYTES = 16 * 1024 * 1024

/** Unrecorded messages that wait until their topics are filled: those of all topics share one bound. */
export class HeldMessages {
  #bytes = 0

  /**
   * False when there is no room. What comes after that on the topic is not held either: its gap stands after the messages
   * that wait, which is where the others are missing.
   */
  hold(cursor: TopicCursor, envelope: Slice): boolean {
    cursor.hasOverflown ||= this.#bytes + envelope.length > MAX_BYTES
    if (cursor.hasOverflown) return false
    cursor.waiting.push(envelope)
    this.#bytes += envelope.length
    return true
  }

  /** Returns the messages of a topic and forgets them. */
  take(cursor: TopicCursor): readonly Slice[] {
    const { waiting } = cursor
    for (const envelope of waiting) this.#bytes -= envelope.length
    cursor.waiting = []
    return waiting
  }

  clear(): void {
    this.#bytes = 0
  }
}
