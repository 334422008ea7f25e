import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Type } from 'typebox'
import type { Outgoing, Sent } from '../../src/broker/broker.ts'
import { Metrics } from '../../src/broker/metrics.ts'
import { Intake, type Verdict } from '../../src/ingress/intake.ts'
import { errors, type PushError } from '../../src/protocol/errors.ts'
import { matchesPattern } from '../../src/protocol/topic.ts'
import { HistoryRules } from '../../src/publish/history-rules.ts'
import { Publisher } from '../../src/publish/publish.ts'
import { SchemaTable } from '../../src/publish/schemas.ts'
import { Tally } from '../../src/publish/tally.ts'

const RULE = { size: 10, ttl: 60 }
const TOPICS = ['channel:*', 'user:42', 'connection:*']

type Answer = (item: Outgoing) => Sent | PushError

/** An intake whose broker remembers what it was given. `channel:orders.*` is recorded. */
function setUp({ answer = () => ({ nodes: 1 }), topics = TOPICS }: { answer?: Answer; topics?: string[] } = {}) {
  const sent: Outgoing[] = []
  const broker = {
    async publish(items: readonly Outgoing[]) {
      sent.push(...items)
      return items.map(answer)
    },
  }
  const rules = new HistoryRules({ 'channel:orders.*': RULE })
  const metrics = new Metrics()
  const schemas = new SchemaTable({ order: Type.Object({ id: Type.Integer() }) })
  const publisher = new Publisher(broker, schemas, rules, 1000).countedBy(new Tally(metrics, 'ingress'))
  const lines: Record<string, unknown>[] = []
  const log = { warn: (fields: object) => void lines.push(fields as Record<string, unknown>) }
  const intake = new Intake({ name: 'road', topics, publisher, rules, maxBytes: 1000, metrics, log: log as never })
  const take = (request: unknown, key = '1-0') => intake.take(JSON.stringify(request), key)
  return { intake, take, sent, metrics, lines }
}

const PUBLISHED: Verdict = { outcome: 'published', isDuplicate: false }

test('a request is published as POST /push would, and a topic that is not recorded gets no key', async () => {
  const { take, sent } = setUp()
  const request = {
    to: 'user:42',
    type: 'notice',
    payload: { text: 'hi' },
    except: 'user:1',
    from: { user: '7' },
    seq: 3,
  }
  assert.deepEqual(await take(request), PUBLISHED)
  assert.equal(
    sent[0]!.envelope,
    '{"type":"notice","payload":{"text":"hi"},"from":{"user":"7"},"seq":3,"except":"user:1"}',
  )
  assert.deepEqual([sent.length, sent[0]!.topic, sent[0]!.idempotencyKey], [1, 'user:42', undefined])
})

test('bytes and text are the same', async () => {
  const { intake, sent } = setUp()
  const body = '{"to":"user:42","type":"notice","payload":"ä"}'
  await intake.take(body, '1')
  await intake.take(Buffer.from(body), '2')
  assert.equal(sent[0]!.envelope, sent[1]!.envelope)
})

test('a recorded topic gets a key of the delivery: the same when it comes again, another for another one', async () => {
  const { take, sent } = setUp()
  for (const key of ['1-0', '1-0', '2-0'])
    await take({ to: 'channel:orders.7', type: 'order', payload: { id: 1 } }, key)
  await take({ to: 'channel:other', type: 'notice', history: RULE }, '1-0')
  assert.deepEqual(
    sent.map(({ idempotencyKey }) => idempotencyKey),
    ['ingress:road 1-0', 'ingress:road 1-0', 'ingress:road 2-0', 'ingress:road 1-0'],
  )
  assert.ok(sent.every(({ history }) => history?.size === RULE.size))
})

test('a key that is too long for Redis is shortened, and two of them do not become one', async () => {
  const { take, sent } = setUp()
  for (const end of ['a', 'b', 'a']) await take({ to: 'channel:orders.7', type: 'n' }, `${'x'.repeat(500)}${end}`)
  const [first, second, third] = sent.map(({ idempotencyKey }) => idempotencyKey!)
  assert.equal(first, third)
  assert.notEqual(first, second)
  assert.ok(Buffer.byteLength(first!) <= 200)
})

test('the key of the publisher is its own, and where it could do nothing it is refused', async () => {
  const { take, sent } = setUp()
  assert.deepEqual(await take({ to: 'channel:orders.7', type: 'n', idempotencyKey: 'mine' }), PUBLISHED)
  assert.equal(sent[0]!.idempotencyKey, 'mine')
  const verdict = await take({ to: 'channel:other', type: 'n', idempotencyKey: 'mine' })
  assert.equal(verdict.outcome, 'refused')
})

