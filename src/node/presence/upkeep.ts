import type { PresenceReply, PresenceStore } from '../../broker/presence.ts'
import { RareLine } from '../../broker/rare-line.ts'
import { isTransient } from '../../broker/waiting.ts'
import type { Topic } from '../../protocol/topic.ts'
import type { Census } from './census.ts'

/** Changes are gathered for this many milliseconds: thousands of clients may come at once. */
const GATHER = 20
/** Milliseconds between two looks at leases and at users who are leaving. */
const TICK = 250
/** Milliseconds between two attempts at what could not be written. */
const RETRY = 1000
/** Topics in one round trip. */
const TOPICS_AT_ONCE = 200
/** A lease is renewed this many times before it would end. */
export const RENEWALS = 3
/** Owners whose remains this node takes away at the same time. */
const MAX_PURGES = 16

export interface UpkeepEvents {
  /** Where the list of a topic is, as the broker said after a change of this node. */
  seen(topic: Topic, reply: PresenceReply): void
  /** The broker has nothing of this node there any more. */
  ended(census: Census): void
  /** What Redis refuses, for the log. That it is away is told elsewhere. */
  failed(fields: object, more: number): void
}

/** Keeps what the broker has of this node up to date: writes changes, renews leases, takes away what dead nodes left. */
export class Upkeep {
  readonly #store: PresenceStore
  readonly #owner: string
  readonly #lease: number
  readonly #events: UpkeepEvents
  readonly #dirty = new Set<Census>()
  readonly #leaving = new Set<Census>()
  /** Everything that this node has at the broker, the one that was renewed longest ago first. */
  readonly #held = new Set<Census>()
  readonly #purging = new Set<string>()
  #gathering: NodeJS.Timeout | undefined
  readonly #ticking: NodeJS.Timeout
  readonly #failed: RareLine
  #isClosed = false

  constructor(store: PresenceStore, { owner, lease }: { owner: string; lease: number }, events: UpkeepEvents) {
    this.#store = store
    this.#owner = owner
    this.#lease = lease
    this.#events = events
    this.#failed = new RareLine(events.failed)
    this.#ticking = setInterval(() => this.#tick(performance.now()), TICK)
    this.#ticking.unref()
  }

  /** Something has changed that the broker has to be told. */
  changed(census: Census): void {
    if (census.hasLeaving) this.#leaving.add(census)
    if (!census.isChanged) return
    this.#dirty.add(census)
    this.#gather()
  }

  #gather(): void {
    if (this.#isClosed) return
    this.#gathering ??= setTimeout(() => {
      this.#gathering = undefined
      this.#flush(performance.now())
    }, GATHER)
  }

  #tick(now: number): void {
    for (const census of this.#leaving) {
      census.expire(now)
      if (!census.hasLeaving) this.#leaving.delete(census)
      if (census.isChanged) this.#dirty.add(census)
    }
    const due = now - this.#lease / RENEWALS
    for (const census of this.#held) {
      if (census.writtenAt > due) break
      this.#dirty.add(census)
    }
    this.#flush(now)
  }

  /** Writes what may be written now. The rest waits for the next tick, or for the answer to what is under way. */
  #flush(now: number): void {
    let batch: Census[] = []
    for (const census of this.#dirty) {
      if (census.isWriting || census.retryAt > now) continue
      this.#dirty.delete(census)
      batch.push(census)
      if (batch.length < TOPICS_AT_ONCE) continue
      void this.#write(batch)
      batch = []
    }
    if (batch.length > 0) void this.#write(batch)
  }

  async #write(batch: readonly Census[], lease?: (census: Census) => number): Promise<void> {
    const taken = batch.map(census => {
      census.isWriting = true
      const { topic, base } = census
      return { topic, base, owner: this.#owner, lease: lease?.(census) ?? this.#lease, ...census.take() }
    })
    const replies = await this.#store.write(taken).catch(error => batch.map(() => error as Error))
    const now = performance.now()
    for (const [i, census] of batch.entries()) {
      const { users, anonymous } = taken[i]!
      const reply = replies[i]!
      census.isWriting = false
      if (reply instanceof Error) this.#refused(census, users.keys(), reply)
      else if (reply.isWritten) this.#written(census, reply, anonymous, now)
      else await this.#resync(census, reply, users.keys())
    }
    if (this.#dirty.size > 0) this.#gather()
  }

  #refused(census: Census, users: Iterable<string>, error: Error): void {
    census.refused(users)
    census.retryAt = performance.now() + RETRY
    this.#dirty.add(census)
    this.#tell(error)
  }

  #tell(error: Error): void {
    if (!isTransient(error)) this.#failed.tell({ err: error })
  }

  #written(census: Census, reply: PresenceReply, anonymous: number, now: number): void {
    census.base = reply.base
    census.writtenAt = now
    census.written(anonymous)
    this.#held.delete(census)
    if (reply.base !== '0') this.#held.add(census)
    if (census.isChanged) this.#dirty.add(census)
    else if (census.isEmpty && reply.base === '0') this.#events.ended(census)
    this.#events.seen(census.topic, reply)
    for (const owner of reply.lapsed) void this.#purge(census.topic, owner)
  }

  /** The broker lost what was written, or others ended the lease of this node. */
  async #resync(census: Census, { base }: PresenceReply, users: Iterable<string>): Promise<void> {
    census.refused(users)
    census.isWriting = true
    try {
      census.resync(base, await this.#store.owned(census.topic, this.#owner))
    } catch (error) {
      this.#tell(error as Error)
      census.retryAt = performance.now() + RETRY
    }
    census.isWriting = false
    this.#dirty.add(census)
  }

  async #purge(topic: Topic, owner: string): Promise<void> {
    const key = `${topic} ${owner}`
    if (owner === this.#owner || this.#purging.has(key) || this.#purging.size >= MAX_PURGES) return
    this.#purging.add(key)
    try {
      while (!this.#isClosed && (await this.#store.purge(topic, owner))) {
        // Until nothing is left. What fails is tried again when the lease is renewed next.
      }
    } catch (error) {
      this.#tell(error as Error)
    }
    this.#purging.delete(key)
  }

  /**
   * Hands over to the other nodes: users who are leaving keep their grace, which nobody here will be able to end. Does not
   * reject, and takes no longer than the broker may take.
   */
  async close(): Promise<void> {
    this.#isClosed = true
    clearInterval(this.#ticking)
    clearTimeout(this.#gathering)
    const now = performance.now()
    const left = (census: Census) => Math.max(1, Math.ceil(census.leavesUntil - now))
    const open = [...new Set([...this.#dirty, ...this.#held])].filter(census => !census.isWriting)
    const parts: Promise<void>[] = []
    for (let i = 0; i < open.length; i += TOPICS_AT_ONCE)
      parts.push(this.#write(open.slice(i, i + TOPICS_AT_ONCE), left))
    await Promise.all(parts)
  }
}
