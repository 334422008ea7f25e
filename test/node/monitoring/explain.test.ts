import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import pushBridge, { type PushBridge, type PushBridgeOptions } from '../../../src/index.ts'
import { createPublisher } from '../../../src/publisher.ts'
import { callApi } from '../../helpers/api.ts'
import { buildApp, buildPush, KEY, OPEN, openConnection } from '../../helpers/app.ts'
import { cleanups } from '../../helpers/processes.ts'
import { type RedisServer, startRedis } from '../../helpers/redis.ts'
import { SlowLink } from '../../helpers/slow-link.ts'
import { once, PATIENCE, until, within } from '../../helpers/waiting.ts'

const all = cleanups()
let redis: RedisServer

before(async () => {
  redis = await startRedis(all)
})

after(() => all.end())

let prefixes = 0

/** Two nodes and a script, with a prefix of their own. */
async function build(t: { after(hook: () => unknown): void }, options: Partial<PushBridgeOptions> = {}) {
  const redisPrefix = `push:e${++prefixes}:`
  const node = (url: string) =>
    buildPush(t, { redis: url, redisPrefix, publishTimeout: 30_000, api: { keys: [KEY] }, ...options })
  // With another user it has links of its own: for Redis it is another node, although a process has one name.
  const [a, b] = await Promise.all([node(redis.url), node(redis.url.replace('//', '//default:any@'))])
  const publisher = createPublisher({ redis: redis.url, redisPrefix, publishTimeout: 30_000 })
  t.after(() => publisher.end())
  return { a, b, publisher, redisPrefix }
}

/** Asks until every node has answered: a busy machine may need more than the second that they have. */
async function whole<T extends { complete: boolean }>(ask: () => Promise<T>): Promise<T> {
  let answer = await ask()
  await until(async () => {
    if (!answer.complete) answer = await ask()
    return answer.complete
  }, 'every node answers')
  return answer
}

test('nodes: every node says how it is, to nodes, to scripts and over HTTP', async t => {
  const { a, b, publisher } = await build(t)
  await openConnection(a.app, '/ws/x?user=1')
  await a.app.push.publish('channel:x', { type: 'note', receipt: true })
  const query = { samples: true, topics: 3 }
  const asked = await whole(() => publisher.nodes(query))
  assert.deepEqual([asked.nodes.length, asked.expected], [2, 2])
  const mine = asked.nodes.find(({ connections }) => connections === 1)!
  assert.equal(mine.registration, 'push')
  assert.match(mine.version, /^\d+\.\d+\.\d+/)
  assert.ok(mine.startedAt <= mine.now && mine.memory.rss > 1e6 && mine.cpu > 0)
  assert.deepEqual(mine.busiest, [{ topic: 'channel:x', connections: 1, publications: 1 }])
  assert.ok(Array.isArray(mine.samples) && mine.counters.publications_received_total === 1)
  // Written anew each time: only what was written lately is measured.
  const isMeasured = async () => {
    await a.app.push.publish('channel:x', { type: 'note' })
    return (await a.app.push.nodes()).nodes.some(({ latency }) => latency)
  }
  await until(isMeasured, 'something was written')
  const own = await whole(() => b.app.push.nodes())
  assert.equal(own.nodes.length, 2)
  assert.ok(own.nodes.every(({ samples, busiest }) => samples === undefined && busiest === undefined))
  const { status, body } = await callApi(a.port, '/push/nodes?samples=true&topics=3')
  assert.deepEqual([status, (body.nodes as unknown[]).length >= 1], [200, true])
  const wrong = await callApi(a.port, '/push/nodes?samples=perhaps')
  assert.deepEqual([wrong.status, wrong.body.code], [400, 'PUSH_ERR_FIELD'])
  await assert.rejects(publisher.nodes({ topics: 1000 }), { code: 'PUSH_ERR_FIELD' })
  await assert.rejects(a.app.push.nodes({ sample: true } as never), { code: 'PUSH_ERR_UNKNOWN_KEY' })
})

