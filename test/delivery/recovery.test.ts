import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { Gap, TopicState } from '../../src/protocol/messages.ts'
import type { PublishResult } from '../../src/publish/publish.ts'
import { buildPush, openConnection, type TestApp } from '../helpers/app.ts'
import { ACKS_HELD, holdAcks } from '../helpers/held-acks.ts'
import { startRedis } from '../helpers/redis.ts'
import { PATIENCE } from '../helpers/waiting.ts'

const HISTORY = {
  'channel:long': { size: 5000, ttl: 60 },
  'channel:r*': { size: 10, ttl: 60 },
  'user:*': { size: 10, ttl: 60 },
  all: { size: 10, ttl: 60 },
}

type MakeApp = (t: TestContext) => Promise<TestApp>

const onMemory: MakeApp = t => buildPush(t, { history: HISTORY })
const onRedis: MakeApp = async t => {
  const redis = await startRedis(t)
  return buildPush(t, { history: HISTORY, redis: redis.url, publishTimeout: PATIENCE })
}

const record = ({ app }: TestApp, topic: string, n: number) =>
  app.push.publish(topic, { type: 'n', payload: n }) as Promise<Required<PublishResult>>

const since = (ids: object) => `since=${encodeURIComponent(JSON.stringify(ids))}`

