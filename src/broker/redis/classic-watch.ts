import type { Redis } from 'ioredis'
import { Slice } from '../../protocol/slice.ts'
import type { Topic } from '../../protocol/topic.ts'
import { parseRecorded } from './history.ts'
import type { Names } from './names.ts'

export interface ClassicWatchEvents {
  /** Was published with PUBLISH. */
  misdirected(topic: Topic, envelope: Slice): void
  /** Redis does not let this node watch. */
  blind(error: Error): void
}

/**
 * Notices what a backend publishes with PUBLISH although nodes hear SPUBLISH only. The bus of the Cluster carries a
 * PUBLISH to every server, so the link to one of them is enough: the one that has shard 0. The ticks of nodes are not
 * asked for: each node would receive those of all others.
 */
export class ClassicWatch {
  readonly #client: Redis
  readonly #names: Names
  readonly #events: ClassicWatchEvents
  readonly #patterns: readonly string[]
  #isWatching = false

  constructor(client: Redis, names: Names, events: ClassicWatchEvents) {
    this.#client = client
    this.#names = names
    this.#events = events
    this.#patterns = ['channel:*', 'user:*', 'connection:*', 'all'].map(pattern => names.prefix + pattern)
    client.on('pmessageBuffer', (_pattern: string, channel: Buffer, message: Buffer) => {
      this.#onMessage(names.topic(channel.toString()), new Slice(message))
    })
  }

  /** The link is up: nothing is watched over it yet. */
  begin(): void {
    this.#isWatching = false
    void this.update()
  }

  /** The number of the shard may be another one. */
  async update(): Promise<void> {
    const isMine = this.#names.shard === 0
    if (isMine === this.#isWatching) return
    this.#isWatching = isMine
    try {
      await (isMine ? this.#client.psubscribe(...this.#patterns) : this.#client.punsubscribe(...this.#patterns))
    } catch (error) {
      // When the link is lost, it begins anew with the next one.
      if ((error as Error).name === 'ReplyError') this.#events.blind(error as Error)
    }
  }

  /** push_publish publishes both ways while somebody is subscribed the old way. */
  #onMessage(topic: Topic, message: Slice): void {
    if (!parseRecorded(message)) this.#events.misdirected(topic, message)
  }
}
