/** Compiled by `npm run types`, never run: the public types as an application sees them. */
import Fastify from 'fastify'
import { Registry } from 'prom-client'
import { Type } from 'typebox'
import { type Client, connect } from '../../src/client/index.ts'
import { PushProvider, useChannel, useClient, useMessages, usePresence } from '../../src/client/react/index.ts'
import pushBridge, {
  type Authentication,
  clientHandler,
  type EventKind,
  isTopic,
  type Json,
  type PublicationsOf,
  type PublishResult,
  type RequestsOf,
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

// What handlers take and reply, and what is published, at the other end

const schemas = { 'order.created': Type.Object({ id: Type.Number() }), tick: Type.Null() }
const handlers = {
  greet: clientHandler(Type.Object({ name: Type.String() }), async ({ name }, connection) => ({
    text: `Hello ${name}`,
    at: new Date(),
    user: connection.user,
    note: undefined as string | undefined,
    hidden: () => 1,
  })),
  list: clientHandler(Type.Object({ limit: Type.Optional(Type.Number()) }), () => [1, 2]),
  leave: clientHandler(Type.Unknown(), () => {}),
  report: { schema: Type.Object({ year: Type.Number() }), worker: './report.js' },
}
await app.register(pushBridge, { path: '/typed', name: 'typed', handlers, schemas })
type Requests = RequestsOf<typeof handlers>
type Published = PublicationsOf<typeof schemas>

const typed = connect<Published, Requests>('/ws', { positions: 'session', queue: { limit: 10 } })
typed.on('order.created', ({ id }) => id satisfies number, { topic: 'channel:a' })
// @ts-expect-error no such message
typed.on('order.deleted', () => {})
const greeting = await typed.request('greet', { name: 'Ann' }, { timeout: 5, queue: { ttl: 5, repeat: true } })
greeting.text satisfies string
greeting.at satisfies string
greeting.user satisfies string | null
// @ts-expect-error a function has no JSON
greeting.hidden
// @ts-expect-error a Date is text when it arrives
greeting.at satisfies Date
;(await typed.request('list')) satisfies number[]
;(await typed.request('list', { limit: 5 })) satisfies number[]
;(await typed.request('leave')) satisfies null
;(await typed.request('report', { year: 2026 })) satisfies unknown
// @ts-expect-error the payload is required
typed.request('greet')
// @ts-expect-error a string is required
typed.request('greet', { name: 5 })
// @ts-expect-error no such request
typed.request('greeet', { name: 'Ann' })
// @ts-expect-error no such option
typed.request('leave', {}, { que: true })

// Without types of its own a client takes anything, as ever.
;(await client.request<number>('anything', { at: 'all' })) satisfies number
const any: Client = connect('/ws')
any.on('anything', payload => payload satisfies unknown)
any.request('x') satisfies Promise<unknown>
connect('/ws', {
  positions: { load: () => ({ positions: {} }), save: ({ user, positions }) => void [user, positions] },
})
// @ts-expect-error no such storage
connect('/ws', { positions: 'local' })

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false
true satisfies Same<Json<{ a: Date; b?: bigint[]; c: [1, undefined] }>, { a: string; b?: never[]; c: [1, null] }>
true satisfies Same<Json<unknown>, unknown>
true satisfies Same<Json<'a' | 5 | undefined>, 'a' | 5 | null>

// Hooks

export function Orders(): unknown {
  PushProvider({ client: typed })
  PushProvider({ url: '/ws', options: { topics: [] } })
  // @ts-expect-error either a client or a url
  PushProvider({ client: typed, url: '/ws' })
  const { state, error } = useChannel('channel:a', (_payload, { type }) => type satisfies string, { onGap: () => {} })
  useChannel(null, { 'order.created': payload => payload satisfies unknown })
  const { messages } = useMessages('channel:a', { limit: 5, last: 5 })
  return [state, error?.code, messages[0]?.id, usePresence('channel:a').members[0]?.user, useClient()?.state]
}
