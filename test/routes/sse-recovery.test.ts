import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { decodeEventId, encodeEventId, MAX_EVENT_ID } from '../../src/protocol/event-id.ts'
import type { Gap, TopicState } from '../../src/protocol/messages.ts'
import type { Topic } from '../../src/protocol/topic.ts'
import { buildPush, type TestApp } from '../helpers/app.ts'
import { type EventReader, openStream, topicsOf } from '../helpers/event-stream.ts'
import { startNode } from '../helpers/nodes.ts'
import { startRedis } from '../helpers/redis.ts'

const HISTORY = { 'channel:*': { size: 10, ttl: 60 }, 'user:*': { size: 10, ttl: 60 } }

const build = (t: TestContext, history: object = HISTORY) =>
  buildPush(t, { sse: true, history: history as typeof HISTORY })

const record = ({ app }: TestApp, topic: string, payload: unknown) => app.push.publish(topic, { type: 'n', payload })

async function payloadsOf(reader: EventReader, count: number): Promise<unknown[]> {
  const payloads: unknown[] = []
  while (payloads.length < count) payloads.push((await reader.next('n')).payload)
  return payloads
}

const back = (id: string) => ({ 'last-event-id': id })

test('a client that comes back with its last event gets what it missed of each topic, in order, then live', async t => {
  const node = await build(t)
  const query = `${topicsOf('channel:a', 'channel:b')}&user=7`
  const before = await openStream(t, node.port, query)
  await before.welcomed()
  for (const [topic, n] of [
    ['channel:a', 1],
    ['channel:b', 2],
    ['user:7', 3],
  ] as const)
    await record(node, topic, n)
  await payloadsOf(before, 3)
  before.leave()
  for (const [topic, n] of [
    ['channel:a', 4],
    ['channel:b', 5],
    ['user:7', 6],
    ['channel:a', 7],
  ] as const) {
    await record(node, topic, n)
  }
  // EventSource sends the header; curl and polyfills may write it into the URL.
  for (const [how, headers] of [
    [query, back(before.lastEventId)],
    [`${query}&lastEventId=${before.lastEventId}`, {}],
  ] as const) {
    const after = await openStream(t, node.port, how, headers)
    const { topics } = await after.welcomed()
    for (const topic of ['channel:a', 'channel:b', 'user:7']) assert.equal(topics[topic]!.recovered, true, topic)
    const messages = [await after.message(), await after.message(), await after.message(), await after.message()]
    const on = (topic: string) => messages.filter(message => message.topic === topic).map(({ payload }) => payload)
    assert.deepEqual([on('channel:a'), on('channel:b'), on('user:7')], [[4, 7], [5], [6]])
    await node.app.push.publish('all', { type: 'live' })
    assert.equal((await after.message()).type, 'live')
    after.leave()
  }
})

test('a client that had no message yet goes on from its welcome', async t => {
  const node = await build(t)
  await record(node, 'channel:a', 'before')
  const first = await openStream(t, node.port, '?topics=channel:a')
  await first.welcomed()
  first.leave()
  for (const n of [1, 2, 3]) await record(node, 'channel:a', n)
  const second = await openStream(t, node.port, '?topics=channel:a', back(first.lastEventId))
  assert.equal((await second.welcomed()).topics['channel:a']!.recovered, true)
  // Its welcome names the head, but three messages come before it: a client that has read no more is where it was.
  const at = (id: string) => decodeEventId(id).since.get('channel:a')
  const welcomed = at(second.takenId || first.lastEventId)
  assert.equal(welcomed, at(first.lastEventId))
  assert.deepEqual(await payloadsOf(second, 3), [1, 2, 3])
  assert.notEqual(at(second.takenId), welcomed)
})

test('since in the URL is for the beginning, the last event for a return', async t => {
  const node = await build(t)
  const { id } = await record(node, 'channel:a', 1)
  await record(node, 'channel:a', 2)
  const query = `?topics=channel:a&since=${encodeURIComponent(JSON.stringify({ 'channel:a': id }))}`
  const first = await openStream(t, node.port, query)
  assert.deepEqual(await payloadsOf(first, 1), [2])
  first.leave()
  await record(node, 'channel:a', 3)
  const second = await openStream(t, node.port, query, back(first.lastEventId))
  assert.deepEqual(await payloadsOf(second, 1), [3])
})

