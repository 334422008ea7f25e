import assert from 'node:assert/strict'
import { after, before, type TestContext, test } from 'node:test'
import Fastify from 'fastify'
import pushBridge, { type PushBridgeOptions } from '../../src/index.ts'
import { type StreamsIngressInput, streamsIngress } from '../../src/ingress/streams/streams.ts'
import { buildPush, OPEN, openConnection } from '../helpers/app.ts'
import { startNode } from '../helpers/nodes.ts'
import { cleanups, path } from '../helpers/processes.ts'
import { type RedisServer, startRedis } from '../helpers/redis.ts'
import { startCluster } from '../helpers/redis-cluster.ts'
import { NAME, startSentinels } from '../helpers/redis-sentinel.ts'
import { rightsOfIngress, rightsOfNode } from '../helpers/rights.ts'
import { until } from '../helpers/waiting.ts'

const SLOW = { timeout: 240_000 }
const RECORDED = { 'channel:r*': { size: 5000, ttl: 600 } }

const all = cleanups()
let redis: RedisServer
let tests = 0

before(async () => {
  redis = await startRedis(all)
})
after(() => all.end())

/** A prefix of its own, so that tests share a Redis and nothing else. */
function newPrefix(): string {
  return `t${++tests}:`
}

interface Setting {
  prefix: string
  streams?: Partial<StreamsIngressInput>
  more?: Partial<PushBridgeOptions>
}

function startApp(t: TestContext, { prefix, streams, more }: Setting) {
  const ingress = [streamsIngress({ topics: ['channel:*'], ...streams })]
  return buildPush(t, { redis: redis.url, redisPrefix: prefix, history: RECORDED, ingress, ...more })
}

type Request = { to: unknown; type: string; payload?: unknown }

const put = (prefix: string, request: Request | string | Buffer, server = redis) =>
  server.admin.xadd(
    `${prefix}ingress`,
    '*',
    'body',
    typeof request === 'string' || Buffer.isBuffer(request) ? request : JSON.stringify(request),
  )

/** Many in one write. */
async function putAll(prefix: string, requests: Request[], server = redis): Promise<void> {
  const pipeline = server.admin.pipeline()
  for (const request of requests) pipeline.xadd(`${prefix}ingress`, '*', 'body', JSON.stringify(request))
  await pipeline.exec()
}

const numbers = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)
const requests = (to: string, from: number, until: number): Request[] =>
  numbers(from, until).map(payload => ({ to, type: 'n', payload }))

async function payloads(connection: { next(type: string): Promise<{ payload?: unknown }> }, count: number) {
  const got: unknown[] = []
  while (got.length < count) got.push((await connection.next('n')).payload)
  return got
}

type Letter = Record<string, string>

async function deadLetters(prefix: string, server = redis): Promise<Letter[]> {
  const entries = await server.admin.xrange(`${prefix}ingress:dead`, '-', '+')
  return entries.map(([, fields]) =>
    Object.fromEntries(fields.flatMap((name, i) => (i % 2 === 0 ? [[name, fields[i + 1]!]] : []))),
  )
}

/** The payloads in the history of a topic. */
async function recorded(prefix: string, topic: string): Promise<unknown[]> {
  const entries = await redis.admin.xrange(`{${prefix}${topic}}:history`, '-', '+')
  return entries.map(([, fields]) => JSON.parse(fields.find(field => field.startsWith('{'))!).payload)
}

const lengthOf = (prefix: string, server = redis) => server.admin.xlen(`${prefix}ingress`)
const untilEmpty = (prefix: string, server = redis) =>
  until(async () => (await lengthOf(prefix, server)) === 0, 'everything is handled and removed')

// ── what comes in ──────────────────────────────────────────────────────────────────────────────────────────────────

test('XADD is a publication: in order, acknowledged, removed, and nothing waits', async t => {
  const prefix = newPrefix()
  // Before the first node, too.
  await putAll(prefix, requests('channel:a', 0, 3))
  const { app, log } = await startApp(t, { prefix })
  await untilEmpty(prefix)
  const connection = await openConnection(app, '/ws/a')
  await putAll(prefix, requests('channel:a', 3, 300))
  assert.deepEqual(await payloads(connection, 297), numbers(3, 300))
  await untilEmpty(prefix)
  await until(async () => (await app.push.status()).ingress[0]!.lag === 0, 'the lag is known')
  const { ingress, metrics } = await app.push.status()
  assert.deepEqual(ingress, [{ name: 'streams', lag: 0, problem: undefined }])
  assert.equal(metrics['ingress_published_total{streams}'], 300)
  assert.equal(metrics['publications_sent_total{ingress}'], 300)
  assert.ok(log.some(({ msg }) => msg === 'push: an ingress has made its consumer group'))
})