test('several topics are several publications: only those that are recorded get a key', async () => {
  const { take, sent, metrics } = setUp()
  assert.deepEqual(await take({ to: ['channel:a', 'channel:orders.1', 'user:42'], type: 'n' }), PUBLISHED)
  assert.deepEqual(sent.map(({ topic, idempotencyKey }) => [topic, idempotencyKey]).toSorted(), [
    ['channel:a', undefined],
    ['channel:orders.1', 'ingress:road 1-0'],
    ['user:42', undefined],
  ])
  assert.equal(metrics.snapshot()['publications_sent_total{ingress}'], 3)
})

const REFUSED: [what: string, body: string | Uint8Array, code: string, message: RegExp][] = [
  ['nothing', '', 'JSON', /broken JSON/],
  ['no JSON', '{"to":"user:42",', 'JSON', /broken JSON/],
  ['no UTF-8', Buffer.from([0x22, 0xff, 0x22]), 'JSON', /not UTF-8/],
  ['a list', '[{"to":"user:42","type":"n"}]', 'FIELD', /an object such as/],
  ['null', 'null', 'FIELD', /an object such as/],
  ['a mistyped key', '{"to":"user:42","type":"n","excpet":"all"}', 'UNKNOWN_KEY', /did you mean "except"/],
  ['a receipt', '{"to":"user:42","type":"n","receipt":true}', 'UNKNOWN_KEY', /"receipt"/],
  ['a command', '{"to":"user:42","control":"close"}', 'UNKNOWN_KEY', /"control"/],
  ['a prototype', '{"to":"user:42","type":"n","__proto__":{"history":1}}', 'UNKNOWN_KEY', /__proto__/],
  ['no topic', '{"type":"n"}', 'TOPIC', /a topic is a string/],
  ['no topics', '{"to":[],"type":"n"}', 'TOPIC', /empty list/],
  ['a topic that is none', '{"to":"order:1","type":"n"}', 'TOPIC', /no topic/],
  ['no type', '{"to":"user:42"}', 'TYPE', /./],
  ['a reserved type', '{"to":"user:42","type":"welcome"}', 'RESERVED_TYPE', /reserved/],
  ['a payload that does not match', '{"to":"user:42","type":"order","payload":{"id":"x"}}', 'SCHEMA', /id/],
  ['a topic without a right', '{"to":"all","type":"n"}', 'FORBIDDEN', /road may not publish on all: its option topics/],
  ['a connection with a history', '{"to":"connection:x","type":"n","history":{"size":1,"ttl":1}}', 'FIELD', /recorded/],
  ['a history that is none', '{"to":"channel:a","type":"n","history":{"size":0,"ttl":1}}', 'FIELD', /history/],
  ['an own key that is none', '{"to":"channel:orders.1","type":"n","idempotencyKey":5}', 'FIELD', /idempotencyKey/],
  [
    'too large a publication',
    JSON.stringify({ to: 'user:42', type: 'n', payload: 'x'.repeat(1000) }),
    'TOO_LARGE',
    /limits/,
  ],
  ['too large a body', `{"to":"user:42","type":"n"}${' '.repeat(4000)}`, 'TOO_LARGE', /at most 4000/],
  ['too many topics', JSON.stringify({ to: Array(1001).fill('all'), type: 'n' }), 'TOO_LARGE', /./],
]

for (const [what, body, code, message] of REFUSED) {
  test(`refused at once: ${what}`, async () => {
    const { intake, sent, metrics, lines } = setUp()
    const verdict = await intake.take(body, '1-0')
    assert.ok(verdict.outcome === 'refused', JSON.stringify(verdict))
    assert.equal(verdict.code, `PUSH_ERR_${code}`)
    assert.match(verdict.message, message)
    assert.equal(sent.length, 0)
    assert.equal(metrics.snapshot()['ingress_refused_total{road}'], 1)
    assert.deepEqual([lines.length, lines[0]!.key, lines[0]!.code], [1, '1-0', verdict.code])
  })
}

test('what can be published of a request is, and the rest is counted and told', async () => {
  const { take, sent, metrics, lines } = setUp()
  assert.deepEqual(await take({ to: ['all', 'channel:a', 'nonsense'], type: 'n' }), PUBLISHED)
  assert.deepEqual(
    sent.map(({ topic }) => topic),
    ['channel:a'],
  )
  assert.equal(metrics.snapshot()['publications_failed_total{PUSH_ERR_FORBIDDEN}'], 1)
  assert.equal(metrics.snapshot()['publications_failed_total{PUSH_ERR_TOPIC}'], 1)
  assert.equal(metrics.snapshot()['ingress_published_total{road}'], 1)
  assert.deepEqual([lines.length, lines[0]!.topic, lines[0]!.code], [1, 'all', 'PUSH_ERR_FORBIDDEN'])
})

