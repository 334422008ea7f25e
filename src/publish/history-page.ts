import type { Broker, HistoryEntry, HistoryPage } from '../broker/broker.ts'
import { decodeEnvelope, type EnvelopeReader, type Publication } from '../protocol/envelope.ts'
import { errors } from '../protocol/errors.ts'
import type { From, GapReason } from '../protocol/messages.ts'
import { isId, lastProblem, MAX_LAST, newest } from '../protocol/position.ts'
import { type Topic, topicKind, topicProblem } from '../protocol/topic.ts'
import { unknownKey } from '../protocol/unknown-keys.ts'
import type { SchemaTable } from './schemas.ts'

/** Which part of a history to read. */
export interface HistoryQuery {
  /** An id: what was recorded after it. */
  since?: string | undefined
  /** 1 to 100: the newest messages, if there is no `since` or what came after it is lost. Default: `limit`. */
  last?: number | undefined
  /** 1 to 100, the default: the most messages of this page. */
  limit?: number | undefined
}

/** A message of a history. `P`: its payload as a value, or as the JSON text that the publisher wrote. */
export interface HistoryMessage<P = unknown> {
  id: string
  seq: number
  type: string
  payload: P
  from?: From
  /** Connections and users that it was not for. */
  except?: readonly string[]
}

export interface TopicHistory<P = unknown> {
  topic: string
  /** The head of the topic. */
  id: string
  seq: number
  /** In the order in which they were recorded. */
  messages: HistoryMessage<P>[]
  /** Whether they reach the head. */
  complete: boolean
  /** If not: the `since` for the next page. */
  next?: string
  /** Why messages are missing: before these, or `rejected` if some could not be used. */
  gap?: GapReason
}

const KEYS = ['since', 'last', 'limit']

/** Larger messages come in several pages, or alone. */
const MAX_BYTES = 1024 * 1024

/** Reads the history of a topic, for backends: the same checks and the same answer for all of them. */
export class HistoryReader {
  readonly #broker: Pick<Broker, 'history'>
  readonly #schemas: SchemaTable
  readonly #maxBytes: number
  readonly #readMsgpack: EnvelopeReader | undefined

  /** `maxBytes`: the largest envelope. `readMsgpack`: undefined if envelopes have to be JSON. */
  constructor(
    broker: Pick<Broker, 'history'>,
    schemas: SchemaTable,
    maxBytes: number,
    readMsgpack?: EnvelopeReader | undefined,
  ) {
    this.#broker = broker
    this.#schemas = schemas
    this.#maxBytes = maxBytes
    this.#readMsgpack = readMsgpack
  }

  /** Payloads are JSON text. Rejects with a PushError, also while the broker is away. */
  async read(topic: unknown, query: HistoryQuery = {}): Promise<TopicHistory<string>> {
    const problem = topicProblem(topic)
    if (problem) throw new errors.TOPIC(problem)
    if (topicKind(topic as Topic) === 'connection') throw new errors.TOPIC('connections have no history')
    refuseQuery(query)
    const { limit = MAX_LAST, since, last } = query
    const page = (from: string) => this.#broker.history(topic as Topic, from, { count: limit, bytes: MAX_BYTES })
    if (since === undefined) return this.#toHistory(topic as Topic, await page(newest(last ?? limit)))
    const found = await page(isId(since) ? since : 'none')
    if (!found.gap || last === undefined) return this.#toHistory(topic as Topic, found)
    return this.#toHistory(topic as Topic, { ...(await page(newest(last))), gap: found.gap })
  }

  #toHistory(topic: Topic, { head, entries, isComplete, gap }: HistoryPage): TopicHistory<string> {
    const all = entries.map(entry => this.#toMessage(entry))
    const messages = all.filter(message => message !== undefined)
    const reason = gap ?? (messages.length < all.length ? 'rejected' : undefined)
    // Not the last message: those after it may all be unusable.
    const next = isComplete ? undefined : entries.at(-1)?.position.id
    return {
      topic,
      ...head,
      messages,
      complete: next === undefined,
      ...(next && { next }),
      ...(reason && { gap: reason }),
    }
  }

  /** Undefined for what no client gets either. */
  #toMessage({ position, envelope }: HistoryEntry): HistoryMessage<string> | undefined {
    const decoded = decodeEnvelope(envelope, this.#maxBytes, this.#readMsgpack)
    if (decoded.kind !== 'publication' || this.#schemas.problem(decoded.type, decoded.value)) return undefined
    const { type, payload = '{}', from, except }: Publication = decoded
    return { ...position, type, payload, ...(from && { from }), ...(except.length > 0 && { except }) }
  }
}

function refuseQuery(query: HistoryQuery): void {
  if (typeof query !== 'object' || query === null) throw new errors.FIELD('the query is no object such as { last: 10 }')
  const unknown = unknownKey(query, KEYS)
  if (unknown) throw new errors.UNKNOWN_KEY(unknown)
  const { since, last, limit } = query
  if (since !== undefined && typeof since !== 'string') throw new errors.FIELD('since is not a string')
  for (const [name, count] of Object.entries({ last, limit })) {
    const problem = lastProblem(count)
    if (problem) throw new errors.FIELD(`${name} ${problem}`)
  }
}

/** The same with payloads as values. */
export function parseHistory({ messages, ...history }: TopicHistory<string>): TopicHistory {
  return { ...history, messages: messages.map(message => ({ ...message, payload: JSON.parse(message.payload) })) }
}

/** The same as JSON text, in which payloads are copied as the publishers wrote them: large numbers survive. */
export function encodeHistory({ messages, ...history }: TopicHistory<string>): string {
  const texts = messages.map(({ payload, ...message }) => {
    const rest = JSON.stringify(message)
    return `${rest.slice(0, -1)},"payload":${payload}}`
  })
  return `${JSON.stringify(history).slice(0, -1)},"messages":[${texts.join()}]}`
}
