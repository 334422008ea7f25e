import type { Position } from '../../protocol/position.ts'
import type { Topic } from '../../protocol/topic.ts'
import type { Confirmed } from '../broker.ts'
import type { CommandLink } from './commands.ts'
import type { TopicCursor } from './cursor.ts'
import type { Names } from './names.ts'
import type { Shard } from './shard.ts'

export interface TopicRoutesParts {
  names: Names
  /** The links to the master that has the slot of a channel; undefined while it has none. */
  shardOf(channel: string): Shard | undefined
  /** Whether a connection of this node has the topic. */
  isWanted(topic: Topic): boolean
  /** These topics are received over other links. A command that was published in between may not have come. */
  moved(topics: readonly Topic[]): void
}

type Released = ReadonlyMap<Topic, TopicCursor | undefined>

const NO_POSITIONS: ReadonlyMap<Topic, Position> = new Map()

/** Over which links the topics of a node are received, also while the slots of a Cluster move. */
export class TopicRoutes {
  readonly #parts: TopicRoutesParts
  /** Topics of masters that are gone, while nobody has their slots. */
  readonly #orphaned = new Map<Topic, TopicCursor | undefined>()
  #onMoved: (() => void)[] = []
  #isClosed = false

  constructor(parts: TopicRoutesParts) {
    this.#parts = parts
  }

  shardOf(topic: Topic): Shard | undefined {
    return this.#parts.shardOf(this.#parts.names.channel(topic))
  }

  #grouped(topics: Iterable<Topic>): Map<Shard | undefined, Topic[]> {
    const groups = new Map<Shard | undefined, Topic[]>()
    for (const topic of topics) {
      const shard = this.shardOf(topic)
      const group = groups.get(shard)
      if (group) group.push(topic)
      else groups.set(shard, [topic])
    }
    return groups
  }

  /**
   * Resolves when each topic is subscribed where its slot is by then, or was left. `confirmed` is told of those for which
   * others are not to wait.
   */
  async subscribe(topics: readonly Topic[], confirmed: Confirmed = () => {}): Promise<ReadonlyMap<Topic, Position>> {
    const positions = new Map<Topic, Position>()
    for (let left = topics; left.length > 0 && !this.#isClosed; ) {
      const groups = [...this.#grouped(left)]
      // Not those of a slot that has no master, or another one since.
      const isThere = (topic: Topic, shard: Shard | undefined) => shard !== undefined && this.shardOf(topic) === shard
      const answers = groups.map(async ([shard, part]) => {
        const some: Confirmed = (some, at) =>
          confirmed(
            some.filter(topic => isThere(topic, shard)),
            at,
          )
        const answer = (await shard?.subscriber.subscribe(part, some)) ?? NO_POSITIONS
        const there = part.filter(topic => isThere(topic, shard))
        if (there.length < left.length) confirmed(there, answer)
        return answer
      })
      for (const answer of await Promise.all(answers)) for (const [topic, at] of answer) positions.set(topic, at)
      const missed = groups.flatMap(([shard, part]) => part.filter(topic => !isThere(topic, shard)))
      if (missed.some(topic => !this.shardOf(topic))) await new Promise<void>(resolve => this.#onMoved.push(resolve))
      left = missed.filter(topic => this.#parts.isWanted(topic))
    }
    return this.#present(positions)
  }

  /** One master may answer long after another, whose topics went on: a replay up to there would miss what came since. */
  #present(positions: ReadonlyMap<Topic, Position>): ReadonlyMap<Topic, Position> {
    const at = (topic: Topic, then: Position) => this.shardOf(topic)?.subscriber.whereabouts(topic, then) ?? then
    return new Map([...positions].map(([topic, then]) => [topic, at(topic, then)]))
  }

  unsubscribe(topic: Topic): void {
    this.#orphaned.delete(topic)
    this.shardOf(topic)?.subscriber.unsubscribe(topic)
  }

  /** Slots have other masters: each topic is received over the links to the one that has it now. */
  moved(shards: readonly Shard[], gone: readonly Shard[]): void {
    const servers = shards.map(({ commands }) => commands)
    for (const shard of shards) {
      for (const [target, topics] of this.#grouped(shard.subscriber.topics)) {
        if (target && target !== shard) void this.#adopt(target, shard.subscriber.release(topics), servers)
      }
    }
    for (const { subscriber } of gone) {
      for (const [topic, cursor] of subscriber.release([...subscriber.topics])) this.#orphaned.set(topic, cursor)
    }
    for (const [target, topics] of this.#grouped(this.#orphaned.keys())) {
      if (target) void this.#adopt(target, this.#takeOrphaned(topics), servers)
    }
    this.#wake()
  }

  async #adopt(target: Shard, released: Released, servers: readonly CommandLink[]): Promise<void> {
    await target.subscriber.adopt(released, servers)
    if (!this.#isClosed) this.#parts.moved([...released.keys()])
  }

  #takeOrphaned(topics: readonly Topic[]): Map<Topic, TopicCursor | undefined> {
    const taken = new Map(topics.map(topic => [topic, this.#orphaned.get(topic)]))
    for (const topic of topics) this.#orphaned.delete(topic)
    return taken
  }

  #wake(): void {
    for (const resolve of this.#onMoved.splice(0)) resolve()
  }

  close(): void {
    this.#isClosed = true
    this.#orphaned.clear()
    this.#wake()
  }
}
