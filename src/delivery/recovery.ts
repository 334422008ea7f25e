import type { Broker, HistoryPage, PageLimits } from '../broker/broker.ts'
import type { Metrics } from '../broker/metrics.ts'
import { retrying } from '../broker/waiting.ts'
import type { Connection } from '../connection/connection.ts'
import { isExcepted } from '../connection/identity.ts'
import { gapSegment, Segment } from '../connection/queue.ts'
import type { Registry } from '../connection/registry.ts'
import type { ReplayBarrier } from '../connection/replay-barrier.ts'
import type { GapReason, TopicState } from '../protocol/messages.ts'
import { isId, newest, type Position } from '../protocol/position.ts'
import { Slice } from '../protocol/slice.ts'
import { type Topic, topicKind } from '../protocol/topic.ts'
import type { Answers } from './answers.ts'
import type { Decoder } from './decoder.ts'
import { SubscribeBatcher } from './subscribe-batcher.ts'

/** The last id that a client holds of each topic. */
export type Since = ReadonlyMap<Topic, string>

export const NOTHING_HELD: Since = new Map()

export function held(topic: Topic, id: string | undefined): Since {
  return id === undefined ? NOTHING_HELD : new Map([[topic, id]])
}

/** What is known about a topic that a client recovers. */
export interface Return {
  state: TopicState
  /** Why it cannot be shown that nothing is missing. */
  gap?: GapReason
  /** Sends what was missed, then lets live messages through. Call it after the client was told `state` and `gap`. */
  replay(): Promise<void>
}

/** The topics of a connection while the broker confirms them. None of these promises rejects. */
export interface Start {
  topics: readonly Topic[]
  /** About these topics, and of others that were asked for together with them. */
  answers: Answers
  /** Topics for which the client names the last id that it holds, or asks for the newest messages. */
  returning: ReadonlyMap<Topic, Promise<Return>>
}

/** What is known about topics by now. */
export interface Known {
  get(topic: Topic): TopicState | undefined
  /** Those of these topics about which nothing is known yet. */
  missing(topics: readonly Topic[]): readonly Topic[]
}

/** What the client is told about its topics; `whole` resolves when everything is known. */
export function knownOf({ topics, answers, returning }: Start): { known: Known; whole: Promise<unknown> } {
  if (returning.size === 0) return { known: answers, whole: answers.confirmed(...topics) }
  const fresh = topics.filter(topic => !returning.has(topic))
  const states = new Map<Topic, TopicState>()
  const found = [...returning].map(async ([topic, back]) => states.set(topic, (await back).state))
  const known: Known = {
    get: topic => (returning.has(topic) ? states.get(topic) : answers.get(topic)),
    missing: topics => [
      ...topics.filter(topic => returning.has(topic) && !states.has(topic)),
      ...answers.missing(topics.filter(topic => !returning.has(topic))),
    ],
  }
  return { known, whole: Promise.all([answers.confirmed(...fresh), ...found]) }
}

interface Part {
  segment: Segment
  except: readonly Topic[]
}

/** How a client recovers a topic. */
interface Returning {
  /** The last id that it holds. */
  id: string | undefined
  /** How many of the newest messages it wants when it holds none, or when they cannot be recovered. */
  last: number | undefined
  barrier: ReplayBarrier
  answers: Answers
}

/** A page of a history, ready to be sent. All connections that need it share it. */
interface Page {
  gap?: GapReason
  head: Position | undefined
  parts: readonly Part[]
  /** The position of a client that has this page. */
  end: Position
  isComplete: boolean
  /** When it was requested, and when the answer came. */
  readAt: number
  answeredAt: number
}

interface RecoveryParts {
  broker: Pick<Broker, 'history' | 'subscribe' | 'shardOf'>
  registry: Pick<Registry<Connection>, 'holds'>
  decoder: Decoder
  metrics: Metrics
  /** Bytes that may be queued for one connection. */
  budget: number
}

const NOBODY: readonly Topic[] = []
const NOTHING_RETURNS: Start['returning'] = new Map()

