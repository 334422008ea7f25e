import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { Redis } from 'ioredis'
import type { PublishResult } from '../../../src/publish/publish.ts'
import type { TestConnection } from '../../../src/testing.ts'
import { callApi } from '../../helpers/api.ts'
import { buildPush, KEY, openConnection, type TestApp } from '../../helpers/app.ts'
import { type RedisServer, startRedis } from '../../helpers/redis.ts'
import { once, until, within } from '../../helpers/waiting.ts'

const TIMEOUT = 500

async function start(t: TestContext, { url }: RedisServer, redis: string | Redis = url): Promise<TestApp> {
  return buildPush(t, { redis, publishTimeout: TIMEOUT, api: { keys: [KEY] } })
}

/** A source of a node's links, and these links. */
function watched(client: Redis): { client: Redis; links: Redis[] } {
  const links: Redis[] = []
  const duplicate = client.duplicate.bind(client)
  client.duplicate = options => {
    const link = duplicate(options)
    links.push(link)
    return link
  }
  return { client, links }
}

const LONG = { timeout: 120_000 }

const isLost = ({ log }: TestApp) => log.some(({ msg }) => msg.startsWith('push: the link to Redis is lost'))

async function assertPublishFails({ app, port }: TestApp, codes: string[]): Promise<void> {
  const publishing = app.push.publish('user:42', { type: 'x' }).then(
    () => 'published without Redis',
    error => error.code,
  )
  const code = await within(publishing, `an answer for a publish timeout of ${TIMEOUT}`, TIMEOUT + 400)
  assert.ok(codes.includes(code), code)
  const bodies = {
    '/push': { to: 'user:42', type: 'x' },
    '/push/close': { target: 'user:none' },
    '/push/subscribe': { target: 'user:none', topic: 'channel:a' },
    '/push/tickets': { user: '42' },
  }
  const answers = await Promise.all(Object.entries(bodies).map(([path, body]) => callApi(port, path, { body })))
  for (const { status, body } of answers) assert.deepEqual([status, codes.includes(body.code!)], [503, true], body.code)
  const { body } = await callApi(port, '/push/status')
  assert.deepEqual([body.broker, 'nodes' in body], ['redis', false])
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

/**
 * The gap is told by the link that subscribes; the one that publishes has a retry of its own, within a second. On a slow
 * machine an answer may take longer than the publish timeout.
 */
async function publishOnceBack(app: TestApp['app']) {
  let last: PublishResult | Error | undefined
  const isBack = async () => {
    last = await app.push.publish('user:42', { type: 'after', receipt: true }).catch((error: Error) => error)
    return !(last instanceof Error) && last.complete
  }
  await until(isBack, () => `a publication with the answers of all nodes, not ${last}`)
  return last as PublishResult
}

test('Redis absent at boot: the application starts, says so, and recovers by itself', LONG, async t => {
  const redis = await startRedis(t, { isDown: true })
  const node = await within(start(t, redis), 'the start of an application without Redis')
  assert.ok(node.log.some(({ msg }) => msg.startsWith('push: Redis cannot be reached yet')))
  assert.equal((await node.app.push.status()).connected, false)
  const connection = await openConnection(node.app, '/ws?user=42')
  assert.equal(((await connection.next('gap')).payload as { reason: string }).reason, 'broker_away')
  await assertPublishFails(node, ['PUSH_ERR_BROKER_AWAY'])
  await redis.start()
  await assertRecovers(node, connection)
})

test('Redis killed and started again: deadlines, gap, recovery', LONG, async t => {
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

test('Redis frozen for 10 s: noticed within seconds, the deadline kept, and told when it thaws', LONG, async t => {
  const redis = await startRedis(t)
  const node = await start(t, redis)
  const connection = await openConnection(node.app, '/ws?user=42')
  redis.freeze()
  const frozen = performance.now()
  while (performance.now() - frozen < 10_000)
    await assertPublishFails(node, ['PUSH_ERR_BROKER_AWAY', 'PUSH_ERR_UNCONFIRMED'])
  assert.ok(isLost(node), 'not noticed')
  redis.thaw()
  await assertRecovers(node, connection)
})

test('an idle subscriber notices a frozen Redis without a single publish', LONG, async t => {
  const redis = await startRedis(t)
  const { client, links } = watched(redis.admin)
  const node = await start(t, redis, client)
  const connection = await openConnection(node.app, '/ws?user=42')
  assert.equal(links.length, 2)
  // Each has a probe of its own, a second apart.
  const noticed = Promise.all(links.map(link => once(link, 'close')))
  redis.freeze()
  await within(noticed, 'both links are given up', 10_000)
  assert.ok(isLost(node))
  redis.thaw()
  await assertRecovers(node, connection)
})

for (const state of ['up', 'frozen', 'gone'] as const) {
  test(`app.close() is bounded with Redis ${state} and publishes waiting`, LONG, async t => {
    const redis = await startRedis(t)
    const node = await start(t, redis)
    await openConnection(node.app, '/ws?user=42')
    if (state === 'frozen') redis.freeze()
    if (state === 'gone') await redis.kill()
    const publishes = Array.from({ length: 100 }, () => node.app.push.publish('user:42', { type: 'x' }))
    const ended = Promise.all([node.app.close(), Promise.allSettled(publishes)])
    await within(ended, 'the end of the application and of all publications', 10_000)
  })
}

test('CLIENT KILL of the subscriber: every connection is told', LONG, async t => {
  const redis = await startRedis(t)
  const node = await start(t, redis)
  const connection = await openConnection(node.app, '/ws?user=42')
  await redis.admin.call('CLIENT', 'KILL', 'TYPE', 'pubsub')
  await assertRecovers(node, connection)
})
