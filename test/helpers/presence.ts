import type { Redis } from 'ioredis'
import type { PresenceMessage } from '../../src/protocol/presence.ts'
import type { TestMessage } from '../../src/testing.ts'
import type { Client } from './nodes.ts'

export const ROOM = 'channel:room.1'

type Opened = Pick<Client, 'send' | 'next'>

/** Subscribes with `presence` and gives the list of the answer. */
export async function look(connection: Opened, topic = ROOM): Promise<PresenceMessage> {
  connection.send('subscribe', { topic, presence: true }, 1)
  const { payload } = await connection.next('subscribed')
  const { presence } = payload as { presence?: PresenceMessage }
  return presence ?? presenceIn(await connection.next('push.presence'))
}

export const presenceIn = ({ payload }: TestMessage) => payload as PresenceMessage

/** Follows a list until it is `expected`: the only thing a client needs. */
export async function follow(
  connection: Opened,
  list: PresenceMessage,
  expected: readonly string[],
): Promise<PresenceMessage[]> {
  const users = new Map((list.members ?? []).map(member => [member.user, member]))
  const seen: PresenceMessage[] = []
  while ([...users.keys()].toSorted().join() !== expected.toSorted().join()) {
    const change = presenceIn(await connection.next('push.presence'))
    seen.push(change)
    if (change.members && !change.continued) users.clear()
    for (const member of [...(change.members ?? []), ...(change.joined ?? []), ...(change.updated ?? [])]) {
      users.set(member.user, member)
    }
    for (const user of change.left ?? []) users.delete(user)
  }
  return seen
}

/** What Redis has of the room, for `restore`. */
export async function dump(admin: Redis, prefix = 'push:'): Promise<[key: string, bytes: Buffer][]> {
  const keys = await admin.keys(`?${prefix}${ROOM}?:*`)
  return Promise.all(keys.map(async key => [key, await admin.dumpBuffer(key)] as [string, Buffer]))
}

/** Redis goes back to what it had then: as after a power loss, or with a replica that was behind. */
export async function restore(admin: Redis, dumped: readonly [string, Buffer][], prefix = 'push:'): Promise<void> {
  const transaction = admin.multi()
  for (const [key] of await dump(admin, prefix)) transaction.del(key)
  for (const [key, bytes] of dumped) transaction.restore(key, 60_000, bytes, 'REPLACE')
  await transaction.exec()
}
