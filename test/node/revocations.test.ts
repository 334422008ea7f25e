import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { Connection } from '../../src/connection/connection.ts'
import { Registry } from '../../src/connection/registry.ts'
import { Revocations } from '../../src/node/revocations.ts'
import { errors } from '../../src/protocol/errors.ts'
import { createPublisher } from '../../src/publisher.ts'
import { FaultProxy } from '../chaos/proxy.ts'
import { callApi } from '../helpers/api.ts'
import { buildPush, KEY, openConnection, refusalOf } from '../helpers/app.ts'
import { type RedisServer, startRedis } from '../helpers/redis.ts'
import { PATIENCE, until } from '../helpers/waiting.ts'

const HOUR = 3600_000

/** A node whose URL says who comes, and since when it was that user. */
function node(t: TestContext, redis: RedisServer | false, options: object = {}) {
  return buildPush(t, {
    redis: redis ? redis.url : false,
    tickets: true,
    publishTimeout: PATIENCE,
    authenticate: ({ query }) => {
      const { user, issuedAt } = query as { user?: string; issuedAt?: string }
      return { ...(user && { user }), ...(issuedAt && { issuedAt: Number(issuedAt) }) }
    },
    api: { keys: [KEY, { key: 'only revokes user 1', topics: 'user:1', actions: ['revoke'] }] },
    ...options,
  })
}

async function inMemory(t: TestContext) {
  return node(t, false)
}

/** What was issued in the millisecond of a revocation is revoked too: resolves after it. */
async function later(): Promise<void> {
  const now = Date.now()
  await until(() => Date.now() > now, 'a new time')
}

test('revoke: every connection of the user is closed with 4401, and nobody else', async t => {
  const { app } = await inMemory(t)
  const mine = [await openConnection(app, '/ws?user=42'), await openConnection(app, '/ws?user=42')]
  const others = [await openConnection(app, '/ws?user=4'), await openConnection(app, '/ws')]
  const { delivered, topic } = await app.push.revoke('user:42')
  assert.deepEqual([topic, delivered], ['user:42', 2])
  for (const { closed } of mine) assert.deepEqual(await closed, { code: 4401, reason: 'revoked' })
  for (const other of others) {
    other.send('ping')
    assert.equal((await other.next()).type, 'pong')
  }
})

test('what was issued before does not get in again, what is issued afterwards does', async t => {
  const { app, port } = await inMemory(t)
  const before = Date.now()
  const old = await app.push.ticket({ user: '42' }, 60)
  await app.push.revoke('user:42')
  const ws = `ws://127.0.0.1:${port}/ws`
  assert.equal((await refusalOf(`${ws}?ticket=${old}`)).status, 401)
  assert.equal((await refusalOf(`${ws}?user=42&issuedAt=${before}`)).status, 401)
  assert.equal((await refusalOf(`${ws}?user=42&issuedAt=${before}`, { origin: `http://127.0.0.1:${port}` })).code, 4401)
  await later()
  const fresh = await app.push.ticket({ user: '42' })
  assert.equal((await openConnection(app, `/ws?ticket=${fresh}`)).welcome.user, '42')
  // A session of the host does not say since when it is one: the host has checked it just now.
  assert.equal((await openConnection(app, '/ws?user=42')).welcome.user, '42')
  const { user } = (await openConnection(app, `/ws?user=42&issuedAt=${Date.now()}`)).welcome
  assert.equal(user, '42')
  assert.equal((await openConnection(app, `/ws?user=43&issuedAt=${before}`)).welcome.user, '43')
})

test('a ticket can say itself since when the user was known', async t => {
  const { app, port } = await inMemory(t)
  const login = Date.now()
  await app.push.revoke('user:42')
  const ticket = await app.push.ticket({ user: '42', issuedAt: login })
  assert.equal((await refusalOf(`ws://127.0.0.1:${port}/ws?ticket=${ticket}`)).status, 401)
  await later()
  const other = await app.push.ticket({ user: '42', issuedAt: new Date() })
  assert.equal((await openConnection(app, `/ws?ticket=${other}`)).welcome.user, '42')
  await assert.rejects(app.push.ticket({ user: '42', issuedAt: Date.now() + HOUR }), /issuedAt that lies in the future/)
  await assert.rejects(app.push.ticket({ user: '42', issuedAt: 1_700_000_000 }), /issuedAt in seconds/)
})

