/** Compiled by `npm run types`, never run: the public types as an application sees them. */
import Fastify from 'fastify'
import { Registry } from 'prom-client'
import { Type } from 'typebox'
import { connect } from '../../src/client/index.ts'
import pushBridge, {
  type Authentication,
  clientHandler,
  type EventKind,
  isTopic,
  type PublishResult,
} from '../../src/index.ts'
import { createPublisher } from '../../src/publisher.ts'
import { openConnection } from '../../src/testing.ts'

const app = Fastify()
await app.register(pushBridge, {
  path: '/ws',
  redis: 'redis://127.0.0.1:6379',
  authenticate: async (request): Promise<Authentication | null> => (request.headers.cookie ? { user: 42 } : null),
  authorize: (connection, topic, { action, since }) =>
    topic === 'channel:a' ? [action, 'publish'] : connection.user === '42' && since === undefined,
  api: { keys: ['a', { key: 'b', topics: ['channel:x.*'], actions: ['publish', 'close', 'ticket', 'status'] }] },
  clientPublications: {
    'chat.message': { schema: Type.Object({}) },
    'chat.typing': { schema: Type.Object({}), rate: 5 },
  },
  handlers: {
    add: clientHandler(Type.Object({ a: Type.Number() }), ({ a }, connection) => {
      connection.send('sum', a + 1)
      // @ts-expect-error b is not in the schema
      return ({ b }: { b: number }) => b satisfies string
    }),
  },
})

// @ts-expect-error path is required
await app.register(pushBridge, {})
// @ts-expect-error no such option
await app.register(pushBridge, { path: '/ws', orgins: [] })
// @ts-expect-error a schema is required
await app.register(pushBridge, { path: '/ws', clientPublications: { a: {} } })
// @ts-expect-error no such action
await app.register(pushBridge, { path: '/ws', api: { keys: [{ key: 'b', topics: 'all', actions: ['read'] }] } })
// @ts-expect-error only keys may do that
const closing: Authentication = { allow: [{ topics: 'all', actions: ['close'] }] }
void closing
const kinds: EventKind[] = ['connect', 'message']
await app.register(pushBridge, {
  path: '/ws',
  events: {
    messages: ['chat.*'],
    stream: { include: kinds },
    http: { url: 'https://a', secret: ['b'], connect: true },
  },
})
await app.register(pushBridge, { path: '/ws', metrics: true, health: { path: '/push', details: true } })
await app.register(pushBridge, { path: '/ws', metrics: { register: new Registry(), prefix: 'shop_' }, health: true })
// @ts-expect-error no register
await app.register(pushBridge, { path: '/ws', metrics: { register: 'default' } })
// @ts-expect-error no such kind of event
await app.register(pushBridge, { path: '/ws', events: { stream: { include: ['conect'] } } })
// @ts-expect-error without secret
await app.register(pushBridge, { path: '/ws', events: { http: { url: 'https://a' } } })
// @ts-expect-error neither close nor drop
await app.register(pushBridge, { path: '/ws', slowConsumer: 'ignore' })

const one: PublishResult = await app.push.publish('user:42', { type: 'order.created', payload: { id: 1 } })
one.nodes satisfies number
const [first] = await app.push.publish(['user:1', 'user:2'], { type: 'order.created', payload: { id: 1 } })
if (first && 'error' in first) first.error.code satisfies string
await app.push.publish([{ to: 'all', type: 'x' }])
// @ts-expect-error no such key
await app.push.publish('user:42', { type: 'x', excpet: [] })
// @ts-expect-error type is required
await app.push.publish('user:42', { payload: 1 })

const { messages, next } = await app.push.history('channel:a', { last: 10 })
messages[0]?.from?.user satisfies string | null | undefined
await app.push.history('channel:a', { since: next, limit: 10 })
// @ts-expect-error no such key
await app.push.history('channel:a', { lsat: 10 })
await app.push.publish('user:42', { type: 'x', from: { user: null } })

// @ts-expect-error read-only
app.push.connections.size = 5
for (const connection of app.push.connections.values()) connection.topics.has('all')
const text: string = 'channel:a'
if (isTopic(text)) for (const connection of app.push.connections.of(text)) connection.close(4403, 'no')

const publisher = createPublisher({ redis: 'redis://127.0.0.1:6379' })
;(await publisher.publish('all', { type: 'x' })).topic satisfies string
;(await publisher.close('user:42', 4403)).delivered satisfies number | undefined
;(await publisher.ticket({ user: 42, expires: new Date() }, 60)) satisfies string
;(await publisher.status()).nodes satisfies number | undefined
{
  await using scoped = createPublisher({ redis: 'redis://127.0.0.1:6379' })
  await scoped.subscribe('user:42', 'channel:x')
}
// @ts-expect-error redis is required
createPublisher({})

const connection = await openConnection(app, '/ws', { headers: { cookie: 'x' } })
connection.welcome.heartbeat.interval satisfies number

interface Messages {
  'order.created': { id: number }
}
const client = connect<Messages>('/ws', { topics: ['channel:orders'], ticket: async () => 'x' })
client.on('order.created', ({ id }, message) => (id satisfies number) && message.topic)
// @ts-expect-error no such message
client.on('order.deleted', () => {})
await client.subscribe('channel:a', { last: 10 })
;(await client.publish('channel:a', 'x', {}, { echo: false, key: 'k' })).seq satisfies number | undefined
client.listen('gap', ({ topics }) => topics satisfies string[])