test('several nodes share the stream, and each message is published by one of them', async t => {
  const prefix = newPrefix()
  const [one] = await Promise.all([1, 2, 3].map(() => startApp(t, { prefix, streams: { count: 5 } })))
  const connection = await openConnection(one!.app, '/ws/a')
  await putAll(prefix, requests('channel:a', 0, 300))
  const got = (await payloads(connection, 300)) as number[]
  assert.deepEqual(
    got.toSorted((a, b) => a - b),
    numbers(0, 300),
  )
})

test('what is delivered again is recognised on a recorded topic: clients see it once', async t => {
  const prefix = newPrefix()
  const { app } = await startApp(t, { prefix, streams: { trim: false } })
  const connection = await openConnection(app, '/ws/r')
  await putAll(prefix, requests('channel:r', 0, 50))
  assert.deepEqual(await payloads(connection, 50), numbers(0, 50))
  // As if nobody had acknowledged anything.
  await redis.admin.xgroup('SETID', `${prefix}ingress`, 'bridge', '0')
  await put(prefix, { to: 'channel:r', type: 'n', payload: 50 })
  assert.deepEqual(await payloads(connection, 1), [50])
  const { metrics } = await app.push.status()
  assert.equal(metrics['ingress_taken_total{streams}'], 101)
  assert.equal((await app.push.history('channel:r', { last: 1 })).messages.at(-1)!.seq, 51)
})

test('a stream and a group of other names', async t => {
  const prefix = newPrefix()
  const { app } = await startApp(t, { prefix, streams: { stream: 'ingress:shop', group: 'g', name: 'shop' } })
  const connection = await openConnection(app, '/ws/a')
  await redis.admin.xadd(
    `${prefix}ingress:shop`,
    '*',
    'trace',
    'x',
    'body',
    '{"to":"channel:a","type":"n","payload":1}',
  )
  assert.deepEqual(await payloads(connection, 1), [1])
  // Clients may get it before the node that has published it is told so.
  const counted = async () => (await app.push.status()).metrics['ingress_published_total{shop}']
  await until(async () => (await counted()) === 1, 'it is counted')
})

test('two registrations of one process do not take the messages of each other', async t => {
  const prefix = newPrefix()
  const [, other] = [await startApp(t, { prefix }), await startApp(t, { prefix })]
  const connection = await openConnection(other.app, '/ws/a')
  await putAll(prefix, requests('channel:a', 0, 100))
  assert.equal((await payloads(connection, 100)).length, 100)
  await untilEmpty(prefix)
  // One of them may have done everything before the other one shows itself.
  const names = async () =>
    ((await redis.admin.xinfo('CONSUMERS', `${prefix}ingress`, 'bridge')) as string[][]).map(([, name]) => name)
  await until(async () => new Set(await names()).size === 2, 'both have a name of their own')
})

test('in strict order, also while one node takes over from another', async t => {
  const prefix = newPrefix()
  const streams = { strictOrder: true, count: 10 }
  const first = await startApp(t, { prefix, streams })
  await until(() => redis.admin.exists(`${prefix}ingress:lead`), 'the first node leads')
  const second = await startApp(t, { prefix, streams })
  const connection = await openConnection(second.app, '/ws/a')
  const COUNT = 1000
  await putAll(prefix, requests('channel:a', 0, COUNT))
  const got = await payloads(connection, 50)
  await first.app.close()
  got.push(...(await payloads(connection, COUNT - 50)))
  assert.deepEqual(got, numbers(0, COUNT))
  const { metrics } = await second.app.push.status()
  assert.ok(metrics['ingress_published_total{streams}']! > 0)
})

test('in strict order, what a leader that died has left comes first', async t => {
  const prefix = newPrefix()
  const key = `${prefix}ingress`
  await putAll(prefix, requests('channel:r', 0, 30))
  await redis.admin.xgroup('CREATE', key, 'bridge', '0')
  await redis.admin.xreadgroup('GROUP', 'bridge', 'gone', 'COUNT', 10, 'STREAMS', key, '>')
  await redis.admin.set(`${key}:lead`, 'gone', 'PX', 300)
  await startApp(t, { prefix, streams: { strictOrder: true, claimAfter: 600, count: 7 } })
  await untilEmpty(prefix)
  assert.deepEqual(await recorded(prefix, 'channel:r'), numbers(0, 30))
})

