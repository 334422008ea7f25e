import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  CLOSE,
  encodeMessage,
  encodePublication,
  isCloseCode,
  isReservedType,
  parseClientMessage,
  shouldReconnect,
  typeProblem,
} from '../../src/protocol/messages.ts'

test('close codes are those of the contract', () => {
  const standard = [1000, 1001, 1008, 1009, 1012, 1013]
  assert.deepEqual(Object.values(CLOSE), [...standard, 4400, 4401, 4403, 4429, 4500, 4502, 4503, 4504])
})

test('a client stays closed on 1000, 1008, 1009 and 44xx, and reconnects on everything else', () => {
  for (const code of [1000, 1008, 1009, 4400, 4401, 4403, 4429, 4499])
    assert.equal(shouldReconnect(code), false, `${code}`)
  for (const code of [1001, 1005, 1006, 1011, 1012, 1013, 1015, 3000, 4399, 4500, 4502, 4503, 4504]) {
    assert.equal(shouldReconnect(code), true, `${code}`)
  }
})

test('a program may close with what RFC 6455 lets on the wire', () => {
  for (const code of [1000, 1001, 1008, 1009, 1011, 1012, 1013, 3000, 4999])
    assert.equal(isCloseCode(code), true, `${code}`)
  for (const code of [0, 999, 1002, 1004, 1005, 1006, 1015, 2999, 5000, 1000.5, '1000', null, undefined, Number.NaN]) {
    assert.equal(isCloseCode(code), false, String(code))
  }
})

test('reserved types are those of the table, and everything under push.', () => {
  const table =
    'welcome ping pong subscribe subscribed unsubscribe unsubscribed reply error gap reconnect ack authenticate authenticated presence history push. push.x'
  for (const type of table.split(' ')) assert.equal(isReservedType(type), true, type)
  for (const type of ['push', 'pushed', 'Welcome', 'order.created', 'constructor', '__proto__']) {
    assert.equal(isReservedType(type), false, type)
  }
})

test('the grammar of types', () => {
  for (const type of ['a', 'order.created', 'a/b:c_d-E9', 'x'.repeat(128)])
    assert.equal(typeProblem(type), undefined, type)
  const SHAPE = 'type is not 1 to 128 of A-Z a-z 0-9 _ . : / -'
  for (const type of ['', 'a b', 'a\n', 'é', '"', 'x'.repeat(129), '\\']) assert.equal(typeProblem(type), SHAPE, type)
  assert.equal(typeProblem(undefined), 'type is missing: every message needs one, for example "order.created"')
  assert.equal(typeProblem(null), 'type is not a string')
  assert.equal(typeProblem(7), 'type is not a string')
})

test('client messages: what is read', () => {
  assert.deepEqual(parseClientMessage('{"type":"a"}'), { type: 'a', payload: undefined, ref: undefined })
  assert.deepEqual(parseClientMessage('{"type":"a","payload":null,"ref":0}'), { type: 'a', payload: null, ref: 0 })
  // A sign of life is one whatever else is in it.
  assert.deepEqual(parseClientMessage('{"type":"ping","sent":1}'), { type: 'ping', payload: undefined, ref: undefined })
  assert.deepEqual(parseClientMessage(`{"type":"a","ref":"${'é'.repeat(64)}"}`), {
    type: 'a',
    payload: undefined,
    ref: 'é'.repeat(64),
  })
  assert.deepEqual(parseClientMessage('{"type":"a","ref":""}'), { type: 'a', payload: undefined, ref: '' })
})

const OBJECT = 'the message is not a JSON object such as {"type":"ping"}'
const REF = 'ref is neither an integer nor a string of up to 64 characters'

