import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createPublisher } from '../../src/publisher.ts'
import { callApi } from '../helpers/api.ts'
import { buildPush, KEY, openConnection } from '../helpers/app.ts'
import { startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/waiting.ts'

const LONG = { timeout: 120_000 }
const ROOM = 'channel:room.1'
const PRESENCE = { users: { grace: 0 }, 'channel:room.*': { info: true, grace: 0 } }
const NEWS = { 'channel:news': { size: 10, ttl: 60 } }

const authenticate = ({ query }: { query: unknown }) => ({
  user: (query as { user: string }).user,
  info: { name: 'Ann' },
  allow: ['channel:*'],
})

test(
  'who is there, who is online and what was published: over HTTP, in a script and in the application',
  LONG,
  async t => {
    const redis = await startRedis(t)
    const options = { redis: redis.url, presence: PRESENCE, history: NEWS, authenticate, api: { keys: [KEY] } }
    const { app, port } = await buildPush(t, options)
    const publisher = createPublisher({ redis: redis.url, history: NEWS })
    t.after(() => publisher.end())
    const ann = await openConnection(app, '/ws/room.1?user=ann')
    await until(async () => (await app.push.user('ann')).online, 'ann is online')
    await until(async () => (await app.push.presence(ROOM)).count === 1, 'ann is in the room')
    const get = async (path: string) => (await callApi(port, `/push${path}`)).body

    const members = await app.push.presence(ROOM)
    assert.deepEqual(
      members.members.map(({ user, info }) => [user, info]),
      [['ann', { name: 'Ann' }]],
    )
    assert.deepEqual(await get(`/presence?topic=${ROOM}`), members)
    assert.deepEqual(await publisher.presence(ROOM), members)
    const user = await app.push.user('ann')
    assert.deepEqual(
      user.connections.map(({ id }) => id),
      [ann.welcome.connection],
    )
    assert.deepEqual(await get('/user?user=ann'), user)
    assert.deepEqual(await publisher.user('ann'), user)
    const users = await app.push.users()
    assert.deepEqual([users.topic, users.count], ['all', 1])
    assert.deepEqual(await get('/users?count=5'), users)
    assert.deepEqual(await publisher.users({ count: 5 }), users)

    for (const n of [1, 2, 3]) await app.push.publish('channel:news', { type: 'news', payload: n })
    const newest = await app.push.history('channel:news', { last: 2 })
    assert.deepEqual(
      newest.messages.map(({ payload }) => payload),
      [2, 3],
    )
    assert.deepEqual(await get('/history?topic=channel:news&last=2'), newest)
    assert.deepEqual(await publisher.history('channel:news', { last: 2 }), newest)
    const after = await get(`/history?topic=channel:news&since=${newest.messages[0]!.id}&limit=1`)
    assert.deepEqual(
      (after.messages as { payload: number }[]).map(({ payload }) => payload),
      [3],
    )
  },
)

test('a history over HTTP has payloads as they were written', LONG, async t => {
  const { app, port } = await buildPush(t, { history: NEWS, api: { keys: [KEY] } })
  await app.push.publish('channel:news', { type: 'news', payload: { big: 1 } })
  const response = await fetch(`http://127.0.0.1:${port}/push/history?topic=channel:news`, {
    headers: { authorization: `Bearer ${KEY}` },
  })
  assert.match(await response.text(), /"payload":\{"big":1\}/)
})

test('what cannot be read is refused with a sentence', LONG, async t => {
  const { port } = await buildPush(t, { presence: PRESENCE, history: NEWS, api: { keys: [KEY] } })
  for (const [path, code] of [
    ['/presence', 'PUSH_ERR_TOPIC'],
    ['/presence?topic=channel:other', 'PUSH_ERR_TOPIC'],
    [`/presence?topic=${ROOM}&count=0`, 'PUSH_ERR_FIELD'],
    [`/presence?topic=${ROOM}&count=many`, 'PUSH_ERR_FIELD'],
    [`/presence?topic=${ROOM}&count=`, 'PUSH_ERR_FIELD'],
    [`/presence?topic=${ROOM}&cursor=-1`, 'PUSH_ERR_FIELD'],
    [`/presence?topic=${ROOM}&page=2`, 'PUSH_ERR_UNKNOWN_KEY'],
    ['/users?topic=all', 'PUSH_ERR_UNKNOWN_KEY'],
    ['/user', 'PUSH_ERR_TOPIC'],
    ['/user?user=a%20b', 'PUSH_ERR_TOPIC'],
    ['/history', 'PUSH_ERR_TOPIC'],
    ['/history?topic=channel:news&last=101', 'PUSH_ERR_FIELD'],
    ['/history?topic=channel:news&limit=x', 'PUSH_ERR_FIELD'],
    ['/history?topic=connection:1', 'PUSH_ERR_TOPIC'],
  ] as const) {
    const { status, body } = await callApi(port, `/push${path}`)
    assert.deepEqual([status, body.code], [400, code], `${path}: ${body.message}`)
  }
})

test('without presence nobody can be looked up, and that is said', LONG, async t => {
  const { port } = await buildPush(t, { api: { keys: [KEY] } })
  for (const path of ['/users', '/user?user=1', `/presence?topic=${ROOM}`]) {
    const { status, body } = await callApi(port, `/push${path}`)
    assert.deepEqual([status, body.code], [501, 'PUSH_ERR_UNSUPPORTED'], path)
    assert.match(String(body.message), /option presence/)
  }
})