// ── what can not be published ──────────────────────────────────────────────────────────────────────────────────────

test('what will never be right is a dead letter at once, as it was written, with the reason', async t => {
  const prefix = newPrefix()
  const { app } = await startApp(t, { prefix })
  const bytes = Buffer.from([0x7b, 0xff, 0x00])
  const first = await put(prefix, bytes)
  await put(prefix, { to: 'user:1', type: 'n' })
  await redis.admin.xadd(`${prefix}ingress`, '*', 'bdy', '{}')
  await untilEmpty(prefix)
  const letters = await deadLetters(prefix)
  assert.deepEqual(
    letters.map(({ code, tries }) => [code, tries]),
    [
      ['PUSH_ERR_JSON', '1'],
      ['PUSH_ERR_FORBIDDEN', '1'],
      ['PUSH_ERR_JSON', '1'],
    ],
  )
  assert.equal(letters[0]!.id, first)
  assert.match(letters[1]!.reason!, /streams may not publish on user:1/)
  assert.match(letters[2]!.reason!, /no field body/)
  const [[, raw]] = (await redis.admin.xrangeBuffer(`${prefix}ingress:dead`, '-', '+')) as [[Buffer, Buffer[]]]
  assert.deepEqual(raw[1], bytes)
  const { metrics } = await app.push.status()
  assert.equal(metrics['ingress_dead_letters_total{streams}'], 3)
})

test('what fails is tried some times and then is a dead letter, and what came with it is published', async t => {
  const prefix = newPrefix()
  const rights = [
    'allkeys',
    '+@all',
    `&${prefix}all`,
    `&${prefix}node*`,
    `&${prefix}connection:*`,
    `&${prefix}channel:good*`,
  ]
  await redis.admin.acl('SETUSER', `${prefix}user`, 'on', '>secret', 'resetchannels', ...rights)
  const url = redis.url.replace('//', `//${encodeURIComponent(`${prefix}user`)}:secret@`)
  const { app } = await startApp(t, { prefix, streams: { tries: 2 }, more: { redis: url } })
  const connection = await openConnection(app, '/ws/good')
  await put(prefix, { to: 'channel:bad', type: 'n', payload: 0 })
  await put(prefix, { to: 'channel:good', type: 'n', payload: 1 })
  assert.deepEqual(await payloads(connection, 1), [1])
  await untilEmpty(prefix)
  const [letter, ...more] = await deadLetters(prefix)
  assert.equal(more.length, 0)
  assert.deepEqual([letter!.tries, JSON.parse(letter!.body!).to], ['2', 'channel:bad'])
  assert.match(letter!.reason!, /NOPERM/)
  assert.equal((await app.push.status()).metrics['ingress_failed_total{streams}'], 2)
})

test('there are never many more dead letters than the option says', async t => {
  const prefix = newPrefix()
  await startApp(t, { prefix, streams: { deadLetters: 10 } })
  await putAll(prefix, requests('user:1', 0, 500))
  await untilEmpty(prefix)
  const kept = await redis.admin.xlen(`${prefix}ingress:dead`)
  // Redis removes whole nodes of its tree, of 100 entries.
  assert.ok(kept >= 10 && kept <= 200, `${kept} dead letters`)
})

// ── nodes that are gone ────────────────────────────────────────────────────────────────────────────────────────────

test('what a node had that is gone is taken by another, and its name is removed', async t => {
  const prefix = newPrefix()
  const key = `${prefix}ingress`
  await putAll(prefix, requests('channel:r', 0, 250))
  await redis.admin.xgroup('CREATE', key, 'bridge', '0')
  await redis.admin.xreadgroup('GROUP', 'bridge', 'gone', 'COUNT', 250, 'STREAMS', key, '>')
  const { app } = await startApp(t, { prefix, streams: { claimAfter: 200 } })
  await untilEmpty(prefix)
  assert.deepEqual(await recorded(prefix, 'channel:r'), numbers(0, 250))
  assert.equal((await app.push.status()).metrics['ingress_taken_total{streams}'], 250)
  const names = async () =>
    ((await redis.admin.xinfo('CONSUMERS', key, 'bridge')) as string[][]).map(([, name]) => name)
  await until(async () => !(await names()).includes('gone'), 'the name of the node that is gone is removed')
})