test('an identity that was revoked cannot be renewed on an open connection', async t => {
  const { app } = await inMemory(t)
  const old = await app.push.ticket({ user: '42' }, 60)
  await app.push.revoke('user:42')
  const connection = await openConnection(app, '/ws?user=42')
  connection.send('authenticate', { ticket: old }, 1)
  const { payload } = await connection.next('error')
  assert.equal((payload as { code: string }).code, 'PUSH_ERR_UNAUTHENTICATED')
})

test('only users can be revoked, and only with the right to', async t => {
  const { app, port } = await inMemory(t)
  for (const target of ['connection:x', 'channel:a', 'all', 'nonsense', '']) {
    await assert.rejects(app.push.revoke(target), { code: 'PUSH_ERR_TOPIC' }, target)
  }
  const call = (target: unknown, key = KEY) =>
    callApi(port, '/push/revoke', { body: { target }, headers: { authorization: `Bearer ${key}` } })
  const connection = await openConnection(app, '/ws?user=1')
  assert.equal((await call('user:2', 'only revokes user 1')).status, 403)
  assert.equal((await call('user:1', 'only revokes user 1')).status, 200)
  assert.equal((await connection.closed).code, 4401)
  assert.equal((await call('user:2')).status, 200)
  for (const target of ['channel:a', 1, undefined]) assert.equal((await call(target)).status, 400)
  assert.equal((await callApi(port, '/push/revoke', { body: { target: 'user:1', code: 1 } })).status, 400)
})

test('two nodes: everywhere, from a script and from redis-cli as well', async t => {
  const redis = await startRedis(t)
  const [a, b] = await Promise.all([node(t, redis), node(t, redis)])
  const publisher = createPublisher({ redis: redis.url, publishTimeout: PATIENCE })
  t.after(() => publisher.end())
  const byHand = async () => {
    await redis.admin.set('push:revoked:42', Date.now(), 'EX', 60)
    await redis.admin.publish('push:user:42', '{"control":"close","code":4401,"reason":"revoked"}')
  }
  for (const revoke of [() => a.app.push.revoke('user:42'), () => publisher.revoke('user:42'), byHand]) {
    const issuedAt = Date.now() + 5
    await until(() => Date.now() > issuedAt, 'a new time')
    const connections = [
      await openConnection(a.app, `/ws?user=42&issuedAt=${issuedAt}`),
      await openConnection(b.app, `/ws?user=42&issuedAt=${issuedAt}`),
    ]
    const ticket = await publisher.ticket({ user: '42' })
    await revoke()
    for (const { closed } of connections) assert.equal((await closed).code, 4401)
    for (const { port } of [a, b]) {
      assert.equal((await refusalOf(`ws://127.0.0.1:${port}/ws?user=42&issuedAt=${issuedAt}`)).status, 401)
    }
    assert.equal((await refusalOf(`ws://127.0.0.1:${b.port}/ws?ticket=${ticket}`)).status, 401)
  }
  const [ttl, at] = [await redis.admin.ttl('push:revoked:42'), await redis.admin.get('push:revoked:42')]
  assert.ok(ttl > 0 && ttl <= 60)
  assert.ok(Number(at) <= Date.now())
})

test('a mark is kept for revocation.ttl, and a mark that is no time counts as now', async t => {
  const redis = await startRedis(t)
  const { app, port } = await node(t, redis, { revocation: { ttl: 600 } })
  await app.push.revoke('user:1')
  const ttl = await redis.admin.ttl('push:revoked:1')
  assert.ok(ttl > 590 && ttl <= 600, `${ttl}`)
  await redis.admin.set('push:revoked:2', 'yes')
  assert.equal((await refusalOf(`ws://127.0.0.1:${port}/ws?user=2&issuedAt=${Date.now()}`)).status, 401)
  await assert.rejects(async () => createPublisher({ redis: redis.url, revocationTtl: 1 }), /option revocationTtl/)
})

