import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { OwnMember, PresenceReply } from '../../../src/broker/presence.ts'
import { MAX_DELTA_BYTES } from '../../../src/protocol/presence-delta.ts'
import type { Topic } from '../../../src/protocol/topic.ts'
import { startRedis } from '../../helpers/redis.ts'
import { connected } from '../../helpers/redis-node.ts'
import { until } from '../../helpers/waiting.ts'

const TOPIC = 'channel:room' as Topic
const USERS = 400
const NOWHERE = { epoch: '', version: 0 }

test('a node that died is taken away in parts, each of which fits into a message', { timeout: 60_000 }, async t => {
  const server = await startRedis(t)
  const { presence } = (await connected(t, server)).broker
  const info = JSON.stringify('x'.repeat(1000))
  const own: OwnMember = { connections: 1, since: 1000, info, ids: [] }
  const write = async (owner: string, base: string, users: [string, OwnMember][], lease: number) => {
    const change = { topic: TOPIC, owner, base, heard: NOWHERE, lease, anonymous: 0, users: new Map(users) }
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
