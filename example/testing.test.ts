/**
 * A test of an application's own: real sockets, no Redis, nothing to clean up but the application.
 * In your own project: 'fastify-push-bridge' and 'fastify-push-bridge/testing' instead of the paths below.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import Fastify, { type FastifyInstance } from 'fastify'
import pushBridge from '../src/index.ts'
import { openConnection } from '../src/testing.ts'

const users: Record<string, string> = { 'token-of-alice': 'alice', 'token-of-bob': 'bob' }

/** Stands for your own `buildApp()`. */
async function buildApp(): Promise<FastifyInstance> {
  const app = Fastify()
  await app.register(pushBridge, {
    path: '/ws',
    authenticate(request) {
      const user = users[request.headers.authorization?.slice('Bearer '.length) ?? '']
      return user === undefined ? null : { user, allow: ['channel:orders'] }
    },
  })
  app.post('/orders', async () => {
    await app.push.publish('channel:orders', { type: 'order.created', payload: { id: 7 } })
    return { id: 7 }
  })
  return app
}

const as = (token: string) => ({ headers: { authorization: `Bearer ${token}` } })

test('an order reaches those who watch the orders', async t => {
  const app = await buildApp()
  t.after(() => app.close())
  const alice = await openConnection(app, '/ws/orders', as('token-of-alice'))
  assert.equal(alice.welcome.user, 'alice')

  await app.inject({ method: 'POST', url: '/orders' })

  const { payload, topic } = await alice.next('order.created')
  assert.deepEqual(payload, { id: 7 })
  assert.equal(topic, 'channel:orders')
})

test('a notice reaches its user and nobody else', async t => {
  const app = await buildApp()
  t.after(() => app.close())
  const alice = await openConnection(app, '/ws', as('token-of-alice'))
  const bob = await openConnection(app, '/ws', as('token-of-bob'))

  await app.push.publish('user:alice', { type: 'notice' })
  await app.push.publish('all', { type: 'end' })

  assert.equal((await alice.next()).type, 'notice')
  assert.equal((await bob.next()).type, 'end')
})

test('whoever has no token stays outside', async t => {
  const app = await buildApp()
  t.after(() => app.close())
  await assert.rejects(openConnection(app, '/ws'), /401/)
})
