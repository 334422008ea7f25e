import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { OwnMember, PresencePlace, PresenceReply, PresenceStore } from '../../../src/broker/presence.ts'
import { MAX_DELTA_BYTES } from '../../../src/protocol/presence-delta.ts'
import type { Topic } from '../../../src/protocol/topic.ts'
import { dump, ROOM, restore } from '../../helpers/presence.ts'
import { startRedis } from '../../helpers/redis.ts'
import { connected } from '../../helpers/redis-node.ts'
import { until } from '../../helpers/waiting.ts'

const TOPIC = ROOM as Topic
const USERS = 400
/** Longer than anything here takes. */
const LEASE = 60_000
const NOWHERE = { epoch: '', version: 0 }
const KEY = `{push:${TOPIC}}:presence`

const own = (info = ''): OwnMember => ({ connections: 1, since: 1000, info, ids: [] })

/** What an owner writes, one change after the other; `heard` is what it has heard of others. */
class Writer {
  readonly #presence: PresenceStore
  readonly owner: string
  base = '0'
  #changes = 0
  heard: PresencePlace = NOWHERE

  constructor(presence: PresenceStore, owner: string) {
    this.#presence = presence
    this.owner = owner
  }

  async write(users: readonly string[] = [], lease = LEASE): Promise<PresenceReply> {
    const { owner, base, heard } = this
    this.#changes += 2
    const next = String(this.#changes)
    const change = { topic: TOPIC, owner, base, next, heard, lease, anonymous: 0 }
    const [reply] = await this.#presence.write([{ ...change, users: new Map(users.map(user => [user, own()])) }])
    if (reply instanceof Error) throw reply
    this.base = reply!.base
    this.heard = reply!
    return reply!
  }
}

test('a list that lost a change and got another one in its place is another list', { timeout: 120_000 }, async t => {
  const server = await startRedis(t)
  const { presence } = (await connected(t, server)).broker
  const [a, b] = [new Writer(presence, 'a.1'), new Writer(presence, 'b.1')]
  await a.write(['ann'])
  const { epoch } = await b.write(['bob'])
  const dumped = await dump(server.admin)
  // Nobody but its writer heard of this one.
  const lost = await b.write(['carl'])
  await restore(server.admin, dumped)
  const instead = await a.write(['dora'])
  assert.deepEqual([instead.epoch, instead.version], [epoch, lost.version], 'it looks the same')
  assert.equal((await b.write(['carl'])).isWritten, false)
  assert.notEqual((await presence.members(TOPIC, '0', 10)).epoch, epoch)
})

test('whoever comes first after an outage ends nobody who was away as well', { timeout: 120_000 }, async t => {
  const server = await startRedis(t)
  const { presence } = (await connected(t, server)).broker
  const [first, other] = [new Writer(presence, 'first.1'), new Writer(presence, 'other.1')]
  await first.write(['ann'])
  await other.write(['bob'])
  // Both could not renew their leases for a while: that of the other has ended, that of the first is about to.
  const setLease = async (writer: Writer, left: number) => {
    const record = `${writer.base} 0 ${Date.now() + left} 1`
    await server.admin.hset(KEY, `@${writer.owner}`, record)
  }
  await setLease(first, LEASE / 3)
  await setLease(other, -1)
  assert.deepEqual((await first.write()).lapsed, [])
  assert.deepEqual((await first.write()).lapsed, [], 'for a whole lease')
  assert.equal(await presence.purge(TOPIC, 'other.1'), false)
  assert.equal((await other.write()).isWritten, true)
  // One that is in time ends what really is dead.
  await setLease(other, -1)
  await server.admin.hdel(KEY, 'quiet')
  assert.deepEqual((await first.write()).lapsed, ['other.1'])
})

test('a node that died is taken away in parts, each of which fits into a message', { timeout: 120_000 }, async t => {
  const server = await startRedis(t)
  const { presence } = (await connected(t, server)).broker
  const info = JSON.stringify('x'.repeat(1000))
  const own: OwnMember = { connections: 1, since: 1000, info, ids: [] }
  const write = async (owner: string, base: string, users: [string, OwnMember][], lease: number) => {
    const next = String(Number(base) + 2)
    const change = { topic: TOPIC, owner, base, next, heard: NOWHERE, lease, anonymous: 0, users: new Map(users) }
    const [reply] = await presence.write([change])
    return reply as PresenceReply
  }
  const users = Array.from({ length: USERS }, (_, i): [string, OwnMember] => [`user-${i}`, own])
  await write('dead.1', '0', users, 1000)
  let last = await write('living.1', '0', users, 60_000)
  await until(async () => {
    last = await write('living.1', last.base, [], 60_000)
    return last.lapsed.includes('dead.1')
  }, 'the lease of the other has ended')

  const listener = server.admin.duplicate()
  t.after(() => listener.disconnect())
  const sizes: number[] = []
  listener.on('message', (_channel, message) => sizes.push(message.length))
  await listener.subscribe(`push:${TOPIC}`)
  let calls = 1
  while (await presence.purge(TOPIC, 'dead.1')) calls++
  // Redis sends the answer to the PING behind everything that was published.
  await listener.ping()
  assert.ok(calls > 1, 'not all at once')
  assert.equal(sizes.length, calls)
  assert.ok(Math.max(...sizes) <= MAX_DELTA_BYTES / 2, `the largest change has ${Math.max(...sizes)} bytes`)
  const page = await presence.members(TOPIC, '0', 10_000)
  assert.deepEqual([...new Set(page.members.map(({ connections }) => connections))], [1])
  assert.equal(page.count, USERS)
})
