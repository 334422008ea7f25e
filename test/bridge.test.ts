import assert from 'node:assert/strict'
import { test } from 'node:test'
import { buildPush, openConnection } from './helpers/app.ts'

const code = (expected: string, text: RegExp) => (error: Error & { code?: string }) => {
  assert.equal(error.code, expected)
  assert.match(error.message, text)
  return true
}

test('subscribe and unsubscribe move the present connections of a user, without asking authorize', async t => {
  const { app } = await buildPush(t, { authorize: () => false })
  const connections = await Promise.all([1, 2].map(() => openConnection(app, '/ws?user=7')))
  const joined = await app.push.subscribe('user:7', 'channel:vip')
  assert.deepEqual([joined.delivered, joined.complete], [2, true])
  for (const connection of connections) {
    const { type, payload } = await connection.next()
    const { topic, seq } = payload as { topic: string; seq: number }
    assert.deepEqual([type, topic, seq], ['subscribed', 'channel:vip', 0])
  }
  assert.equal((await app.push.publish('channel:vip', { type: 'x', receipt: true })).delivered, 2)
  const [one] = connections
  assert.equal((await app.push.unsubscribe(`connection:${one!.welcome.connection}`, 'channel:vip')).delivered, 1)
  assert.equal((await app.push.publish('channel:vip', { type: 'y', receipt: true })).delivered, 1)
  await one!.next('unsubscribed')
})

test('a connection that cannot join does not count as delivered', async t => {
  const { app } = await buildPush(t, { limits: { topics: 1 } })
  await openConnection(app, '/ws/a?user=7')
  assert.equal((await app.push.subscribe('user:7', 'channel:b')).delivered, 0)
})

test('close says how many it closed, with the code and reason they got', async t => {
  const { app } = await buildPush(t)
  const connections = await Promise.all([1, 2].map(() => openConnection(app, '/ws?user=7')))
  const other = await openConnection(app, '/ws?user=8')
  assert.equal((await app.push.close('user:7', 4403, 'revoked')).delivered, 2)
  for (const connection of connections) assert.deepEqual(await connection.closed, { code: 4403, reason: 'revoked' })
  assert.equal((await app.push.close('user:7')).delivered, 0)
  assert.equal((await app.push.close(`connection:${other.welcome.connection}`)).delivered, 1)
  assert.deepEqual(await other.closed, { code: 1000, reason: '' })
})

test('what cannot be is refused with the reason', async t => {
  const { app } = await buildPush(t)
  const { push } = app
  await assert.rejects(push.close('all'), code('PUSH_ERR_TOPIC', /neither user:ID nor connection:ID/))
  await assert.rejects(push.close('user:1', 1006), code('PUSH_ERR_FIELD', /code is none of 1000/))
  await assert.rejects(push.close('user:1', 4000, 'x'.repeat(124)), code('PUSH_ERR_FIELD', /longer than 123 bytes/))
  await assert.rejects(async () => push.subscribe('user:1', 'all'), code('PUSH_ERR_TOPIC', /all is not a channel/))
  await assert.rejects(async () => push.subscribe('user:1', 'x'), code('PUSH_ERR_TOPIC', /is no topic/))
  await assert.rejects(push.publish('nowhere', { type: 'x' }), code('PUSH_ERR_TOPIC', /is no topic/))
  await assert.rejects(push.publish('all', { type: 'pong' }), code('PUSH_ERR_RESERVED_TYPE', /reserved/))
  await assert.rejects(
    push.publish('all', { type: 'x', payload: 1n }),
    code('PUSH_ERR_FIELD', /cannot be written as JSON/),
  )
})

test('connections can be looked at', async t => {
  const { app } = await buildPush(t)
  const connection = await openConnection(app, '/ws/room?user=7')
  const { connections } = app.push
  const [only] = connections.values()
  assert.equal(connections.size, 1)
  assert.equal(connections.get(connection.welcome.connection), only)
  assert.deepEqual([...connections.of('channel:room')], [only])
  assert.deepEqual([...connections.of('channel:other')], [])
  assert.equal(only?.user, '7')
  assert.ok(only?.topics.has('channel:room'))
})
