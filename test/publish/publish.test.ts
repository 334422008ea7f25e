import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Type } from 'typebox'
import type { Outgoing, Sent } from '../../src/broker/broker.ts'
import { decodeEnvelope } from '../../src/protocol/envelope.ts'
import { errors, type PushError } from '../../src/protocol/errors.ts'
import { HistoryRules } from '../../src/publish/history-rules.ts'
import { type Publish, Publisher, type PublishFailure } from '../../src/publish/publish.ts'
import { MAX_BATCH } from '../../src/publish/request.ts'
import { type PublicationSchemas, SchemaTable } from '../../src/publish/schemas.ts'
import { type CreatePublisherOptions, createPublisher } from '../../src/publisher.ts'

type Answer = (item: Outgoing) => Sent | PushError

/** A publisher whose broker remembers every call. */
function setUp(options: { answer?: Answer; schemas?: PublicationSchemas; maxBytes?: number } = {}) {
  const { answer = () => ({ nodes: 1 }), schemas = {}, maxBytes = 1000 } = options
  const calls: (readonly Outgoing[])[] = []
  const broker = {
    async publish(items: readonly Outgoing[]) {
      calls.push(items)
      return items.map(answer)
    },
  }
  const publisher = new Publisher(broker, new SchemaTable(schemas), new HistoryRules(), maxBytes)
  return {
    publisher,
    publish: publisher.publish as (...args: unknown[]) => ReturnType<Publish>,
    calls,
    sent: () => calls.flat(),
  }
}

/** Answers a receipt as these nodes would. */
const answering =
  (...answers: NonNullable<Sent['answers']>): Answer =>
  ({ receipt }) =>
    receipt === undefined ? { nodes: answers.length } : { nodes: answers.length, answers, complete: true }

test('one topic, one message: the envelope, and how many nodes there were', async () => {
  const { publish, sent } = setUp({ answer: () => ({ nodes: 3 }) })
  assert.deepEqual(await publish('user:42', { type: 'notice', payload: { text: 'hi' } }), {
    topic: 'user:42',
    nodes: 3,
  })
  assert.deepEqual(sent(), [
    { topic: 'user:42', envelope: '{"type":"notice","payload":{"text":"hi"}}', receipt: undefined },
  ])
})

test('seq and except are part of the envelope, which nodes can read', async () => {
  const { publish, sent } = setUp()
  await publish('all', { type: 'a', seq: 0, except: ['user:1'] })
  assert.equal(sent()[0]?.envelope, '{"type":"a","seq":0,"except":["user:1"]}')
  assert.equal(decodeEnvelope(Buffer.from(sent()[0]!.envelope), 1000).kind, 'publication')
})

test('undefined counts as left out', async () => {
  const { publish, sent } = setUp()
  const left = { payload: undefined, seq: undefined, except: undefined, receipt: undefined, history: undefined }
  await publish('all', { type: 'a', ...left, idempotencyKey: undefined })
  assert.equal(sent()[0]?.envelope, '{"type":"a"}')
})

test('a receipt: answers of the nodes are added up', async () => {
  const { publish, sent } = setUp({
    answer: answering(
      { node: 'n1', delivered: 2, skipped: 1, reasons: { except: 1 } },
      { node: 'n2', delivered: 3, skipped: 3, reasons: { except: 1, closing: 2 } },
      { node: 'n3', delivered: 0, skipped: 0, rejected: { reason: 'schema', message: 'no' } },
    ),
  })
  assert.deepEqual(await publish('all', { type: 'a', receipt: true }), {
    topic: 'all',
    nodes: 3,
    delivered: 5,
    skipped: 4,
    complete: true,
    reasons: { except: 2, closing: 2 },
    rejected: [{ node: 'n3', reason: 'schema', message: 'no' }],
  })
  const [{ receipt, envelope }] = sent() as [Outgoing]
  assert.match(receipt!, /^[A-Za-z0-9_-]{16}$/)
  assert.equal(JSON.parse(envelope).receipt, receipt)
})

