import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { Redis } from 'ioredis'
import type { PushBridgeOptions } from '../../../src/index.ts'
import type { EventsInput } from '../../../src/options/events.ts'
import { buildPush, openConnection, type TestApp } from '../../helpers/app.ts'
import { startNode } from '../../helpers/nodes.ts'
import { startRedis } from '../../helpers/redis.ts'
import { startCluster } from '../../helpers/redis-cluster.ts'
import { PATIENCE, until, within } from '../../helpers/waiting.ts'

interface Told {
  id: string
  kind: string
  connection: string | null
  user: string | null
  node: string
  [field: string]: unknown
}

async function eventsIn(admin: Redis, key = 'push:events'): Promise<Told[]> {
  const entries = (await admin.xrange(key, '-', '+')) as [string, string[]][]
  return entries.map(([, [, id, , kind, , json]]) => {
    const event = JSON.parse(json!) as Told
    assert.deepEqual([id, kind], [event.id, event.kind])
    return event
  })
}

/** Resolves when the stream has so many events that are not repeats. */
async function eventually(admin: Redis, count: number, key?: string): Promise<Told[]> {
  let events: Told[] = []
  const look = async () => {
    const all = await eventsIn(admin, key)
    events = all.filter(({ id }, i) => all.findIndex(other => other.id === id) === i)
    return events.length >= count
  }
  await until(look, () => `${count} events: ${JSON.stringify(events)}`)
  return events
}

const kinds = (events: readonly Told[]) => events.map(({ kind }) => kind)

function nodeOf(
  t: TestContext,
  redis: PushBridgeOptions['redis'],
  events: EventsInput,
  options = {},
): Promise<TestApp> {
  return buildPush(t, { redis, events, ...options } as Partial<PushBridgeOptions>)
}

test('what clients do and send, and what publishers do wrong, is in the stream', async t => {
  const redis = await startRedis(t)
  const options = { publishTimeout: PATIENCE }
  const { app } = await nodeOf(t, redis.url, { messages: ['chat.*'], stream: {} }, options)
  const connection = await openConnection(app, '/ws/a?user=42&token=SECRET')
  connection.send('subscribe', { topic: 'channel:b' }, 1)
  await connection.next('subscribed')
  connection.send('chat.say', { text: 'hi' }, 2)
  const { payload: reply } = await connection.next('reply')
  connection.send('chat.say', { text: 'no answer wanted' })
  connection.send('unsubscribe', { topic: 'channel:b' }, 3)
  await connection.next('unsubscribed')
  await redis.admin.publish('push:user:42', '{"excpet":1}')
  await eventually(redis.admin, 6)
  await connection.close()
  const events = await eventually(redis.admin, 7)
  const { node } = await app.push.status()
  for (const { time, node: by } of events) assert.ok(by === node && !Number.isNaN(Date.parse(String(time))))
  const id = connection.welcome.connection
  const who = { connection: id, user: '42' }
  assert.deepEqual(
    events.map(({ id: _id, time: _time, node: _node, message: _message, ...event }) => event),
    [
      { kind: 'connect', ...who, topics: ['all', `connection:${id}`, 'user:42', 'channel:a'] },
      { kind: 'subscribe', ...who, topic: 'channel:b' },
      { kind: 'message', ...who, type: 'chat.say', payload: { text: 'hi' } },
      { kind: 'message', ...who, type: 'chat.say', payload: { text: 'no answer wanted' } },
      { kind: 'unsubscribe', ...who, topic: 'channel:b' },
      { kind: 'rejected', connection: null, user: null, topic: 'user:42', reason: 'unknown_key', omitted: 0 },
      { kind: 'disconnect', ...who, code: 1000, reason: '' },
    ],
  )
  assert.deepEqual(reply, { id: events[2]!.id })
  assert.equal(new Set(events.map(event => event.id)).size, 7)
  assert.doesNotMatch(JSON.stringify(events), /SECRET/)
  assert.equal((await app.push.status()).metrics['events_sent_total{stream}'], 7)
})