/** Replaces what is not an id: no broker knows it. */
const NO_ID = 'none'

const MAX_PAGE_ENTRIES = 256
const MAX_PAGE_BYTES = 128 * 1024

/** After an outage many connections need the same pages, so pages are kept for a moment. */
const PAGE_TTL = 1000
const MAX_PAGES = 64

/** Brings connections that name their last id up to date: first what they missed, in order, then live messages. */
export class Recovery {
  readonly #parts: RecoveryParts
  readonly #batcher: SubscribeBatcher
  readonly #limits: PageLimits
  readonly #pages = new Map<string, { page: Promise<Page>; readAt: number }>()

  constructor(parts: RecoveryParts) {
    this.#parts = parts
    this.#batcher = new SubscribeBatcher(parts.broker, topic => parts.registry.holds(topic))
    // A page leaves room in the budget: a long history and a small budget must not make a slow consumer.
    this.#limits = { count: MAX_PAGE_ENTRIES, bytes: Math.min(MAX_PAGE_BYTES, Math.floor(parts.budget / 4)) }
  }

  /**
   * From now on live messages of `topic` wait for the replay. A `connection:` topic ends with its connection, so nothing
   * of it is ever replayed.
   */
  withhold(connection: Connection, topic: Topic): void {
    if (topicKind(topic) === 'connection') return
    connection.withhold(topic)
  }

  /**
   * Asks the broker to confirm the topics and, for those with an id, for what came after it. `last`: the newest messages of
   * the topics are wanted, if there is no id or it leads nowhere.
   */
  start(connection: Connection, topics: readonly Topic[], since: Since, last?: number): Start {
    const answers = this.#batcher.confirm(topics)
    if (since.size === 0 && last === undefined) return { topics, answers, returning: NOTHING_RETURNS }
    const returning = new Map<Topic, Promise<Return>>()
    for (const topic of topics) {
      const id = since.get(topic)
      // Without an id this subscription must not open a barrier that an earlier one closed.
      const isToRead = id !== undefined || last !== undefined
      const barrier = isToRead ? connection.barriers?.get(topic) : undefined
      if (barrier) returning.set(topic, this.#return(connection, topic, { id, last, barrier, answers }))
    }
    return { topics, answers, returning }
  }

  async #return(connection: Connection, topic: Topic, returning: Returning): Promise<Return> {
    const { id, barrier, answers } = returning
    await answers.confirmed(topic)
    const position = answers.get(topic)
    barrier.begin(position)
    const page = await this.#first(connection, topic, position, returning)
    const { gap, head } = page
    this.#parts.metrics.count('recoveries_total', 1, gap ?? (page.parts.length > 0 ? 'replayed' : 'up_to_date'))
    return {
      state: { ...head, ...(id !== undefined && { recovered: gap === undefined }) },
      ...(gap && { gap }),
      replay: () => this.#replay(connection, topic, barrier, page),
    }
  }