test('a receipt nobody answered to, and tokens that are never the same', async () => {
  const { publish, sent } = setUp({ answer: () => ({ nodes: 1, answers: [], complete: false }) })
  assert.deepEqual(await publish('all', { type: 'a', receipt: true }), {
    topic: 'all',
    nodes: 1,
    delivered: 0,
    skipped: 0,
    complete: false,
  })
  await publish(['all', 'user:1'], { type: 'a', receipt: true })
  assert.equal(new Set(sent().map(({ receipt }) => receipt)).size, 3)
  await publish('all', { type: 'a', receipt: false })
  assert.equal(sent().at(-1)?.receipt, undefined)
})

// ── refusals ─────────────────────────────────────────────────────────────────────────────────────────────────────

const cycle: Record<string, unknown> = {}
cycle.self = cycle

const REFUSED: [topic: unknown, message: unknown, code: string, text: string | RegExp][] = [
  ['orders', { type: 'a' }, 'TOPIC', '"orders" is no topic: write channel:NAME, user:ID, connection:ID or all'],
  ['', { type: 'a' }, 'TOPIC', /^"" is no topic/],
  ['all', undefined, 'FIELD', 'the message is not an object such as { type, payload }'],
  ['all', null, 'FIELD', 'the message is not an object such as { type, payload }'],
  ['all', 'hello', 'FIELD', 'the message is not an object such as { type, payload }'],
  ['all', [{ type: 'a' }], 'FIELD', 'the message is not an object such as { type, payload }'],
  ['all', {}, 'TYPE', 'type is missing: every message needs one, for example "order.created"'],
  ['all', { type: 7 }, 'TYPE', 'type is not a string'],
  ['all', { type: 'a b' }, 'TYPE', 'type is not 1 to 128 of A-Z a-z 0-9 _ . : / -'],
  ['all', { type: 'welcome' }, 'RESERVED_TYPE', 'type "welcome" is reserved for the protocol: choose another'],
  ['all', { type: 'push.x' }, 'RESERVED_TYPE', 'type "push.x" is reserved for the protocol: choose another'],
  ['all', { type: 'a', excpet: [] }, 'UNKNOWN_KEY', 'unknown key "excpet": did you mean "except"?'],
  ['all', { type: 'a', data: {} }, 'UNKNOWN_KEY', /^unknown key "data": known are type, payload, from, seq, /],
  ['all', { type: 'a', to: 'all' }, 'UNKNOWN_KEY', /^unknown key "to"/],
  ['all', { type: 'a', seq: -1 }, 'FIELD', 'seq is not an integer from 0 to 2^53 - 1'],
  ['all', { type: 'a', seq: 1.5 }, 'FIELD', 'seq is not an integer from 0 to 2^53 - 1'],
  ['all', { type: 'a', seq: '1' }, 'FIELD', 'seq is not an integer from 0 to 2^53 - 1'],
  ['all', { type: 'a', seq: 2 ** 53 }, 'FIELD', 'seq is not an integer from 0 to 2^53 - 1'],
  ['all', { type: 'a', receipt: 'tok' }, 'FIELD', 'receipt is neither true nor false'],
  ['all', { type: 'a', except: 'channel:x' }, 'FIELD', 'except: "channel:x" is neither user:ID nor connection:ID'],
  ['all', { type: 'a', except: null }, 'FIELD', /^except: a topic is a string .*not null$/],
  [
    'all',
    { type: 'a', except: Array(101).fill('user:1') },
    'FIELD',
    'except names 101 topics; at most 100 can be skipped',
  ],
  ['all', { type: 'a', history: { size: 1 } }, 'FIELD', /^history /],
  ['all', { type: 'a', history: { size: 0, ttl: 1 } }, 'FIELD', /^history has a size that /],
  ['all', { type: 'a', history: { size: 1, ttl: 1, tll: 2 } }, 'FIELD', /^history has an unknown key "tll"/],
  ['connection:c', { type: 'a', history: { size: 1, ttl: 1 } }, 'FIELD', /^history: connection:c is never recorded/],
  ['all', { type: 'a', idempotencyKey: 'k' }, 'FIELD', /^idempotencyKey: all is not recorded/],
  ['all', { type: 'a', history: { size: 1, ttl: 1 }, idempotencyKey: '' }, 'FIELD', /^idempotencyKey is not a string/],
  ['all', { type: 'a', payload: 1n }, 'FIELD', /^payload cannot be written as JSON: .*BigInt/],
  ['all', { type: 'a', payload: cycle }, 'FIELD', /^payload cannot be written as JSON: .*circular/],
  [
    'all',
    { type: 'a', payload: 'x'.repeat(1000) },
    'TOO_LARGE',
    'the publication has 1025 bytes; limits.publication allows 1000',
  ],
  [
    'all',
    { type: 'a', payload: 'é'.repeat(500) },
    'TOO_LARGE',
    'the publication has 1025 bytes; limits.publication allows 1000',
  ],
  ['all', { type: 'checked', payload: { n: 'x' } }, 'SCHEMA', 'type "checked": payload.n must be integer'],
  ['all', { type: 'checked' }, 'SCHEMA', 'type "checked": payload must have required properties n'],
]

