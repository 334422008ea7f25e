import { isOwnTopic, ownTopics, type Topic, topicKind } from '../protocol/topic.ts'
import { ownText, sinceStart } from './identity.ts'
import type { Tail } from './tail.ts'

/** The part of a connection that the registry uses. */
export interface Member {
  readonly id: string
  readonly user: string | null
  subscriptions: Joined
  /** When it joined the topic in `subscriptions` while that is a single one, as `sinceStart`. */
  joined: number
}

/**
 * Topics besides its own, with the times at which it joined them, as `sinceStart`. Most connections have a single one,
 * which needs no map of 200 bytes.
 */
export type Joined = Topic | Map<Topic, number> | undefined

/** The connections of a topic that has several. */
export class Group<M> extends Set<M> {
  /** The tail that all of them had when it was set. Whoever joins later does not have it. */
  tail: Tail | undefined
}

const NOBODY: ReadonlySet<never> = new Set()

/**
 * This node's index of connections. `all` and `connection:ID` need no entry, and a topic with a single member holds that
 * member instead of a set: of 100,000 users most have one connection, and a set takes 200 bytes.
 */
export class Registry<M extends Member> {
  readonly #byId = new Map<string, M>()
  readonly #byTopic = new Map<Topic, M | Group<M>>()
  readonly #all: Iterable<M> = { [Symbol.iterator]: () => this.#byId.values() }

  get size(): number {
    return this.#byId.size
  }

  get(id: string): M | undefined {
    return this.#byId.get(id)
  }

  values(): IterableIterator<M> {
    return this.#byId.values()
  }

  /** Registers `member` with its own topics. */
  add(member: M): void {
    this.#byId.set(member.id, member)
    if (member.user !== null) this.#join(`user:${member.user}`, member)
  }

  /** Removes `member` and returns the topics of which it was the last member. */
  remove(member: M): Topic[] {
    if (this.#byId.get(member.id) !== member) return []
    const topics = topicsOf(member)
    this.#byId.delete(member.id)
    for (const topic of topics) this.#leave(topic, member)
    member.subscriptions = undefined
    return topics.filter(topic => !this.holds(topic))
  }

  /** Adds `topic`, a channel or a user. Every connection has its other topics from the start. */
  join(member: M, topic: Topic): void {
    if (topic === 'all' || topicKind(topic) === 'connection') return
    if (isAmong(member.subscriptions, topic)) return
    const name = this.#nameOf(topic)
    const now = sinceStart(Date.now())
    const { subscriptions } = member
    if (subscriptions === undefined) {
      member.subscriptions = name
      member.joined = now
    } else if (typeof subscriptions !== 'string') subscriptions.set(name, now)
    else {
      member.subscriptions = new Map([
        [subscriptions, member.joined],
        [name, now],
      ])
    }
    this.#join(name, member)
  }

  /** When `member` joined `topic`, as `sinceStart`; undefined for a topic that it has from the start or does not have. */
  joinedAt(member: M, topic: Topic): number | undefined {
    const { subscriptions, joined } = member
    if (typeof subscriptions === 'object') return subscriptions.get(topic)
    return subscriptions === topic ? joined : undefined
  }

  leave(member: M, topic: Topic): void {
    const { subscriptions } = member
    if (!isAmong(subscriptions, topic)) return
    if (typeof subscriptions === 'object' && subscriptions.size > 1) subscriptions.delete(topic)
    else member.subscriptions = undefined
    if (member.user === null || topic !== `user:${member.user}`) this.#leave(topic, member)
  }

  has(member: M, topic: Topic): boolean {
    return isOwnTopic(topic, member) || isAmong(member.subscriptions, topic)
  }

  holds(topic: Topic): boolean {
    if (topic === 'all') return this.#byId.size > 0
    if (topicKind(topic) === 'connection') return this.#byId.has(topic.slice('connection:'.length))
    return this.#byTopic.has(topic)
  }

  *topics(): IterableIterator<Topic> {
    if (this.#byId.size > 0) yield 'all'
    for (const id of this.#byId.keys()) yield `connection:${id}`
    yield* this.#byTopic.keys()
  }

  /** How many members belong to `user`; it need not be known beyond `most`. */
  countOf(user: string | null, most: number): number {
    if (user === null) return 0
    let count = 0
    for (const member of this.members(`user:${user}`)) {
      // Others may listen to what the user hears.
      if (member.user === user && ++count >= most) break
    }
    return count
  }

  /** How many topics have a member. */
  get topicCount(): number {
    return this.#byTopic.size + this.#byId.size + (this.#byId.size > 0 ? 1 : 0)
  }

  /** As `members`, for topics other than `all`. A single connection stands for itself, which is faster. */
  audience(topic: Topic): M | Group<M> | undefined {
    const entry = this.#byTopic.get(topic)
    if (entry !== undefined || !topic.startsWith('connection:')) return entry
    return this.#byId.get(topic.slice('connection:'.length))
  }

  /** How many members `topic` has. */
  countOn(topic: Topic): number {
    if (topic === 'all') return this.size
    const audience = this.audience(topic)
    return audience === undefined ? 0 : audience instanceof Group ? audience.size : 1
  }

  /** The connections that are subscribed to `topic`. Can be iterated more than once. */
  members(topic: Topic): Iterable<M> {
    if (topic === 'all') return this.#all
    const audience = this.audience(topic)
    if (audience === undefined) return NOBODY
    return audience instanceof Group ? audience : [audience]
  }

  /** The string that other members of `topic` hold already, so that not every request keeps its own copy. */
  #nameOf(topic: Topic): Topic {
    const [first] = this.members(topic)
    return first?.subscriptions === topic ? first.subscriptions : ownText(topic)
  }

  #join(topic: Topic, member: M): void {
    const entry = this.#byTopic.get(topic)
    if (entry === undefined) this.#byTopic.set(topic, member)
    else if (entry instanceof Group) {
      entry.add(member)
      entry.tail = undefined
    } else if (entry !== member) this.#byTopic.set(topic, new Group([entry, member]))
  }

  #leave(topic: Topic, member: M): void {
    const entry = this.#byTopic.get(topic)
    if (entry === member) {
      this.#byTopic.delete(topic)
    } else if (entry instanceof Group) {
      entry.delete(member)
      entry.tail = undefined
      if (entry.size === 0) this.#byTopic.delete(topic)
    }
  }
}

/** All topics of `member`, its own included. */
export function topicsOf(member: Member): Topic[] {
  const topics = ownTopics(member.id, member.user)
  const { subscriptions } = member
  const joined = typeof subscriptions === 'string' ? [subscriptions] : (subscriptions?.keys() ?? [])
  for (const topic of joined) if (!isOwnTopic(topic, member)) topics.push(topic)
  return topics
}

/** How many topics there are in `subscriptions`. */
export function countOf(subscriptions: Joined): number {
  return typeof subscriptions === 'string' ? 1 : (subscriptions?.size ?? 0)
}

function isAmong(subscriptions: Joined, topic: Topic): boolean {
  return typeof subscriptions === 'object' ? subscriptions.has(topic) : subscriptions === topic
}