test('explain: who has the topic, what became of its publications, what was rejected, what is kept', async t => {
  const { a, b, publisher, redisPrefix } = await build(t, { history: { 'channel:kept': { size: 2, ttl: 60 } } })
  const one = await openConnection(a.app, '/ws/kept?user=1')
  const two = await openConnection(b.app, '/ws/kept?user=2')
  for (let n = 1; n <= 3; n++) {
    await a.app.push.publish('channel:kept', {
      type: 'note',
      payload: 'secret payload',
      except: 'user:2',
      receipt: true,
    })
  }
  await redis.admin.publish(`${redisPrefix}channel:kept`, '{"type":"note","excpet":1,"payload":"secret payload"}')
  const head = (await a.app.push.history('channel:kept')).seq
  const isNoted = async () => (await redis.admin.llen(`${redisPrefix}rejected`)) >= 2
  await until(isNoted, 'both nodes have noted what they rejected')
  const found = await whole(() => publisher.explain('channel:kept'))
  assert.ok(!JSON.stringify(found).includes('secret'))
  const holds = (id: string) => found.nodes.find(({ members }) => members[0]?.id === id)!
  const [first, second] = [one, two].map(({ welcome }) => holds(welcome.connection))
  for (const [report, connection] of [
    [first!, one],
    [second!, two],
  ] as const) {
    assert.deepEqual([report.connections, report.recorded], [1, true])
    const [member] = report.members
    assert.deepEqual([member!.id, member!.stalled], [connection.welcome.connection, false])
    assert.ok(member!.connected <= member!.lastSeen && member!.lastSeen <= report.now)
    const [bad, ...notes] = report.publications
    assert.deepEqual([bad!.rejected, bad!.delivered], ['unknown_key', 0])
    assert.deepEqual(
      notes.map(({ type }) => type),
      ['note', 'note', 'note'],
    )
    assert.ok(notes.every(({ id }) => typeof id === 'string'))
  }
  assert.deepEqual(first!.publications[1]!.delivered, 1)
  assert.deepEqual([second!.publications[1]!.delivered, second!.publications[1]!.skipped], [0, { except: 1 }])
  assert.deepEqual([found.history!.head!.seq, found.history!.size], [head, 2])
  assert.deepEqual(
    found.rejected.map(({ reason }) => reason),
    ['unknown_key', 'unknown_key'],
  )
  assert.match(found.findings.join('\n'), /^An envelope for the topic was rejected .*unknown_key/m)
  const unknown = await whole(() => a.app.push.explain('channel:nobody'))
  assert.deepEqual([unknown.history, unknown.findings], [null, ['No node has the topic: nobody is subscribed.']])
  await assert.rejects(publisher.explain('orders'), { code: 'PUSH_ERR_TOPIC' })
})

test('explain: since when a connection has the topic, and since when it is open', async t => {
  const { app } = await buildPush(t)
  const one = await openConnection(app, '/ws/first?user=1')
  const { members: own } = (await app.push.explain('user:1')).nodes[0]!
  const { connected } = own[0]!
  assert.equal(own[0]!.since, connected, 'a topic of its own is as old as the connection')
  await until(() => Date.now() > connected, 'the clock goes on')
  const before = Date.now()
  one.send('subscribe', { topic: 'channel:second' })
  await one.next('subscribed')
  const member = async (topic: string) => (await app.push.explain(topic)).nodes[0]!.members[0]!
  const second = await member('channel:second')
  assert.ok(second.since >= before && second.since <= Date.now(), `${second.since}`)
  assert.equal(second.connected, connected)
  const first = await member('channel:first')
  assert.ok(first.since >= connected && first.since <= before, 'that of the other topic stays what it was')
})

test('explain: many connections, of which some are told apart, and those that were skipped', async t => {
  const { app } = await buildPush(t)
  const connections = await Promise.all(Array.from({ length: 60 }, () => openConnection(app, '/ws/many')))
  await app.push.publish('channel:many', { type: 'note' })
  await Promise.all(connections.map(connection => connection.next('note')))
  const { nodes } = await app.push.explain('channel:many')
  const [report] = nodes
  assert.deepEqual([report!.connections, report!.members.length], [60, 50])
  assert.deepEqual(
    report!.publications.map(({ delivered, type }) => [delivered, type]),
    [[60, 'note']],
  )
})

test('explain: a client that does not read, and what the limits did to it', async t => {
  const { app } = await buildPush(t, { limits: { buffer: 65_536, bufferTime: 600_000, nodeBuffer: 8_388_608 } })
  const link = new SlowLink()
  const socket = link.open(app, '/ws/slow')
  t.after(() => socket.terminate())
  await once(socket, 'message')
  link.hold()
  const publish = async (times: number) => {
    const message = { type: 'note', payload: 'x'.repeat(30_000) }
    for (let n = 0; n < times; n++) await app.push.publish('channel:slow', message)
  }
  await publish(20)
  const { nodes, findings } = await app.push.explain('channel:slow')
  const [member] = nodes[0]!.members
  assert.deepEqual([member!.stalled, member!.queuedBytes > 65_536], [true, true])
  assert.match(findings.join('\n'), /^1 of 1 connections on node .* accept no more data/m)
  // More than an eighth of the memory for slow clients: it is cut off at once.
  await publish(20)
  const later = await app.push.explain('channel:slow')
  assert.deepEqual(later.nodes[0]!.dropped, { slow_consumer: 1 })
  assert.match(later.findings.join('\n'), /read too slowly/)
})

test('two registrations of a process are one node with two reports', async t => {
  const { app } = await buildApp(t, async it => {
    await it.register(pushBridge, { ...OPEN, path: '/a', name: 'a' })
    await it.register(pushBridge, { ...OPEN, path: '/b', name: 'b' })
  })
  await openConnection(app, '/b/x')
  const push = (app as unknown as { a: PushBridge }).a
  const { nodes, expected, complete } = await push.nodes()
  assert.deepEqual(
    nodes.map(({ registration, connections }) => [registration, connections]),
    [
      ['a', 0],
      ['b', 1],
    ],
  )
  assert.deepEqual([new Set(nodes.map(({ node }) => node)).size, expected, complete], [1, 1, true])
})

