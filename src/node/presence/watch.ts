import type { MarkedPlace, MembersPage } from '../../broker/presence.ts'
import type { PresenceRule } from '../../options/presence.ts'
import { errors } from '../../protocol/errors.ts'
import type { Member, PresenceMessage } from '../../protocol/presence.ts'
import type { PresenceDelta } from '../../protocol/presence-delta.ts'
import type { Topic } from '../../protocol/topic.ts'

/** Members that are read in one call, and sent in one message. */
const READ_AT_ONCE = 500
const SENT_AT_ONCE = 100
/** Changes that may come while a list is read; with more of them it is read again. */
const MAX_WAITING = 1000
/** So often a list is read again at once, when it changes faster than it can be read. */
const MAX_READS = 5
/** So many of the latest changes are told from others with their versions. */
const MARKS = 64
/** Of more members than the rule allows, clients get this many. */
const SAMPLE = 20
/** A list is told again when there is this much room for it, so that it does not come and go with each member. */
const ROOM = 0.8

/** How the list of a topic is read. */
type Read = (cursor: string, count: number) => Promise<MembersPage>

/** Who is on one topic, as the clients of this node know it that asked. */
export class Watch {
  readonly topic: Topic
  readonly #rule: PresenceRule
  readonly #read: Read
  #members = new Map<string, Member>()
  #count = 0
  #anonymous = 0
  #epoch = ''
  #version = 0
  /** The marks of the latest versions. */
  #marks = new Map<number, string>()
  /** Only the numbers are known, and some of the members. */
  #isPartial = false
  /** What clients were told last, while the list is being read. */
  #told: Told | undefined
  /** Changes that came while the list is being read; undefined while it is known. */
  #waiting: PresenceDelta[] | undefined = []

  constructor(topic: Topic, rule: PresenceRule, read: Read) {
    this.topic = topic
    this.#rule = rule
    this.#read = read
  }

  /** False while a list is being read for the first time, or again. */
  get isKnown(): boolean {
    return this.#waiting === undefined
  }

  get isPartial(): boolean {
    return this.#isPartial
  }

  /** Whether the broker began another list since. */
  isOf(epoch: string): boolean {
    return this.#epoch === epoch || this.#epoch === ''
  }