test('two nodes write into one stream, and what commands of another node do is in it', async t => {
  const redis = await startRedis(t)
  const { app } = await nodeOf(t, redis.url, { stream: { include: ['connect', 'subscribe'] } })
  const other = await startNode(t, redis.url)
  const connection = await openConnection(app, '/ws?user=42')
  const second = await buildPush(t, { redis: redis.url, events: { stream: { include: ['connect'] } } })
  await openConnection(second.app, '/ws?user=43')
  await second.app.push.subscribe('user:42', 'channel:vip')
  await connection.next('subscribed')
  // This one has no such option.
  await other.connect('/ws?user=1')
  const events = await eventually(redis.admin, 3)
  const told = events.map(({ kind, user }) => `${kind} ${user}`)
  assert.deepEqual(told.toSorted(), ['connect 42', 'connect 43', 'subscribe 42'])
})

test('rules send events to streams of their own; the first that fits decides', async t => {
  const redis = await startRedis(t)
  const rules = [
    { name: 'events:shop', kinds: ['subscribe' as const], topics: ['channel:shop.*'] },
    { name: 'events:chat', types: ['chat.*'] },
  ]
  const { app } = await nodeOf(t, redis.url, { messages: ['*'], stream: { name: 'events:rest', rules } })
  const connection = await openConnection(app, '/ws?user=1')
  for (const topic of ['channel:shop.1', 'channel:x']) connection.send('subscribe', { topic }, 1)
  for (const type of ['chat.say', 'other']) connection.send(type, {}, 2)
  await eventually(redis.admin, 1, 'push:events:shop')
  await eventually(redis.admin, 1, 'push:events:chat')
  const rest = await eventually(redis.admin, 3, 'push:events:rest')
  assert.deepEqual(kinds(rest).toSorted(), ['connect', 'message', 'subscribe'])
  assert.equal((await eventsIn(redis.admin, 'push:events:shop'))[0]!.topic, 'channel:shop.1')
  assert.equal((await eventsIn(redis.admin, 'push:events:chat'))[0]!.type, 'chat.say')
  assert.equal(await redis.admin.exists('push:events'), 0)
})

test('a stream keeps about as many entries as it may, and none for too long', async t => {
  const redis = await startRedis(t, { args: ['--stream-node-max-entries', '10'] })
  // A stream for each limit: on a slow machine entries would be too old before there are too many.
  const write = async (name: string, limit: object, count: number) => {
    const stream = { name, include: ['message' as const], ...limit }
    const options = { limits: { messages: 100_000 }, publishTimeout: PATIENCE }
    const { app } = await nodeOf(t, redis.url, { messages: ['a'], stream }, options)
    const connection = await openConnection(app, '/ws')
    for (let n = 0; n < count; n++) {
      connection.send('a', n, n)
      assert.equal((await connection.next()).type, 'reply')
    }
    return connection
  }
  await write('events:many', { maxLength: 50 }, 300)
  const kept = await redis.admin.xlen('push:events:many')
  assert.ok(kept >= 50 && kept < 70, `${kept}`)
  const connection = await write('events:old', { maxAge: 2000 }, 30)
  await until(async () => {
    connection.send('a', 'later', 1)
    await connection.next('reply')
    const [first] = (await redis.admin.xrange('push:events:old', '-', '+', 'COUNT', 1)) as [string, string[]][]
    return JSON.parse(first![1][5]!).payload === 'later'
  }, 'what was written first is gone')
})