for (const [topic, message, code, text] of REFUSED) {
  const shown = JSON.stringify(message === cycle ? 'cycle' : message, (k, v) =>
    k === 'self' ? 'cycle' : typeof v === 'bigint' ? '1n' : v,
  )
  test(`${code}: ${topic} ${shown?.slice(0, 50)}`, async () => {
    const { publish, publisher, calls } = setUp({ schemas: { checked: Type.Object({ n: Type.Integer() }) } })
    await assert.rejects(publish(topic, message), { code: `PUSH_ERR_${code}`, message: text })
    if (typeof message === 'object' && message !== null && !Array.isArray(message) && !('to' in message)) {
      const [failure] = await publisher.publishAll([{ to: topic, ...message }])
      assert.ok(failure && 'error' in failure)
      assert.equal(failure.topic, topic)
      assert.equal(failure.error.code, `PUSH_ERR_${code}`)
    }
    assert.deepEqual(calls, [], 'something was sent')
  })
}

test('a publication of exactly the limit passes', async () => {
  const { publish } = setUp({ maxBytes: '{"type":"a"}'.length })
  await publish('all', { type: 'a' })
  await assert.rejects(publish('all', { type: 'ab' }), { code: 'PUSH_ERR_TOO_LARGE', statusCode: 413 })
})

test('no topic at all', async () => {
  const { publish } = setUp()
  for (const to of [undefined, null, 7, {}])
    await assert.rejects(publish(to, { type: 'a' }), { code: 'PUSH_ERR_TOPIC' })
})

test('an error of the broker rejects a single publication as it is', async () => {
  const error = new errors.BROKER_AWAY('gone')
  const { publish } = setUp({ answer: () => error })
  await assert.rejects(publish('all', { type: 'a' }), thrown => thrown === error)
})

// ── batches ──────────────────────────────────────────────────────────────────────────────────────────────────────

test('many topics: results in their order, failures among them, one round trip', async () => {
  const { publish, calls } = setUp({
    answer: ({ topic }) =>
      topic === 'user:2' ? new errors.UNCONFIRMED('perhaps') : { nodes: Number(topic.slice(-1)) },
  })
  assert.deepEqual(JSON.parse(JSON.stringify(await publish(['user:1', 'nope', 'user:2', 'user:3'], { type: 'a' }))), [
    { topic: 'user:1', nodes: 1 },
    {
      topic: 'nope',
      error: {
        code: 'PUSH_ERR_TOPIC',
        message: '"nope" is no topic: write channel:NAME, user:ID, connection:ID or all',
      },
    },
    { topic: 'user:2', error: { code: 'PUSH_ERR_UNCONFIRMED', message: 'perhaps' } },
    { topic: 'user:3', nodes: 3 },
  ])
  assert.deepEqual(
    calls.map(items => items.map(({ topic }) => topic)),
    [['user:1', 'user:2', 'user:3']],
  )
})

