import assert from 'node:assert/strict'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { type TestContext, test } from 'node:test'
import { tracing } from '../src/broker/tracing.ts'
import { buildPush, openConnection } from './helpers/app.ts'
import { Listener, listenTo } from './helpers/listener.ts'
import { Program, path } from './helpers/processes.ts'
import { startRedis } from './helpers/redis.ts'
import { Inbox, START, until } from './helpers/waiting.ts'

type Name = keyof typeof tracing
type Event = Record<string, unknown>

/** What is told on a channel from now on. */
function follow(t: TestContext, name: Name): Inbox<Event> {
  const events = new Inbox<Event>(`an event of ${name}`)
  const take = (event: unknown) => events.put(event as Event)
  subscribe(`fastify-push-bridge:${name}`, take)
  t.after(() => unsubscribe(`fastify-push-bridge:${name}`, take))
  return events
}

test('the way of a publication, and no payload in it', async t => {
  const { app } = await buildPush(t)
  const connection = await openConnection(app, '/ws/room?user=1')
  const [publish, receive, deliver, write] = (['publish', 'receive', 'deliver', 'write'] as const).map(name =>
    follow(t, name),
  )
  await app.push.publish('channel:room', { type: 'order.created', payload: { secret: 'of the payload' } })
  await connection.next('order.created')
  const envelope = '{"type":"order.created","payload":{"secret":"of the payload"}}'
  const about = { topic: 'channel:room', bytes: envelope.length }
  const events = [await publish!.take(), await receive!.take(), await deliver!.take(), await write!.take()]
  const names = { connection: connection.welcome.connection, user: '1' }
  assert.deepEqual(events, [
    { ...about, type: 'order.created', isRecorded: false },
    about,
    { ...about, connections: 1, type: 'order.created' },
    { ...names, topics: ['channel:room'], bytes: 2 + envelope.length + ',"topic":"channel:room"'.length },
  ])
  assert.doesNotMatch(JSON.stringify(events), /secret/)
})

test('positions, ext, what has no connection, and what is rejected', async t => {
  const redis = await startRedis(t)
  const { app } = await buildPush(t, { redis: redis.url, history: { 'channel:kept': { size: 10, ttl: 60 } } })
  const connection = await openConnection(app, '/ws/kept?user=1')
  const other = await openConnection(app, '/ws/kept?user=2')
  const [receive, deliver] = [follow(t, 'receive'), follow(t, 'deliver')]
  const { id, seq } = await app.push.publish('channel:kept', { type: 'a' })
  await connection.next('a')
  const kept = await deliver.take()
  assert.deepEqual([kept.id, kept.seq, kept.connections], [id, seq, 2])
  assert.equal((await receive.take()).id, id)

  const traceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`
  const ext = { traceparent }
  await redis.admin.publish('push:all', JSON.stringify({ type: 'b', payload: 1, ext, except: 'user:2' }))
  await connection.next('b')
  const { ext: told, type, topic, connections } = await deliver.take()
  assert.deepEqual({ told, type, topic, connections }, { told: ext, type: 'b', topic: 'all', connections: 2 })
  await redis.admin.publish('push:user:1', '{"type":"c","paylod":1}')
  const rejected = await deliver.take()
  assert.deepEqual([rejected.rejected, rejected.connections, rejected.type], ['unknown_key', 0, undefined])
  await other.close()
})

test('the life of a connection', async t => {
  const { port } = await buildPush(t)
  const [connect, join, close] = (['connect', 'subscribe', 'close'] as const).map(name => follow(t, name))
  const connection = await listenTo(t, `ws://127.0.0.1:${port}/ws?user=7`)
  const names = { connection: connection.welcome.connection, user: '7' }
  assert.deepEqual(await connect!.take(), {
    ...names,
    topics: ['all', `connection:${names.connection}`, 'user:7'],
  })
  connection.send('subscribe', { topic: 'channel:room' }, 1)
  await connection.next('subscribed')
  assert.deepEqual(await join!.take(), { ...names, topic: 'channel:room' })
  connection.send('subscribe', { topic: 'channel:room' }, 2)
  await connection.next('subscribed')
  connection.socket.close(1000, 'bye')
  assert.deepEqual(await close!.take(), { ...names, code: 1000, reason: 'bye' })
  assert.equal(join!.size, 0, 'a topic that it has already is no news')
})

test('nobody follows, and no event is made', async t => {
  const channels = Object.values(tracing)
  assert.deepEqual(
    channels.map(({ hasSubscribers }) => hasSubscribers),
    channels.map(() => false),
  )
  for (const channel of channels) {
    t.mock.method(channel, 'publish', () => assert.fail(`an event of ${String(channel.name)}`))
  }
  const { app } = await buildPush(t)
  const connection = await openConnection(app, '/ws/room?user=1')
  connection.send('subscribe', { topic: 'channel:other' }, 1)
  await connection.next('subscribed')
  await app.push.publish('channel:room', { type: 'a' })
  await connection.next('a')
  await connection.close()
})

test('example/tracing.ts: a push belongs to the trace of the request that published it', {
  timeout: 400_000,
}, async t => {
  const redis = await startRedis(t)
  const program = new Program(t, process.execPath, ['--import', 'tsx', path('example/tracing.ts')], {
    env: { REDIS_URL: redis.url, PORT: '0', NODE_TEST_CONTEXT: undefined },
    stopWith: 'SIGTERM',
  })
  const url = (await program.line(/^connect to ws:/, START)).slice('connect to '.length)
  const listeners = [new Listener(t, url), new Listener(t, url)]
  for (const listener of listeners) await listener.next('welcome')
  const trace = '0af7651916cd43dd8448eb211c80319c'
  const span = 'b7ad6b7169203331'
  const ext = { traceparent: `00-${trace}-${span}-01` }
  await redis.admin.publish('push:all', JSON.stringify({ type: 'without' }))
  await redis.admin.publish('push:all', JSON.stringify({ type: 'order.created', payload: { id: 7 }, ext }))
  for (const listener of listeners) {
    const message = await listener.next('order.created')
    assert.deepEqual(message, { type: 'order.created', payload: { id: 7 }, topic: 'all' })
  }
  await until(
    () => program.lines.includes('}'),
    () => `a span: ${program.lines.join('\n')}`,
  )
  const printed = program.lines.join('\n')
  // As Node shows objects.
  assert.match(printed, /^ {2}name: 'push order\.created'/m)
  assert.match(printed, new RegExp(`^ {2}traceId: '${trace}'`, 'm'))
  assert.match(printed, new RegExp(`parentSpanContext: \\{\\s+traceId: '${trace}',\\s+spanId: '${span}'`))
  assert.match(printed, /'push.connections': 2/)
  assert.match(printed, /'push.written': 2/)
  assert.doesNotMatch(printed, /push without/)
})