test('what was removed from the stream while a node had it that is gone is counted, and logged once', async t => {
  const prefix = newPrefix()
  const key = `${prefix}ingress`
  await putAll(prefix, requests('channel:r', 0, 250))
  await redis.admin.xgroup('CREATE', key, 'bridge', '0')
  await redis.admin.xreadgroup('GROUP', 'bridge', 'gone', 'COUNT', 250, 'STREAMS', key, '>')
  await redis.admin.xtrim(key, 'MAXLEN', 200)
  const { app, log } = await startApp(t, { prefix, streams: { claimAfter: 200, count: 500 } })
  await untilEmpty(prefix)
  assert.deepEqual(await recorded(prefix, 'channel:r'), numbers(50, 250))
  const pending = async () => ((await redis.admin.xpending(key, 'bridge')) as [number])[0]
  await until(async () => (await pending()) === 0, 'nothing waits for a node')
  assert.equal((await app.push.status()).metrics['ingress_lost_total{streams}'], 50)
  assert.equal(
    log.filter(({ msg }) => msg === 'push: messages of an ingress were removed before they were done').length,
    1,
  )
})

test('a message that ended too many nodes is a dead letter, and no further node gets it', async t => {
  const prefix = newPrefix()
  const key = `${prefix}ingress`
  const id = (await put(prefix, { to: 'channel:a', type: 'n' }))!
  await redis.admin.xgroup('CREATE', key, 'bridge', '0')
  await redis.admin.xreadgroup('GROUP', 'bridge', 'gone', 'COUNT', 1, 'STREAMS', key, '>')
  await redis.admin.xclaim(key, 'bridge', 'gone', 0, id, 'RETRYCOUNT', 3, 'JUSTID')
  const { app } = await startApp(t, { prefix, streams: { claimAfter: 200, tries: 3 } })
  await untilEmpty(prefix)
  const [letter] = await deadLetters(prefix)
  assert.deepEqual([letter!.id, letter!.code], [id, 'PUSH_ERR_INTERNAL'])
  assert.match(letter!.reason!, /3 nodes took it and did not finish it/)
  assert.equal((await app.push.status()).metrics['ingress_taken_total{streams}'], undefined)
})

test('kill -9 of a node in the middle: everything is published, and clients see it once', SLOW, async t => {
  const server = await startRedis(t)
  const INGRESS = JSON.stringify({ topics: ['channel:chat*'], claimAfter: 500, count: 20 })
  const [victim, witness] = await Promise.all([1, 2].map(() => startNode(t, server.url, { INGRESS })))
  const client = await witness!.connect('/ws/chat')
  const COUNT = 3000
  const publishing = putAll('push:', requests('channel:chat', 0, COUNT), server)
  const seen = [...(await payloads(client, 100))]
  victim!.process.kill('SIGKILL')
  await publishing
  seen.push(...(await payloads(client, COUNT - 100)))
  await untilEmpty('push:', server)
  // Whatever was published twice would have come by now, in order, before this one.
  await put('push:', { to: 'channel:chat', type: 'last' }, server)
  const { seq } = await client.next('last')
  assert.equal(seq, COUNT + 1)
  assert.deepEqual(
    (seen as number[]).toSorted((a, b) => a - b),
    numbers(0, COUNT),
  )
})

// ── Redis that is away, or has forgotten ───────────────────────────────────────────────────────────────────────────

test('Redis is killed and starts again with what it had: nothing is lost and nothing comes twice', SLOW, async t => {
  const server = await startRedis(t, { args: ['--appendonly', 'yes', '--appendfsync', 'always'] })
  const ingress = [streamsIngress({ topics: ['channel:*'], claimAfter: 500, count: 20 })]
  const { app } = await buildPush(t, { redis: server.url, history: RECORDED, ingress })
  const connection = await openConnection(app, '/ws/r')
  const COUNT = 2000
  await putAll('push:', requests('channel:r', 0, COUNT), server)
  await server.kill()
  await until(async () => (await app.push.status()).ingress[0]!.problem, 'the status says that nothing comes in')
  await server.start()
  await untilEmpty('push:', server)
  await until(async () => !(await app.push.status()).ingress[0]!.problem, 'the status says that it works again')
  const seen = (await payloads(connection, COUNT)) as number[]
  assert.deepEqual(
    seen.toSorted((a, b) => a - b),
    numbers(0, COUNT),
  )
  // Whatever was published twice has a number of its own, and came before this one.
  await put('push:', { to: 'channel:r', type: 'last' }, server)
  assert.equal((await connection.next('last')).seq, COUNT + 1)
})

