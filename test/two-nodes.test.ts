import assert from 'node:assert/strict'
import { after, before, type TestContext, test } from 'node:test'
import { createPublisher, type ScriptPublisher } from '../src/publisher.ts'
import { refusalOf } from './helpers/app.ts'
import { type NodeProcess, startNode } from './helpers/nodes.ts'
import { cleanups } from './helpers/processes.ts'
import { type RedisServer, startRedis } from './helpers/redis.ts'
import { PATIENCE, until, within } from './helpers/waiting.ts'

/** Two processes and one Redis for all tests of this file; users and channels keep the tests apart. */
const all = cleanups()
let redis: RedisServer
let nodes: [NodeProcess, NodeProcess]
let publisher: ScriptPublisher

before(async () => {
  redis = await startRedis(all)
  // Patient, so that a receipt is complete however long the other processes take.
  const patient = { PUBLISH_TIMEOUT: `${PATIENCE}` }
  nodes = await Promise.all([startNode(all, redis.url, patient), startNode(all, redis.url, patient)])
  publisher = createPublisher({ redis: redis.url, publishTimeout: PATIENCE })
  all.after(() => publisher.end())
})

after(() => all.end())

async function bothConnect(t: TestContext, path: string) {
  void t
  return Promise.all(nodes.map(node => node.connect(path)))
}

test('two processes are two nodes', async t => {
  const [a, b] = await bothConnect(t, '/ws?user=0')
  assert.notEqual(a!.welcome.node, b!.welcome.node)
  assert.equal((await nodes[0].status()).nodes, 2)
  assert.deepEqual(await redis.admin.pubsub('NUMSUB', 'push:nodes', 'push:user:0', 'push:user:none'), [
    'push:nodes',
    2,
    'push:user:0',
    2,
    'push:user:none',
    0,
  ])
})

test('all four ways to publish mean the same and say the same', async t => {
  const clients = await bothConnect(t, '/ws?user=1')
  const message = { type: 'notice', payload: { text: 'ünï', big: 1, list: [] } }
  assert.deepEqual((await nodes[0].push({ to: 'user:1', ...message })).body, { topic: 'user:1', nodes: 2 })
  assert.deepEqual(await publisher.publish('user:1', message), { topic: 'user:1', nodes: 2 })
  assert.equal(await redis.admin.publish('push:user:1', JSON.stringify(message)), 2)
  const receipt = await publisher.publish('user:1', { ...message, receipt: true })
  assert.deepEqual(receipt, { topic: 'user:1', nodes: 2, delivered: 2, skipped: 0, complete: true })
  for (const client of clients) {
    for (let i = 0; i < 4; i++) assert.deepEqual(await client.next('notice'), { ...message, topic: 'user:1' })
  }
})

test('what a publisher wrote arrives as it was written', async t => {
  const [client] = await bothConnect(t, '/ws?user=2')
  await redis.admin.publish(
    'push:user:2',
    '{ "x-trace": 1, "payload" : {"n":12345678901234567890,"f":1.0, "e":{}} ,"type":"raw"}',
  )
  assert.equal((await client!.next('raw')).type, 'raw')
})

test('except works across nodes', async t => {
  const [a, b] = await bothConnect(t, '/ws/room3?user=3')
  const except = `connection:${a!.welcome.connection}`
  const result = await publisher.publish('channel:room3', { type: 'said', except, receipt: true })
  assert.deepEqual([result.delivered, result.skipped, result.reasons], [1, 1, { except: 1 }])
  assert.equal((await b!.next('said')).type, 'said')
  const nobody = await publisher.publish('channel:room3', { type: 'said', except: ['user:3'], receipt: true })
  assert.deepEqual([nobody.delivered, nobody.skipped], [0, 2])
})