  /** Whether the list is that of the broker, which is at this version. */
  isAt({ epoch, version, mark }: MarkedPlace): boolean {
    if (this.#epoch !== epoch || this.#version < version) return false
    const known = this.#marks.get(version)
    return known === undefined || known === mark
  }

  /** Reads the list. What clients must be told who had the list before is the result. */
  async load(): Promise<PresenceMessage[]> {
    // An attempt that fails may have read a list and told nobody of it.
    this.#told ??= { members: this.#members, isPartial: this.#isPartial, anonymous: this.#anonymous }
    for (let reads = 0; reads < MAX_READS; reads++) {
      this.#waiting = []
      if (!(await this.#readAll())) continue
      const waiting: PresenceDelta[] = this.#waiting
      this.#waiting = undefined
      if (waiting.length > MAX_WAITING || !waiting.every(delta => this.#follow(delta))) continue
      const told = this.#told
      this.#told = undefined
      return this.#difference(told)
    }
    this.#waiting = []
    throw new errors.BUSY(`the members of ${this.topic} change faster than they can be read`)
  }

  /** False if the list began anew meanwhile. */
  async #readAll(): Promise<boolean> {
    const members = new Map<string, Member>()
    for (let cursor = '0', first: MembersPage | undefined; ; ) {
      const page = await this.#read(cursor, READ_AT_ONCE)
      first ??= page
      if (page.epoch !== first.epoch) return false
      for (const member of page.members) members.set(member.user, member)
      const isTooLarge = page.count > this.#rule.members
      cursor = page.cursor
      if (cursor !== '0' && !isTooLarge) continue
      this.#isPartial = isTooLarge
      this.#members = isTooLarge ? new Map([...members].slice(0, SAMPLE)) : members
      this.#epoch = first.epoch
      this.#version = first.version
      this.#marks = new Map([[first.version, first.mark]])
      this.#count = isTooLarge ? page.count : members.size
      this.#anonymous = first.anonymous
      return true
    }
  }

  /**
   * Takes a change in. What clients must be told is the result; undefined if that is nothing, false if the list must be
   * read again, because a change is missing.
   */
  take(delta: PresenceDelta): PresenceMessage | undefined | false {
    if (this.#waiting) {
      if (this.#waiting.length <= MAX_WAITING) this.#waiting.push(delta)
      return undefined
    }
    if (this.isAt(delta)) return undefined
    const wasPartial = this.#isPartial
    if (!this.#follow(delta)) return false
    if (wasPartial) return this.#isPartial && this.#count > this.#rule.members * ROOM ? this.#numbers() : false
    if (this.#isPartial) return this.#sample()
    const { joined, updated, left } = delta
    return { ...this.#numbers(), ...(joined && { joined }), ...(updated && { updated }), ...(left && { left }) }
  }

  /** False if a change before this one is missing. */
  #follow(delta: PresenceDelta): boolean {
    if (this.isAt(delta)) return true
    // The first change of a list of which nothing was known.
    if (this.#epoch === '' && delta.version === 1) this.#epoch = delta.epoch
    if (delta.epoch !== this.#epoch || delta.version !== this.#version + 1) return false
    if (delta.after !== (this.#marks.get(this.#version) ?? '')) return false
    this.#version = delta.version
    this.#marks.set(delta.version, delta.mark)
    this.#marks.delete(delta.version - MARKS)
    this.#count = delta.count
    this.#anonymous = delta.anonymous
    if (this.#isPartial) return true
    for (const member of [...(delta.joined ?? []), ...(delta.updated ?? [])]) this.#members.set(member.user, member)
    for (const user of delta.left ?? []) this.#members.delete(user)
    if (this.#members.size > this.#rule.members) {
      this.#isPartial = true
      this.#members = new Map([...this.#members].slice(0, SAMPLE))
    }
    return true
  }

  #numbers(): PresenceMessage {
    const partial = this.#isPartial ? { partial: true } : {}
    return { topic: this.topic, count: this.#count, anonymous: this.#anonymous, ...partial }
  }

  #sample(): PresenceMessage {
    return { ...this.#numbers(), members: [...this.#members.values()] }
  }

  /** The whole list, in parts. Valid until the next change. */
  list(): PresenceMessage[] {
    if (this.#isPartial) return [this.#sample()]
    const members = [...this.#members.values()]
    const parts: PresenceMessage[] = []
    for (let i = 0; i === 0 || i < members.length; i += SENT_AT_ONCE) {
      const more = i + SENT_AT_ONCE < members.length ? { more: true } : {}
      const continued = i > 0 ? { continued: true } : {}
      parts.push({ ...this.#numbers(), members: members.slice(i, i + SENT_AT_ONCE), ...continued, ...more })
    }
    return parts
  }

  #difference(before: Told): PresenceMessage[] {
    // A list that was not one before is told as a whole.
    if (before.isPartial || this.#isPartial) return this.list()
    const joined: Member[] = []
    const updated: Member[] = []
    for (const member of this.#members.values()) {
      const old = before.members.get(member.user)
      if (!old) joined.push(member)
      else if (JSON.stringify(old) !== JSON.stringify(member)) updated.push(member)
    }
    const left = [...before.members.keys()].filter(user => !this.#members.has(user))
    const changes = joined.length + updated.length + left.length
    if (changes === 0 && before.anonymous === this.#anonymous) return []
    if (changes > SENT_AT_ONCE) return this.list()
    const some = <T>(name: string, list: T[]) => (list.length > 0 ? { [name]: list } : {})
    return [{ ...this.#numbers(), ...some('joined', joined), ...some('updated', updated), ...some('left', left) }]
  }
}

interface Told {
  members: ReadonlyMap<string, Member>
  isPartial: boolean
  anonymous: number
}
