import { isId } from './position.ts'
import { isTopic, type Topic } from './topic.ts'

/** The longest event id, in characters. It comes back in a header, and proxies accept 8 KB of headers. */
export const MAX_EVENT_ID = 4000

/** Base64 makes four characters of three bytes. One of the bytes says that topics were left out. */
const MAX_TEXT = Math.floor((MAX_EVENT_ID * 3) / 4) - 1

/** At the beginning of the text when there was no room for all topics. */
const PARTIAL = '+'

/** What a client of an event stream holds. */
export interface HeldPositions {
  /** The last id of each topic. */
  since: ReadonlyMap<Topic, string>
  /** False if it may hold further topics, whose positions are not known. */
  isWhole: boolean
}

const UNKNOWN: HeldPositions = { since: new Map(), isWhole: false }

/** One id for the positions of all topics: clients see it as an opaque string of up to `MAX_EVENT_ID` characters. */
export function encodeEventId(positions: ReadonlyMap<Topic, string>): string {
  let text = ''
  let bytes = '{}'.length
  let isWhole = true
  for (const [topic, id] of positions) {
    const entry = `${text && ','}${JSON.stringify(topic)}:"${id}"`
    const size = Buffer.byteLength(entry)
    if (bytes + size > MAX_TEXT) {
      isWhole = false
      continue
    }
    text += entry
    bytes += size
  }
  return Buffer.from(`${isWhole ? '' : PARTIAL}{${text}}`).toString('base64url')
}

/** Never throws: an id that is not ours, or was changed, says that nothing is known. */
export function decodeEventId(id: string): HeldPositions {
  if (id.length > MAX_EVENT_ID) return UNKNOWN
  const text = Buffer.from(id, 'base64url').toString()
  const isPartial = text.startsWith(PARTIAL)
  const held = parseObject(isPartial ? text.slice(PARTIAL.length) : text)
  if (!held) return UNKNOWN
  const entries = Object.entries(held)
  const usable = entries.filter((entry): entry is [Topic, string] => isTopic(entry[0]) && isId(entry[1]))
  return { since: new Map(usable), isWhole: !isPartial && usable.length === entries.length }
}

function parseObject(text: string): object | undefined {
  try {
    const value = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value) ? value : undefined
  } catch {
    return undefined
  }
}