test('what the history no longer has is a gap, and the client goes on behind it', async t => {
  const node = await build(t)
  const before = await openStream(t, node.port, '?topics=channel:a')
  await before.welcomed()
  await record(node, 'channel:a', 0)
  await payloadsOf(before, 1)
  before.leave()
  for (let n = 1; n <= 20; n++) await record(node, 'channel:a', n)
  const after = await openStream(t, node.port, '?topics=channel:a', back(before.lastEventId))
  const { id, recovered } = (await after.welcomed()).topics['channel:a'] as TopicState
  assert.equal(recovered, false)
  const gap = (await after.next('gap')).payload as Gap
  assert.deepEqual([gap.topics, gap.reason], [['channel:a'], 'history_trimmed'])
  await record(node, 'channel:a', 'live')
  assert.equal((await after.next('n')).payload, 'live')
  const position = decodeEventId(after.lastEventId).since.get('channel:a')
  assert.ok(position !== undefined && position !== id)
})

test('topics for which the id had no room are a gap and never silence', async t => {
  const node = await build(t)
  const positions = new Map<Topic, string>()
  for (let i = 0; i < 100; i++) positions.set(`channel:${'x'.repeat(60)}${i}`, 't.1.1-0')
  const id = encodeEventId(positions)
  assert.equal(decodeEventId(id).isWhole, false)
  const left = [...positions.keys()].find(topic => !decodeEventId(id).since.has(topic))!
  const reader = await openStream(t, node.port, topicsOf(left), back(id))
  assert.equal((await reader.welcomed()).topics[left]!.recovered, false)
  for (;;) {
    const { topics, reason } = (await reader.next('gap')).payload as Gap
    assert.equal(reason, 'unknown_id')
    if (topics.includes(left)) break
  }
})

test('property: a forged, foreign or oversized id is a gap, never an error, and the stream goes on', async t => {
  const node = await build(t, { 'channel:*': { size: 10_000, ttl: 60 } })
  await record(node, 'channel:a', 0)
  const forged = fc.oneof(
    fc.stringMatching(/^[!-~]{1,300}$/),
    fc.json().map(text => Buffer.from(text).toString('base64url')),
    fc.stringMatching(/^[a-z]\.\d{1,5}\.\d-\d$/).map(id => encodeEventId(new Map([['channel:a', id]]))),
    fc.constant('x'.repeat(MAX_EVENT_ID + 1)),
  )
  let n = 0
  const isGap = fc.asyncProperty(forged, async id => {
    const reader = await openStream(t, node.port, '?topics=channel:a', back(id))
    assert.equal(reader.status, 200)
    const { topics } = await reader.welcomed()
    const { since, isWhole } = decodeEventId(id)
    if (!isWhole || since.has('channel:a')) {
      assert.equal(topics['channel:a']!.recovered, false)
      await reader.next('gap')
    }
    const last = ++n
    await record(node, 'channel:a', last)
    // A position that many ask for is read once a second: what came since then follows the gap.
    let at = (await reader.next('n')).payload as number
    while (at < last) assert.equal((await reader.next('n')).payload, ++at)
    assert.equal(at, last)
    reader.leave()
  })
  await fc.assert(isGap, { numRuns: 25 })
})

test('two nodes and one Redis: a client that comes back to the other node misses nothing', async t => {
  const redis = await startRedis(t)
  const nodes = await Promise.all([startNode(t, redis.url), startNode(t, redis.url)])
  const say = async (n: number) => {
    const { status } = await nodes[0].push({ to: 'channel:chat1', type: 'n', payload: n })
    assert.equal(status, 200)
  }
  const first = await openStream(t, nodes[0].port, '?topics=channel:chat1')
  await first.welcomed()
  await say(1)
  assert.deepEqual(await payloadsOf(first, 1), [1])
  first.leave()
  for (const n of [2, 3, 4]) await say(n)
  const second = await openStream(t, nodes[1].port, '?topics=channel:chat1', back(first.lastEventId))
  assert.equal((await second.welcomed()).topics['channel:chat1']!.recovered, true)
  assert.deepEqual(await payloadsOf(second, 3), [2, 3, 4])
  await say(5)
  assert.deepEqual(await payloadsOf(second, 1), [5])
  // A publisher that writes its JSON in lines.
  await redis.admin.publish('push:channel:chat1', '{\r\n "type": "lines",\n "payload": {"n": 1}\n}')
  assert.deepEqual((await second.next('lines')).payload, { n: 1 })
})
