import { type Position, timelineOf } from '../../protocol/position.ts'
import type { Slice } from '../../protocol/slice.ts'

/** How far this node has delivered a topic. */
export class TopicCursor {
  /** The last position that was delivered, or the head at the time of subscribing; undefined until that is known. */
  last: Position | undefined
  /** The newest publication that came while the topic was being filled; it is in the history too. */
  newest: Position | undefined
  newestAt = 0
  isFilling = false
  /** Whether unrecorded messages have come: if more of them were missed, the history does not show it. */
  hasUnrecorded = false
  /** Unrecorded messages that came while the topic was being filled. */
  waiting: Slice[] = []
  /** More of them came than may wait. */
  hasOverflown = false
  /** The fill that is under way; one of an older era has no effect. */
  filler: { era: number; done: Promise<void> } | undefined

  /** Its history could not be read: what was missed until the next publication is not known. */
  wasGivenUp = false

  /** Whether nobody has been told yet where the topic is. */
  get isNew(): boolean {
    return this.last === undefined && !this.wasGivenUp && !this.hasUnrecorded
  }

  /** Whoever subscribes is told where the topic is by the master that has it then: nothing is missed before that. */
  get isToJoin(): boolean {
    return this.isNew && !this.isFilling
  }

  /** Where the topic is for who joins it. `head` is what Redis has said of it, if it was asked. */
  whereabouts(head: Position | undefined): Position | undefined {
    // A publication that came meanwhile is at least as new as this answer.
    this.last ??= head
    // While the topic is being filled, `last` may belong to a history that is lost.
    return this.isFilling && head ? head : this.last
  }
}

/**
 * Whether a publication comes directly after `last`. The first one of a topic has no previous id, and its timeline begins
 * later than that of a position before it.
 */
export function follows(last: Position, position: Position, previous: string): boolean {
  if (previous !== '-') return previous === last.id
  return last.seq === 0 && position.seq === 1 && timelineOf(last.id) <= timelineOf(position.id)
}
