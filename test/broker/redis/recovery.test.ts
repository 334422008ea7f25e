import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { HistoryPage } from '../../../src/broker/broker.ts'
import { Metrics } from '../../../src/broker/metrics.ts'
import { encodeFrame } from '../../../src/connection/frame.ts'
import { Segment } from '../../../src/connection/queue.ts'
import { Decoder } from '../../../src/delivery/decoder.ts'
import { Recovery } from '../../../src/delivery/recovery.ts'
import type { PushBridgeOptions } from '../../../src/index.ts'
import { errors, type PushError } from '../../../src/protocol/errors.ts'
import { encodePublication } from '../../../src/protocol/messages.ts'
import { type Position, timelineOf } from '../../../src/protocol/position.ts'
import type { PublishResult } from '../../../src/publish/publish.ts'
import { SchemaTable } from '../../../src/publish/schemas.ts'
import type { TestConnection, TestMessage } from '../../../src/testing.ts'
import { FaultProxy } from '../../chaos/proxy.ts'
import { buildPush, openConnection, type TestApp } from '../../helpers/app.ts'
import { setUp as fakeConnection } from '../../helpers/connection.ts'
import { type Cleanup, cleanups } from '../../helpers/processes.ts'
import { type RedisServer, startRedis } from '../../helpers/redis.ts'
import { connected } from '../../helpers/redis-node.ts'
import { PATIENCE, publishAhead, until, within } from '../../helpers/waiting.ts'
import { codeOf, type FakeSubscriber } from '../suite.ts'

const LONG = { timeout: 240_000 }
const R = 'channel:r'
const HISTORY = { 'channel:r*': { size: 5000, ttl: 600 } }

/** What was started last ends first: a node before its proxy, and both before Redis. */
function inReverse(t: TestContext): Cleanup {
  const hooks = cleanups()
  t.after(() => hooks.end())
  return hooks
}

interface Node extends TestApp {
  proxy: FaultProxy
}

async function startNode(t: Cleanup, redis: RedisServer, options: Partial<PushBridgeOptions> = {}): Promise<Node> {
  const proxy = await FaultProxy.start(redis.port)
  t.after(() => proxy.close())
  const app = await buildPush(t, { history: HISTORY, redis: `redis://127.0.0.1:${proxy.port}`, ...options })
  // On a slow machine it starts before the link is up: who connects then is told a gap.
  await until(async () => (await app.app.push.status()).connected, 'the node is connected')
  return { ...app, proxy }
}

/** A node whose links can be hurt, one that is well, and a client of the first that hears the topic. */
async function setUp(test: TestContext, options: Partial<PushBridgeOptions> = {}) {
  const t = inReverse(test)
  const redis = await startRedis(t)
  const [hurt, well] = [await startNode(t, redis, options), await startNode(t, redis)]
  return { redis, hurt, well, client: await openConnection(hurt.app, '/ws/r') }
}

const record = ({ app }: TestApp, n: unknown, more: object = {}) =>
  app.push.publish(R, { type: 'n', payload: n, ...more }) as Promise<Required<PublishResult>>

async function recordAll(node: TestApp, from: number, to: number): Promise<string[]> {
  const sent: Required<PublishResult>[] = []
  for (let n = from; n <= to; n++) sent.push(await record(node, n))
  return sent.map(({ id }) => id)
}

/** What comes until the message with `payload`, that included. */
async function readTo(client: TestConnection, payload: unknown): Promise<TestMessage[]> {
  const messages: TestMessage[] = []
  do messages.push(await client.next())
  while (!(messages.at(-1)!.type === 'n' && messages.at(-1)!.payload === payload))
  return messages
}

const numbers = (messages: readonly TestMessage[]) =>
  messages.filter(({ type }) => type === 'n').map(({ payload }) => payload)

const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i)

