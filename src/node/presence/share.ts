import type { OwnMember, PresenceChange, PresencePlace } from '../../broker/presence.ts'
import type { PresenceRule } from '../../options/presence.ts'
import { infoOn, type Right } from '../../protocol/rights.ts'
import type { Topic } from '../../protocol/topic.ts'

/** The part of a connection that counts. */
export interface Present {
  readonly id: string
  readonly user: string | null
  /** JSON text; empty if there is none. */
  readonly info: string
  /** A right may show something else on its topics. */
  readonly allow?: readonly Right[]
}

interface LocalUser {
  connections: number
  since: number
  info: string
  /** The connections, where they are listed. */
  ids: Map<string, number> | undefined
}

/** What is written at once: the change is published to all nodes of the topic. */
const MAX_USERS = 500
const MAX_BYTES = 64 * 1024
/** Connections that are listed for a user. */
const MAX_IDS = 100
/** About what a user costs besides info and ids. */
const USER_COST = 256

/** Who has one topic on this node, and what of that the broker has not been told yet. */
export class Share {
  readonly topic: Topic
  readonly rule: PresenceRule
  /** The number of the last change that the broker has. */
  base = '0'
  #heard: PresencePlace = { epoch: '', version: 0 }
  /** When the lease was last renewed. */
  writtenAt = 0
  isWriting = false
  /** After a failure the next attempt waits until then. */
  retryAt = 0
  readonly #users = new Map<string, LocalUser>()
  readonly #changed = new Set<string>()
  /** Users whose last connection has closed, in the order in which they count as gone. */
  readonly #leaving = new Map<string, number>()
  #anonymous = 0
  #writtenAnonymous = 0

  constructor(topic: Topic, rule: PresenceRule) {
    this.topic = topic
    this.rule = rule
  }

  /** Where the list was, as far as was ever heard. */
  get heard(): PresencePlace {
    return this.#heard
  }

  /** Never back within an epoch: a broker that is behind what was heard has lost it, and only this node may know that. */
  hear({ epoch, version }: PresencePlace): void {
    if (epoch !== this.#heard.epoch || version > this.#heard.version) this.#heard = { epoch, version }
  }

  /** How many users are here, the anonymous ones included. */
  get size(): number {
    return this.#users.size + this.#anonymous
  }

  get isEmpty(): boolean {
    return this.#users.size === 0 && this.#anonymous === 0
  }

  /** Whether the broker has yet to be told something. */
  get isChanged(): boolean {
    return this.#changed.size > 0 || this.#anonymous !== this.#writtenAnonymous
  }

  get hasLeaving(): boolean {
    return this.#leaving.size > 0
  }

  enter(present: Present, now: number): void {
    const { id, user } = present
    if (user === null) {
      this.#anonymous++
      return
    }
    const isListed = this.topic === 'all'
    const entry = this.#users.get(user) ?? {
      connections: 0,
      since: now,
      info: '',
      ids: isListed ? new Map() : undefined,
    }
    entry.connections++
    entry.info = this.#shownOf(present)
    if (entry.ids && entry.ids.size < MAX_IDS) entry.ids.set(id, now)
    this.#users.set(user, entry)
    this.#leaving.delete(user)
    this.#changed.add(user)
  }

  leave({ id, user }: Present, now: number): void {
    if (user === null) {
      this.#anonymous = Math.max(0, this.#anonymous - 1)
      return
    }
    const entry = this.#users.get(user)
    if (!entry || entry.connections === 0) return
    entry.connections--
    entry.ids?.delete(id)
    if (entry.connections > 0) this.#changed.add(user)
    else if (this.rule.grace > 0) this.#leaving.set(user, now + this.rule.grace)
    else this.#forget(user)
  }

  /** The info of a user was changed. */
  inform(present: Present): void {
    const { user } = present
    const entry = user === null ? undefined : this.#users.get(user)
    const info = this.#shownOf(present)
    if (!entry || entry.info === info) return
    entry.info = info
    this.#changed.add(user!)
  }

  /** What others see here: JSON text, empty if it is nothing. */
  #shownOf({ info, allow = [] }: Present): string {
    if (!this.rule.info) return ''
    const own = infoOn(allow, this.topic)
    return own === undefined ? info : JSON.stringify(own)
  }

  /** Users whose grace is over are gone from here on. */
  expire(now: number): void {
    for (const [user, at] of this.#leaving) {
      if (at > now) return
      this.#leaving.delete(user)
      this.#forget(user)
    }
  }

  #forget(user: string): void {
    this.#users.delete(user)
    this.#changed.add(user)
  }

  /** When the last of those who are leaving counts as gone; 0 if nobody is. */
  get leavesUntil(): number {
    return Math.max(0, ...this.#leaving.values())
  }

  /** A part of what has changed. If it could not be written, `refused` takes it back. */
  take(): Pick<PresenceChange, 'users' | 'anonymous'> {
    const users = new Map<string, OwnMember>()
    let bytes = 0
    for (const user of this.#changed) {
      const own = this.#ownMember(user)
      bytes += USER_COST + own.info.length
      if (users.size > 0 && (users.size >= MAX_USERS || bytes > MAX_BYTES)) break
      users.set(user, own)
      this.#changed.delete(user)
    }
    return { users, anonymous: this.#anonymous }
  }

  #ownMember(user: string): OwnMember {
    const entry = this.#users.get(user)
    if (!entry) return { connections: 0, since: 0, info: '', ids: [] }
    const { since, info, ids } = entry
    // Until the grace is over the last connection counts on, wherever the user comes back.
    return { connections: Math.max(1, entry.connections), since, info, ids: ids ? [...ids] : [] }
  }

  written(anonymous: number): void {
    this.#writtenAnonymous = anonymous
  }

  refused(users: Iterable<string>): void {
    for (const user of users) this.#changed.add(user)
  }

  /** The broker does not have what was written last, but `owned`: everything is written again. */
  resync(base: string, owned: ReadonlyMap<string, number>): void {
    this.base = base
    this.#writtenAnonymous = -1
    for (const user of this.#users.keys()) this.#changed.add(user)
    for (const user of owned.keys()) this.#changed.add(user)
  }
}