test('Redis is killed: what happened meanwhile is written when it is back, in order and each event once', async t => {
  const redis = await startRedis(t)
  const { app } = await nodeOf(t, redis.url, { messages: ['a'], stream: {} }, { publishTimeout: 100 })
  const connection = await openConnection(app, '/ws?user=1')
  await eventually(redis.admin, 1)
  await redis.kill()
  await until(async () => !(await app.push.status()).connected, 'the link is lost')
  connection.send('a', 1, 1)
  const { payload } = await connection.next('error')
  assert.equal((payload as { code: string }).code, 'PUSH_ERR_BACKEND_UNCONFIRMED')
  for (let n = 2; n <= 20; n++) connection.send('a', n)
  await connection.close()
  await redis.start()
  const events = await eventually(redis.admin, 21)
  assert.deepEqual(
    events.map(({ kind, payload }) => payload ?? kind),
    [...Array.from({ length: 20 }, (_, i) => i + 1), 'disconnect'],
  )
  assert.equal((await app.push.status()).metrics['events_lost_total{full}'], undefined)
})

test('what finds no room while Redis is away is lost, counted, logged and told; the client is told at once', async t => {
  const redis = await startRedis(t)
  const queue = { count: 5 }
  const { app, log } = await nodeOf(t, redis.url, { messages: ['a'], queue, stream: {} })
  const connection = await openConnection(app, '/ws?user=1')
  await eventually(redis.admin, 1)
  await redis.kill()
  await until(async () => !(await app.push.status()).connected, 'the link is lost')
  for (let n = 1; n <= 8; n++) connection.send('a', n)
  for (let n = 6; n <= 8; n++)
    assert.equal(((await connection.next('error')).payload as { code: string }).code, 'PUSH_ERR_BACKEND_AWAY')
  await redis.start()
  const countLost = (events: readonly Told[]) => events.reduce((sum, { count }) => sum + Number(count ?? 0), 0)
  await until(async () => countLost(await eventually(redis.admin, 6)) === 3, 'all that was lost is told')
  const events = await eventually(redis.admin, 6)
  assert.deepEqual(
    events.slice(0, 6).map(({ kind, payload }) => payload ?? kind),
    [1, 2, 3, 4, 5, 'lost'],
  )
  const { count, reasons, connection: nobody } = events[5]!
  assert.deepEqual([reasons, nobody], [{ full: count }, null])
  assert.equal((await app.push.status()).metrics['events_lost_total{full}'], 3)
  const lines = log.filter(({ msg }) => msg === 'push: events were lost') as unknown as { events: number }[]
  assert.deepEqual(
    lines.map(({ events }) => events),
    [1],
  )
})

test('a frozen Redis: an answer that never came is asked for again with the same ids', async t => {
  const redis = await startRedis(t)
  const { app } = await nodeOf(t, redis.url, { messages: ['a'], stream: { include: ['message'] } })
  const connection = await openConnection(app, '/ws?user=1')
  redis.freeze()
  t.after(() => redis.thaw())
  for (let n = 1; n <= 10; n++) connection.send('a', n)
  // The first attempt is given up, whether or not Redis will still carry it out.
  await until(async () => !(await app.push.status()).connected, 'the link is given up')
  redis.thaw()
  const events = await eventually(redis.admin, 10)
  assert.deepEqual(
    events.map(({ payload }) => payload),
    Array.from({ length: 10 }, (_, i) => i + 1),
  )
  await until(async () => (await app.push.status()).metrics['events_sent_total{stream}'] === 10, 'all are confirmed')
})

test('closing writes what waits, disconnects included; without Redis it ends in time and counts', async t => {
  const redis = await startRedis(t)
  const first = await nodeOf(t, redis.url, { stream: { include: ['disconnect'] } })
  await Promise.all(Array.from({ length: 20 }, () => openConnection(first.app, '/ws')))
  await within(first.app.close(), 'the end of an application')
  const events = await eventsIn(redis.admin)
  assert.deepEqual([events.length, events[0]!.code], [20, 1012])

  const second = await nodeOf(t, redis.url, { stream: { include: ['disconnect'] } }, { drain: { timeout: 200 } })
  await openConnection(second.app, '/ws')
  await redis.kill()
  await within(second.app.close(), 'the end of an application without Redis')
  assert.equal((await second.app.push.status()).metrics['events_lost_total{closed}'], 1)
})

