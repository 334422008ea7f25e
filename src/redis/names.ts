import type { Topic } from '../topic.ts'

/** Every name that this project uses in Redis begins with the prefix; `docs/redis.md` lists them. */
export class Names {
  readonly prefix: string
  /** Held by every node: `PUBSUB NUMSUB` on it says how many live. */
  readonly nodes: string
  /** List of envelopes that could not be used. */
  readonly rejected: string

  constructor(prefix: string) {
    this.prefix = prefix
    this.nodes = `${prefix}nodes`
    this.rejected = `${prefix}rejected`
  }

  channel(topic: Topic): string {
    return this.prefix + topic
  }

  /** The topic behind a channel that this node subscribed to. */
  topic(channel: string): Topic {
    return channel.slice(this.prefix.length) as Topic
  }

  receipt(token: string): string {
    return `${this.prefix}receipt:${token}`
  }

  ticket(token: string): string {
    return `${this.prefix}ticket:${token}`
  }
}
