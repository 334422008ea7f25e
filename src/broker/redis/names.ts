import type { Topic } from '../../protocol/topic.ts'

/**
 * What a function that is called for a channel touches: with these names, Redis knows during the move of a slot whether
 * all of them are here, all there, or neither.
 */
export function keysOfTopic(channel: string, idempotencyKey?: string | number): string[] {
  const keys = [`{${channel}}:head`, `{${channel}}:history`]
  return idempotencyKey ? [...keys, `{${channel}}:once:${idempotencyKey}`] : keys
}

/** The same for the functions of presence. `owner`: whose connections they change. */
export function keysOfPresence(channel: string, owner: string | undefined): string[] {
  const keys = [`{${channel}}:presence`, `{${channel}}:members`]
  return owner === undefined ? keys : [...keys, ownMembersKey(channel, owner)]
}

/** A hash with the users that one node has on a topic. */
export function ownMembersKey(channel: string, owner: string): string {
  return `{${channel}}:members:${owner}`
}

/** The names in Redis. All begin with the prefix; `docs/redis.md` lists them. */
export class Names {
  readonly prefix: string
  /** The channel that every node subscribes to: `PUBSUB NUMSUB` counts the running nodes. */
  readonly nodes: string
  /** The list of notes about rejected envelopes. */
  readonly rejected: string
  /** In a Cluster, each master has names of its own for what is about a server and not about a topic. */
  shard = 0

  constructor(prefix: string) {
    this.prefix = prefix
    this.nodes = `${prefix}nodes`
    this.rejected = `${prefix}rejected`
  }

  /** The hash tag of what is about the server with this number. */
  shardTag(shard: number): string {
    return `{${this.prefix}shard-${shard}}`
  }

  /** A hash with the timeline of the server. */
  get timeline(): string {
    return `${this.shardTag(this.shard)}:timeline`
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
    return `${this.shardTag(this.shard)}:tick:${node}`
  }

  receipt(token: string): string {
    return `${this.prefix}receipt:${token}`
  }

  /** A stream of events: `name` is `events`, or begins with `events:`. */
  events(name: string): string {
    return this.prefix + name
  }

  /** A stream of publication requests: `name` is `ingress`, or begins with `ingress:`. */
  ingress(name: string): string {
    return this.prefix + name
  }

  /** When the user was revoked. */
  revoked(user: string): string {
    return `${this.prefix}revoked:${user}`
  }

  /** The answers to the question that has this token. */
  answers(token: string): string {
    return `${this.prefix}answers:${token}`
  }

  ticket(token: string): string {
    return `${this.prefix}ticket:${token}`
  }

  /** The tickets of a user that last no longer than `seconds`. */
  tickets(user: string, seconds: number): string {
    return `${this.prefix}tickets:${seconds}:${user}`
  }
}