test('a batch: requests with several topics are flattened where they stand', async () => {
  const { publish, sent } = setUp()
  const batch = [
    { to: ['user:1', 'user:2'], type: 'a', payload: 1 },
    { to: 'all', type: 'ping' },
    7,
    { to: [], type: 'b' },
    { to: 'user:3', type: 'c' },
    { type: 'd' },
  ]
  const results = (await publish(batch)) as { topic: string; error?: { code: string } }[]
  assert.deepEqual(
    results.map(({ topic, error }) => `${topic} ${error?.code ?? 'sent'}`),
    [
      'user:1 sent',
      'user:2 sent',
      'all PUSH_ERR_RESERVED_TYPE',
      ' PUSH_ERR_FIELD',
      ' PUSH_ERR_TOPIC',
      'user:3 sent',
      ' PUSH_ERR_TOPIC',
    ],
  )
  assert.deepEqual(
    sent().map(({ topic, envelope }) => [topic, JSON.parse(envelope).payload]),
    [
      ['user:1', 1],
      ['user:2', 1],
      ['user:3', undefined],
    ],
  )
})

test('an empty batch sends nothing', async () => {
  const { publish, calls } = setUp()
  assert.deepEqual(await publish([]), [])
  assert.deepEqual(calls, [])
})

test('1,000 publications at once, not one more', async () => {
  const { publish, calls, sent } = setUp()
  const request = { to: ['user:1', 'user:2'], type: 'a' }
  assert.equal(((await publish(Array(MAX_BATCH / 2).fill(request))) as unknown[]).length, MAX_BATCH)
  assert.equal(sent().length, MAX_BATCH)
  const message = 'the batch has 1002 publications; at most 1000 are taken at once'
  await assert.rejects(publish(Array(MAX_BATCH / 2 + 1).fill(request)), { code: 'PUSH_ERR_TOO_LARGE', message })
  assert.equal(calls.length, 1)
})

test('a list that is too long is refused before its messages are written out', async () => {
  const { publish } = setUp()
  let written = 0
  const payload = { toJSON: () => ++written }
  await assert.rejects(publish(Array(100_000).fill('all'), { type: 'a', payload }), { code: 'PUSH_ERR_TOO_LARGE' })
  assert.ok(written <= MAX_BATCH, `one request was written out ${written} times`)
})

test('a message is checked and written once, however many topics it is for', async () => {
  const { publish, sent } = setUp({ schemas: { checked: Type.Object({ n: Type.Integer() }) } })
  const topics = Array.from({ length: 500 }, (_, i) => `user:${i}`)
  let written = 0
  const payload = { toJSON: () => `${++written}${'x'.repeat(1000)}` }
  const results = (await publish([...topics, 'nope'], { type: 'a', payload })) as PublishFailure[]
  assert.deepEqual(
    results.map(({ error }) => error.code),
    [...topics.map(() => 'PUSH_ERR_TOO_LARGE'), 'PUSH_ERR_TOPIC'],
  )
  assert.equal(written, 1)
  let read = 0
  const checked = {
    get n() {
      read++
      return 'no number'
    },
  }
  await publish(['all'], { type: 'checked', payload: checked })
  const readOnce = read
  read = 0
  await publish(topics, { type: 'checked', payload: checked })
  assert.equal(read, readOnce)
  assert.deepEqual(sent(), [])
})

test('receipts for many topics: one text, and in it a token for each', async () => {
  const { publish, sent } = setUp()
  let written = 0
  // Whatever the payload holds, it is not the place of the token.
  const payload = { toJSON: () => ({ n: ++written, receipt: 'x', ack: true, text: '","receipt":"","ack":true}' }) }
  for (const extra of [{ receipt: true }, { ack: true }, { receipt: true, seq: 7, except: 'user:9' }]) {
    written = 0
    const before = sent().length
    await publish(['user:1', 'nope', 'user:2', 'all'], { type: 'a', payload, ...extra })
    assert.equal(written, 1)
    const published = sent().slice(before)
    assert.equal(new Set(published.map(({ receipt }) => receipt)).size, 3)
    for (const { envelope, receipt } of published) {
      const value = JSON.parse(envelope)
      assert.match(receipt!, /^[A-Za-z0-9_-]{16}$/)
      assert.equal(value.receipt, receipt)
      assert.equal(value.ack, 'ack' in extra ? true : undefined)
      assert.deepEqual(value.payload, JSON.parse(JSON.stringify({ ...payload.toJSON(), n: 1 })))
    }
  }
})

