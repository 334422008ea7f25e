import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startRedis } from '../../helpers/redis.ts'
import { connected } from '../../helpers/redis-node.ts'

const BOUND = { user: '42', most: 3 }

test('redis: the lists of tickets end with the tickets', async t => {
  const server = await startRedis(t)
  const { broker } = await connected(t, server)
  await broker.putTicket('short', '{}', 30, BOUND)
  await broker.putTicket('long', '{}', 3600, BOUND)
  for (const [list, token, seconds] of [
    ['push:tickets:120:42', 'short', 120],
    ['push:tickets:86400:42', 'long', 86_400],
  ] as const) {
    assert.deepEqual(await server.admin.lrange(list, 0, -1), [token])
    const ttl = await server.admin.ttl(list)
    assert.ok(ttl > seconds - 60 && ttl <= seconds, `${list} ends in ${ttl} s`)
  }
  for (let i = 0; i < 50; i++) await broker.putTicket(`t${i}`, '{}', 30, BOUND)
  assert.equal(await server.admin.llen('push:tickets:120:42'), 3)
  assert.equal((await server.admin.keys('push:ticket:*')).length, 4)
})

test('redis: a list that cannot be written costs no ticket', async t => {
  const server = await startRedis(t)
  const { broker } = await connected(t, server)
  await server.admin.set('push:tickets:120:42', 'no list')
  for (let i = 0; i < 5; i++) assert.equal(await broker.putTicket(`t${i}`, '{}', 30, BOUND), 0)
  for (let i = 0; i < 5; i++) assert.equal(await broker.takeTicket(`t${i}`), '{}')
})

test('redis: what somebody has written into a list is forgotten, and not looked at without end', async t => {
  const server = await startRedis(t)
  const { broker } = await connected(t, server)
  const tokens = Array.from({ length: 5000 }, (_, i) => `junk${i}`)
  await server.admin.rpush('push:tickets:120:42', ...tokens)
  await server.admin.mset(Object.fromEntries(tokens.map(token => [`push:ticket:${token}`, '{}'])))
  assert.equal(await broker.putTicket('mine', '{}', 30, BOUND), 100)
  assert.deepEqual(await server.admin.lrange('push:tickets:120:42', 0, -1), ['mine', 'junk0', 'junk1'])
  assert.equal(await broker.takeTicket('mine'), '{}')
})