for (const [name, make] of Object.entries({ memory: onMemory, redis: onRedis })) {
  test(`${name}: a recorded publication has an id and a number, for the publisher and for the client`, async t => {
    const node = await make(t)
    const client = await openConnection(node.app, '/ws/r')
    const first = await record(node, 'channel:r', 1)
    assert.equal(first.seq, 1)
    assert.equal((await record(node, 'channel:r', 2)).seq, 2)
    const message = await client.next('n')
    assert.deepEqual(message, { type: 'n', payload: 1, topic: 'channel:r', seq: 1, id: first.id })
    assert.equal((await client.next('n')).seq, 2)
    const live = await node.app.push.publish('channel:other', { type: 'n' })
    assert.equal(live.id, undefined)
  })

  test(`${name}: whoever names the last id gets what it missed, in order, then live`, async t => {
    const node = await make(t)
    const client = await openConnection(node.app, '/ws')
    const ids = []
    for (let n = 1; n <= 5; n++) ids.push((await record(node, 'channel:r', n)).id)
    client.send('subscribe', { topic: 'channel:r', since: ids[1] }, 1)
    const { payload } = await client.next('subscribed')
    assert.deepEqual(payload, { topic: 'channel:r', id: ids[4], seq: 5, recovered: true })
    await record(node, 'channel:r', 6)
    for (const n of [3, 4, 5, 6]) {
      const message = await client.next('n')
      assert.deepEqual([message.payload, message.seq], [n, n])
    }
  })

  test(`${name}: a return with since in the URL recovers the topics that a connection gets by itself`, async t => {
    const node = await make(t)
    const topics = ['user:7', 'all', 'channel:room']
    const before = await openConnection(node.app, '/ws/room?user=7')
    const held = before.welcome.topics as Record<string, { id: string }>
    for (const topic of topics) assert.ok(held[topic]!.id, `${topic} has a place before anything was published`)
    before.close()
    for (const topic of topics) await record(node, topic, 1)
    const ids = Object.fromEntries(topics.map(topic => [topic, held[topic]!.id]))
    const client = await openConnection(node.app, `/ws/room?user=7&${since(ids)}`)
    for (const topic of topics) {
      const { recovered, seq } = (client.welcome.topics as Record<string, { recovered?: boolean; seq: number }>)[topic]!
      assert.deepEqual([recovered, seq], [true, 1])
    }
    const got = [await client.next('n'), await client.next('n'), await client.next('n')]
    assert.deepEqual(got.map(({ topic }) => topic).sort(), [...topics].sort())
  })

  test(`${name}: a second subscribe while a replay is under way changes nothing of what comes`, async t => {
    const node = await make(t)
    const client = await openConnection(node.app, '/ws')
    const items = Array.from({ length: 999 }, (_, n) => ({ to: 'channel:long', type: 'n', payload: n }))
    const sent = (await node.app.push.publish(items)) as Required<PublishResult>[]
    client.send('subscribe', { topic: 'channel:long', since: sent[0]!.id }, 1)
    client.send('subscribe', { topic: 'channel:long' }, 2)
    const answers = [await client.next('subscribed'), await client.next('subscribed')]
    const [first, second] = [1, 2].map(ref => answers.find(answer => answer.ref === ref)!.payload as TopicState)
    assert.equal(first!.recovered, true)
    assert.deepEqual(second, { topic: 'channel:long' }, 'what leads to the head is still to come')
    await record(node, 'channel:long', 999)
    for (let n = 1; n <= 999; n++) assert.equal((await client.next('n')).payload, n)
  })

  test(`${name}: what is trimmed is a gap, told before anything else`, async t => {
    const node = await make(t)
    const client = await openConnection(node.app, '/ws')
    const first = await record(node, 'channel:r', 1)
    for (let n = 2; n <= 12; n++) await record(node, 'channel:r', n)
    client.send('subscribe', { topic: 'channel:r', since: first.id }, 1)
    const { recovered, seq } = (await client.next('subscribed')).payload as TopicState
    assert.deepEqual([recovered, seq], [false, 12])
    assert.deepEqual((await client.next()).payload, { topics: ['channel:r'], reason: 'history_trimmed' })
    await record(node, 'channel:r', 13)
    assert.equal((await client.next()).payload, 13)
  })

  test(`${name}: ids that are none, or of another history, are gaps with a reason`, async t => {
    const node = await make(t)
    const { id } = await record(node, 'channel:r', 1)
    for (const [held, reason] of [
      ['x', 'unknown_id'],
      [id.replace(/^[^.]+/, 'elsewhere'), 'history_replaced'],
      [id.replace('.1.', '.99.'), 'history_replaced'],
    ]) {
      const client = await openConnection(node.app, '/ws')
      client.send('subscribe', { topic: 'channel:r', since: held }, 1)
      assert.equal(((await client.next('subscribed')).payload as TopicState).recovered, false)
      assert.deepEqual(((await client.next('gap')).payload as Gap).reason, reason)
    }
  })

  test(`${name}: a repeat with the same key is recorded once and says so`, async t => {
    const node = await make(t)
    const publish = () => node.app.push.publish('channel:r', { type: 'n', idempotencyKey: 'k' })
    const first = await publish()
    const again = await publish()
    assert.deepEqual([again.id, again.seq, again.duplicate], [first.id, 1, true])
    assert.equal(first.duplicate, undefined)
  })

  test(`${name}: a replay honours except, also for the user that is skipped`, async t => {
    const node = await make(t)
    const { id } = await record(node, 'channel:r', 1)
    await node.app.push.publish('channel:r', { type: 'n', payload: 2, except: 'user:9' })
    await record(node, 'channel:r', 3)
    const client = await openConnection(node.app, '/ws?user=9')
    client.send('subscribe', { topic: 'channel:r', since: id }, 1)
    await client.next('subscribed')
    assert.equal((await client.next('n')).payload, 3)
  })
}

test('ack: the result counts the connections that acknowledged, and does not wait for those that went', async t => {
  const giveUp = holdAcks(t)
  const { app } = await buildPush(t, ACKS_HELD)
  const [quick, mute, gone] = await Promise.all([1, 2, 3].map(n => openConnection(app, `/ws/room?user=${n}`)))
  const publishing = app.push.publish('channel:room', { type: 'n', ack: true })
  const { ack } = (await quick!.next('n')) as unknown as { ack: string }
  assert.match(ack, /^[\w-]{1,64}$/)
  quick!.send('ack', { token: ack })
  // Answered, which an acknowledgement is not: those before it are counted by then.
  quick!.send('ack', { token: 1 }, 6)
  assert.equal((await quick!.next('error')).ref, 6)
  await gone!.close()
  giveUp()
  const { delivered, acknowledged, complete } = await publishing
  assert.deepEqual([delivered, acknowledged, complete], [3, 1, true])
  mute!.send('ack', { token: ack })
  mute!.send('ack', { token: 1 }, 7)
  assert.equal((await mute!.next('error')).ref, 7)
  const nobody = await app.push.publish('channel:empty', { type: 'n', ack: true })
  assert.deepEqual([nobody.nodes, nobody.delivered], [0, 0])
})
