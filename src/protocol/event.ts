import { isReservedType, typeProblem } from './messages.ts'
import { matchesPattern } from './topic.ts'

/** What nodes tell backends of. `lost` says how many events are missing at its place and cannot be left out. */
export const EVENT_KINDS = ['connect', 'disconnect', 'subscribe', 'unsubscribe', 'message', 'rejected'] as const

export type EventKind = (typeof EVENT_KINDS)[number]

/** An event as it is handed on: the same JSON in a stream and over HTTP. */
export interface EncodedEvent {
  /** A repeat has the same one. */
  id: string
  kind: EventKind | 'lost'
  json: string
}

/** Whose event it is. */
export interface EventSource {
  id: string
  user: string | null
}

/** Writes events and calls of one node as JSON, each with an id of its own. */
export class EventWriter {
  readonly #node: string
  readonly #newNumber: () => number

  /** `newNumber`: one that no other event of this node has. */
  constructor(node: string, newNumber: () => number) {
    this.#node = node
    this.#newNumber = newNumber
  }

  newId(): string {
    return `${this.#node}.${this.#newNumber()}`
  }

  /** `source` is null where no connection is the cause. */
  event(kind: EncodedEvent['kind'], source: EventSource | null, fields: object): EncodedEvent {
    const id = this.newId()
    const { id: connection, user } = source ?? { id: null, user: null }
    return { id, kind, json: JSON.stringify({ ...this.#head(id, kind), connection, user, ...fields }) }
  }

  /** `payload` is JSON text and is copied unchanged. */
  message(source: EventSource, { type, payload, data }: SentMessage): EncodedEvent {
    const { json, ...event } = this.event('message', source, { type, ...(data !== undefined && { data }) })
    return { ...event, json: `${json.slice(0, -1)},"payload":${payload}}` }
  }

  /** What a call says that is no event. */
  call(kind: string, fields: object): string {
    return JSON.stringify({ ...this.#head(this.newId(), kind), ...fields })
  }

  /** A batch of events: each stands in it as in a stream. */
  batch(events: readonly EncodedEvent[]): string {
    return `${this.call('events', {}).slice(0, -1)},"events":[${events.map(({ json }) => json).join(',')}]}`
  }

  #head(id: string, kind: string) {
    return { id, kind, time: new Date().toISOString(), node: this.#node }
  }
}

export interface SentMessage {
  type: string
  payload: string
  /** What the identity of the connection has as `data`, for a backend that gave it. */
  data?: unknown
}

/** Whether one of `patterns` covers the type of a client message. No pattern covers a reserved type. */
export function coversType(patterns: readonly string[], type: string): boolean {
  return !isReservedType(type) && patterns.some(pattern => matchesPattern(pattern, type))
}

/** Why `pattern` covers no type that a client may send, such as `chat.*`; undefined when it does. */
export function typePatternProblem(pattern: string): string | undefined {
  if (/^\*+$/.test(pattern)) return undefined
  const problem = typeProblem(pattern.replaceAll('*', 'x'))
  if (problem) return `has ${JSON.stringify(pattern.slice(0, 130))}: ${problem}`
  const isReserved = isReservedType(pattern) || pattern.startsWith('push.')
  return isReserved ? `has "${pattern}", which is reserved for the protocol: choose another` : undefined
}