test('what a client publishes on one node comes on the other, in order, and begins a third client there', async t => {
  const [ann, ben] = await Promise.all([nodes[0].connect('/ws/chat1?user=ann'), nodes[1].connect('/ws/chat1?user=ben')])
  for (let n = 1; n <= 20; n++) {
    ann.send('push.publish', { topic: 'channel:chat1', type: 'said', payload: { text: `${n}` }, echo: false })
  }
  for (let n = 1; n <= 20; n++) {
    const { payload, from, seq } = await ben.next('said')
    assert.deepEqual([payload, from, seq], [{ text: `${n}` }, { user: 'ann' }, n])
  }
  ben.send('push.publish', { topic: 'channel:chat1', type: 'said', payload: { text: 'yes' }, key: 'k' }, 1)
  assert.equal(((await ben.next('push.published')).payload as { seq: number }).seq, 21)
  assert.deepEqual((await ann.next('said')).from, { user: 'ben' })
  const [cat] = await bothConnect(t, '/ws?user=cat')
  cat!.send('subscribe', { topic: 'channel:chat1', last: 2 }, 1)
  for (const [text, user] of [
    ['20', 'ann'],
    ['yes', 'ben'],
  ]) {
    const { payload, from } = await cat!.next('said')
    assert.deepEqual([payload, from], [{ text }, { user }])
  }
})

test('a connection that is gone counts 0, never nothing', async () => {
  assert.deepEqual(await publisher.publish('connection:gone', { type: 'x', receipt: true }), {
    topic: 'connection:gone',
    nodes: 0,
    delivered: 0,
    skipped: 0,
    complete: true,
  })
})

test('a frozen node makes the receipt incomplete within the deadline', async t => {
  const clients = await bothConnect(t, '/ws?user=4')
  assert.equal(clients.length, 2)
  nodes[1].process.kill('SIGSTOP')
  t.after(() => nodes[1].process.kill('SIGCONT'))
  const impatient = createPublisher({ redis: redis.url, publishTimeout: 2000 })
  t.after(() => impatient.end())
  const publishing = impatient.publish('user:4', { type: 'x', receipt: true })
  const result = await within(publishing, 'a receipt for a publish timeout of 2 s', 10_000)
  assert.deepEqual([result.nodes, result.delivered, result.complete], [2, 1, false])
})

test('a pattern subscriber does not keep receipts waiting', async t => {
  const watcher = redis.admin.duplicate()
  t.after(() => watcher.disconnect())
  await watcher.psubscribe('*')
  const [client] = await bothConnect(t, '/ws?user=5')
  const publishing = publisher.publish('user:5', { type: 'x', receipt: true })
  const result = await within(publishing, 'a receipt that is complete before its deadline', PATIENCE / 2)
  assert.deepEqual([result.nodes, result.delivered, result.complete], [3, 2, true])
  assert.equal((await client!.next('x')).type, 'x')
})

test('junk harms nobody and shows up in the counter and in push:rejected', async t => {
  const [client] = await bothConnect(t, '/ws?user=6')
  const junk = [
    '',
    'hello',
    '{',
    '[]',
    '{"type":"a b"}',
    '{"type":"welcome"}',
    '{"payload":1}',
    '{"type":"x","excpet":[]}',
    '{"type":"order","payload":{"id":"1"}}',
  ]
  for (const text of [...junk, Buffer.from([0xff, 0xfe])]) await redis.admin.publish('push:user:6', text)
  const result = await publisher.publish('user:6', { type: 'order', payload: { id: 'one' }, receipt: true })
  assert.deepEqual([result.delivered, result.rejected?.length, result.rejected?.[0]?.reason], [0, 2, 'schema'])
  await publisher.publish('user:6', { type: 'order', payload: { id: 1 }, receipt: true })
  assert.deepEqual((await client!.next('order')).payload, { id: 1 })
  const { metrics } = await nodes[0].status()
  const rejected = (reason: string) => metrics[`publications_rejected_total{${reason}}`]
  assert.deepEqual(
    ['json', 'shape', 'type', 'reserved_type', 'unknown_key', 'schema', 'encoding'].map(rejected),
    [3, 1, 2, 1, 1, 2, 1],
  )
  const notes = (await redis.admin.lrange('push:rejected', 0, -1)).map(text => JSON.parse(text))
  const typo = notes.find(note => note.reason === 'unknown_key')
  assert.deepEqual([typo.topic, typo.sample, typo.size], ['user:6', '{"type":"x","excpet":[]}', 24])
  assert.match(typo.message, /did you mean "except"/)
  assert.ok((await redis.admin.ttl('push:rejected')) > 80_000)
})

