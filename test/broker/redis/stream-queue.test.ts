import assert from 'node:assert/strict'
import { after, before, type TestContext, test } from 'node:test'
import { acquireBroker } from '../../../src/broker/redis/pool.ts'
import type { QueuedMessage, StreamQueue } from '../../../src/broker/stream-queue.ts'
import { cleanups } from '../../helpers/processes.ts'
import { type RedisServer, startRedis } from '../../helpers/redis.ts'
import { within } from '../../helpers/waiting.ts'

const HOUR = 60 * 60 * 1000
const SILENT = { change() {}, lagging() {}, refused() {}, blind() {}, lacks() {} }

const all = cleanups()
let redis: RedisServer
let tests = 0

before(async () => {
  redis = await startRedis(all)
})
after(() => all.end())

/** Two nodes of one group, which wait for an hour before they take what the other has. */
async function twoQueues(t: TestContext, options: { trim?: boolean } = {}) {
  const prefix = `q${++tests}:`
  const settings = { node: 'n', prefix, publishTimeout: 2000, noteRejected: false, maxBytes: 1000 }
  const { broker, release } = acquireBroker(redis.url, settings, SILENT)
  t.after(release)
  await within(broker.whenLive, 'the link to Redis')
  const made: boolean[] = []
  const lost: string[] = []
  const open = () =>
    broker.openStreamQueue!({
      stream: 'ingress',
      group: 'bridge',
      claimAfter: HOUR,
      deadLetters: 10,
      trim: options.trim ?? true,
      created: isFirst => void made.push(isFirst),
      lost: ids => void lost.push(...ids),
    })
  const [one, other] = [open(), open()]
  t.after(() => Promise.all([one.close(), other.close()]))
  await one.tend()
  const key = `${prefix}ingress`
  const add = async (...bodies: string[]) => {
    const ids: string[] = []
    for (const body of bodies) ids.push((await redis.admin.xadd(key, '*', 'body', body))!)
    return ids
  }
  /** As if the node had been silent for so long. */
  const age = async (ids: string[], consumer: string, idle: number) => {
    await redis.admin.xclaim(key, 'bridge', consumer, 0, ...ids, 'IDLE', idle, 'JUSTID')
  }
  const pending = async () =>
    ((await redis.admin.xpending(key, 'bridge', '-', '+', 100)) as [string, string, number, number][]).map(
      ([id, consumer, , tries]) => ({ id, consumer, tries }),
    )
  return { one, other, open, key, made, lost, add, age, pending }
}

const read = (queue: StreamQueue, count: number) => within(queue.read(count), 'messages')
const shown = (messages: readonly QueuedMessage[]) => messages.map(({ body, tries }) => [String(body), tries])

test('the group is made once, from the beginning of the stream', async t => {
  const { one, other, made, add } = await twoQueues(t)
  await add('a', 'b', 'c')
  assert.deepEqual(shown(await read(one, 2)), [
    ['a', 1],
    ['b', 1],
  ])
  assert.deepEqual(shown(await read(other, 2)), [['c', 1]])
  assert.deepEqual(made, [true])
})

test('a read that waits holds up nothing else, and ends when a message comes', async t => {
  const { one, add } = await twoQueues(t)
  await one.acknowledge([])
  const reading = read(one, 1)
  await add('a')
  const got = await reading
  assert.ok(got.length <= 1)
  assert.deepEqual(shown(got.length === 1 ? got : await read(one, 1)), [['a', 1]])
})

test('what a node had that says nothing any more is taken by another, and counted', async t => {
  const { one, other, add, age, pending } = await twoQueues(t)
  const [a, b] = (await add('a', 'b')) as [string, string]
  await read(one, 2)
  assert.deepEqual(await other.claim(10), [])
  const { consumer } = (await pending())[0]!
  await age([a, b], consumer, 2 * HOUR)
  // A sign of life for one of them.
  assert.deepEqual(await one.keep([a]), new Set([a]))
  assert.deepEqual(shown(await other.claim(10)), [['b', 2]])
  assert.deepEqual(await one.keep([a, b]), new Set([a]))
  assert.deepEqual(
    (await pending()).map(({ id, tries }) => [id, tries]),
    [
      [a, 1],
      [b, 2],
    ],
  )
})

