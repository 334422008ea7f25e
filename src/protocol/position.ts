/** The place of a recorded publication in its topic. `id` is opaque to clients; nodes read it as below. */
export interface Position {
  id: string
  seq: number
}

/**
 * `TIMELINE.SEQ.MARK`. A topic gets a timeline with its first entry, and a later one when Redis went back in time: the
 * names sort by time. Before the first entry, with `seq` 0, it is the timeline of the server. `seq` is contiguous within the topic. The
 * mark (a time and a number) tells two entries apart that got the same `seq`.
 */
const ID = /^([0-9a-z]{1,32})\.(\d{1,16})\.(\d{1,16}-\d{1,16})$/

export const MAX_ID_LENGTH = 100

/** Whether `value` has the form of an id, so that a broker can be asked what comes after it. */
export function isId(value: unknown): value is string {
  return typeof value === 'string' && value.length <= MAX_ID_LENGTH && ID.test(value)
}

export function encodeId(timeline: string, seq: number, mark: string): string {
  return `${timeline}.${seq}.${mark}`
}

export function timelineOf(id: string): string {
  return id.slice(0, id.indexOf('.'))
}

/** How many of the newest messages of a topic may be asked for. */
export const MAX_LAST = 100

/** Why `last` cannot be how many messages are wanted; undefined when it can, or when none are. */
export function lastProblem(last: unknown): string | undefined {
  const isCount = Number.isInteger(last) && (last as number) >= 1 && (last as number) <= MAX_LAST
  return last === undefined || isCount ? undefined : `is not a whole number from 1 to ${MAX_LAST}`
}

/** What stands in the place of an id to read the newest `count` entries. No client can send it: it is no id. */
export function newest(count: number): string {
  return `-${count}`
}

/** How many of the newest entries are asked for; undefined when `since` is something else. */
export function newestIn(since: string): number | undefined {
  return /^-\d{1,9}$/.test(since) ? Number(since.slice(1)) : undefined
}

/** The position that `id` names; undefined when `id` is not valid. */
export function positionOf(id: string): Position | undefined {
  const seq = ID.exec(id)?.[2]
  return seq === undefined ? undefined : { id, seq: Number(seq) }
}

/**
 * Whether a reader that has everything up to `by` also has `position`. Positions of two timelines cannot be compared. A
 * lower number with a later mark belongs to a history that began anew, for example because its head was evicted.
 */
export function isCovered(position: Position, by: Position): boolean {
  if (position.seq > by.seq || timelineOf(position.id) !== timelineOf(by.id)) return false
  return position.id === by.id || !isLater(position.id, by.id)
}

/** Whether the mark of `id` is later than that of `than`. */
export function isLater(id: string, than: string): boolean {
  const [time, otherTime] = [timeOf(id), timeOf(than)]
  return time === otherTime ? numberOf(id) > numberOf(than) : time > otherTime
}

function timeOf(id: string): number {
  return Number(id.slice(id.lastIndexOf('.') + 1, id.lastIndexOf('-')))
}

function numberOf(id: string): number {
  return Number(id.slice(id.lastIndexOf('-') + 1))
}
