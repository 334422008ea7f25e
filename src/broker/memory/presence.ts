import { performance } from 'node:perf_hooks'
import type { Member } from '../../protocol/presence.ts'
import type { PresenceDelta } from '../../protocol/presence-delta.ts'
import type { Topic } from '../../protocol/topic.ts'
import type { MemberDetail, MembersPage, OwnMember, PresenceChange, PresenceReply, PresenceStore } from '../presence.ts'

/** What all owners have on one topic. */
class Room {
  /** Numbered in the order in which they came, so that a page can begin where the one before ended. */
  readonly members = new Map<string, { member: Member; serial: number }>()
  serial = 0
  readonly owners = new Map<string, Owner>()
  readonly epoch = String(Math.round((performance.timeOrigin + performance.now()) * 1000))
  version = 0
  anonymous = 0
}

interface Owner {
  base: string
  anonymous: number
  users: Map<string, OwnMember>
}

const NOWHERE: MembersPage = { epoch: '', version: 0, mark: '', count: 0, anonymous: 0, members: [], cursor: '0' }

/** Who is on which topic of one process, with the rules of `push.lua`. The process is all there is, so no lease ends. */
export class MemoryPresence implements PresenceStore {
  readonly #rooms = new Map<Topic, Room>()
  readonly #tell: (topic: Topic, delta: string) => void

  constructor(tell: (topic: Topic, delta: string) => void) {
    this.#tell = tell
  }

  shardOf(_topic: Topic): undefined {}

  async write(changes: readonly PresenceChange[]): Promise<PresenceReply[]> {
    return changes.map(change => this.#write(change))
  }

  #write({ topic, owner: name, base, next, anonymous, users }: PresenceChange): PresenceReply {
    const room = this.#rooms.get(topic) ?? new Room()
    const owner = room.owners.get(name) ?? { base: '0', anonymous: 0, users: new Map() }
    const { epoch } = room
    const reply = (isWritten: boolean, is: string) => {
      const { version } = room
      return { isWritten, base: is, epoch, version, mark: markOf(version), lapsed: [] }
    }
    if (owner.base !== base) return reply(false, owner.base)
    this.#rooms.set(topic, room)
    room.owners.set(name, owner)
    owner.base = next
    const delta = { joined: [] as Member[], updated: [] as Member[], left: [] as string[] }
    for (const [user, own] of users) changeMember({ room, owner, user, own, delta })
    const total = room.anonymous + anonymous - owner.anonymous
    owner.anonymous = anonymous
    this.#publish(topic, room, total, delta)
    if (owner.users.size > 0 || anonymous > 0) return reply(true, next)
    room.owners.delete(name)
    // Whoever comes next finds a new list.
    if (room.owners.size === 0) this.#rooms.delete(topic)
    return reply(true, '0')
  }

  #publish(
    topic: Topic,
    room: Room,
    anonymous: number,
    lists: Required<Pick<PresenceDelta, 'joined' | 'updated' | 'left'>>,
  ) {
    const filled = Object.fromEntries(Object.entries(lists).filter(([, list]) => list.length > 0))
    if (Object.keys(filled).length === 0 && anonymous === room.anonymous) return
    room.anonymous = anonymous
    const { epoch, members } = room
    const after = markOf(room.version)
    const version = ++room.version
    const place = { epoch, version, mark: markOf(version), after }
    this.#tell(topic, JSON.stringify({ control: 'presence', ...place, count: members.size, anonymous, ...filled }))
  }

  async purge(): Promise<boolean> {
    return false
  }

  async owned(topic: Topic, owner: string): Promise<ReadonlyMap<string, number>> {
    const users = this.#rooms.get(topic)?.owners.get(owner)?.users ?? new Map<string, OwnMember>()
    return new Map([...users].map(([user, { connections }]) => [user, connections]))
  }

  async members(topic: Topic, cursor: string, count: number): Promise<MembersPage> {
    const room = this.#rooms.get(topic)
    if (!room) return NOWHERE
    const { epoch, version, anonymous } = room
    const after = Number(cursor)
    const rest = [...room.members.values()].filter(({ serial }) => serial > after)
    const page = rest.slice(0, count)
    const next = page.length < rest.length ? String(page.at(-1)!.serial) : '0'
    const members = page.map(({ member }) => member)
    return { epoch, version, mark: markOf(version), count: room.members.size, anonymous, members, cursor: next }
  }

  async member(topic: Topic, user: string): Promise<MemberDetail> {
    const room = this.#rooms.get(topic)
    const owners: MemberDetail['owners'][number][] = []
    for (const [owner, { users }] of room?.owners ?? []) {
      const own = users.get(user)
      if (own) owners.push({ owner, connections: own.connections, ids: own.ids })
    }
    return { member: room?.members.get(user)?.member, owners }
  }
}

/** A process has one list of a topic: the version says which change it is. */
function markOf(version: number): string {
  return version === 0 ? '' : String(version)
}

interface Step {
  room: Room
  owner: Owner
  user: string
  own: OwnMember
  delta: { joined: Member[]; updated: Member[]; left: string[] }
}

function changeMember({ room, owner, user, own, delta }: Step): void {
  const before = owner.users.get(user)?.connections ?? 0
  if (own.connections === 0) owner.users.delete(user)
  else owner.users.set(user, own)
  const entry = room.members.get(user)
  const old = entry?.member
  const connections = (old?.connections ?? 0) + own.connections - before
  if (connections === 0) {
    if (room.members.delete(user)) delta.left.push(user)
    return
  }
  const since = old ? (own.connections === 0 ? old.since : Math.min(old.since, own.since)) : own.since
  const info = own.connections === 0 ? old?.info : own.info === '' ? undefined : JSON.parse(own.info)
  const member: Member = info === undefined ? { user, connections, since } : { user, connections, since, info }
  if (old && JSON.stringify(old) === JSON.stringify(member)) return
  room.members.set(user, { member, serial: entry?.serial ?? ++room.serial })
  ;(old ? delta.updated : delta.joined).push(member)
}