/** Gaps of the recorded topic, and how many messages had come before each. */
function gapsOf(messages: readonly TestMessage[]): { reason: string; after: number }[] {
  return messages.flatMap(({ type, payload }, i) => {
    const { topics, reason } = payload as { topics?: string[]; reason: string }
    return type === 'gap' && topics!.includes(R) ? [{ reason, after: numbers(messages.slice(0, i)).length }] : []
  })
}

const since = (id: string) => `since=${encodeURIComponent(JSON.stringify({ [R]: id }))}`

/** What the log says last of the link. */
function isUp({ log }: TestApp): boolean {
  const last = log.findLast(({ msg }) => msg.startsWith('push: the link to Redis'))
  return last === undefined || last.msg.endsWith('is up')
}

const isDown = (node: TestApp) => until(() => !isUp(node), 'the log says that the link is lost')
const isBack = (...nodes: TestApp[]) => until(() => nodes.every(isUp), 'the log says that the link is up')

async function cutOff(node: Node): Promise<void> {
  await isBack(node)
  node.proxy.isRefusing = true
  node.proxy.cut()
  await isDown(node)
}

for (const [how, hurt] of Object.entries({
  'is cut': async (node: Node, work: () => Promise<unknown>) => {
    await cutOff(node)
    await work()
    node.proxy.isRefusing = false
  },
  'is black': async (node: Node, work: () => Promise<unknown>) => {
    node.proxy.isHeld = true
    await work()
    await isDown(node)
    node.proxy.isHeld = false
  },
})) {
  test(`a link that ${how}: what was recorded is filled, and no gap is told of it`, LONG, async t => {
    const { hurt: node, well, client } = await setUp(t)
    await recordAll(well, 1, 3)
    await hurt(node, () => recordAll(well, 4, 20))
    await record(well, 21)
    const messages = await readTo(client, 21)
    assert.deepEqual(numbers(messages), range(1, 21))
    assert.deepEqual(gapsOf(messages), [])
  })
}

test('a topic on which something was bare has both: what was recorded, and a gap', LONG, async t => {
  const { redis, hurt, well, client } = await setUp(t)
  await redis.admin.publish(`push:${R}`, '{"type":"n","payload":"bare"}')
  await recordAll(well, 1, 2)
  // What is on its way when the link is cut is filled, and then the gap comes before it.
  assert.deepEqual(numbers(await readTo(client, 2)), ['bare', 1, 2])
  for (const round of [0, 1]) {
    await cutOff(hurt)
    await recordAll(well, 10 * round + 3, 10 * round + 6)
    hurt.proxy.isRefusing = false
    const messages = await readTo(client, 10 * round + 6)
    assert.deepEqual(numbers(messages), range(10 * round + 3, 10 * round + 6))
    assert.deepEqual(gapsOf(messages), [{ reason: 'broker_link', after: 0 }], `break ${round}`)
  }
})

test('CLIENT KILL of the subscriber under load: nothing is missing and nothing comes twice', LONG, async t => {
  const { redis, well, client } = await setUp(t)
  for (let n = 1; n <= 200; n++) {
    await record(well, n)
    if (n % 40 === 0) await redis.admin.call('CLIENT', 'KILL', 'TYPE', 'pubsub')
  }
  const messages = await readTo(client, 200)
  assert.deepEqual(numbers(messages), range(1, 200))
  assert.deepEqual(gapsOf(messages), [])
})

test('a node that Redis drops as a slow subscriber fills what it missed', LONG, async t => {
  // All of it comes at once, which is more than a client of this process may have waiting.
  const { redis, hurt, well, client } = await setUp(t, { limits: { buffer: 64 * 1024 * 1024 } })
  await redis.admin.config('SET', 'client-output-buffer-limit', 'pubsub 1mb 1mb 1')
  await record(well, 1)
  await readTo(client, 1)
  hurt.proxy.isHeld = true
  const pad = 'x'.repeat(50_000)
  for (let n = 2; n <= 300; n++) await well.app.push.publish(R, { type: 'n', payload: { n, pad } })
  hurt.proxy.isHeld = false
  await record(well, 301)
  const messages = await readTo(client, 301)
  const got = messages.filter(({ type }) => type === 'n').map(({ seq }) => seq)
  assert.deepEqual(got, range(2, 301))
  assert.deepEqual(gapsOf(messages), [])
})