test('close, subscribe and unsubscribe reach connections on any node', async t => {
  const clients = await bothConnect(t, '/ws?user=7')
  await redis.admin.publish('push:user:7', '{"control":"subscribe","topic":"channel:seven"}')
  for (const client of clients) {
    const { topic, seq } = (await client.next('subscribed')).payload as { topic: string; seq: number }
    assert.deepEqual([topic, seq], ['channel:seven', 0])
  }
  assert.equal((await publisher.publish('channel:seven', { type: 'x', receipt: true })).delivered, 2)
  await redis.admin.publish('push:user:7', '{"control":"unsubscribe","topic":"channel:seven"}')
  for (const client of clients) await client.next('unsubscribed')
  assert.equal((await publisher.publish('channel:seven', { type: 'x', receipt: true })).delivered, 0)
  await redis.admin.publish('push:user:7', '{"control":"close","code":4403,"reason":"revoked"}')
  for (const client of clients) assert.deepEqual(await client.closed, { code: 4403, reason: 'revoked' })
})

test('HTTP at one node reaches the connections of the other', async t => {
  const [here, there] = nodes
  const [near, far] = await bothConnect(t, '/ws?user=8')
  const [topic, target] = ['channel:eight', 'user:8']
  const obeyed = { topic: target, nodes: 2, delivered: 2, skipped: 0, complete: true }
  assert.deepEqual((await here.call('/push/subscribe', { target, topic })).body, obeyed)
  for (const client of [near!, far!]) await client.next('subscribed')
  assert.equal((await publisher.publish(topic, { type: 'x', receipt: true })).delivered, 2)
  // One connection, of the other node alone.
  const one = `connection:${far!.welcome.connection}`
  const left = await here.call('/push/unsubscribe', { target: one, topic })
  assert.deepEqual([left.body.nodes, left.body.delivered, left.body.complete], [1, 1, true])
  await far!.next('unsubscribed')
  assert.equal((await publisher.publish(topic, { type: 'x', receipt: true })).delivered, 1)
  const ended = await here.call('/push/close', { target: one, code: 4001, reason: 'from the other node' })
  assert.equal(ended.body.delivered, 1)
  assert.deepEqual(await far!.closed, { code: 4001, reason: 'from the other node' })
  assert.equal((await there.call('/push/close', { target, code: 4403 })).body.delivered, 1)
  assert.deepEqual(await near!.closed, { code: 4403, reason: '' })
  const { status, body } = await there.call('/push/status')
  assert.deepEqual([status, body.nodes, body.node === far!.welcome.node], [200, 2, true])
})

test('a ticket that one node made is good at the other, once', async () => {
  const [here, there] = nodes
  const { body } = await here.call('/push/tickets', { user: 'nine', allow: ['channel:nine'] })
  const client = await there.connect(`/ws/nine?ticket=${body.ticket}`)
  assert.equal(client.welcome.user, 'nine')
  assert.equal((await refusalOf(`ws://127.0.0.1:${here.port}/ws?ticket=${body.ticket}`)).status, 401)
})

test('a node that is frozen is missed, and nobody waits for it for long', async t => {
  const [a, b] = await bothConnect(t, '/ws?user=frozen')
  const frozen = nodes[1].process
  t.after(() => frozen.kill('SIGCONT'))
  frozen.kill('SIGSTOP')
  const began = performance.now()
  const asked = await publisher.nodes()
  const explained = await publisher.explain('user:frozen')
  const took = performance.now() - began
  frozen.kill('SIGCONT')
  const names = asked.nodes.map(({ node }) => node)
  assert.deepEqual([asked.complete, asked.expected, names.includes(b!.welcome.node)], [false, 2, false])
  assert.ok(explained.nodes.every(({ node }) => node === a!.welcome.node))
  assert.match(explained.findings[0]!, /^[12] of 2 nodes did not answer in time/)
  // Both nodes are asked twice, for a second each.
  assert.ok(took >= 1900, `${took} ms`)
  const both = async () => {
    const { complete, nodes: reports } = await publisher.explain('user:frozen')
    return complete && reports.every(({ connections }) => connections === 1)
  }
  await until(both, 'both nodes answer again')
})
