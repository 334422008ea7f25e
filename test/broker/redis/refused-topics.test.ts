import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { RefusedTopics } from '../../../src/broker/redis/refused-topics.ts'
import type { Topic } from '../../../src/protocol/topic.ts'
import { buildPush, openConnection } from '../../helpers/app.ts'
import { type RedisServer, startRedis } from '../../helpers/redis.ts'
import { connect } from '../../helpers/redis-node.ts'
import { Inbox, once, until } from '../../helpers/waiting.ts'
import { envelope, FakeSubscriber } from '../suite.ts'

const SLOW = { timeout: 120_000 }

const CHANNELS = ['&push:node*', '&push:all', '&push:connection:*', '&push:channel:*']

/** The user `node` of a server may subscribe to what `rules` say, and all else. */
async function allow(server: RedisServer, ...rules: string[]): Promise<void> {
  await server.admin.call('ACL', 'SETUSER', 'node', 'on', '>pw', '~*', '+@all', 'resetchannels', ...rules)
}

async function startLimited(t: TestContext, ...rules: string[]) {
  const server = await startRedis(t)
  await allow(server, ...rules)
  return { server, url: server.url.replace('//', '//node:pw@') }
}

async function limitedNode(t: TestContext) {
  const { server, url } = await startLimited(t, ...CHANNELS)
  const node = connect(t, { ...server, url })
  await node.link(true)
  return { server, ...node, subscriber: new FakeSubscriber(node.broker) }
}

async function calls(server: RedisServer): Promise<{ made: number; refused: number }> {
  const stats = await server.admin.info('commandstats')
  const [, made, refused] = /cmdstat_subscribe:calls=(\d+).*rejected_calls=(\d+)/.exec(stats)!
  return { made: Number(made), refused: Number(refused) }
}

test('redis: of a thousand topics all are subscribed but the one that Redis refuses', SLOW, async t => {
  const { server, broker, refusals, changes } = await limitedNode(t)
  const before = await calls(server)
  const began = performance.now()
  const topics: Topic[] = Array.from({ length: 999 }, (_, n): Topic => `channel:${n}`)
  const refused = broker.subscribe(['user:1'])
  await broker.subscribe(topics)
  const { made, refused: rejected } = await calls(server)
  // By halves: ten times one of two, in any order. The refused one is asked for again every other second.
  const most = 23 + (performance.now() - began) / 2000
  assert.ok(made - before.made + rejected - before.refused <= most, `${made} and ${rejected} refused`)
  assert.equal(((await server.admin.pubsub('CHANNELS', 'push:channel:*')) as string[]).length, 999)
  assert.deepEqual([broker.connected, broker.refused], [true, 1])
  assert.deepEqual(
    refusals.map(({ topics, example, error }) => [topics, example, error.message.slice(0, 6)]),
    [[1, 'user:1', 'NOPERM']],
  )
  await allow(server, '&push:*')
  await refused
  assert.deepEqual([broker.refused, changes.length, refusals.length], [0, 1, 1])
})

test('redis: topics that are asked for together with a refused one are confirmed before it', SLOW, async t => {
  const { server, broker } = await limitedNode(t)
  const told: [readonly Topic[], Topic[]][] = []
  const early = new Inbox<void>('what is confirmed before the refused topic')
  const asked = broker.subscribe(['channel:a', 'user:1', 'all'], (topics, positions) => {
    told.push([topics, [...positions.keys()]])
    early.put()
  })
  await early.take()
  assert.deepEqual(told, [
    [
      ['channel:a', 'all'],
      ['channel:a', 'all'],
    ],
  ])
  // It is refused already.
  const again = broker.subscribe(['user:1', 'channel:b'], (topics, positions) => {
    told.push([topics, [...positions.keys()]])
    early.put()
  })
  await early.take()
  assert.deepEqual(told[1], [['channel:b'], ['channel:b']])
  await allow(server, '&push:*')
  assert.deepEqual([...(await asked).keys()], ['channel:a', 'user:1', 'all'])
  assert.deepEqual([...(await again).keys()], ['user:1', 'channel:b'])
  assert.equal(told.length, 2)
})

test('redis: when a topic is granted, the gap comes before its first message', SLOW, async t => {
  const { server, broker, subscriber, clients } = await limitedNode(t)
  const joining = subscriber.join('user:1')
  await until(() => broker.refused === 1, 'the topic is refused')
  const { stream } = clients.subscriber
  // So that the answer and a message are read at once: what is not taken waits in the stream.
  stream.pause()
  await allow(server, '&push:*')
  const large = envelope('x'.repeat(1000))
  const isGranted = async () => (await server.admin.publish('push:user:1', large)) === 1
  await until(isGranted, 'Redis has granted the topic')
  await until(() => stream.readableLength > large.length, 'the message is in the stream')
  stream.resume()
  await joining
  assert.deepEqual(await subscriber.next(), { lost: 'broker_link' })
  // What came before the gap is part of it.
  await server.admin.publish('push:user:1', envelope(2))
  assert.deepEqual(await subscriber.next(), { topic: 'user:1', text: envelope(2) })
})