test('FLUSHALL: a gap is told before anything else, and clients go on from there', LONG, async t => {
  const { redis, hurt, well, client } = await setUp(t)
  const [, , last] = await recordAll(well, 1, 3)
  await readTo(client, 3)
  await redis.admin.flushall()
  const gap = await client.next('gap')
  const { reason, positions } = gap.payload as {
    reason: string
    positions: Record<string, { id: string; seq: number }>
  }
  assert.deepEqual([reason, positions[R]!.seq], ['history_replaced', 0])
  assert.equal((await record(well, 4)).seq, 1)
  assert.equal((await client.next('n')).payload, 4)
  const old = await openConnection(hurt.app, `/ws/r?${since(last!)}`)
  assert.equal((old.welcome.topics as Record<string, { recovered: boolean }>)[R]!.recovered, false)
  const on = await openConnection(well.app, `/ws/r?${since(positions[R]!.id)}`)
  assert.equal((await on.next('n')).payload, 4)
})

test('a Redis that comes back with an older state is a gap, for who stayed and who returns', LONG, async t => {
  const { redis, hurt, well, client } = await setUp(t)
  await recordAll(well, 1, 5)
  await redis.admin.save()
  const ids = await recordAll(well, 6, 10)
  await readTo(client, 10)
  await redis.kill()
  await Promise.all([isDown(hurt), isDown(well)])
  await redis.start()
  await isBack(hurt, well)
  // More than was lost, so that numbers alone would look well.
  await recordAll(well, 11, 17)
  const messages = await readTo(client, 17)
  const gaps = gapsOf(messages)
  assert.ok(gaps.length >= 1 && gaps.every(({ after }) => after < 7), JSON.stringify(gaps))
  assert.equal(gaps[0]!.after, 0)
  assert.ok(gaps.some(({ reason }) => reason === 'history_replaced'))
  for (const id of ids) {
    const back = await openConnection(well.app, `/ws/r?${since(id)}`)
    assert.equal((back.welcome.topics as Record<string, { recovered: boolean }>)[R]!.recovered, false)
  }
})

test('what a Redis from the past says is told to nobody before it is known to be one', LONG, async t => {
  const redis = await startRedis(t)
  const { broker, link } = await connected(t, redis)
  const publish = async () => {
    const [sent] = await broker.publish([{ topic: R, envelope: '{"type":"n"}', history: { size: 10, ttl: 60 } }])
    return (sent as { position: Position }).position
  }
  await publish()
  await redis.admin.save()
  const { id } = await publish()
  const ticks = async () => Number(await redis.admin.get('{push:shard-0}:tick:n1'))
  const saved = await ticks()
  await until(async () => (await ticks()) > saved, 'a tick that was not saved')
  const lost = link(false)
  await redis.kill()
  await lost
  const starting = redis.start()
  const pages: HistoryPage[] = []
  const ask = () => broker.history(R, id, { count: 1, bytes: 1 }).then(page => pages.push(page), codeOf)
  // Without a pause, to have asked at whichever moment would be the wrong one.
  for (const end = performance.now() + PATIENCE; pages.length === 0; ) {
    assert.ok(performance.now() < end, 'no page of the history came')
    await Promise.all([ask(), ask(), new Promise(setImmediate)])
  }
  await starting
  await link(true)
  await ask()
  for (const { gap, head } of pages) {
    assert.deepEqual([gap, timelineOf(head.id) === timelineOf(id)], ['history_replaced', false])
  }
})

