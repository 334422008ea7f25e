import type { Topic } from '../../protocol/topic.ts'

/** Every name that this project uses in Redis begins with the prefix; `docs/redis.md` lists them. */
export class Names {
  readonly prefix: string
  /** Held by every node: `PUBSUB NUMSUB` on it says how many live. */
  readonly nodes: string
  /** List of envelopes that could not be used. */
  readonly rejected: string
  /** Hash: the timeline that ids begin with, and the largest envelope that may be recorded. */
  readonly timeline: string

  constructor(prefix: string) {
    this.prefix = prefix
    this.nodes = `${prefix}nodes`
    this.rejected = `${prefix}rejected`
    this.timeline = `${prefix}timeline`
  }

  channel(topic: Topic): string {
    return this.prefix + topic
  }

  /** The topic behind a channel that this node subscribed to. */
  topic(channel: string): Topic {
    return channel.slice(this.prefix.length) as Topic
  }

  /** A channel that only this node holds, to hear whether what is published comes back. */
  node(id: string): string {
    return `${this.prefix}node:${id}`
  }

  tick(node: string): string {
    return `${this.prefix}tick:${node}`
  }

  receipt(token: string): string {
    return `${this.prefix}receipt:${token}`
  }

  ticket(token: string): string {
    return `${this.prefix}ticket:${token}`
  }
}