test('trace: its whole way, on every node', async t => {
  const { a, b, publisher } = await build(t)
  const one = await openConnection(a.app, '/ws/x?user=1')
  await openConnection(b.app, '/ws/x?user=2')
  const sent = await a.app.push.publish('channel:x', { type: 'note', trace: true, except: 'user:2' })
  assert.deepEqual([sent.delivered, sent.skipped, sent.complete], [1, 1, true])
  const steps = ['published', 'queued', 'queued', 'received', 'received', 'skipped', 'taken', 'written']
  assert.deepEqual(sent.trace!.map(({ what }) => what).toSorted(), steps)
  const times = sent.trace!.map(({ at }) => at)
  assert.deepEqual(
    times,
    times.toSorted((x, y) => x - y),
  )
  const skipped = sent.trace!.find(({ what }) => what === 'skipped')!
  assert.deepEqual([skipped.node, skipped.connections, skipped.reason], [one.welcome.node, 1, 'except'])
  assert.deepEqual(Object.keys((await one.next('note')) as object).toSorted(), ['payload', 'topic', 'type'])
  const byScript = await publisher.publish('channel:x', { type: 'note', trace: true, history: { size: 9, ttl: 60 } })
  assert.equal(byScript.trace![0]!.node, 'publisher')
  assert.equal(byScript.trace!.filter(({ what }) => what === 'written').length, 2)
  const { body } = await callApi(a.port, '/push', { body: { to: 'channel:x', type: 'note', trace: true } })
  assert.equal((body.trace as { what: string }[]).filter(({ what }) => what === 'written').length, 2)
  const nobody = await publisher.publish('channel:nobody', { type: 'note', trace: true })
  assert.deepEqual(
    nobody.trace!.map(({ what }) => what),
    ['published', 'taken'],
  )
  await assert.rejects(publisher.publish('channel:x', { type: 'a', trace: 1 as never }), { code: 'PUSH_ERR_FIELD' })
})

test('what is no question is counted, and the node goes on answering', async t => {
  const { a, publisher, redisPrefix } = await build(t)
  const channel = `${redisPrefix}nodes`
  for (const text of ['hello', '[]', '{"ask":"nodes"}', 'x'.repeat(5000)]) await redis.admin.publish(channel, text)
  await redis.admin.publish(channel, Buffer.from([0xff, 0x00]) as never)
  const counted = async () => {
    const { metrics } = await a.app.push.status()
    return Object.entries(metrics).filter(([name]) => name.startsWith('questions_refused_total'))
  }
  await until(async () => (await counted()).reduce((sum, [, n]) => sum + n, 0) >= 5, 'five refusals')
  assert.deepEqual(Object.fromEntries(await counted()), {
    'questions_refused_total{field}': 1,
    'questions_refused_total{json}': 2,
    'questions_refused_total{shape}': 1,
    'questions_refused_total{too_large}': 1,
  })
  assert.equal((await whole(() => publisher.nodes())).nodes.length, 2)
})

test('answers that are none are left out, and what others say of this node as well', async t => {
  const { a, redisPrefix } = await build(t)
  const listener = redis.admin.duplicate()
  t.after(() => listener.disconnect())
  await listener.subscribe(`${redisPrefix}nodes`)
  listener.on('message', (_channel, text) => {
    const { token } = JSON.parse(text) as { token: string }
    const key = `${redisPrefix}answers:${token}`
    const report = { node: 'liar', registration: 'push', connections: 'many' }
    const texts = ['junk', '[]', '{"node":5}', JSON.stringify({ node: 'liar', answers: [report, null, 5] })]
    void redis.admin.rpush(key, ...texts)
  })
  const asked = await a.app.push.nodes()
  assert.ok(asked.nodes.every(report => report.node !== 'liar'))
  assert.equal(asked.complete, false)
  assert.ok(asked.nodes.length >= 1 && asked.nodes.length <= 2, `${asked.nodes.length}`)
})

test('a node that is cut off from Redis answers for itself at once, and says since when', async t => {
  const own = await startRedis(t)
  const { app } = await buildPush(t, { redis: own.url })
  await openConnection(app, '/ws/x')
  await own.kill()
  await until(async () => !(await app.push.status()).connected, 'the node has noticed')
  const nodes = await within(app.push.nodes(), 'the answer', PATIENCE)
  assert.deepEqual([nodes.nodes.length, nodes.complete, nodes.expected], [1, false, undefined])
  assert.ok(nodes.problem)
  const { nodes: reports, findings } = await app.push.explain('channel:x')
  assert.deepEqual([reports[0]!.connected, reports[0]!.connections], [false, 1])
  assert.ok(reports[0]!.cutOffSince! <= Date.now())
  assert.match(findings[0]!, /^Other nodes could not be asked: /)
  assert.match(findings.join('\n'), /has the topic but is cut off from Redis since \d{4}-/)
  assert.match(findings.join('\n'), /^The history cannot be read: /m)
})