test('no line has a payload, also if the JSON breaks in it', async () => {
  const { intake, lines } = setUp()
  await intake.take('{"to":"user:42","type":"n","payload":"secret', '1-0')
  assert.equal(lines.length, 1)
  assert.doesNotMatch(JSON.stringify(lines), /secret/)
})

const reply = (message: string) => Object.assign(new Error(message), { name: 'ReplyError' })

const FAILED: [what: string, error: PushError, isTemporary: boolean][] = [
  ['Redis is away', new errors.BROKER_AWAY('away'), true],
  ['no answer', new errors.UNCONFIRMED('no answer'), true],
  ['too many calls wait', new errors.BUSY('busy'), true],
  ['the broker is closed', new errors.CLOSED(), true],
  ['Redis is full', new errors.BROKER_AWAY('x', { cause: reply('OOM command not allowed') }), true],
  ['Redis refuses this topic', new errors.BROKER_AWAY('x', { cause: reply('NOPERM No permissions') }), false],
  ['nothing can be recorded', new errors.UNSUPPORTED('x'), false],
]

for (const [what, error, isTemporary] of FAILED) {
  test(`to be tried again, ${isTemporary ? 'however often' : 'some times'}: ${what}`, async () => {
    const { take, metrics } = setUp({ answer: () => error })
    const verdict = await take({ to: 'user:42', type: 'n' })
    assert.deepEqual(verdict, { outcome: 'failed', code: error.code, message: error.message, isTemporary })
    assert.equal(metrics.snapshot()['ingress_failed_total{road}'], 1)
  })
}

test('one topic that fails makes the whole request fail: it is tried again', async () => {
  const { take } = setUp({
    answer: ({ topic }) => (topic === 'channel:b' ? new errors.UNCONFIRMED('x') : { nodes: 1 }),
  })
  assert.equal((await take({ to: ['channel:a', 'channel:b', 'all'], type: 'n' })).outcome, 'failed')
})

test('a broker that throws is a failure, and nothing is thrown', async () => {
  const { take } = setUp({
    answer: () => {
      throw new Error('a mistake')
    },
  })
  const verdict = await take({ to: 'user:42', type: 'n' })
  assert.ok(verdict.outcome === 'failed')
  assert.deepEqual([verdict.code, verdict.isTemporary], ['PUSH_ERR_INTERNAL', false])
  assert.doesNotMatch(verdict.message, /mistake/)
})

test('a duplicate is one only if all of it was published before', async () => {
  const position = { id: '1', seq: 1 }
  const { take } = setUp({ answer: ({ topic }) => ({ nodes: 1, position, duplicate: topic !== 'channel:orders.2' }) })
  assert.deepEqual(await take({ to: 'channel:orders.1', type: 'n' }), { outcome: 'published', isDuplicate: true })
  assert.deepEqual(await take({ to: ['channel:orders.1', 'channel:orders.2'], type: 'n' }), PUBLISHED)
})

test('whatever comes, there is a verdict, and nothing is published where the road has no right', async () => {
  const topic = fc.constantFrom('channel:a', 'channel:orders.1', 'user:42', 'user:43', 'all', 'connection:c', '', 'x:y')
  const request = fc.record(
    {
      to: fc.oneof(topic, fc.array(topic), fc.anything()),
      type: fc.oneof(fc.constantFrom('n', 'order', 'ping', ''), fc.anything()),
      payload: fc.anything(),
      history: fc.oneof(fc.constant(RULE), fc.anything()),
      idempotencyKey: fc.oneof(fc.constant('k'), fc.anything()),
      except: fc.anything(),
      seq: fc.anything(),
      from: fc.anything(),
    },
    { requiredKeys: [] },
  )
  const text = (value: unknown) => {
    try {
      return JSON.stringify(value) ?? ''
    } catch {
      return ''
    }
  }
  const body = fc.oneof(request.map(text), fc.json(), fc.string(), fc.uint8Array())
  await fc.assert(
    fc.asyncProperty(body, fc.string(), async (given, key) => {
      const { intake, sent } = setUp()
      const { outcome } = await intake.take(given, key)
      assert.equal(outcome === 'published', sent.length > 0)
      for (const it of sent) {
        assert.ok(TOPICS.some(pattern => matchesPattern(pattern, it.topic)))
        assert.equal(it.idempotencyKey !== undefined, it.history !== undefined)
      }
    }),
    { numRuns: 500 },
  )
})