test('a right that is missing is named, and what waits is written once it is granted', async t => {
  const redis = await startRedis(t)
  const grant = (...rights: string[]) => redis.admin.call('ACL', 'SETUSER', 'node', ...rights)
  await grant('on', '>pw', 'allkeys', 'allchannels', '+@all', '-xadd')
  const url = redis.url.replace('//', '//node:pw@')
  const { app, log } = await nodeOf(t, url, { stream: { include: ['connect'] } })
  await openConnection(app, '/ws')
  const problem = /Redis refuses XADD: its user lacks the right \+xadd, so events are not written/
  await until(async () => problem.test((await app.push.status()).problem ?? ''), 'the problem is named')
  assert.ok(log.some(({ msg }) => msg === 'push: events cannot be written to Redis'))
  await grant('+xadd')
  assert.deepEqual(kinds(await eventually(redis.admin, 1)), ['connect'])
})

test('rejected publications are told at a bounded rate, with the number of those that are left out', async t => {
  const redis = await startRedis(t)
  const { app } = await nodeOf(t, redis.url, { stream: { include: ['rejected'] } })
  await openConnection(app, '/ws?user=1')
  const publish = (count: number) =>
    Promise.all(Array.from({ length: count }, () => redis.admin.publish('push:user:1', 'junk')))
  await publish(500)
  let events: Told[] = []
  await until(async () => {
    await publish(1)
    events = await eventsIn(redis.admin)
    return events.some(({ omitted }) => Number(omitted) > 0)
  }, 'the number of those that were left out')
  assert.ok(events.length < 200, `${events.length}`)
})

test('in a Cluster each stream is at the master of its slot', async t => {
  const cluster = await startCluster(t)
  const rules = ['a', 'b', 'c', 'd'].map(type => ({ name: `events:${type}`, types: [type] }))
  const { app } = await nodeOf(
    t,
    { cluster: cluster.urls },
    { messages: ['*'], stream: { include: ['message'], rules } },
    { publishTimeout: PATIENCE },
  )
  const connection = await openConnection(app, '/ws?user=1')
  for (const [i, { types }] of rules.entries()) connection.send(types[0]!, i, i)
  for (const _ of rules) assert.equal((await connection.next()).type, 'reply')
  for (const [i, { name }] of rules.entries()) {
    const { admin } = await cluster.masterOf(`push:${name}`)
    assert.equal((await eventsIn(admin, `push:${name}`))[0]!.payload, i)
  }
})

test('a Redis that is killed again and again: every event of two nodes is there, each node in its order', async t => {
  const redis = await startRedis(t, { args: ['--appendonly', 'yes', '--appendfsync', 'always'] })
  const events = { messages: ['a'], stream: { include: ['message' as const] } }
  const nodes = [await nodeOf(t, redis.url, events), await nodeOf(t, redis.url, events)]
  const connections = await Promise.all(nodes.map(({ app }, i) => openConnection(app, `/ws?user=${i}`)))
  const areUp = async () => (await Promise.all(nodes.map(({ app }) => app.push.status()))).every(it => it.connected)
  let sent = 0
  const send = (count: number) => {
    for (const connection of connections) for (let n = 1; n <= count; n++) connection.send('a', sent + n)
    sent += count
  }
  for (let round = 0; round < 3; round++) {
    await until(areUp, 'both nodes are connected')
    // Some are on their way when Redis dies, some are sent while it is away.
    send(10)
    await redis.kill()
    send(10)
    await redis.start()
  }
  send(1)
  const told = await eventually(redis.admin, 2 * sent)
  assert.equal(told.length, 2 * sent)
  for (const user of ['0', '1']) {
    const payloads = told.filter(event => event.user === user).map(({ payload }) => payload)
    assert.deepEqual(
      payloads,
      Array.from({ length: sent }, (_, i) => i + 1),
    )
  }
  for (const { app } of nodes) assert.doesNotMatch(JSON.stringify((await app.push.status()).metrics), /events_lost/)
})
