import { errors, isPushError, type PushError } from '../../protocol/errors.ts'
import type { GapReason } from '../../protocol/messages.ts'
import { newestIn, type Position, positionOf } from '../../protocol/position.ts'
import { looksLikeDelta } from '../../protocol/presence-delta.ts'
import { Slice } from '../../protocol/slice.ts'
import type { Topic } from '../../protocol/topic.ts'
import type { HistoryEntry, HistoryPage, PageLimits } from '../broker.ts'
import type { Call, Functions } from './functions.ts'
import type { Names } from './names.ts'

const OPEN_BRACE = 0x7b
const SPACE = new Set([...' \t\r\n'].map(character => character.charCodeAt(0)))
const LINE_FEED = 0x0a
/** Two ids and a number are shorter: without a line feed within these bytes it is not a recorded publication. */
const MAX_HEAD = 300

/** A recorded publication as it is sent over pub/sub: `<id> <seq> <prev>\n<envelope>`. */
export interface Recorded {
  position: Position
  /** The id of the previous entry; `-` if there was none. */
  previous: string
  envelope: Slice
}

/** Undefined for an envelope that was not recorded, and for anything that only looks like a recorded one. */
export function parseRecorded({ memory, start, end: messageEnd }: Slice): Recorded | undefined {
  const first = memory[start]!
  if (start === messageEnd || first === OPEN_BRACE || SPACE.has(first)) return undefined
  const end = memory.subarray(0, Math.min(start + MAX_HEAD, messageEnd)).indexOf(LINE_FEED, start)
  if (end < 0) return undefined
  const [id = '', seq, previous = '', ...more] = memory.toString('latin1', start, end).split(' ')
  const position = positionOf(id)
  if (!position || String(position.seq) !== seq || more.length > 0) return undefined
  if (previous !== '-' && !positionOf(previous)) return undefined
  return { position, previous, envelope: new Slice(memory, end + 1, messageEnd) }
}

/** Whether it says who is on the topic: if one of these is missed, its version shows it. */
export function isPresence({ memory, start, end }: Slice): boolean {
  return looksLikeDelta(memory, start, end)
}

/** Of a server on which no loss was noticed. */
export const FIRST_TIMELINE = '0000000000000'

type Group<T> = (topics: readonly Topic[]) => T

/** What a node asks Redis about the histories of topics. */
export interface RedisHistory {
  /** The heads of these topics, and perhaps of others. */
  heads(topics: readonly Topic[]): Promise<ReadonlyMap<Topic, Position>>
  /** The entries after `since`, or the newest ones. */
  read(topic: Topic, since: string, limits: PageLimits): Promise<HistoryPage>
  /** The topics whose head in Redis is not the known position. */
  different(known: readonly [Topic, Position][]): Promise<Topic[]>
}

/** `timeline` is that of the server, as this node knows it. `maxBytes` is the size limit of a recorded envelope. */
export function historyIn(
  functions: Pick<Functions, 'run' | 'isCluster'>,
  names: Names,
  { timeout, maxBytes }: { timeout: number; maxBytes: number },
  timeline: () => string,
): RedisHistory {
  /** One list for each group of topics. */
  async function call(name: Call['name'], groups: Topic[][], argsOf: Group<Call['args']>): Promise<unknown[][]> {
    const calls = groups.map(topics => ({
      name,
      keys: topics.map(topic => names.channel(topic)),
      args: [timeline(), maxBytes, ...argsOf(topics)],
    }))
    const replies = await functions.run(calls, timeout)
    return replies.map(reply => {
      if (!Array.isArray(reply)) throw isPushError(reply) ? reply : unreadable()
      return reply
    })
  }

  const grouped = (topics: readonly Topic[]) => (functions.isCluster ? topics.map(topic => [topic]) : [[...topics]])

  return {
    async heads(topics) {
      const reply = (await call('push_heads', grouped(topics), () => [])).flat()
      if (reply.length !== 2 * topics.length) throw unreadable()
      return new Map(topics.map((topic, i) => [topic, { id: String(reply[2 * i]), seq: Number(reply[2 * i + 1]) }]))
    },
    async read(topic, since, limits) {
      const newest = newestIn(since)
      const name = newest === undefined ? 'push_history' : 'push_newest'
      const [reply] = await call(name, [[topic]], () => [newest ?? since, limits.count, limits.bytes])
      return toPage(reply!)
    },
    async different(known) {
      const ids = new Map(known.map(([topic, { id }]) => [topic, id]))
      const groups = grouped([...ids.keys()])
      const replies = await call('push_compare', groups, topics => topics.map(topic => ids.get(topic)!))
      return replies.flatMap((reply, i) => reply.map(place => groups[i]![Number(place) - 1]!))
    },
  }
}

function toPage(reply: unknown[]): HistoryPage {
  // Texts come as bytes, since an envelope need not be text.
  const [reason, id, seq, isComplete, ...flat] = reply
  const entries: HistoryEntry[] = []
  for (let i = 0; i + 1 < flat.length; i += 2) {
    const position = positionOf(String(flat[i]))
    if (!position) throw unreadable()
    entries.push({ position, envelope: Buffer.from(flat[i + 1] as Buffer) })
  }
  const page = { head: { id: String(id), seq: Number(seq) }, entries, isComplete: isComplete === 1 }
  return String(reason) === '' ? page : { ...page, gap: String(reason) as GapReason }
}

function unreadable(): PushError {
  return new errors.INTERNAL('a history in Redis does not have the format of push_v1')
}
