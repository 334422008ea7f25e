import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { Type } from 'typebox'
import { createPublisher, type ScriptPublisher } from '../src/publisher.ts'
import { buildPush, manyRights, openConnection } from './helpers/app.ts'
import { startRedis } from './helpers/redis.ts'
import { startCluster } from './helpers/redis-cluster.ts'
import { PATIENCE, until, within } from './helpers/waiting.ts'

async function buildBoth(t: TestContext) {
  const redis = await startRedis(t)
  const { app } = await buildPush(t, { redis: redis.url, tickets: true })
  const publisher = createPublisher({ redis: redis.url, publishTimeout: PATIENCE })
  t.after(() => publisher.end())
  return { app, publisher, redis }
}

test('a script closes, subscribes and unsubscribes with the results and errors of app.push', async t => {
  const { app, publisher } = await buildBoth(t)
  const ticket = await publisher.ticket({ user: 7, join: ['channel:news'] })
  const connection = await openConnection(app, `/ws?ticket=${ticket}`)
  assert.deepEqual([connection.welcome.user, 'channel:news' in connection.welcome.topics], ['7', true])
  await assert.rejects(openConnection(app, `/ws?ticket=${ticket}`))
  const obeyed = { topic: 'user:7', nodes: 1, delivered: 1, skipped: 0, complete: true }
  assert.deepEqual(await publisher.subscribe('user:7', 'channel:vip'), obeyed)
  await connection.next('subscribed')
  assert.equal((await publisher.publish('channel:vip', { type: 'x', receipt: true })).delivered, 1)
  assert.deepEqual(await publisher.unsubscribe('user:7', 'channel:vip'), obeyed)
  assert.equal((await publisher.publish('channel:vip', { type: 'x', receipt: true })).delivered, 0)
  assert.deepEqual(await publisher.close('user:7', 4403, 'revoked'), obeyed)
  assert.deepEqual(await connection.closed, { code: 4403, reason: 'revoked' })
})

test('what a script does wrong has the same code and text as in app.push', async t => {
  const { app, publisher } = await buildBoth(t)
  const calls: ((push: Pick<ScriptPublisher, 'close' | 'subscribe' | 'unsubscribe' | 'ticket'>) => unknown)[] = [
    push => push.close('all'),
    push => push.close('user:1', 1006),
    push => push.close('user:1', 4000, 'x'.repeat(124)),
    push => push.subscribe('user:1', 'all'),
    push => push.subscribe('channel:1', 'channel:a'),
    push => push.unsubscribe('user:1', 'nowhere'),
    push => push.ticket({ user: 'a b' }),
    push => push.ticket(null as never),
    push => push.ticket({ expires: new Date(0) }),
    push => push.ticket({ data: 1n }),
    push => push.ticket({}, 0),
    push => push.ticket({ allow: manyRights() }),
  ]
  const failureOf = async (call: () => unknown) => {
    const [result] = await Promise.allSettled([(async () => call())()])
    assert.ok(result.status === 'rejected')
    const { code, statusCode, message } = result.reason
    assert.match(code, /^PUSH_ERR_/)
    return { code, statusCode, message }
  }
  for (const call of calls) {
    assert.deepEqual(await failureOf(() => call(publisher)), await failureOf(() => call(app.push)))
  }
})

test('status says how many nodes there are, and why Redis cannot be reached', async t => {
  const { app, publisher, redis } = await buildBoth(t)
  await until(async () => (await app.push.status()).nodes === 1, 'the node is there')
  assert.deepEqual(await publisher.status(), { broker: 'redis', connected: true, problem: undefined, nodes: 1 })
  await redis.kill()
  const impatient = createPublisher({ redis: redis.url, publishTimeout: 100 })
  t.after(() => impatient.end())
  const { connected, problem, nodes } = await within(impatient.status(), 'the state without Redis')
  assert.deepEqual([connected, nodes], [false, undefined])
  assert.match(problem ?? '', /^Redis cannot be reached/)
})

test('status: a refusal of Redis is an answer', async t => {
  const redis = await startRedis(t)
  await redis.admin.call('ACL', 'SETUSER', 'limited', 'on', '>secret-of-16-chars', '+ping', '+info', '&*', '~*')
  const publisher = createPublisher({
    redis: `redis://limited:secret-of-16-chars@127.0.0.1:${redis.port}`,
    publishTimeout: PATIENCE,
  })
  t.after(() => publisher.end())
  const { connected, problem, nodes } = await within(publisher.status(), 'the state without rights')
  assert.deepEqual([connected, nodes], [true, undefined])
  assert.match(problem ?? '', /NOPERM/)
})

test('status and tickets in a Cluster', async t => {
  const cluster = await startCluster(t, { masters: 2 })
  const publisher = createPublisher({ redis: { cluster: cluster.urls }, publishTimeout: PATIENCE })
  t.after(() => publisher.end())
  assert.deepEqual(await publisher.status(), { broker: 'redis', connected: true, problem: undefined, nodes: 0 })
  assert.match(await publisher.ticket({ user: '1' }), /^[0-9a-f]{48}$/)
})

test('the status in a Cluster waits for all masters, of which the last may be slow to let it in', async t => {
  const cluster = await startCluster(t, { masters: 2 })
  const asked = await cluster.masterOf('push:nodes')
  const slow = cluster.masters.find(master => master !== asked)!
  slow.freeze()
  t.after(() => slow.thaw())
  const publisher = createPublisher({ redis: { cluster: [asked.url] }, publishTimeout: PATIENCE })
  t.after(() => publisher.end())
  const status = publisher.status()
  await until(async () => (await asked.admin.info('commandstats')).includes('pubsub|numsub'), 'the first answer')
  slow.thaw()
  assert.deepEqual(await status, { broker: 'redis', connected: true, problem: undefined, nodes: 0 })
})

test('end: the calls that follow are refused at once, and it may be called twice', async t => {
  const { publisher } = await buildBoth(t)
  await publisher.end()
  await publisher[Symbol.asyncDispose]()
  const closed = { code: 'PUSH_ERR_CLOSED' }
  await assert.rejects(publisher.publish('all', { type: 'x' }), closed)
  await assert.rejects(publisher.close('user:1'), closed)
  await assert.rejects(publisher.ticket({}), closed)
  const { connected, problem } = await publisher.status()
  assert.deepEqual([connected, problem], [false, 'the broker is closed'])
})

test('a publisher that cannot be made leaves no link behind', async t => {
  const redis = await startRedis(t)
  const broken = { x: { type: 'string', pattern: '(' } } as never
  assert.throws(() => createPublisher({ redis: redis.url, schemas: broken }), { code: 'PUSH_ERR_OPTIONS' })
  // One that is made later is there: so one that was made before would be too.
  const publisher = createPublisher({ redis: redis.url, publishTimeout: PATIENCE, schemas: { x: Type.String() } })
  t.after(() => publisher.end())
  assert.equal((await publisher.status()).connected, true)
  assert.equal(String(await redis.admin.client('LIST')).match(/name=push:publisher/g)?.length, 1)
})
