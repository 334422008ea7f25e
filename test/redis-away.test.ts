import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { openConnection, type TestConnection } from '../src/testing.ts'
import { buildPush, KEY, type TestApp } from './helpers/app.ts'
import { type RedisServer, startRedis } from './helpers/redis.ts'

const TIMEOUT = 500

async function start(t: TestContext, redis: RedisServer): Promise<TestApp> {
  return buildPush(t, { redis: redis.url, publishTimeout: TIMEOUT, api: { keys: [KEY] } })
}

/** Runs `task` and says how long it took, so that a test can hold it to its deadline. */
async function timed<T>(task: Promise<T>): Promise<{ result: T | Error; milliseconds: number }> {
  const since = performance.now()
  const result = await task.catch((error: Error) => error)
  return { result, milliseconds: performance.now() - since }
}

async function assertPublishFails({ app, port }: TestApp, codes: string[]): Promise<void> {
  const { result, milliseconds } = await timed(app.push.publish('user:42', { type: 'x' }))
  assert.ok(result instanceof Error, 'publish answered without Redis')
  assert.ok(codes.includes((result as Error & { code: string }).code), (result as Error & { code: string }).code)
  assert.ok(milliseconds < TIMEOUT + 400, `took ${milliseconds} ms`)
  const response = await fetch(`http://127.0.0.1:${port}/push`, {
    method: 'POST',
    headers: { authorization: `Bearer ${KEY}` },
    body: JSON.stringify({ to: 'user:42', type: 'x' }),
  })
  assert.equal(response.status, 503)
}

/** Publishes until it works, which shows that Redis is back, then waits for it at the connection. */
async function assertRecovers({ app }: TestApp, connection: TestConnection): Promise<void> {
  const gap = await connection.next('gap')
  assert.deepEqual(gap.payload, {
    topics: ['all', `connection:${connection.welcome.connection}`, 'user:42'],
    reason: 'broker_link',
  })
  const result = await publishOnceBack(app)
  assert.deepEqual([result.nodes, result.delivered], [1, 1])
  assert.equal((await connection.next('after')).type, 'after')
}

/** The gap is told by the link that subscribes; the one that publishes has a retry of its own, within a second. */
async function publishOnceBack(app: TestApp['app']) {
  const deadline = performance.now() + 3000
  for (;;) {
    try {
      return await app.push.publish('user:42', { type: 'after', receipt: true })
    } catch (error) {
      if (performance.now() > deadline) throw error
    }
  }
}

test('Redis absent at boot: the application starts, says so, and recovers by itself', async t => {
  const redis = await startRedis(t, { isDown: true })
  const booted = await timed(start(t, redis))
  assert.ok(booted.milliseconds < 4000, `boot took ${booted.milliseconds} ms`)
  const node = booted.result as TestApp
  assert.ok(node.log.some(({ msg }) => msg.startsWith('push: Redis cannot be reached yet')))
  assert.equal((await node.app.push.status()).connected, false)
  const connection = await openConnection(node.app, '/ws?user=42')
  assert.equal(((await connection.next('gap')).payload as { reason: string }).reason, 'broker_away')
  await assertPublishFails(node, ['PUSH_ERR_BROKER_AWAY'])
  await redis.start()
  await assertRecovers(node, connection)
})

test('Redis killed and started again: deadlines, gap, recovery', async t => {
  const redis = await startRedis(t)
  const node = await start(t, redis)
  const connection = await openConnection(node.app, '/ws?user=42')
  await redis.kill()
  await assertPublishFails(node, ['PUSH_ERR_BROKER_AWAY', 'PUSH_ERR_UNCONFIRMED'])
  assert.equal((await node.app.push.status()).connected, false)
  connection.send('subscribe', { topic: 'channel:a' }, 1)
  assert.deepEqual((await connection.next()).type, 'subscribed')
  assert.deepEqual((await connection.next()).payload, { topics: ['channel:a'], reason: 'broker_away' })
  connection.send('unsubscribe', { topic: 'channel:a' }, 2)
  assert.equal((await connection.next()).type, 'unsubscribed')
  await redis.start()
  await assertRecovers(node, connection)
})

test('Redis frozen for 10 s: noticed within seconds, the deadline kept, and told when it thaws', async t => {
  const redis = await startRedis(t)
  const node = await start(t, redis)
  const connection = await openConnection(node.app, '/ws?user=42')
  redis.freeze()
  const frozen = performance.now()
  await assertPublishFails(node, ['PUSH_ERR_BROKER_AWAY', 'PUSH_ERR_UNCONFIRMED'])
  while (node.log.every(({ msg }) => !msg.startsWith('push: the link to Redis is lost'))) {
    await assertPublishFails(node, ['PUSH_ERR_BROKER_AWAY', 'PUSH_ERR_UNCONFIRMED'])
  }
  const noticed = performance.now() - frozen
  assert.ok(noticed < 5000, `noticed after ${noticed} ms`)
  while (performance.now() - frozen < 10_000)
    await assertPublishFails(node, ['PUSH_ERR_BROKER_AWAY', 'PUSH_ERR_UNCONFIRMED'])
  redis.thaw()
  await assertRecovers(node, connection)
})

test('an idle subscriber notices a frozen Redis without a single publish', async t => {
  const redis = await startRedis(t)
  const node = await start(t, redis)
  const connection = await openConnection(node.app, '/ws?user=42')
  redis.freeze()
  const lost = new Promise<void>(resolve => {
    const timer = setInterval(() => {
      if (!node.log.some(({ msg }) => msg.startsWith('push: the link to Redis is lost'))) return
      clearInterval(timer)
      resolve()
    }, 50)
  })
  const { milliseconds } = await timed(lost)
  assert.ok(milliseconds < 5500, `noticed after ${milliseconds} ms`)
  // The link for commands is the first to notice; the one that subscribes has its own probe, a second apart.
  await new Promise(resolve => setTimeout(resolve, 2000))
  redis.thaw()
  await assertRecovers(node, connection)
})

for (const state of ['up', 'frozen', 'gone'] as const) {
  test(`app.close() is bounded with Redis ${state} and publishes waiting`, async t => {
    const redis = await startRedis(t)
    const node = await start(t, redis)
    await openConnection(node.app, '/ws?user=42')
    if (state === 'frozen') redis.freeze()
    if (state === 'gone') await redis.kill()
    const publishes = Array.from({ length: 100 }, () => timed(node.app.push.publish('user:42', { type: 'x' })))
    const { milliseconds } = await timed(node.app.close())
    assert.ok(milliseconds < 3000, `closing took ${milliseconds} ms`)
    for (const { milliseconds: took } of await Promise.all(publishes)) assert.ok(took < 3000)
  })
}

test('CLIENT KILL of the subscriber: every connection is told', async t => {
  const redis = await startRedis(t)
  const node = await start(t, redis)
  const connection = await openConnection(node.app, '/ws?user=42')
  await redis.admin.call('CLIENT', 'KILL', 'TYPE', 'pubsub')
  await assertRecovers(node, connection)
})
