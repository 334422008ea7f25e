import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { PushBridgeOptions } from '../../src/index.ts'
import type { TopicState } from '../../src/protocol/messages.ts'
import type { PublishResult } from '../../src/publish/publish.ts'
import { buildPush, openConnection, type TestApp } from '../helpers/app.ts'
import { startRedis } from '../helpers/redis.ts'
import { PATIENCE } from '../helpers/waiting.ts'

const HISTORY = {
  'channel:long': { size: 5000, ttl: 60 },
  'channel:r*': { size: 10, ttl: 60 },
  'user:*': { size: 10, ttl: 60 },
}

const allow = [
  'channel:*',
  { topics: ['channel:r*', 'channel:long', 'user:7'], actions: ['subscribe', 'history'] as const },
]

type MakeApp = (t: TestContext, options?: Partial<PushBridgeOptions>) => Promise<TestApp>

const onMemory: MakeApp = (t, options) =>
  buildPush(t, {
    history: HISTORY,
    authenticate: () => ({ user: '7', allow }),
    publishTimeout: PATIENCE,
    ...options,
  })
const onRedis: MakeApp = async (t, options) => {
  const redis = await startRedis(t)
  return onMemory(t, { redis: redis.url, ...options })
}

const record = ({ app }: TestApp, topic: string, n: number) =>
  app.push.publish(topic, { type: 'n', payload: n }) as Promise<Required<PublishResult>>

for (const [name, make] of Object.entries({ memory: onMemory, redis: onRedis })) {
  test(`${name}: a new device gets the newest messages, in order, and then live ones`, async t => {
    const node = await make(t)
    const client = await openConnection(node.app, '/ws')
    const sent = []
    for (let n = 1; n <= 7; n++) sent.push(await record(node, 'channel:r', n))
    client.send('subscribe', { topic: 'channel:r', last: 3 }, 1)
    const { payload } = await client.next('subscribed')
    assert.deepEqual(payload, { topic: 'channel:r', id: sent[6]!.id, seq: 7 })
    await record(node, 'channel:r', 8)
    for (const n of [5, 6, 7, 8]) {
      const message = await client.next()
      assert.deepEqual([message.payload, message.seq, message.topic], [n, n, 'channel:r'])
    }
  })

  test(`${name}: fewer, when fewer are kept, and none of a topic without any`, async t => {
    const node = await make(t)
    const client = await openConnection(node.app, '/ws')
    client.send('subscribe', { topic: 'channel:r-empty', last: 3 }, 1)
    const empty = (await client.next('subscribed')).payload as TopicState
    assert.deepEqual([empty.seq, empty.recovered], [0, undefined])
    await record(node, 'channel:r-empty', 1)
    assert.equal((await client.next('n')).payload, 1)
    for (let n = 1; n <= 12; n++) await record(node, 'channel:r', n)
    client.send('subscribe', { topic: 'channel:r', last: 100 }, 2)
    await client.next('subscribed')
    for (let n = 3; n <= 12; n++) assert.equal((await client.next()).payload, n)
    await record(node, 'channel:r', 13)
    assert.equal((await client.next()).payload, 13)
  })

  test(`${name}: a topic that the connection has already begins anew with the newest`, async t => {
    const node = await make(t)
    for (let n = 1; n <= 4; n++) await record(node, 'user:7', n)
    const client = await openConnection(node.app, '/ws')
    client.send('subscribe', { topic: 'user:7', last: 2 }, 1)
    const { id, seq } = (await client.next('subscribed')).payload as TopicState
    assert.deepEqual([id, seq], [(client.welcome.topics as Record<string, TopicState>)['user:7']!.id, 4])
    for (const n of [3, 4]) assert.equal((await client.next()).payload, n)
    await record(node, 'user:7', 5)
    assert.equal((await client.next()).payload, 5)
  })

  test(`${name}: while others publish nothing is missing and nothing comes twice`, async t => {
    const node = await make(t)
    const clients = await Promise.all(Array.from({ length: 10 }, () => openConnection(node.app, '/ws')))
    const sent: Promise<unknown>[] = []
    for (const [i, client] of clients.entries()) {
      for (let n = 1; n <= 100; n++) sent.push(record(node, 'channel:long', i * 100 + n))
      client.send('subscribe', { topic: 'channel:long', last: 1 + i * 11 }, 1)
      await new Promise(setImmediate)
    }
    await Promise.all(sent)
    await record(node, 'channel:long', 1001)
    for (const client of clients) {
      const { seq } = (await client.next('subscribed')).payload as TopicState
      const first = (await client.next('n')).payload as number
      assert.ok(first <= seq! + 1, `${first} after ${seq}`)
      for (let n = first + 1; n <= 1001; n++) assert.equal((await client.next('n')).payload, n)
    }
  })

  test(`${name}: many that come at once all get them`, async t => {
    const node = await make(t)
    for (let n = 1; n <= 10; n++) await record(node, 'channel:r', n)
    const clients = await Promise.all(Array.from({ length: 20 }, () => openConnection(node.app, '/ws')))
    for (const client of clients) client.send('subscribe', { topic: 'channel:r', last: 5 }, 1)
    await Promise.all(
      clients.map(async client => {
        await client.next('subscribed')
        for (let n = 6; n <= 10; n++) assert.equal((await client.next()).payload, n)
      }),
    )
    await record(node, 'channel:r', 11)
    for (const client of clients) assert.equal((await client.next()).payload, 11)
  })

  test(`${name}: with since, the newest come only after the gap of what is lost`, async t => {
    const node = await make(t)
    const sent = []
    for (let n = 1; n <= 14; n++) sent.push(await record(node, 'channel:r', n))
    const client = await openConnection(node.app, '/ws')
    client.send('subscribe', { topic: 'channel:r', since: sent[11]!.id, last: 5 }, 1)
    assert.equal(((await client.next('subscribed')).payload as TopicState).recovered, true)
    for (const n of [13, 14]) assert.equal((await client.next()).payload, n)
    const late = await openConnection(node.app, '/ws')
    late.send('subscribe', { topic: 'channel:r', since: sent[0]!.id, last: 2 }, 1)
    const { recovered, seq } = (await late.next()).payload as TopicState
    assert.deepEqual([recovered, seq], [false, 14])
    assert.deepEqual((await late.next()).payload, { topics: ['channel:r'], reason: 'history_trimmed' })
    for (const n of [13, 14]) assert.equal((await late.next()).payload, n)
    await record(node, 'channel:r', 15)
    assert.equal((await late.next()).payload, 15)
  })

  test(`${name}: large messages come in pages, and those that are for others not at all`, async t => {
    const node = await make(t, { limits: { buffer: 40_000 } })
    const pad = 'x'.repeat(9000)
    for (let n = 1; n <= 9; n++) {
      const except = n === 6 ? { except: 'user:7' } : {}
      await node.app.push.publish('channel:r', { type: 'n', payload: { n, pad }, ...except })
    }
    const client = await openConnection(node.app, '/ws')
    client.send('subscribe', { topic: 'channel:r', last: 8 }, 1)
    await client.next('subscribed')
    for (const n of [2, 3, 4, 5, 7, 8, 9]) assert.equal(((await client.next()).payload as { n: number }).n, n)
  })
}