test('a topic that cannot be recorded keeps no other topic back', async () => {
  const { publish, sent } = setUp()
  const history = { size: 1, ttl: 1 }
  const results = (await publish(['connection:c', 'user:1'], { type: 'a', history })) as PublishFailure[]
  assert.deepEqual([results[0]?.error.code, sent().map(({ topic }) => topic)], ['PUSH_ERR_FIELD', ['user:1']])
})

// ── commands ─────────────────────────────────────────────────────────────────────────────────────────────────────

test('a command is an envelope with a receipt, and says how many obeyed', async () => {
  const { publisher, sent } = setUp({ answer: answering({ node: 'n1', delivered: 2, skipped: 0 }) })
  const result = await publisher.command('user:42', { kind: 'close', code: 4001, reason: 'bye' })
  assert.deepEqual(result, { topic: 'user:42', nodes: 1, delivered: 2, skipped: 0, complete: true })
  const [{ topic, envelope, receipt }] = sent() as [Outgoing]
  assert.equal(topic, 'user:42')
  assert.deepEqual(decodeEnvelope(Buffer.from(envelope), 1000), { kind: 'close', code: 4001, reason: 'bye', receipt })
})

test('a command is for a user or a connection, never for a channel or everybody', async () => {
  const { publisher, calls } = setUp()
  const close = { kind: 'close', code: 1000, reason: '' } as const
  await assert.rejects(publisher.command('all', close), {
    code: 'PUSH_ERR_TOPIC',
    message: '"all" is neither user:ID nor connection:ID',
  })
  await assert.rejects(publisher.command('channel:x', close), {
    message: '"channel:x" is neither user:ID nor connection:ID',
  })
  await assert.rejects(publisher.command('42', close), { code: 'PUSH_ERR_TOPIC', message: /^"42" is no topic/ })
  assert.deepEqual(calls, [])
})

test('a command that the broker could not carry rejects', async () => {
  const { publisher } = setUp({ answer: () => new errors.CLOSED() })
  const command = publisher.command('connection:c', { kind: 'subscribe', topic: 'channel:x' })
  await assert.rejects(command, { code: 'PUSH_ERR_CLOSED', statusCode: 503 })
})

test('createPublisher: what a node would refuse at its start is refused here too', () => {
  const redis = 'redis://127.0.0.1:1'
  for (const [options, message] of [
    [{ redis: '' }, /option redis is missing or empty/],
    [{ redis: 'localhost:6379' }, /option redis must be a URL such as "redis:\/\/127\.0\.0\.1:6379"$/],
    [{ redis: 'http://localhost' }, /option redis must be a URL such as/],
    [{ redis: 6379 }, /option redis must be a URL, ioredis options or a client$/],
    [{ redis: true }, /option redis must be a URL, ioredis options or a client$/],
    [{ redis: ['redis://a'] }, /option redis must be a URL, ioredis options or a client$/],
    [{ redis: { cluster: [] } }, /option redis cluster must be a list of URLs/],
    [{ redis: { cluster: ['10.0.0.1:6379'] } }, /option redis cluster has a server that must be a URL such as/],
    [{ redis: { cluster: [6379] } }, /option redis cluster has a server that must be a URL or have a host and a port$/],
    [{ redis, prefix: 'x' }, /unknown key "prefix"/],
    [{ redis, redisPrefix: 'my-channel:' }, /option redisPrefix/],
    [{ redis, redisPrefix: '' }, /option redisPrefix/],
    [{ redis, publishTimeout: 0 }, /option publishTimeout is not a whole number of at least 10/],
    [{ redis, maxBytes: Number.NaN }, /option maxBytes is not a whole number of at least 1/],
    [{ redis, history: { x: {} } }, /option history/],
  ] as [object, RegExp][]) {
    assert.throws(() => createPublisher(options as CreatePublisherOptions), { code: 'PUSH_ERR_OPTIONS', message })
  }
})