test('a Redis that refuses to write keeps nothing that is published bare from anybody', LONG, async t => {
  const redis = await startRedis(t)
  const { subscriber } = await connected(t, redis)
  await redis.admin.config('SET', 'min-replicas-to-write', '1')
  await redis.admin.call('CLIENT', 'KILL', 'TYPE', 'pubsub')
  assert.deepEqual(await subscriber.next(), { lost: 'broker_link' })
  await until(() => redis.admin.publish('push:channel:x', '{"type":"n"}'), 'a subscriber of channel:x')
  assert.equal(await subscriber.text(), '{"type":"n"}')
})

test('a broker that follows another one in the same process notices a rollback too', LONG, async t => {
  const redis = await startRedis(t)
  const tick = async () => Number(await redis.admin.get('{push:shard-0}:tick:n1'))
  const { broker } = await connected(t, redis)
  await until(tick, 'a tick')
  const before = await tick()
  await broker.close()
  await connected(t, redis)
  await until(async () => (await tick()) > before, `a tick after ${before}`)
})

test('an entry that a node must refuse is a gap at its place', LONG, async t => {
  const { redis, hurt, well, client } = await setUp(t)
  const { id } = await record(well, 1)
  const bad = '{"type":"n","payload":2,"except":["channel:nobody"]}'
  const [badId] = (await redis.admin.call('FCALL', 'push_publish', 1, `push:${R}`, bad, 10, 60)) as [string]
  await record(well, 3)
  const messages = await readTo(client, 3)
  assert.deepEqual(numbers(messages), [1, 3])
  assert.deepEqual(gapsOf(messages), [{ reason: 'rejected', after: 1 }])
  const { positions } = messages[1]!.payload as { positions: Record<string, unknown> }
  assert.deepEqual(positions, { [R]: { id: badId, seq: 2 } })
  const back = await openConnection(hurt.app, `/ws/r?${since(id)}`)
  const replayed = await readTo(back, 3)
  assert.deepEqual([numbers(replayed), gapsOf(replayed)], [[3], [{ reason: 'rejected', after: 0 }]])
})

test('a long history passes through a small buffer, whole, in pages', LONG, async context => {
  const t = inReverse(context)
  const redis = await startRedis(t)
  const node = await startNode(t, redis, { limits: { buffer: 16_384 } })
  const first = await record(node, 0)
  const pad = 'x'.repeat(300)
  for (let from = 1; from <= 3000; from += 500) {
    const batch = range(from, from + 499).map(n => ({ to: R, type: 'n', payload: { n, pad } }))
    await node.app.push.publish(batch)
  }
  const client = await openConnection(node.app, `/ws/r?${since(first.id)}`)
  for (let n = 1; n <= 3000; n++) {
    const message = await client.next()
    assert.deepEqual([message.type, message.seq], ['n', n + 1])
  }
  await record(node, 'live')
  assert.equal((await client.next()).payload, 'live')
})

test('what is published while a client returns comes once and in its place', LONG, async context => {
  const t = inReverse(context)
  const redis = await startRedis(t)
  const [node, well] = [await startNode(t, redis), await startNode(t, redis)]
  const start = await record(well, 0)
  let isOver = false
  let held = { id: start.id, seq: 0 }
  const ahead = { most: HISTORY['channel:r*'].size / 5, read: () => held.seq }
  const publishing = publishAhead(
    n => record(well, n),
    () => isOver,
    ahead,
  )
  node.proxy.delay = 20
  /** Redis has a second to confirm the topic: on a slow machine who returns may be told a gap, and returns again. */
  const comeBack = async (): Promise<TestConnection> => {
    const client = await openConnection(node.app, `/ws/r?${since(held.id)}`)
    if (client.welcome.topics[R]!.recovered !== undefined) return client
    await client.close()
    return comeBack()
  }
  const read = async (round: number) => {
    const client = await comeBack()
    const more = 1 + (round % 7) * 10
    for (let i = 0; i < more; i++) {
      const message = await client.next()
      assert.deepEqual([message.type, message.payload], ['n', held.seq + 1], `round ${round}`)
      held = { id: message.id!, seq: held.seq + 1 }
    }
    void client.close()
  }
  try {
    for (let round = 0; round < 30; round++) await read(round)
  } finally {
    isOver = true
    await publishing
  }
})

