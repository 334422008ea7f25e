import type { Topic } from '../../protocol/topic.ts'

/** The names in Redis. All begin with the prefix; `docs/redis.md` lists them. */
export class Names {
  readonly prefix: string
  /** The channel that every node subscribes to: `PUBSUB NUMSUB` counts the running nodes. */
  readonly nodes: string
  /** The list of notes about rejected envelopes. */
  readonly rejected: string
  /** A hash with the timeline of the server. */
  readonly timeline: string
  /** What is about a server, not about a topic: all of it is in one hash slot. */
  readonly #shard: string

  constructor(prefix: string) {
    this.prefix = prefix
    this.nodes = `${prefix}nodes`
    this.rejected = `${prefix}rejected`
    this.#shard = `{${prefix}shard-0}`
    this.timeline = `${this.#shard}:timeline`
  }

  channel(topic: Topic): string {
    return this.prefix + topic
  }

  /** The topic of a channel that this node has subscribed to. */
  topic(channel: string): Topic {
    return channel.slice(this.prefix.length) as Topic
  }

  /** The channel of this node alone: its ticks come back on it, which shows that it receives messages. */
  node(id: string): string {
    return `${this.prefix}node:${id}`
  }

  tick(node: string): string {
    return `${this.#shard}:tick:${node}`
  }

  receipt(token: string): string {
    return `${this.prefix}receipt:${token}`
  }

  ticket(token: string): string {
    return `${this.prefix}ticket:${token}`
  }
}
