import { type Position, timelineOf } from '../../protocol/position.ts'
import type { Slice } from '../../protocol/slice.ts'

/** Where a topic stands. */
export interface TopicCursor {
  /** What was delivered last; undefined until Redis has said where the topic stands. */
  last: Position | undefined
  /** The newest that came while the topic was being filled; it is in the history too. */
  newest: Position | undefined
  newestAt: number
  isFilling: boolean
  /** Whether something came that was not recorded: what of that was missed nobody can tell. */
  hasBare: boolean
  /** What came bare while the topic was being filled. */
  waiting: Slice[]
  /** More of that came than may wait. */
  hasOverflown: boolean
  /** Who is filling it; what an older era began comes to nothing. */
  filler: { era: number; done: Promise<void> } | undefined
}

export function newCursor(): TopicCursor {
  return {
    last: undefined,
    newest: undefined,
    newestAt: 0,
    isFilling: false,
    hasBare: false,
    waiting: [],
    hasOverflown: false,
    filler: undefined,
  }
}

/** Whether nothing can be between `last` and a publication; the first of all names no other. */
export function follows(last: Position, position: Position, previous: string): boolean {
  if (previous !== '-') return previous === last.id
  return last.seq === 0 && position.seq === 1 && timelineOf(last.id) === timelineOf(position.id)
}
