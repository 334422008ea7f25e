import type { Metrics } from '../broker/metrics.ts'
import { tracing } from '../broker/tracing.ts'
import type { Connection } from '../connection/connection.ts'
import { topicsOf } from '../connection/registry.ts'
import { countedCode } from '../protocol/messages.ts'
import type { Topic } from '../protocol/topic.ts'
import type { LifeEvents } from './events/events.ts'
import type { Presence } from './presence/presence.ts'

interface LifecycleParts {
  /** Undefined if no topic has presence. */
  presence: Presence<Connection> | undefined
  /** Undefined if no backend is told. */
  life: LifeEvents | undefined
  metrics: Metrics
}

/** Tells all who want to know what becomes of connections: who is there, backends, the counters and tracing. */
export class Lifecycle {
  readonly #parts: LifecycleParts

  constructor(parts: LifecycleParts) {
    this.#parts = parts
  }

  connected(connection: Connection): void {
    const { presence, life, metrics } = this.#parts
    const topics = topicsOf(connection)
    presence?.enter(connection, topics)
    metrics.count('connections_opened_total')
    life?.connected(connection, topics)
    if (tracing.connect.hasSubscribers) tracing.connect.publish({ ...namesOf(connection), topics })
  }

  subscribed(connection: Connection, topic: Topic): void {
    const { presence, life } = this.#parts
    presence?.enter(connection, [topic])
    life?.subscribed(connection, topic)
    if (tracing.subscribe.hasSubscribers) tracing.subscribe.publish({ ...namesOf(connection), topic })
  }

  unsubscribed(connection: Connection, topic: Topic): void {
    const { presence, life } = this.#parts
    presence?.leave(connection, [topic])
    life?.unsubscribed(connection, topic)
  }

  /** `topics`: those that it had until now. */
  disconnected(
    connection: Connection,
    topics: readonly Topic[],
    { code, reason }: { code: number; reason: string },
  ): void {
    const { presence, life, metrics } = this.#parts
    presence?.leave(connection, topics)
    metrics.count('connections_closed_total', 1, countedCode(code))
    life?.disconnected(connection, code, reason)
    if (tracing.close.hasSubscribers) tracing.close.publish({ ...namesOf(connection), code, reason })
  }
}

const namesOf = ({ id, user }: Connection) => ({ connection: id, user })