test('a sign of life does not take back what another node has, nor what was acknowledged', async t => {
  const { one, other, add, age, pending } = await twoQueues(t)
  const [a, b] = (await add('a', 'b')) as [string, string]
  await read(one, 2)
  const { consumer } = (await pending())[0]!
  await age([a, b], consumer, 2 * HOUR)
  await other.claim(1)
  await one.acknowledge([b])
  assert.deepEqual(await one.keep([a, b]), new Set())
  assert.notEqual((await pending())[0]!.consumer, consumer)
})

test('what was removed from the stream while a node had it is told once, and given to nobody', async t => {
  const { one, other, key, lost, add, age, pending } = await twoQueues(t)
  const [a, b, c] = (await add('a', 'b', 'c')) as [string, string, string]
  await read(one, 3)
  const { consumer } = (await pending())[0]!
  await age([a, b, c], consumer, 2 * HOUR)
  await redis.admin.xdel(key, a, c)
  assert.deepEqual(shown(await other.claim(10)), [['b', 2]])
  assert.deepEqual(lost, [a, c])
  assert.deepEqual(
    (await pending()).map(({ id }) => id),
    [b],
  )
  assert.deepEqual(shown(await other.claim(10, 'all')), [['b', 3]])
  assert.deepEqual(lost, [a, c])
})

test('a node goes on with what is removed from the stream while it is at work on it', async t => {
  const { one, other, key, lost, add } = await twoQueues(t)
  const [a, b, c] = (await add('a', 'b', 'c')) as [string, string, string]
  await read(one, 3)
  await redis.admin.xdel(key, a, b, c)
  await one.excuse([c])
  for (let sign = 0; sign < 3; sign++) assert.deepEqual(await one.keep([a, b, c]), new Set([a, b, c]))
  await one.noteTries(b, 2)
  await one.acknowledge([a])
  await one.bury({ id: b, body: Buffer.from('b'), tries: 2 }, { code: 'C', message: 'why', tries: 2 })
  assert.deepEqual(await one.keep([a, b, c]), new Set([c]))
  assert.deepEqual(lost, [])
  // Nobody can go on with it: the node itself says so, or whoever would get it next.
  await one.close()
  assert.deepEqual(await other.claim(10), [])
  assert.deepEqual(lost, [c])
})

test('a leader that is one no longer does not go on with what was removed', async t => {
  const { one, other, key, lost, add } = await twoQueues(t)
  const [a] = (await add('a')) as [string]
  assert.equal(await one.lead(), 'new')
  await read(one, 1)
  await redis.admin.xdel(key, a)
  assert.deepEqual(await one.keep([a]), new Set([a]))
  await redis.admin.del(`${key}:lead`)
  assert.equal(await other.lead(), 'new')
  assert.equal(await one.lead(), 'no')
  assert.deepEqual(await other.claim(10, 'all'), [])
  assert.deepEqual(lost, [a])
})

test('more than Redis looks at in one step is claimed in several', async t => {
  const { one, other, add } = await twoQueues(t)
  await add(...Array.from({ length: 60 }, (_, i) => `${i}`))
  await read(one, 60)
  await one.close()
  const first = await other.claim(25)
  const second = await other.claim(100)
  assert.deepEqual([first.length, second.length], [25, 35])
  assert.deepEqual(
    [...first, ...second].map(({ body }) => Number(String(body))),
    [...Array(60).keys()],
  )
})

test('a node that closes lets others have at once what it did not finish, and is not counted', async t => {
  const { one, other, add } = await twoQueues(t)
  const [a, b] = (await add('a', 'b', 'c')) as [string, string]
  await read(one, 3)
  await one.acknowledge([a])
  await one.noteTries(b, 4)
  await one.close()
  assert.deepEqual(shown(await other.claim(10)), [
    ['b', 4],
    ['c', 1],
  ])
  await assert.rejects(one.read(1), { code: 'PUSH_ERR_CLOSED' })
})

