import assert from 'node:assert/strict'
import { test } from 'node:test'
import jwt from '@fastify/jwt'
import rateLimit from '@fastify/rate-limit'
import type { FastifyReply, FastifyRequest } from 'fastify'
import pushBridge, { type PushBridgeOptions } from '../../src/index.ts'
import type { Hub } from '../../src/node/hub.ts'
import { healthRoutes } from '../../src/routes/health.ts'
import { buildApp, buildPush, OPEN, type TestApp } from '../helpers/app.ts'
import { startRedis } from '../helpers/redis.ts'
import { until, within } from '../helpers/waiting.ts'

async function get({ port }: Pick<TestApp, 'port'>, url: string) {
  const response = await within(fetch(`http://127.0.0.1:${port}${url}`), url)
  return { status: response.status, body: (await response.json()) as Record<string, unknown> }
}

test('health: nothing is there without the option', async t => {
  const node = await buildPush(t)
  assert.deepEqual([(await get(node, '/livez')).status, (await get(node, '/readyz')).status], [404, 404])
})

test('health: a node that is well, and says no more than that', async t => {
  const node = await buildPush(t, { health: true })
  for (const url of ['/livez', '/readyz', '/readyz?strict', '/readyz?strict=1']) {
    assert.deepEqual(await get(node, url), { status: 200, body: { status: 'ok' } }, url)
  }
  const { headers, statusCode } = await node.app.inject({ method: 'HEAD', url: '/readyz' })
  assert.deepEqual([statusCode, headers['cache-control']], [200, 'no-store'])
  assert.deepEqual(
    node.log.filter(({ msg }) => msg === 'incoming request'),
    [],
    'probes fill no log',
  )
})

test('health: Redis lost is degraded, and 503 only for those who are strict', async t => {
  const redis = await startRedis(t)
  const node = await buildPush(t, { health: { details: true }, redis: redis.url })
  // A node that had to wait for Redis for too long has started without it.
  await until(async () => (await get(node, '/readyz?strict')).status === 200, 'a node with Redis')
  assert.equal((await get(node, '/readyz')).status, 200)
  await redis.kill()
  // The reason is known a moment after the loss.
  await until(async () => (await get(node, '/readyz')).body.problem, 'a node that says why it has no Redis')
  const { status, body } = await get(node, '/readyz')
  assert.deepEqual([status, body.status, body.connected, body.connections], [200, 'degraded', false, 0])
  assert.equal((await get(node, '/readyz?strict')).status, 503)
  assert.equal((await get(node, '/readyz?strict=0')).status, 200)
  assert.deepEqual(await get(node, '/livez'), { status: 200, body: { status: 'ok' } })
  await redis.start()
  await until(async () => (await get(node, '/readyz?strict')).status === 200, 'a node with Redis again')
})

test('health: at the start 503, and not for ever', async t => {
  const redis = await startRedis(t, { isDown: true })
  const starting = await buildPush(t, { health: { start: 600_000 }, redis: redis.url })
  assert.deepEqual(await get(starting, '/readyz'), { status: 503, body: { status: 'starting' } })
  assert.equal((await get(starting, '/livez')).status, 200)
  const impatient = await buildPush(t, { health: { start: 0 }, redis: redis.url })
  assert.deepEqual(await get(impatient, '/readyz'), { status: 200, body: { status: 'degraded' } })
  await redis.start()
  await until(async () => (await get(starting, '/readyz')).status === 200, 'a node that has started')
})

test('health: Redis that does not answer holds up no probe', async t => {
  const redis = await startRedis(t)
  const node = await buildPush(t, { health: { details: true }, redis: redis.url })
  redis.freeze()
  t.after(() => redis.thaw())
  assert.equal((await within(get(node, '/readyz'), 'a probe without Redis', 20_000)).status, 200)
})

test('health: a node that drains is not ready, and lives', async t => {
  const hub = { isDraining: false, broker: { connected: true } }
  const health = { path: '/', start: 0, details: false }
  const node = await buildApp(t, app => app.register(healthRoutes, { hub: hub as Hub, health }))
  assert.equal((await get(node, '/readyz')).status, 200)
  hub.isDraining = true
  assert.deepEqual(await get(node, '/readyz'), { status: 503, body: { status: 'draining' } })
  assert.deepEqual(await get(node, '/livez'), { status: 200, body: { status: 'ok' } })
})

test('health: a path of its own, beside two registrations, and wrong options', async t => {
  const node = await buildApp(t, async app => {
    await app.register(pushBridge, { ...OPEN, health: { path: '/one' } })
    await app.register(pushBridge, { ...OPEN, path: '/two', name: 'two' as 'push', health: { path: '/two-is-well' } })
  })
  assert.deepEqual(
    await Promise.all(['/one/livez', '/two-is-well/readyz', '/livez'].map(async url => (await get(node, url)).status)),
    [200, 200, 404],
  )
  const wrong: [PushBridgeOptions['health'] | string, RegExp][] = [
    ['/health', /option health must be true or an object/],
    [{ path: 'health' }, /option health\.path must match/],
    [{ path: '/health/' }, /option health\.path must match/],
    [{ start: -1 }, /option health\.start must be >= 0/],
    [{ detail: true } as never, /health: .*detail.*details/],
  ]
  for (const [health, message] of wrong) {
    await assert.rejects(async () => buildPush(t, { health: health as never }), { code: 'PUSH_ERR_OPTIONS', message })
  }
})

test('health: probes get through the hooks, the limits and the serializers of the host', async t => {
  const node = await buildApp(t, async app => {
    await app.register(rateLimit, { max: 1, timeWindow: 60_000 })
    await app.register(jwt, { secret: 'x'.repeat(32) })
    app.addHook('onRequest', async (request: FastifyRequest, reply: FastifyReply) => {
      await request.jwtVerify().catch(() => reply.code(401).send({ no: 'token' }))
    })
    app.addHook('preSerialization', async () => ({ wrapped: true }))
    await app.register(pushBridge, { ...OPEN, health: true })
  })
  for (let i = 0; i < 3; i++) assert.deepEqual(await get(node, '/readyz'), { status: 200, body: { status: 'ok' } })
})
