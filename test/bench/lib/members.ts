import { PREFIX } from './contract.ts'

interface Channels {
  subscribe(channel: string): Promise<unknown>
  unsubscribe(channel: string): unknown
}

/** Who is on which Redis channel, and the subscription in Redis that goes with it. For the two limit peers. */
export class Members<T> {
  readonly #channels: Channels
  readonly #members = new Map<string, Set<T>>()
  readonly #ready = new Map<string, Promise<unknown>>()

  constructor(channels: Channels) {
    this.#channels = channels
  }

  of(channel: string): Set<T> | undefined {
    return this.#members.get(channel)
  }

  async join(member: T, topics: string[]): Promise<void> {
    await Promise.all(topics.map(topic => this.#join(member, PREFIX + topic)))
  }

  leave(member: T, topics: string[]): void {
    for (const topic of topics) {
      const channel = PREFIX + topic
      const members = this.#members.get(channel)
      if (!members?.delete(member) || members.size > 0) continue
      this.#members.delete(channel)
      this.#ready.delete(channel)
      this.#channels.unsubscribe(channel)
    }
  }

  #join(member: T, channel: string): Promise<unknown> | undefined {
    const members = this.#members.get(channel)
    if (members) {
      members.add(member)
      return this.#ready.get(channel)
    }
    this.#members.set(channel, new Set([member]))
    const ready = this.#channels.subscribe(channel)
    this.#ready.set(channel, ready)
    return ready
  }
}