test('a ticket of a backend that does not say when it was written counts as thirty seconds old', async t => {
  const redis = await startRedis(t)
  const { app, port } = await node(t, redis)
  const put = async (n: number, more = {}) => {
    const ticket = String(n).padStart(32, '0')
    await redis.admin.set(`push:ticket:${ticket}`, JSON.stringify({ user: '42', ...more }), 'EX', 60)
    return ticket
  }
  const undated = await put(1)
  await app.push.revoke('user:42')
  // However long that took: issued after it.
  const dated = await put(2, { issuedAt: Date.now() + 1000 })
  assert.equal((await refusalOf(`ws://127.0.0.1:${port}/ws?ticket=${undated}`)).status, 401)
  assert.equal((await openConnection(app, `/ws?ticket=${dated}`)).welcome.user, '42')
  await redis.admin.set('push:revoked:42', Date.now() - 31_000)
  const later = await put(3)
  assert.equal((await openConnection(app, `/ws?ticket=${later}`)).welcome.user, '42')
})

test('a node that was cut off closes revoked users when it is back, and lets in nobody of them', async t => {
  const redis = await startRedis(t)
  const proxy = await FaultProxy.start(redis.port)
  t.after(() => proxy.close())
  const { app, port } = await node(t, redis, { redis: `redis://127.0.0.1:${proxy.port}`, publishTimeout: 1000 })
  const issuedAt = Date.now()
  const revoked = await openConnection(app, `/ws?user=42&issuedAt=${issuedAt}`)
  const other = await openConnection(app, '/ws?user=7')
  proxy.isRefusing = true
  await redis.kill()
  await until(async () => !(await app.push.status()).connected, 'the loss of Redis')
  // While Redis is away the mark cannot be read: who has an identity of the host comes in.
  const meanwhile = await openConnection(app, `/ws?user=42&issuedAt=${issuedAt}`)
  await redis.start()
  await redis.admin.set('push:revoked:42', Date.now(), 'EX', 60)
  // Only now: as soon as the node is back it looks for the mark, once.
  proxy.isRefusing = false
  for (const { closed } of [revoked, meanwhile]) assert.deepEqual(await closed, { code: 4401, reason: 'revoked' })
  assert.equal((await refusalOf(`ws://127.0.0.1:${port}/ws?user=42&issuedAt=${issuedAt}`)).status, 401)
  await until(async () => (await app.push.status()).connected, 'the return of Redis')
  other.send('ping')
  assert.ok((await other.next('pong')).type)
})

test('a revocation that comes while a connection is being opened is not overtaken', async t => {
  const redis = await startRedis(t)
  const revoking: Promise<unknown>[] = []
  const { app, port } = await node(t, redis, {
    // It runs after the upgrade was looked at, and before the node hears what is published to the user.
    async authorize() {
      await redis.admin.set('push:revoked:42', Date.now(), 'EX', 60)
      revoking.push(redis.admin.publish('push:user:42', '{"control":"close","code":4401,"reason":"revoked"}'))
      await Promise.all(revoking)
      return true
    },
  })
  const path = `/ws/room?user=42&issuedAt=${Date.now()}`
  assert.deepEqual(await refusalOf(`ws://127.0.0.1:${port}${path}`), { code: 4401, reason: 'revoked' })
  assert.deepEqual(await Promise.all(revoking), [0], 'nobody heard it')
  await until(() => app.push.connections.size === 0, 'the end of the connection')
})

test('who only hears what is published to the user is not the user', async t => {
  const { app } = await buildPush(t, {
    tickets: true,
    authenticate: ({ query }) => query as { user: string },
    authorize: () => true,
  })
  const support = await openConnection(app, '/ws?user=support')
  support.send('subscribe', { topic: 'user:42' })
  await support.next('subscribed')
  const { closed } = await openConnection(app, '/ws?user=42')
  for (const end of [() => app.push.revoke('user:42'), () => app.push.close('user:42')]) {
    assert.ok((await end()).delivered! <= 1)
    support.send('ping')
    await support.next('pong')
  }
  assert.equal((await closed).code, 4401)
})