test('a group that was lost is made again, and what was written meanwhile is published', async t => {
  const prefix = newPrefix()
  const key = `${prefix}ingress`
  const { app, log } = await startApp(t, { prefix })
  const connection = await openConnection(app, '/ws/a')
  await put(prefix, { to: 'channel:a', type: 'n', payload: 1 })
  assert.deepEqual(await payloads(connection, 1), [1])
  await redis.admin.del(key)
  await put(prefix, { to: 'channel:a', type: 'n', payload: 2 })
  assert.deepEqual(await payloads(connection, 1), [2])
  await until(() => log.some(({ msg }) => /consumer group again, which was lost/.test(msg)), 'the log says so')
  await untilEmpty(prefix)
  await redis.admin.xgroup('DESTROY', key, 'bridge')
  await put(prefix, { to: 'channel:a', type: 'n', payload: 3 })
  assert.deepEqual(await payloads(connection, 1), [3])
})

// ── keeping it short ───────────────────────────────────────────────────────────────────────────────────────────────

test('what another group has not handled stays', async t => {
  const prefix = newPrefix()
  const key = `${prefix}ingress`
  await redis.admin.xgroup('CREATE', key, 'audit', '0', 'MKSTREAM')
  const { app } = await startApp(t, { prefix })
  await putAll(prefix, requests('channel:a', 0, 3))
  const published = async () => (await app.push.status()).metrics['ingress_published_total{streams}'] === 3
  await until(published, 'all are published')
  const read = async (count: number) => {
    const got = await redis.admin.xreadgroup('GROUP', 'audit', 'me', 'COUNT', count, 'STREAMS', key, '>')
    return (got as [string, [id: string, fields: string[]][]][])[0]![1].map(([id]) => id)
  }
  const [first, second] = (await read(2)) as [string, string]
  // Whatever is removed from now on, is removed after this.
  await redis.admin.xack(key, 'audit', first)
  await until(async () => (await lengthOf(prefix)) === 2, 'the first is removed')
  await redis.admin.xack(key, 'audit', second)
  await until(async () => (await lengthOf(prefix)) === 1, 'the second is removed')
  const [third] = (await read(1)) as [string]
  await redis.admin.xack(key, 'audit', third)
  await untilEmpty(prefix)
})

// ── where it runs ──────────────────────────────────────────────────────────────────────────────────────────────────

test('in a Cluster, the dead letters elsewhere', SLOW, async t => {
  const cluster = await startCluster(t, { args: ['--cluster-node-timeout', '30000'] })
  const ingress = [streamsIngress({ topics: ['channel:*'] })]
  const options = { redis: { cluster: cluster.urls }, redisPrefix: 'c:', history: RECORDED, ingress }
  const { app } = await buildPush(t, options)
  const connection = await openConnection(app, '/ws/r')
  const [here, dead] = [await cluster.masterOf('c:ingress'), await cluster.masterOf('c:ingress:dead')]
  assert.notEqual(here.port, dead.port)
  await putAll('c:', requests('channel:r', 0, 20), here)
  await put('c:', 'nonsense', here)
  assert.deepEqual(await payloads(connection, 20), numbers(0, 20))
  await untilEmpty('c:', here)
  assert.equal(await dead.admin.xlen('c:ingress:dead'), 1)
})

test('behind Sentinels the stream is read on whichever server is the master', SLOW, async t => {
  // Nobody is to take the first master for dead before it is.
  const lines = () => [`sentinel down-after-milliseconds ${NAME} 3000`]
  const group = await startSentinels(t, { lines })
  const master = await group.settled()
  const other = group.servers.find(server => server !== master)!
  const ingress = [streamsIngress({ topics: ['channel:*'] })]
  const { app } = await buildPush(t, { redis: group.source, history: RECORDED, ingress })
  const connection = await openConnection(app, '/ws/r')
  await put('push:', { to: 'channel:r', type: 'n', payload: 1 }, master)
  assert.deepEqual(await payloads(connection, 1), [1])
  await untilEmpty('push:', master)
  const isCopied = async () => (await other.admin.dbsize()) === (await master.admin.dbsize())
  await until(async () => (await isCopied()) && (await lengthOf('push:', other)) === 0, 'the replica has all of it')
  await master.kill()
  await until(async () => (await group.master()) === other, 'the replica is the master')
  await put('push:', { to: 'channel:r', type: 'n', payload: 2 }, other)
  assert.deepEqual(await payloads(connection, 1), [2])
  await untilEmpty('push:', other)
})

