import type { Broker } from '../../broker/broker.ts'
import type { EventStreamOptions } from '../../options/events.ts'
import { coversType, type EncodedEvent } from '../../protocol/event.ts'
import { matchesPattern } from '../../protocol/topic.ts'
import { EventQueue, type Fate, type QueueParts } from './queue.ts'

/** What a rule looks at. */
export interface About {
  topic?: string
  type?: string
}

/** Round trips are few, and one XADD after the other takes Redis some microseconds. */
const BATCH = { count: 500, bytes: 1024 * 1024 }

/** Redis is asked as soon as its link is back: the broker itself waits for that. */
const MAX_PAUSE = 1000

export interface StreamParts extends Omit<QueueParts, 'batch' | 'maxPause' | 'send'> {
  broker: Pick<Broker, 'appendEvents'>
  failed(stream: string, error: Error): void
}

/** The streams of a Redis that backends read: a queue for each, since each may have a master of its own. */
export class EventStreams {
  readonly #options: EventStreamOptions
  readonly #queues: ReadonlyMap<string, EventQueue>

  constructor(options: EventStreamOptions, parts: StreamParts) {
    this.#options = options
    const names = new Set([options.name, ...options.rules.map(({ name }) => name)])
    this.#queues = new Map([...names].map(name => [name, queueFor(name, options, parts)]))
  }

  /** How many events have not arrived in Redis yet. */
  get size(): number {
    return [...this.#queues.values()].reduce((sum, { size }) => sum + size, 0)
  }

  push(event: EncodedEvent, about: About, settle?: (isWritten: boolean) => void): void {
    this.#queues.get(this.#streamOf(event, about))!.push(event, settle)
  }

  #streamOf({ kind }: EncodedEvent, { topic, type }: About): string {
    const rule = this.#options.rules.find(
      ({ kinds, topics, types }) =>
        (kinds === undefined || kinds.includes(kind as never)) &&
        (topics === undefined || (topic !== undefined && topics.some(pattern => matchesPattern(pattern, topic)))) &&
        (types === undefined || (type !== undefined && coversType(types, type))),
    )
    return rule?.name ?? this.#options.name
  }

  async close(milliseconds: number): Promise<void> {
    await Promise.all([...this.#queues.values()].map(queue => queue.close(milliseconds)))
  }
}

function queueFor(stream: string, { maxLength, maxAge }: EventStreamOptions, parts: StreamParts): EventQueue {
  const { broker, failed, ...rest } = parts
  const send = async (events: readonly EncodedEvent[]): Promise<Fate[]> => {
    const results = await broker.appendEvents(stream, events, { maxLength, maxAge })
    const error = results.find(result => result !== undefined)
    if (error) failed(stream, error)
    return results.map(result => (result === undefined ? 'written' : 'again'))
  }
  return new EventQueue({ ...rest, batch: BATCH, maxPause: MAX_PAUSE, send })
}