test('any number of orderly restarts is no try', async t => {
  const { one, add, open } = await twoQueues(t)
  await add('a', 'b')
  assert.equal((await read(one, 2)).length, 2)
  await one.close()
  for (let restart = 0; restart < 6; restart++) {
    const next = open()
    assert.deepEqual(shown(await next.claim(10)), [
      ['a', 1],
      ['b', 1],
    ])
    await next.close()
  }
})

test('what is excused is counted for no node that had it meanwhile, whether that ends in order or is killed', async t => {
  const { one, other, add, age, pending } = await twoQueues(t)
  const [a, b] = (await add('a', 'b')) as [string, string]
  await read(one, 2)
  await one.noteTries(b, 3)
  await one.excuse([a, b])
  await one.excuse([a, b])
  assert.deepEqual(
    (await pending()).map(({ tries }) => tries),
    [0, 2],
  )
  await age([a, b], (await pending())[0]!.consumer, 2 * HOUR)
  assert.deepEqual(shown(await other.claim(10)), [
    ['a', 1],
    ['b', 3],
  ])
  await one.excuse([a])
  assert.notEqual((await pending())[0]!.tries, 0, 'it is no longer its own')
  await other.excuse([a, b])
  await other.noteTries(b, 4)
  await other.close()
  assert.deepEqual(
    (await pending()).map(({ tries }) => tries),
    [0, 3],
  )
})

test('a dead letter has the bytes of the message and is acknowledged', async t => {
  const { one, key, pending } = await twoQueues(t)
  const bytes = Buffer.from([1, 0xff, 0xfe, 0])
  const id = (await redis.admin.xadd(key, '*', 'x', 'y', 'body', bytes))!
  const [message] = await read(one, 1)
  assert.deepEqual(Buffer.from(message!.body!), bytes)
  await one.bury(message!, { code: 'C', message: 'why', tries: 3 })
  assert.deepEqual(await pending(), [])
  const [[, fields]] = (await redis.admin.xrangeBuffer(`${key}:dead`, '-', '+')) as [[Buffer, Buffer[]]]
  assert.deepEqual(fields[1], bytes)
  assert.deepEqual(fields.slice(2).map(String), ['id', id, 'code', 'C', 'reason', 'why', 'tries', '3'])
})

test('what is not done with is counted and stays, and what is done with goes', async t => {
  const { one, key, add } = await twoQueues(t)
  const [a, b] = (await add('a', 'b', 'c')) as [string, string]
  await read(one, 2)
  assert.equal(await one.tend(), 3)
  await one.acknowledge([b])
  assert.equal(await one.tend(), 2)
  assert.equal(await redis.admin.xlen(key), 3)
  await one.acknowledge([a])
  assert.equal(await one.tend(), 1)
  assert.equal(await redis.admin.xlen(key), 1)
})

test('without trim nothing is removed', async t => {
  const { one, key, add } = await twoQueues(t, { trim: false })
  const ids = await add('a', 'b')
  await read(one, 2)
  await one.acknowledge(ids)
  assert.equal(await one.tend(), 0)
  assert.equal(await redis.admin.xlen(key), 2)
})

test('one leads until it closes, and then another', async t => {
  const { one, other } = await twoQueues(t)
  assert.deepEqual([await one.lead(), await one.lead(), await other.lead()], ['new', 'still', 'no'])
  await other.close()
  assert.equal(await one.lead(), 'still')
  await one.close()
  assert.equal(await other.lead(), 'new')
})

test('a leader takes what every other one has, from the oldest on', async t => {
  const { one, other, add } = await twoQueues(t)
  await add('a', 'b', 'c')
  await read(one, 3)
  assert.equal(await other.lead(), 'new')
  assert.deepEqual(shown(await other.claim(2, 'all')), [
    ['a', 2],
    ['b', 2],
  ])
})