test('redis: a recorded topic that was refused for a while is filled from its history', SLOW, async t => {
  const { server, broker, subscriber, link, clients } = await limitedNode(t)
  const history = { size: 100, ttl: 60 }
  const record = (n: number) => broker.publish([{ topic: 'channel:recorded', envelope: envelope(n), history }])
  await subscriber.join('channel:recorded')
  await record(1)
  assert.equal(await subscriber.text(), envelope(1))
  // Redis cuts off who holds what is not granted any more.
  const isCut = once(clients.subscriber, 'close')
  await allow(server, '&push:node*', '&push:all')
  await isCut
  await link(true)
  assert.equal(broker.refused, 1)
  // Publishing takes the right as well.
  await server.admin.call('FCALL', 'push_publish', 1, 'push:channel:recorded', envelope(2), 100, 60)
  await allow(server, ...CHANNELS)
  assert.deepEqual(await subscriber.next(), { topic: 'channel:recorded', text: envelope(2) })
  await until(() => broker.refused === 0, 'the topic is granted')
  await record(3)
  assert.deepEqual(await subscriber.next(), { topic: 'channel:recorded', text: envelope(3) })
})

test('redis: refused for good, a topic is asked for every other second and costs the link nothing', SLOW, async t => {
  const { server, broker, changes, clients } = await limitedNode(t)
  const { stream } = clients.subscriber
  const refused = Array.from({ length: 3 }, (_, n) => broker.subscribe([`user:${n}`]))
  await until(() => broker.refused === 3, 'three topics are refused')
  const before = (await calls(server)).refused
  await until(async () => (await calls(server)).refused >= before + 6, 'each was asked for twice more')
  assert.equal(clients.subscriber.stream, stream)
  assert.equal(changes.length, 1)
  for (let n = 0; n < 3; n++) broker.unsubscribe(`user:${n}`)
  await Promise.all(refused)
  assert.equal(broker.refused, 0)
})

test('redis: a node whose own channels are refused is not connected, and is when they are granted', SLOW, async t => {
  const { server, url } = await startLimited(t, '&push:all')
  const { link, changes, broker } = connect(t, { ...server, url })
  await until(() => changes.length > 0, 'the link is said to be down')
  assert.match(changes[0]!.error!.message, /NOPERM/)
  assert.equal(broker.connected, false)
  await allow(server, ...CHANNELS)
  await link(true)
})

test('a connection with a refused topic is told, and the log names the right that is missing', SLOW, async t => {
  const { server, url } = await startLimited(t, ...CHANNELS)
  const { app, log } = await buildPush(t, { redis: url })
  const connection = await openConnection(app, '/ws/a?user=42')
  const gap = (topics: string[], reason: string) => ({ topics, reason })
  const { 'user:42': refused, all, 'channel:a': granted } = connection.welcome.topics
  assert.deepEqual([refused, typeof all!.id, typeof granted!.id], [{}, 'string', 'string'])
  assert.deepEqual((await connection.next('gap')).payload, gap(['user:42'], 'broker_away'))
  const { connected, refusedTopics } = await app.push.status()
  assert.deepEqual([connected, refusedTopics], [true, 1])
  const line = 'push: Redis refuses user:42: its user lacks the right &push:user:42'
  assert.deepEqual(
    log.filter(({ msg }) => msg.includes('refuses')).map(({ msg }) => msg),
    [line],
  )
  await app.push.publish('channel:a', { type: 'a' })
  await allow(server, '&push:*')
  assert.deepEqual((await connection.next('gap')).payload, gap(['user:42'], 'broker_link'))
  await app.push.publish('user:42', { type: 'granted' })
  assert.equal((await connection.next('granted')).topic, 'user:42')
})

test('thousands of refused topics are asked for a bounded number at a time, and all at once when one is granted', async t => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const rounds: number[] = []
  let isGranting = false
  const told: number[] = []
  const refusals = new RefusedTopics({
    told: ({ topics }) => told.push(topics),
    silent: () => assert.fail('every attempt was answered'),
    async retry(topics) {
      rounds.push(topics.length)
      for (const topic of topics) {
        if (isGranting) refusals.delete(topic)
        else refusals.add(topic, new Error('NOPERM'))
      }
    },
  })
  t.after(() => refusals.clear())
  const topics = Array.from({ length: 1200 }, (_, n): Topic => `user:${n}`)
  for (const topic of topics) refusals.add(topic, new Error('NOPERM'))
  refusals.tell(0)
  for (let n = 0; n < 3; n++) {
    t.mock.timers.tick(2000)
    await setImmediate()
  }
  assert.deepEqual(rounds, [500, 500, 500])
  isGranting = true
  t.mock.timers.tick(2000)
  await setImmediate()
  for (let n = 0; n < 3; n++) {
    t.mock.timers.tick(1)
    await setImmediate()
  }
  assert.deepEqual(rounds.slice(3), [500, 500, 200])
  assert.deepEqual([refusals.size, told], [0, [1200]])
})

test('an attempt that gets no answer does not keep a topic refused for ever', async t => {
  let attempts = 0
  let silences = 0
  const refusals = new RefusedTopics({
    told: () => {},
    silent: () => void silences++,
    retry: () => {
      attempts++
      return new Promise(() => {})
    },
  })
  t.after(() => refusals.clear())
  refusals.add('user:1', new Error('MOVED 1 127.0.0.1:1'))
  await until(() => silences === 1 && attempts === 2, 'it is said, and asked for again')
})