const BAD: [text: string, problem: string, ref?: number | string][] = [
  ['', 'the message is not JSON'],
  ['{', 'the message is not JSON'],
  ['hello', 'the message is not JSON'],
  ['[]', OBJECT],
  ['null', OBJECT],
  ['7', OBJECT],
  ['"a"', OBJECT],
  ['{"type":"a","ref":1.5}', REF],
  ['{"type":"a","ref":9007199254740992}', REF],
  ['{"type":"a","ref":null}', REF],
  ['{"type":"a","ref":{}}', REF],
  [`{"type":"a","ref":"${'x'.repeat(65)}"}`, REF],
  ['{"ref":1}', 'type is missing: every message needs one, for example "order.created"', 1],
  ['{"type":7,"ref":"r"}', 'type is not a string', 'r'],
  ['{"type":"a b","ref":2}', 'type is not 1 to 128 of A-Z a-z 0-9 _ . : / -', 2],
  ['{"type":"a","paylaod":{},"ref":3}', 'unknown key "paylaod": did you mean "payload"?', 3],
  ['{"type":"a","topic":"all"}', 'unknown key "topic": known are type, payload, ref'],
  ['{"type":"a","__proto__":{}}', 'unknown key "__proto__": known are type, payload, ref'],
  ['{"type":"ping","ref":null}', REF],
]

for (const [text, problem, ref] of BAD) {
  test(`client message ${text.slice(0, 40)}: ${problem}`, () => {
    assert.deepEqual(parseClientMessage(text), { problem, ref })
  })
}

test('property: no text of a client throws', () => {
  const message = fc.record({ type: fc.anything(), payload: fc.anything(), ref: fc.anything() }, { requiredKeys: [] })
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.json(),
    message.map(m => JSON.stringify(m, (_, v) => (typeof v === 'bigint' ? 1 : v))),
  )
  fc.assert(
    fc.property(text, input => {
      const parsed = parseClientMessage(input)
      assert.ok('problem' in parsed ? parsed.problem.length > 0 : parsed.type.length > 0)
    }),
    { numRuns: 300 },
  )
})

test('publications: the payload is copied as it stands', () => {
  assert.equal(encodePublication('channel:x', 'a', undefined, {}), '{"type":"a","payload":{},"topic":"channel:x"}')
  assert.equal(
    encodePublication('channel:x', 'a', '[ 1.0, 12345678901234567890 ]', { seq: 0 }),
    '{"type":"a","payload":[ 1.0, 12345678901234567890 ],"topic":"channel:x","seq":0}',
  )
  assert.equal(
    encodePublication('user:"\\', 'a', 'null', { id: '1-"', seq: 42 }),
    '{"type":"a","payload":null,"topic":"user:\\"\\\\","seq":42,"id":"1-\\""}',
  )
})

test('property: a publication is JSON that says what was published', () => {
  const position = fc.record({ id: fc.string(), seq: fc.maxSafeNat() }, { requiredKeys: [] })
  fc.assert(
    fc.property(fc.jsonValue(), fc.string({ unit: 'grapheme' }), position, (payload, name, at) => {
      const text = encodePublication(`channel:${name}`, 'a.b', JSON.stringify(payload), at)
      const expected = JSON.parse(JSON.stringify({ type: 'a.b', payload, topic: `channel:${name}`, ...at }))
      assert.deepEqual(JSON.parse(text), expected)
    }),
    { numRuns: 200 },
  )
})

test('other messages: a payload without a text is null, a ref only where one was given', () => {
  assert.equal(
    encodeMessage('gap', { topics: ['all'], reason: 'overload' }),
    '{"type":"gap","payload":{"topics":["all"],"reason":"overload"}}',
  )
  assert.equal(encodeMessage('reply', undefined, 7), '{"type":"reply","payload":null,"ref":7}')
  assert.equal(encodeMessage('reply', 0, ''), '{"type":"reply","payload":0,"ref":""}')
  assert.equal(
    encodeMessage('reply', () => {}, 7),
    '{"type":"reply","payload":null,"ref":7}',
    'a function has no text',
  )
})
