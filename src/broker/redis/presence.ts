import { errors, isPushError } from '../../protocol/errors.ts'
import type { Member } from '../../protocol/presence.ts'
import type { Topic } from '../../protocol/topic.ts'
import type { MemberDetail, MembersPage, OwnMember, PresenceChange, PresenceReply, PresenceStore } from '../presence.ts'
import type { Call } from './functions.ts'
import type { Masters } from './masters.ts'
import { type Names, ownMembersKey } from './names.ts'

/** Members that are taken away in one call, which blocks Redis while it runs. */
const PURGED_AT_ONCE = 500
const READ_AT_ONCE = 1000

/** Who is on which topic, in Redis: `docs/redis.md` has the keys. */
export class RedisPresence implements PresenceStore {
  readonly #masters: Masters
  readonly #names: Names
  readonly #timeout: number
  readonly #isSharded: boolean

  constructor(masters: Masters, names: Names, { timeout, isSharded }: { timeout: number; isSharded: boolean }) {
    this.#masters = masters
    this.#names = names
    this.#timeout = timeout
    this.#isSharded = isSharded
  }

  shardOf(topic: Topic): unknown {
    return this.#masters.of(this.#names.channel(topic))
  }

  async write(changes: readonly PresenceChange[]): Promise<(PresenceReply | Error)[]> {
    const calls = changes.map(change => this.#call('push_presence', change.topic, this.#argsOf(change)))
    const replies = await this.#masters.call(calls, this.#timeout)
    return replies.map(reply => {
      if (!Array.isArray(reply)) return isPushError(reply) ? reply : unreadable()
      const [status, epoch, version, mark, base, ...lapsed] = reply.map(String)
      return { isWritten: status === 'ok', base: base!, epoch: epoch!, version: Number(version), mark: mark!, lapsed }
    })
  }

  #argsOf({ owner, base, next, lease, anonymous, users, heard }: PresenceChange): (string | number)[] {
    const args: (string | number)[] = [owner, base, next, lease, anonymous, this.#flag, heard.epoch, heard.version]
    for (const [user, { connections, since, info, ids }] of users) {
      args.push(user, connections, since, info, ids.length > 0 ? JSON.stringify(ids) : '')
    }
    return args
  }

  get #flag(): string {
    return this.#isSharded ? '1' : ''
  }

  async purge(topic: Topic, owner: string): Promise<boolean> {
    return Number(await this.#ask('push_purge', topic, [owner, PURGED_AT_ONCE, this.#flag])) === 1
  }

  async owned(topic: Topic, owner: string): Promise<ReadonlyMap<string, number>> {
    const key = ownMembersKey(this.#names.channel(topic), owner)
    const owned = new Map<string, number>()
    for (let cursor = '0'; ; ) {
      const command = ['HSCAN', key, cursor, 'COUNT', READ_AT_ONCE] as [string, ...(string | number)[]]
      const [reply] = await this.#masters.run(key, [command], this.#timeout)
      if (!Array.isArray(reply)) throw isPushError(reply) ? reply : unreadable()
      const [next, flat] = reply as [string, string[]]
      for (let i = 0; i + 1 < flat.length; i += 2) owned.set(flat[i]!, entryOf(flat[i + 1]!).connections)
      cursor = String(next)
      if (cursor === '0') return owned
    }
  }

  async members(topic: Topic, cursor: string, count: number): Promise<MembersPage> {
    const reply = await this.#ask('push_members', topic, [cursor, count])
    if (!Array.isArray(reply)) throw unreadable()
    const [epoch, version, mark, users, anonymous, next, ...flat] = reply as [
      string,
      number,
      string,
      number,
      number,
      string,
      ...string[],
    ]
    const members: Member[] = []
    for (let i = 0; i + 1 < flat.length; i += 2) members.push(memberOf(flat[i]!, flat[i + 1]!))
    const counts = { version: Number(version), count: Number(users), anonymous: Number(anonymous) }
    return { epoch, mark, ...counts, cursor: String(next), members }
  }

  async member(topic: Topic, user: string): Promise<MemberDetail> {
    const reply = await this.#ask('push_member', topic, [user])
    if (!Array.isArray(reply)) throw unreadable()
    const [entry, ...flat] = reply as string[]
    const owners: MemberDetail['owners'][number][] = []
    for (let i = 0; i + 1 < flat.length; i += 2) {
      const { connections, ids = [] } = entryOf(flat[i + 1]!)
      owners.push({ owner: flat[i]!, connections, ids })
    }
    return { member: entry ? memberOf(user, entry) : undefined, owners }
  }

  #call(name: Call['name'], topic: Topic, args: (string | number)[]): Call {
    return { name, keys: [this.#names.channel(topic)], args }
  }

  async #ask(name: Call['name'], topic: Topic, args: (string | number)[]): Promise<unknown> {
    const [reply] = await this.#masters.call([this.#call(name, topic, args)], this.#timeout)
    if (isPushError(reply)) throw reply
    return reply
  }
}

interface Entry {
  connections: number
  since: number
  info?: unknown
  ids?: OwnMember['ids']
}

function entryOf(text: string): Entry {
  try {
    return JSON.parse(text) as Entry
  } catch (cause) {
    throw unreadable(cause)
  }
}

function memberOf(user: string, text: string): Member {
  const { connections, since, info } = entryOf(text)
  return info === undefined ? { user, connections, since } : { user, connections, since, info }
}

function unreadable(cause?: unknown) {
  return new errors.INTERNAL('the presence of a topic in Redis does not have the format of push_v1', { cause })
}
