import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { Type } from 'typebox'
import type { HistoryEntry } from '../../src/broker/broker.ts'
import type { PushBridgeOptions, TopicHistory } from '../../src/index.ts'
import { encodeHistory, HistoryReader, parseHistory } from '../../src/publish/history-page.ts'
import { SchemaTable } from '../../src/publish/schemas.ts'
import { buildPush, type TestApp } from '../helpers/app.ts'
import { startRedis } from '../helpers/redis.ts'
import { PATIENCE, until } from '../helpers/waiting.ts'

const history = { 'channel:r*': { size: 10, ttl: 60 } }

type MakeApp = (t: TestContext, options?: Partial<PushBridgeOptions>) => Promise<TestApp>

const onMemory: MakeApp = (t, options) => buildPush(t, { history, ...options })
const onRedis: MakeApp = async (t, options) =>
  onMemory(t, { redis: (await startRedis(t)).url, publishTimeout: PATIENCE, ...options })

const numbersOf = ({ messages }: TopicHistory) => messages.map(({ seq }) => seq)

for (const [name, make] of Object.entries({ memory: onMemory, redis: onRedis })) {
  test(`${name}: the history of a topic is read from its end, or after an id, page by page`, async t => {
    const { push } = (await make(t)).app
    const none = await push.history('channel:r')
    assert.deepEqual([none.topic, none.seq, none.messages, none.complete], ['channel:r', 0, [], true])
    const ids: string[] = []
    for (let n = 1; n <= 12; n++) ids.push((await push.publish('channel:r', { type: 'n', payload: n })).id!)
    const newest = await push.history('channel:r', { last: 2 })
    const messages = [11, 12].map(n => ({ id: ids[n - 1], seq: n, type: 'n', payload: n }))
    assert.deepEqual(newest, { topic: 'channel:r', id: ids[11], seq: 12, messages, complete: true })
    assert.deepEqual(numbersOf(await push.history('channel:r')), [3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
    const page = await push.history('channel:r', { last: 5, limit: 3 })
    assert.deepEqual([numbersOf(page), page.complete, page.next], [[8, 9, 10], false, ids[9]])
    const rest = await push.history('channel:r', { since: page.next, limit: 3 })
    assert.deepEqual([numbersOf(rest), rest.complete, rest.next, rest.gap], [[11, 12], true, undefined, undefined])
    const lost = await push.history('channel:r', { since: ids[0] })
    assert.deepEqual([numbersOf(lost), lost.gap, lost.seq, lost.complete], [[], 'history_trimmed', 12, true])
    const both = await push.history('channel:r', { since: ids[0], last: 1 })
    assert.deepEqual([numbersOf(both), both.gap], [[12], 'history_trimmed'])
    assert.equal((await push.history('channel:r', { since: '-5' })).gap, 'unknown_id')
  })

  test(`${name}: each message has its publisher, those it was not for, and its payload`, async t => {
    const { push } = (await make(t)).app
    await push.publish('channel:r', { type: 'a', from: { user: '42' }, except: 'user:1', payload: { b: [] } })
    await push.publish('channel:r', { type: 'b', from: { user: null } })
    const [a, b] = (await push.history('channel:r')).messages
    assert.deepEqual([a?.from, a?.except, a?.payload], [{ user: '42' }, ['user:1'], { b: [] }])
    assert.deepEqual([b?.from, b?.except, b?.payload], [{ user: null }, undefined, {}])
  })
}

test('a query that cannot be answered is refused by name', async t => {
  const { push } = (await onMemory(t)).app
  const refused: [topic: unknown, query: unknown, code: string, message: RegExp][] = [
    ['r', {}, 'PUSH_ERR_TOPIC', /"r" is no topic/],
    ['connection:x', {}, 'PUSH_ERR_TOPIC', /connections have no history/],
    ['channel:r', { lsat: 1 }, 'PUSH_ERR_UNKNOWN_KEY', /did you mean "last"/],
    ['channel:r', { last: 101 }, 'PUSH_ERR_FIELD', /^last is not a whole number from 1 to 100/],
    ['channel:r', { limit: 0 }, 'PUSH_ERR_FIELD', /^limit is not a whole number/],
    ['channel:r', { last: '1' }, 'PUSH_ERR_FIELD', /^last is not/],
    ['channel:r', { since: 1 }, 'PUSH_ERR_FIELD', /since is not a string/],
    ['channel:r', null, 'PUSH_ERR_FIELD', /the query is no object/],
  ]
  for (const [topic, query, code, message] of refused) {
    await assert.rejects(push.history(topic as string, query as never), { code, message })
  }
})

const entry = (seq: number, envelope: string): HistoryEntry => ({
  position: { id: `t.${seq}.1-${seq}`, seq },
  envelope: Buffer.from(envelope),
})

test('payloads are copied as they were written; what no client gets is left out, and said to be missing', async () => {
  const payload = '{"n":12345678901234567890,"f":1.0,"b":1,"a":[]}'
  const entries = [entry(1, `{"type":"n","payload":${payload},"from":{"user":"é\\""}}`), entry(2, 'junk')]
  entries.push(entry(3, '{"type":"order","payload":1}'), entry(4, '{"type":"n"}'))
  const broker = { history: async () => ({ head: entries[3]!.position, entries, isComplete: false }) }
  const reader = new HistoryReader(broker, new SchemaTable({ order: Type.String() }), 1000)
  const read = await reader.read('channel:r')
  assert.deepEqual([numbersOf(read), read.gap, read.next], [[1, 4], 'rejected', 't.4.1-4'])
  const text = encodeHistory(read)
  assert.ok(text.includes(`"payload":${payload}`), text)
  assert.deepEqual(JSON.parse(text), parseHistory(read))
  assert.deepEqual(parseHistory(read).messages[0]?.from, { user: 'é"' })
})

test('without Redis it fails in bounded time and says why', async t => {
  const redis = await startRedis(t)
  const { push } = (await onMemory(t, { redis: redis.url, publishTimeout: 500 })).app
  const isPublished = () =>
    push.publish('channel:r', { type: 'n' }).then(
      () => true,
      () => false,
    )
  await until(isPublished, 'it is published')
  await redis.kill()
  await assert.rejects(push.history('channel:r'), { code: /^PUSH_ERR_(BROKER_AWAY|UNCONFIRMED)$/ })
})