test('connections that return together share the pages they need', LONG, async context => {
  const t = inReverse(context)
  const redis = await startRedis(t)
  const node = await startNode(t, redis)
  const first = await record(node, 0)
  await node.app.push.publish(range(1, 900).map(n => ({ to: R, type: 'n', payload: n })))
  const calls = async () => Number(/cmdstat_fcall:calls=(\d+)/.exec(await redis.admin.info('commandstats'))![1])
  const before = await calls()
  const began = performance.now()
  const opening = range(1, 300).map(() => openConnection(node.app, `/ws/r?${since(first.id)}`))
  const clients = await Promise.all(opening)
  for (const client of clients) {
    for (let n = 1; n <= 900; n++) {
      const message = await client.next()
      assert.deepEqual([message.type, message.payload], ['n', n])
    }
  }
  const asked = (await calls()) - before
  // A page is kept for a second, and a tick is a call as well: slower machines ask more often.
  const most = 30 + (6 * (performance.now() - began)) / 1000
  assert.ok(asked < most, `${asked} calls for 300 connections that need the same 4 pages, wanted at most ${most}`)
})

test('a reply that is lost does not make a publication with a key come twice', LONG, async t => {
  const { redis, hurt, client } = await setUp(t, { publishTimeout: PATIENCE })
  await record(hurt, 1)
  const { dropped } = hurt.proxy.dropReply(reply => /\.2\.\d+-\d+/.test(reply.toString()) && !reply.includes('message'))
  const { seq } = await record(hurt, 2, { idempotencyKey: 'k' })
  await within(dropped, 'a reply that is lost')
  assert.equal(seq, 2)
  await record(hurt, 3)
  assert.deepEqual(numbers(await readTo(client, 3)), [1, 2, 3])
  assert.equal(await redis.admin.xlen(`{push:${R}}:history`), 3)
})

test(
  'without Redis a publication fails in time, and the code says whether it may have been recorded',
  LONG,
  async t => {
    const { hurt } = await setUp(t, { publishTimeout: 500 })
    /** Long before the default of 2 s. */
    const codeInTime = async (more: object) => {
      const failing = record(hurt, 1, more).catch((error: PushError) => error.code)
      return within(failing, 'the failure of a publication', 1500)
    }
    await cutOff(hurt)
    for (const more of [{}, { idempotencyKey: 'k' }]) {
      assert.equal(await codeInTime(more), 'PUSH_ERR_BROKER_AWAY')
    }
    hurt.proxy.isRefusing = false
    await isBack(hurt)
    hurt.proxy.isHeld = true
    for (const more of [{}, { idempotencyKey: 'k' }]) {
      assert.match(String(await codeInTime(more)), /^PUSH_ERR_(UNCONFIRMED|BROKER_AWAY)$/)
    }
    hurt.proxy.isHeld = false
  },
)

/** Resolves when each of these nodes has told Redis another `times` that it is there, which it does every second. */
async function ticked(redis: RedisServer, nodes: readonly string[], times: number): Promise<void> {
  for (const node of nodes) {
    for (let n = 0; n < times; n++) {
      const tick = () => redis.admin.get(`{push:shard-0}:tick:${node}`)
      const before = await tick()
      await until(async () => (await tick()) !== before, `the ticks of ${node}`)
    }
  }
}

