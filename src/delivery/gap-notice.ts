import type { Connection } from '../connection/connection.ts'
import type { Registry } from '../connection/registry.ts'
import type { Gap, GapReason } from '../protocol/messages.ts'
import type { Position } from '../protocol/position.ts'
import type { Topic } from '../protocol/topic.ts'

/** Sends a `gap` to every connection concerned: once, for all its topics, before it gets the next message. */
export class GapNotice {
  readonly reason: GapReason
  #topics: ReadonlyMap<Topic, Position | undefined>
  #added: Map<Topic, Position | undefined> | undefined
  readonly #registry: Registry<Connection>
  readonly #knownAt = performance.now()
  /** The connections that are still to be told; undefined before the first was. */
  #connections: Iterator<Connection> | undefined

  constructor(reason: GapReason, topics: ReadonlyMap<Topic, Position | undefined>, registry: Registry<Connection>) {
    this.reason = reason
    this.#topics = topics
    this.#registry = registry
  }

  /** Adds `topic`. False when connections have already been told: it then needs a notice of its own. */
  add(topic: Topic): boolean {
    if (this.#connections) return false
    this.#added ??= new Map(this.#topics)
    this.#topics = this.#added.set(topic, undefined)
    return true
  }

  /** Tells connections until `deadline`; true when all have been told. */
  tell(deadline: number): boolean {
    this.#connections ??= this.#concerned()[Symbol.iterator]()
    for (let next = this.#connections.next(); !next.done; next = this.#connections.next()) {
      this.#tellOne(next.value)
      if (performance.now() >= deadline) return false
    }
    return true
  }

  #concerned(): Iterable<Connection> {
    const [only] = this.#topics.keys()
    return this.#topics.size === 1 ? this.#registry.members(only!) : this.#registry.values()
  }

  #tellOne(connection: Connection): void {
    const held = this.#topics.size === 1 ? [...this.#topics.keys()] : [...connection.topics]
    const isToTell = (topic: Topic) => {
      const barrier = connection.barriers?.get(topic)
      return !barrier?.lost(this.reason, this.#topics.get(topic), this.#knownAt)
    }
    const lost = held.filter(topic => this.#topics.has(topic) && isToTell(topic))
    if (lost.length > 0) connection.gap(lost, this.reason, this.#positionsOf(lost))
  }

  #positionsOf(lost: readonly Topic[]): Gap['positions'] {
    const known = lost.flatMap(topic => {
      const position = this.#topics.get(topic)
      return position ? [[topic, position]] : []
    })
    return known.length > 0 ? Object.fromEntries(known) : undefined
  }
}