test('who asks in one turn is asked for with the others, and waits for nobody else', async t => {
  const asked: (readonly string[])[] = []
  const broker = {
    connected: true,
    revokedAt(users: readonly string[]) {
      asked.push(users)
      return users.map(user => (user === 'away' ? new Promise<undefined>(() => {}) : Promise.resolve(undefined)))
    },
  }
  const revocations = new Revocations(broker, new Registry<Connection>(), error => assert.fail(String(error)))
  t.after(() => revocations.close())
  const order: string[] = []
  const check = (user: string) => revocations.check({ user, began: 0 }).then(() => order.push(user))
  await Promise.all(['away', '1', '2', '1'].map(check))
  assert.deepEqual(asked, [['away', '1', '2']])
  assert.equal(order.at(-1), 'away')
})

test('users whose topics have moved are asked for alone, and asked for again if nobody can say', async t => {
  const asked: (readonly string[])[] = []
  const revoked = new Map([['42', Date.now() + 1000]])
  let isAway = false
  const broker = {
    connected: true,
    revokedAt(users: readonly string[]) {
      asked.push(users)
      return users.map(async user => {
        if (isAway) throw new errors.BROKER_AWAY('away')
        return revoked.get(user)
      })
    },
  }
  const closed: unknown[] = []
  const registry = new Registry<Connection>()
  for (const user of ['42', '7', '1']) {
    const close = (code: number, reason: string) => closed.push([user, code, reason])
    registry.add({ id: user, user, began: 0, subscriptions: undefined, close } as never)
  }
  const revocations = new Revocations(broker, registry, error => assert.fail(String(error)))
  t.after(() => revocations.close())
  revocations.missed(true, ['channel:a', 'user:42', 'user:7'])
  await until(() => closed.length > 0, 'the end of 42')
  assert.deepEqual([asked, closed], [[['42', '7']], [['42', 4401, 'revoked']]])
  isAway = true
  revocations.missed(true, ['user:1'])
  await until(() => asked.length > 1, 'the question')
  isAway = false
  await until(() => asked.length > 2, 'the next question')
  assert.deepEqual(asked.slice(1), [['1'], ['42', '7', '1']])
})

test('two nodes, one of them cut off: it ends a user who was revoked meanwhile, and takes no ticket from before', async t => {
  const redis = await startRedis(t)
  const proxy = await FaultProxy.start(redis.port)
  t.after(() => proxy.close())
  const cutOff = await node(t, redis, { redis: `redis://127.0.0.1:${proxy.port}`, publishTimeout: 1000 })
  const { app } = await node(t, redis)
  const ticket = await app.push.ticket({ user: '42' }, 600)
  const [here, there] = [await openConnection(app, '/ws?user=42'), await openConnection(cutOff.app, '/ws?user=42')]
  const other = await openConnection(cutOff.app, '/ws?user=7')
  proxy.isRefusing = true
  proxy.cut()
  await until(async () => !(await cutOff.app.push.status()).connected, 'the loss of the links')
  await app.push.revoke('user:42')
  assert.equal((await here.closed).code, 4401)
  assert.equal(cutOff.app.push.connections.size, 2)
  const url = `ws://127.0.0.1:${cutOff.port}/ws?ticket=${ticket}`
  assert.equal((await refusalOf(url)).status, 503, 'a ticket cannot be looked up now')
  proxy.isRefusing = false
  assert.deepEqual(await there.closed, { code: 4401, reason: 'revoked' })
  assert.equal((await refusalOf(url)).status, 401)
  assert.deepEqual(
    [...cutOff.app.push.connections.values()].map(({ user }) => user),
    ['7'],
  )
  other.send('ping')
  await other.next('pong')
})