test('the rights that the documents print are enough, and a missing one is named', async t => {
  const user = `acl${++tests}`
  const prefix = 'push:'
  const server = await startRedis(t)
  await server.admin.acl('SETUSER', user, 'on', '>secret', ...rightsOfNode(), ...rightsOfIngress())
  const url = server.url.replace('//', `//${user}:secret@`)
  const key = `${prefix}ingress`
  await putAll(prefix, requests('channel:a', 0, 3), server)
  await server.admin.xgroup('CREATE', key, 'bridge', '0')
  await server.admin.xreadgroup('GROUP', 'bridge', 'gone', 'COUNT', 1, 'STREAMS', key, '>')
  const ingress = [streamsIngress({ topics: ['channel:*'], claimAfter: 200 })]
  const { app } = await buildPush(t, { redis: url, ingress })
  await put(prefix, 'nonsense', server)
  await untilEmpty(prefix, server)
  const names = async () =>
    ((await server.admin.xinfo('CONSUMERS', key, 'bridge')) as string[][]).map(([, name]) => name)
  await until(async () => !(await names()).includes('gone'), 'the name of the node that is gone is removed')
  assert.equal((await deadLetters(prefix, server)).length, 1)
  await until(async () => (await app.push.status()).ingress[0]!.lag === 0, 'the lag is known')
  assert.equal((await app.push.status()).problem, undefined)
  const refused = ((await server.admin.acl('LOG')) as unknown[][]).map(entry => String(entry))
  assert.deepEqual(refused, [])

  await server.admin.acl('SETUSER', user, '-xreadgroup')
  const problem = async () => (await app.push.status()).ingress[0]!.problem ?? ''
  await until(async () => /xreadgroup/.test(await problem()), 'the status names the right')
  await server.admin.acl('SETUSER', user, '+xreadgroup')
  await put(prefix, { to: 'channel:a', type: 'n' }, server)
  await untilEmpty(prefix, server)
  assert.equal(await problem(), '')

  await server.admin.acl('SETUSER', user, '-xack')
  const entry = (await put(prefix, { to: 'channel:a', type: 'n' }, server))!
  const named = /lacks the right \+xack, so an ingress stream is read no further/
  await until(async () => named.test((await app.push.status()).problem ?? ''), 'the status names the right')
  await server.admin.acl('SETUSER', user, '+xack')
  await untilEmpty(prefix, server)
  const { metrics } = await app.push.status()
  // It was not published again because it could not be acknowledged.
  assert.equal(metrics['ingress_published_total{streams}'], 5, entry)
})

test('without Redis the start fails, and says what to do', async () => {
  const app = Fastify()
  await app.register(pushBridge, { ...OPEN, redis: false, ingress: [streamsIngress({ topics: ['all'] })] })
  await assert.rejects(async () => app.ready(), /no option redis: give both/)
  await app.close()
})

const WRONG: [what: string, options: unknown, message: RegExp][] = [
  ['no options', undefined, /streamsIngress must be an object/],
  ['no topics', {}, /streamsIngress\.topics must name what may be published on/],
  ['a topic that is none', { topics: ['orders'] }, /streamsIngress\.topics cannot be used/],
  ['a mistyped option', { topics: ['all'], steam: 'ingress' }, /did you mean "stream"/],
  ['the stream of the events', { topics: ['all'], stream: 'events' }, /streamsIngress\.stream/],
  ['the dead letters themselves', { topics: ['all'], stream: 'ingress:dead' }, /streamsIngress\.stream/],
  ['no tries', { topics: ['all'], tries: 0 }, /streamsIngress\.tries .*default 5/],
]

for (const [what, options, message] of WRONG) {
  test(`streamsIngress: ${what} is refused`, () => {
    assert.throws(() => streamsIngress(options as StreamsIngressInput), { code: 'PUSH_ERR_OPTIONS', message })
  })
}

test('the package has the entry', async () => {
  const { default: packageJson } = (await import(path('package.json'), { with: { type: 'json' } })) as {
    default: { exports: Record<string, { default: string }> }
  }
  const entry = packageJson.exports['./ingress-streams']!.default
  const source = entry.replace('./dist/', 'src/').replace(/\.js$/, '.ts')
  const module = (await import(path(source))) as { streamsIngress: typeof streamsIngress }
  assert.equal(module.streamsIngress, streamsIngress)
})