test('the newest messages need the action history, whoever has the topic', async t => {
  const node = await onMemory(t)
  await record(node, 'channel:r', 1)
  const client = await openConnection(node.app, '/ws')
  client.send('subscribe', { topic: 'channel:other', last: 1 }, 1)
  const { code, message } = (await client.next('error')).payload as { code: string; message: string }
  assert.equal(code, 'PUSH_ERR_FORBIDDEN')
  assert.match(message, /grants subscribe on channel:other, not history/)
  await node.app.push.publish('channel:other', { type: 'n' })
  client.send('subscribe', { topic: 'all', last: 1 }, 2)
  assert.equal((await client.next()).ref, 2)
  const asked: unknown[] = []
  const strict = await onMemory(t, {
    authorize(_connection, topic, { action, since }) {
      asked.push([topic, action, since])
      return action === 'history' ? ['history'] : true
    },
  })
  const other = await openConnection(strict.app, '/ws')
  other.send('subscribe', { topic: 'channel:r', last: 1, since: 'x' }, 1)
  await other.next('subscribed')
  assert.deepEqual(asked, [
    ['channel:r', 'subscribe', 'x'],
    ['channel:r', 'history', 'x'],
  ])
})

test('last is a number from 1 to 100, and nothing else leads into the history', async t => {
  const node = await onMemory(t)
  const client = await openConnection(node.app, '/ws')
  for (const last of [0, -1, 101, 1.5, '3', null, [], {}]) {
    client.send('subscribe', { topic: 'channel:r', last }, 1)
    const { code, message } = (await client.next('error')).payload as { code: string; message: string }
    assert.deepEqual([code, message], ['PUSH_ERR_BAD_MESSAGE', 'payload.last is not a whole number from 1 to 100'])
  }
  for (let n = 1; n <= 3; n++) await record(node, 'channel:r', n)
  // What stands in the place of an id inside the node.
  client.send('subscribe', { topic: 'channel:r', since: '-2' }, 2)
  assert.equal(((await client.next('subscribed')).payload as TopicState).recovered, false)
  assert.deepEqual((await client.next()).payload, { topics: ['channel:r'], reason: 'unknown_id' })
  const url = `/ws/r?since=${encodeURIComponent('{"channel:r":"-2"}')}`
  const other = await openConnection(node.app, url)
  assert.equal((other.welcome.topics as Record<string, TopicState>)['channel:r']!.recovered, false)
  assert.equal((await other.next()).type, 'gap')
  await record(node, 'channel:r', 4)
  assert.equal((await other.next()).payload, 4)
})

test('a history that cannot be read is a gap, and live messages go on', async t => {
  const redis = await startRedis(t)
  const node = await onMemory(t, { redis: redis.url })
  await record(node, 'channel:r', 1)
  await redis.admin.call('ACL', 'SETUSER', 'default', '-xrevrange')
  const client = await openConnection(node.app, '/ws')
  client.send('subscribe', { topic: 'channel:r', last: 1 }, 1)
  await client.next('subscribed')
  assert.deepEqual((await client.next()).payload, { topics: ['channel:r'], reason: 'broker_away' })
  await record(node, 'channel:r', 2)
  assert.equal((await client.next()).payload, 2)
  assert.match(String((await node.app.push.status()).problem), /push_newest: its user lacks the right \+xrevrange/)
})