test('several nodes that notice the same loss tell it once', LONG, async t => {
  const redis = await startRedis(t)
  const subscribers: FakeSubscriber[] = []
  const names = ['n1', 'n2', 'n3', 'n4']
  for (const node of names) {
    const { broker, subscriber } = await connected(t, redis, { node })
    await subscriber.join('channel:recorded')
    subscribers.push(subscriber)
    if (node !== 'n4') continue
    const history = { size: 10, ttl: 60 }
    const [sent] = await broker.publish([{ topic: 'channel:recorded', envelope: '{"type":"n"}', history }])
    assert.match(codeOf(sent), /^sent/)
  }
  await ticked(redis, names, 1)
  for (const subscriber of subscribers) subscriber.clear()
  const lost: string[][] = subscribers.map(() => [])
  subscribers.forEach((subscriber, i) => {
    subscriber.lost = reason => void lost[i]!.push(reason)
  })
  await redis.admin.flushall()
  await until(
    () => lost.every(reasons => reasons.length > 0),
    () => `all are told: ${JSON.stringify(lost)}`,
  )
  // And not again, when the others have told it.
  await ticked(redis, names, 2)
  assert.deepEqual(
    lost,
    subscribers.map(() => ['history_replaced']),
  )
})

test('a publication with a key that Redis refuses is not tried again thousands of times', {
  ...LONG,
}, async t => {
  const redis = await startRedis(t)
  const { broker } = await connected(t, redis, { publishTimeout: 1000 })
  const item = { topic: 'channel:r' as const, envelope: '{"type":"n"}', history: { size: 1, ttl: 1 } }
  await broker.publish([item])
  await redis.admin.config('SET', 'maxmemory', '1')
  const calls = async () =>
    Number(/cmdstat_fcall:calls=(\d+),.*?rejected_calls=(\d+)/.exec(await redis.admin.info('commandstats'))?.[2] ?? 0)
  const before = await calls()
  const [sent] = await broker.publish([{ ...item, idempotencyKey: 'k' }])
  assert.match(codeOf(sent), /^PUSH_ERR_/)
  const more = (await calls()) - before
  assert.ok(more < 20, `${more} calls within a second`)
})

test('a node whose Redis is full gets over a break', LONG, async t => {
  const { redis, hurt, client } = await setUp(t)
  await record(hurt, 1)
  await redis.admin.config('SET', 'maxmemory', '1')
  await cutOff(hurt)
  hurt.proxy.isRefusing = false
  await isBack(hurt)
  await redis.admin.publish(`push:${R}`, '{"type":"n","payload":2}')
  assert.deepEqual(numbers(await readTo(client, 2)), [1, 2])
})

test('a client whose first question fails is not left without live messages', LONG, async t => {
  const metrics = new Metrics()
  const { connection } = fakeConnection()
  const head = { id: 't.1.1-0', seq: 1 }
  let asked = 0
  const recovery = new Recovery({
    broker: {
      shardOf: () => undefined,
      async subscribe() {
        if (asked++ === 0) throw new errors.BROKER_AWAY('not yet')
        return new Map([[R, head]])
      },
      history: async () => ({ head, entries: [], isComplete: true }),
    },
    registry: { holds: () => true },
    decoder: new Decoder(new SchemaTable({}), 1000, error => assert.fail(String(error))),
    metrics,
    budget: 1000,
  })
  connection.open('{}')
  recovery.withhold(connection, R)
  // The pause before it is asked again keeps no process alive.
  const alive = setInterval(() => {}, 1000)
  t.after(() => clearInterval(alive))
  const start = await recovery.start(connection, [R], new Map([[R, head.id]])).returning.get(R)
  await start!.replay()
  const frame = encodeFrame(encodePublication(R, 'n', '2', { id: 't.2.2-0', seq: 2 }))
  const admitted = connection.barriers!.admit(new Segment(frame, R, { position: { id: 't.2.2-0', seq: 2 } }))
  assert.ok(admitted, 'live messages of the topic are withheld for ever')
  assert.equal(asked, 2)
})