  /** What came after the id; without one, or after the gap if that is lost, the newest messages that are wanted. */
  async #first(
    connection: Connection,
    topic: Topic,
    position: Position | undefined,
    { id, last, barrier }: Returning,
  ): Promise<Page> {
    const read = async (since: string) =>
      // Without an answer the connection left meanwhile: nothing will be sent.
      (await this.#read(connection, topic, since, barrier)) ?? upToDate({ id: since, seq: 0 })
    if (id === undefined) return read(newest(last!))
    const since = isId(id) ? id : NO_ID
    const page = position?.id === since ? upToDate(position) : await read(since)
    // A history that could not be read just now is not asked for again.
    if (!page.gap || page.gap === 'broker_away' || last === undefined) return page
    return { ...(await read(newest(last))), gap: page.gap }
  }

  async #replay(connection: Connection, topic: Topic, barrier: ReplayBarrier, first: Page): Promise<void> {
    for (let page: Page | undefined = first; page; ) {
      if (!isWanted(connection, topic, barrier)) return
      if (page !== first && page.gap) connection.gap([topic], page.gap, page.head && { [topic]: page.head })
      for (const part of page.parts) if (!isExcepted(connection, part.except)) connection.push(part.segment)
      if (page.isComplete && barrier.isCoveredBy(page.end, page.readAt))
        return this.#open(connection, topic, barrier, page)
      // Sends no faster than the client reads.
      await connection.drained()
      page = await this.#read(connection, topic, page.end.id, barrier)
    }
  }

  /** Sends the unrecorded messages that waited; live messages that were replayed are skipped from here on. */
  #open(connection: Connection, topic: Topic, barrier: ReplayBarrier, { end, answeredAt }: Page): void {
    const { waiting, gap } = barrier.open(end, answeredAt)
    if (gap) connection.gap([topic], gap)
    for (const segment of waiting) connection.push(segment)
  }

  /** Asks until the broker answers; undefined when the connection left meanwhile. */
  async #read(connection: Connection, topic: Topic, since: string, barrier: ReplayBarrier): Promise<Page | undefined> {
    const read = async () => {
      const page = await this.#page(topic, since)
      // The cached last page of another connection may end before the messages that this one needs.
      const isUsable = page.gap || !page.isComplete || barrier.isCoveredBy(page.end, page.readAt)
      return isUsable ? page : await this.#page(topic, since, barrier.newestAt)
    }
    try {
      return await retrying(() => isWanted(connection, topic, barrier), read)
    } catch {
      return unreadable(since)
    }
  }

  #page(topic: Topic, since: string, notBefore = 0): Promise<Page> {
    const key = `${topic} ${since}`
    const now = performance.now()
    const known = this.#pages.get(key)
    if (known && now - known.readAt < PAGE_TTL && known.readAt > notBefore) return known.page
    for (const [old, { readAt }] of this.#pages) {
      if (now - readAt < PAGE_TTL && this.#pages.size < MAX_PAGES) break
      this.#pages.delete(old)
    }
    const page = this.#parts.broker.history(topic, since, this.#limits).then(read => this.#compose(topic, read, now))
    this.#pages.set(key, { page, readAt: now })
    page.catch(() => this.#pages.delete(key))
    return page
  }

  #compose(topic: Topic, { gap, head, entries, isComplete }: HistoryPage, readAt: number): Page {
    if (gap) return { ...upToDate(head), gap, readAt }
    const parts: Part[] = []
    for (const { position, envelope: bytes } of entries) {
      const { envelope } = this.#parts.decoder.inJson({ envelope: new Slice(bytes) })
      const decoded = this.#parts.decoder.decode(topic, envelope)
      if (decoded.kind !== 'plain' && decoded.kind !== 'publication') {
        parts.push({ segment: gapSegment([topic], 'rejected', { [topic]: position }), except: [] })
        continue
      }
      const frame = this.#parts.decoder.frame({ topic, envelope, position }, decoded, false)
      const except = decoded.kind === 'plain' ? NOBODY : decoded.except
      const last = parts.at(-1)
      const isAlike = except.length === 0 && last?.except.length === 0
      if (!isAlike || !last.segment.extend(frame, position)) {
        parts.push({ segment: new Segment(frame, topic, { position }), except })
      }
    }
    const end = isComplete ? head : (entries.at(-1)?.position ?? head)
    return { head, parts, end, isComplete, readAt, answeredAt: performance.now() }
  }

  clear(): void {
    this.#pages.clear()
  }
}

/** The history cannot be read: the client gets a `gap` and continues live. */
function unreadable(since: string): Page {
  return { ...upToDate({ id: since, seq: 0 }), head: undefined, gap: 'broker_away', readAt: Number.POSITIVE_INFINITY }
}

function upToDate(position: Position): Page {
  return { head: position, parts: [], end: position, isComplete: true, readAt: 0, answeredAt: performance.now() }
}

function isWanted(connection: Connection, topic: Topic, barrier: ReplayBarrier): boolean {
  return !connection.isClosing && connection.barriers?.get(topic) === barrier
}
