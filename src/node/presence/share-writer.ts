import type { PresenceReply, PresenceStore } from '../../broker/presence.ts'
import { RareLine } from '../../broker/rare-line.ts'
import { isTransient } from '../../broker/waiting.ts'
import type { Topic } from '../../protocol/topic.ts'
import type { Share } from './share.ts'

/** Changes are gathered for this many milliseconds: thousands of clients may come at once. */
const GATHER = 20
/** Milliseconds between two looks at leases and at users who are leaving. */
const TICK = 250
/** Milliseconds between two attempts at what could not be written, unless the lease is short. */
const RETRY = 1000
const RETRIES = 10
/** Topics in one round trip. */
const TOPICS_AT_ONCE = 200
/** A lease is renewed this many times before it would end. */
export const RENEWALS = 3
/** Owners whose remains this node takes away at the same time. */
const MAX_PURGES = 16

const NOBODY: ReadonlyMap<string, number> = new Map()

export interface ShareWriterEvents {
  /** Where the list of a topic is, as the broker said after a change of this node. */
  seen(topic: Topic, reply: PresenceReply): void
  /** The broker has nothing of this node there any more. */
  ended(share: Share): void
  /** What Redis refuses, for the log. That it is away is told elsewhere. */
  failed(fields: object, more: number): void
}

/** Keeps what the broker has of this node up to date: writes changes, renews leases, takes away what dead nodes left. */
export class ShareWriter {
  readonly #store: PresenceStore
  readonly #owner: string
  readonly #lease: number
  readonly #events: ShareWriterEvents
  readonly #dirty = new Set<Share>()
  readonly #leaving = new Set<Share>()
  /** Everything that this node has at the broker, the one that was renewed longest ago first. */
  readonly #held = new Set<Share>()
  readonly #purging = new Set<string>()
  /** The number of the last change: even, and never used twice, so that a broker that lost changes is always noticed. */
  #change = 0
  #gathering: NodeJS.Timeout | undefined
  readonly #ticking: NodeJS.Timeout
  readonly #failed: RareLine
  #isClosed = false

  constructor(store: PresenceStore, { owner, lease }: { owner: string; lease: number }, events: ShareWriterEvents) {
    this.#store = store
    this.#owner = owner
    this.#lease = lease
    this.#events = events
    this.#failed = new RareLine(events.failed)
    this.#ticking = setInterval(() => this.#tick(performance.now()), TICK)
    this.#ticking.unref()
  }

  /** Something has changed that the broker has to be told. */
  changed(share: Share): void {
    if (share.hasLeaving) this.#leaving.add(share)
    if (!share.isChanged) return
    this.#dirty.add(share)
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
    for (const share of this.#leaving) {
      share.expire(now)
      if (!share.hasLeaving) this.#leaving.delete(share)
      if (share.isChanged) this.#dirty.add(share)
    }
    const due = now - this.#lease / RENEWALS
    for (const share of this.#held) {
      if (share.writtenAt > due) break
      if (!share.isWriting) this.#dirty.add(share)
    }
    this.#flush(now)
  }

  /** Writes what may be written now. The rest waits for the next tick, or for the answer to what is under way. */
  #flush(now: number): void {
    const due = [...this.#dirty].filter(share => !share.isWriting && share.retryAt <= now)
    for (const share of due) this.#dirty.delete(share)
    for (const batch of this.#batchesOf(due)) void this.#write(batch)
  }

  /** Each of one shard: one that does not answer holds up its own topics and no others. */
  #batchesOf(shares: readonly Share[]): Share[][] {
    const byShard = new Map<unknown, Share[]>()
    const batches: Share[][] = []
    for (const share of shares) {
      const shard = this.#store.shardOf(share.topic)
      let batch = byShard.get(shard)
      if (!batch || batch.length >= TOPICS_AT_ONCE) {
        batch = []
        byShard.set(shard, batch)
        batches.push(batch)
      }
      batch.push(share)
    }
    return batches
  }

  async #write(batch: readonly Share[], lease?: (share: Share) => number): Promise<void> {
    const taken = batch.map(share => {
      share.isWriting = true
      const { topic, base, heard } = share
      this.#change += 2
      const next = String(this.#change)
      return { topic, base, next, heard, owner: this.#owner, lease: lease?.(share) ?? this.#lease, ...share.take() }
    })
    const replies = await this.#store.write(taken).catch(error => batch.map(() => error as Error))
    const now = performance.now()
    for (const [i, share] of batch.entries()) {
      const { users, anonymous } = taken[i]!
      const reply = replies[i]!
      share.isWriting = false
      if (reply instanceof Error) this.#refused(share, users.keys(), reply)
      else if (reply.isWritten) this.#written(share, reply, anonymous, now)
      else await this.#resync(share, reply, users.keys())
    }
    if (this.#dirty.size > 0) this.#gather()
  }

  #refused(share: Share, users: Iterable<string>, error: Error): void {
    share.refused(users)
    share.retryAt = this.#nextTry()
    this.#dirty.add(share)
    this.#tell(error)
  }

  /** Soon enough to be back within the lease. */
  #nextTry(): number {
    return performance.now() + Math.min(RETRY, this.#lease / RETRIES)
  }

  #tell(error: Error): void {
    if (!isTransient(error)) this.#failed.tell({ err: error })
  }

  #written(share: Share, reply: PresenceReply, anonymous: number, now: number): void {
    share.base = reply.base
    share.hear(reply)
    share.writtenAt = now
    share.written(anonymous)
    this.#held.delete(share)
    if (reply.base !== '0') this.#held.add(share)
    if (share.isChanged) this.#dirty.add(share)
    else if (share.isEmpty && reply.base === '0') this.#end(share)
    this.#events.seen(share.topic, reply)
    for (const owner of reply.lapsed) void this.#purge(share.topic, owner)
  }

  /** Written once more, it would take away those of the share that follows it on the same topic. */
  #end(share: Share): void {
    this.#dirty.delete(share)
    this.#leaving.delete(share)
    this.#events.ended(share)
  }

  /** The broker lost what was written, or others ended the lease of this node. */
  async #resync(share: Share, { base }: PresenceReply, users: Iterable<string>): Promise<void> {
    share.refused(users)
    share.isWriting = true
    try {
      // Without a record of this node nothing of its share counts, whatever is left of it.
      const owned = base === '0' ? NOBODY : await this.#store.owned(share.topic, this.#owner)
      share.resync(base, owned)
    } catch (error) {
      this.#tell(error as Error)
      share.retryAt = this.#nextTry()
    }
    share.isWriting = false
    this.#dirty.add(share)
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
    const left = (share: Share) => Math.max(1, Math.ceil(share.leavesUntil - now))
    const open = [...new Set([...this.#dirty, ...this.#held])].filter(share => !share.isWriting)
    await Promise.all(this.#batchesOf(open).map(batch => this.#write(batch, left)))
  }
}
