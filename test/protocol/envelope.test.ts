import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  type Control,
  type Decoded,
  decodeEnvelope,
  encodeControl,
  encodeEnvelope,
  exceptProblem,
  isTarget,
  type RejectReason,
} from '../../src/protocol/envelope.ts'
import { closeProblem } from '../../src/protocol/messages.ts'
import { rawValue } from '../../src/protocol/raw-json.ts'

const LIMIT = 64 * 1024

function decode(envelope: string | Uint8Array, maxBytes = LIMIT): Decoded {
  return decodeEnvelope(typeof envelope === 'string' ? Buffer.from(envelope) : envelope, maxBytes)
}

/** The text of each reject reason stands in logs, receipts and push:rejected: people act on it. */
const REJECTED: [envelope: string | Uint8Array, reason: RejectReason, message: string | RegExp][] = [
  [`{"type":"${'a'.repeat(LIMIT)}"}`, 'too_large', /^the envelope has 65547 bytes; limits.publication allows 65536$/],
  [Buffer.from([0x7b, 0xff, 0x7d]), 'encoding', /^the envelope is not UTF-8 \(in PHP: json_encode with /],
  [Buffer.from([0xed, 0xa0, 0x80]), 'encoding', /^the envelope is not UTF-8/],
  ['', 'json', 'the envelope is empty'],
  ['\ufeff{"type":"a"}', 'json', 'the envelope begins with a byte order mark: write UTF-8 without BOM'],
  ['{"type":"a"', 'json', 'the envelope is broken JSON'],
  ["{'type':'a'}", 'json', 'the envelope is broken JSON'],
  ['hello', 'json', /^the envelope is not JSON: write an object such as \{"type":"notice","payload":\{\}\}$/],
  ['[]', 'shape', /^the envelope is not a JSON object such as/],
  ['null', 'shape', /^the envelope is not a JSON object such as/],
  ['"text"', 'shape', /^the envelope is not a JSON object such as/],
  ['{"type":"a","v":2}', 'version', 'the envelope is of version 2; this node reads up to 1: update the node first'],
  ['{"control":"close","v":2}', 'version', /^the envelope is of version 2/],
  ['{"type":"a","excpet":[]}', 'unknown_key', 'unknown key "excpet": did you mean "except"?'],
  [
    '{"type":"a","__proto__":{}}',
    'unknown_key',
    /^unknown key "__proto__": known are v, ext, receipt, type, payload, /,
  ],
  ['{"type":"a","code":1000}', 'unknown_key', /^unknown key "code"/],
  ['{"type":"a","ext":[]}', 'field', 'ext must be object'],
  ['{"type":"a","ext":null}', 'field', 'ext must be object'],
  ['{"control":"close","ext":"x"}', 'field', 'ext must be object'],
  ['{"type":"a","exts":{}}', 'unknown_key', 'unknown key "exts": did you mean "ext"?'],
  ['{"control":"close","payload":{}}', 'unknown_key', /^unknown key "payload"/],
  ['{}', 'type', 'type is missing: every message needs one, for example "order.created"'],
  ['{"type":7}', 'type', 'type is not a string'],
  ['{"type":""}', 'type', 'type is not 1 to 128 of A-Z a-z 0-9 _ . : / -'],
  ['{"type":"a\\n"}', 'type', 'type is not 1 to 128 of A-Z a-z 0-9 _ . : / -'],
  ['{"type":"welcome"}', 'reserved_type', 'type "welcome" is reserved for the protocol: choose another'],
  ['{"type":"push.x"}', 'reserved_type', 'type "push.x" is reserved for the protocol: choose another'],
  ['{"type":"a","seq":-1}', 'field', 'seq must be >= 0'],
  ['{"type":"a","seq":1.5}', 'field', 'seq must be integer'],
  ['{"type":"a","seq":9007199254740992}', 'field', 'seq must be <= 9007199254740991'],
  ['{"type":"a","v":0}', 'field', 'v must be >= 1'],
  ['{"type":"a","v":"1"}', 'field', 'v must be integer'],
  ['{"type":"a","receipt":"a b"}', 'field', /^receipt must match pattern/],
  ['{"type":"a","except":7}', 'field', /^except: a topic is a string such as "channel:orders", not a value of type/],
  ['{"type":"a","except":null}', 'field', /^except: a topic is a string .* not null$/],
  ['{"type":"a","except":"channel:x"}', 'field', 'except: "channel:x" is neither user:ID nor connection:ID'],
  ['{"type":"a","except":["user:1","all"]}', 'field', 'except: "all" is neither user:ID nor connection:ID'],
  ...['null', '7', '"42"', '[]', '["user"]', '{}', '{"user":42}', '{"user":"1","name":"x"}', '{"usr":"1"}'].map(
    (from): [string, RejectReason, string] => [
      `{"type":"a","from":${from}}`,
      'field',
      'from is neither {"user":"42"} nor {"user":null}',
    ],
  ),
  ['{"type":"a","from":{"user":""}}', 'field', 'from.user is empty'],
  ['{"type":"a","from":{"user":"a b"}}', 'field', /^from\.user has white space/],
  [`{"type":"a","from":{"user":"${'u'.repeat(201)}"}}`, 'field', 'from.user is longer than 200 bytes'],
  ['{"control":"close","from":{"user":"1"}}', 'unknown_key', /^unknown key "from"/],
  ['{"control":"stop"}', 'field', 'control is none of close, subscribe, unsubscribe'],
  ['{"control":null}', 'field', 'control is none of close, subscribe, unsubscribe'],
  ['{"control":"close","code":1006}', 'field', /^code is none of 1000, 1001, .* or 3000 to 4999$/],
  ['{"control":"close","code":"1000"}', 'field', 'code must be integer'],
  ['{"control":"close","reason":7}', 'field', 'reason must be string'],
  [`{"control":"close","reason":"${'é'.repeat(62)}"}`, 'field', 'reason is longer than 123 bytes'],
  ['{"control":"subscribe"}', 'field', /^topic: a topic is a string such as "channel:orders"/],
  ['{"control":"subscribe","topic":"orders"}', 'field', /^topic: "orders" is no topic: write channel:NAME/],
]

for (const [envelope, reason, message] of REJECTED) {
  const shown = typeof envelope === 'string' ? envelope.slice(0, 50) : `bytes ${Buffer.from(envelope).toString('hex')}`
  test('a change of who is there may be larger than a publication, up to a limit of its own', () => {
    const delta = (users: number) =>
      JSON.stringify({
        control: 'presence',
        epoch: 'e',
        version: 1,
        mark: '6b0964804d8f1',
        after: '',
        count: users,
        anonymous: 0,
        left: Array.from({ length: users }, (_, i) => `user-${i}-${'x'.repeat(90)}`),
      })
    assert.equal(decode(delta(1000)).kind, 'presence')
    assert.ok(delta(1000).length > LIMIT)
    assert.equal(decode(delta(3000)).kind, 'rejected')
    assert.equal(decode(`{"type":"presence","payload":"${'x'.repeat(LIMIT)}"}`).kind, 'rejected')
  })

  test(`${reason}: ${JSON.stringify(shown)}`, () => {
    const decoded = decode(envelope)
    assert.ok(decoded.kind === 'rejected', `taken for ${decoded.kind}`)
    assert.equal(decoded.reason, reason)
    if (typeof message === 'string') assert.equal(decoded.message, message)
    else assert.match(decoded.message, message)
  })
}

test('an envelope of exactly the limit passes', () => {
  const envelope = '{"type":"a"}'
  assert.equal(decode(envelope, envelope.length).kind, 'publication')
  assert.equal(decode(envelope, envelope.length - 1).kind, 'rejected')
})

test('a minimal publication has no payload, nobody to skip and no receipt', () => {
  assert.deepEqual(decode('{"type":"order.created"}'), {
    kind: 'publication',
    type: 'order.created',
    payload: undefined,
    value: undefined,
    from: undefined,
    seq: undefined,
    except: [],
    ack: false,
    receipt: undefined,
  })
})

test('every field of a publication is read, x- keys and v are let pass', () => {
  const text =
    ' {"v":1,"x-trace":"t","seq":7,"except":["user:1","connection:c"],"receipt":"tok-1_","from":{ "user":"42" },"payload":{ "n": 1.0 },"type":"a"} '
  assert.deepEqual(decode(text), {
    kind: 'publication',
    type: 'a',
    payload: '{ "n": 1.0 }',
    value: { n: 1 },
    from: { user: '42' },
    seq: 7,
    except: ['user:1', 'connection:c'],
    ack: false,
    receipt: 'tok-1_',
  })
})

test('ext may be there and hold anything, and is none of what is delivered', () => {
  const later = '"ext":{"compressed":true,"payload":[1],"type":null}'
  const plain = decode('{"type":"a","payload":{"n":1}}')
  const extended = decode(`{"type":"a","payload":{"n":1},${later}}`)
  assert.deepEqual(extended, { ...plain, ...JSON.parse(`{${later}}`) })
  assert.deepEqual(decode(`{${later},"type":"a","payload":{"n":1}}`), extended)
  assert.deepEqual(decode(`{"control":"close",${later}}`), decode('{"control":"close"}'))
})

test('except may be a single topic', () => {
  const decoded = decode('{"type":"a","except":"user:1"}')
  assert.deepEqual(decoded.kind === 'publication' && decoded.except, ['user:1'])
})

test('100 topics can be skipped, 101 cannot', () => {
  const topics = Array.from({ length: 101 }, (_, i) => `user:${i}`)
  assert.equal(decode(encodeEnvelope({ type: 'a', except: topics.slice(1) })).kind, 'publication')
  assert.equal(exceptProblem(topics), 'except names 101 topics; at most 100 can be skipped')
  const decoded = decode(encodeEnvelope({ type: 'a', except: topics }))
  assert.equal(decoded.kind === 'rejected' && decoded.reason, 'field')
})

test('a payload of null is a payload', () => {
  const decoded = decode('{"type":"a","payload":null}')
  assert.deepEqual(decoded.kind === 'publication' && [decoded.payload, decoded.value], ['null', null])
})

test('a rejection carries the receipt token if it is usable, so that the publisher is answered', () => {
  const receiptOf = (text: string) => (decode(text) as { receipt?: string }).receipt
  assert.equal(receiptOf('{"type":"ping","receipt":"tok"}'), 'tok')
  assert.equal(receiptOf('{"control":"nope","receipt":"tok"}'), 'tok')
  assert.equal(receiptOf('{"type":"a","v":9,"receipt":"tok"}'), 'tok')
  assert.equal(receiptOf('{"type":"ping","receipt":"a b"}'), undefined)
  assert.equal(receiptOf('{"type":"ping","receipt":7}'), undefined)
})

test('commands: defaults, and the round trip of each', () => {
  assert.deepEqual(decode('{"control":"close"}'), { kind: 'close', code: 1000, reason: '', receipt: undefined })
  const controls: Control[] = [
    { kind: 'close', code: 4401, reason: 'é'.repeat(61), receipt: 'tok' },
    { kind: 'subscribe', topic: 'channel:x', receipt: undefined },
    { kind: 'unsubscribe', topic: 'channel:ä.x', receipt: 'tok' },
  ]
  for (const control of controls) assert.deepEqual(decode(encodeControl(control)), control)
})

test('a close is checked before it is sent', () => {
  assert.equal(closeProblem(4000, ''), undefined)
  assert.equal(closeProblem(1000, 'x'.repeat(123)), undefined)
  assert.equal(closeProblem(1000, 'x'.repeat(124)), 'reason is longer than 123 bytes')
  assert.equal(closeProblem(1000, 7), 'reason is not a string')
  for (const code of [999, 1002, 1005, 1006, 1015, 2999, 5000, 4000.5, '4000', null]) {
    assert.match(closeProblem(code, '') ?? '', /^code is none of/, String(code))
  }
})

test('only users and connections can be commanded', () => {
  assert.deepEqual(['user:1', 'connection:c', 'channel:x', 'all', 'user:', 7].map(isTarget), [
    true,
    true,
    false,
    false,
    false,
    false,
  ])
})

test('what JSON has no text for is thrown by the encoder', () => {
  const cycle: Record<string, unknown> = {}
  cycle.self = cycle
  assert.throws(() => encodeEnvelope({ type: 'a', payload: cycle }), TypeError)
  assert.throws(() => encodeEnvelope({ type: 'a', payload: 1n }), TypeError)
})

test('an offset into a larger buffer is respected', () => {
  const bytes = Buffer.from('xxx{"type":"a","payload":"ü"}yyy')
  const decoded = decodeEnvelope(bytes.subarray(3, bytes.length - 3), LIMIT)
  assert.deepEqual(decoded.kind === 'publication' && decoded.payload, '"ü"')
})

test('a deeply nested payload is taken or refused, and nothing is thrown', () => {
  const depth = 30_000
  const payload = '['.repeat(depth) + ']'.repeat(depth)
  const decoded = decode(`{"type":"a","payload":${payload}}`)
  assert.equal(decoded.kind === 'publication' && decoded.payload, payload)
})

test('property: arbitrary bytes never throw', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), bytes => {
      assert.equal(decode(bytes).kind, 'rejected')
    }),
    { numRuns: 300 },
  )
})

test('property: arbitrary JSON never throws', () => {
  const key = fc.constantFrom(
    'type',
    'payload',
    'seq',
    'except',
    'receipt',
    'v',
    'control',
    'code',
    'topic',
    'x-y',
    '__proto__',
  )
  const value = fc.oneof(fc.json(), fc.constantFrom('"a"', '"close"', '1', '"channel:x"', '["user:1"]'))
  const envelope = fc.array(fc.tuple(key, value)).map(pairs => `{${pairs.map(([k, v]) => `"${k}":${v}`).join(',')}}`)
  fc.assert(
    fc.property(fc.oneof(fc.json(), envelope), text => {
      assert.ok(decode(text).kind)
    }),
    { numRuns: 300 },
  )
})

test('property: what is encoded is decoded to the same', () => {
  const parts = fc.record({
    type: fc.stringMatching(/^[A-Za-z0-9_.:/-]{1,128}$/).map(type => `t${type}`.slice(0, 128)),
    payload: fc.jsonValue(),
    from: fc.option(
      fc.option(fc.stringMatching(/^[^\s{}*\p{C}]{1,50}$/u)).map(user => ({ user })),
      { nil: undefined },
    ),
    seq: fc.option(fc.maxSafeNat(), { nil: undefined }),
    except: fc.option(fc.array(fc.nat().map(n => `user:${n}`)), { nil: undefined }),
    receipt: fc.option(fc.stringMatching(/^[A-Za-z0-9_-]{1,64}$/), { nil: undefined }),
  })
  fc.assert(
    fc.property(parts, given => {
      assert.deepEqual(decode(encodeEnvelope(given)), {
        kind: 'publication',
        type: given.type,
        payload: JSON.stringify(given.payload),
        value: JSON.parse(JSON.stringify(given.payload)),
        from: given.from,
        seq: given.seq,
        except: given.except ?? [],
        ack: false,
        receipt: given.receipt,
      })
    }),
    { numRuns: 200 },
  )
})

// ── rawValue ─────────────────────────────────────────────────────────────────────────────────────────────────────

const space = fc.string({ unit: fc.constantFrom(' ', '\n', '\r', '\t'), maxLength: 3 })

const character = fc.oneof(
  fc.constantFrom('"', '\\', '{', '}', '[', ']', ',', ':', '/', '\n', ' ', '\u2028', 'é', '😀'),
  fc.string({ unit: 'binary', minLength: 1, maxLength: 1 }),
)

/** JSON text of a string, some characters of it written as escapes although they need none. */
const stringText = (content: fc.Arbitrary<string>) =>
  fc.tuple(content, fc.infiniteStream(fc.boolean())).map(([text, escaped]) => {
    const units = [...text].map(unit => {
      if (escaped.next().value)
        return unit.replaceAll(/[\s\S]/g, c => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)
      return JSON.stringify(unit).slice(1, -1)
    })
    return `"${units.join('')}"`
  })

const { value: valueText } = fc.letrec<{ value: string }>(tie => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.constantFrom('12345678901234567890', '1.0', '-0', '1e5', '0.10E-7', 'true', 'false', 'null', '{}', '[]', '""'),
    stringText(fc.string({ unit: character, maxLength: 6 })),
    fc
      .tuple(space, fc.array(tie('value'), { maxLength: 3 }), space)
      .map(([a, items, b]) => `[${a}${items.join(`${b},${a}`)}${b}]`),
    fc
      .tuple(
        space,
        fc.array(fc.tuple(stringText(fc.string({ unit: character, maxLength: 4 })), tie('value')), { maxLength: 3 }),
      )
      .map(
        ([gap, entries]) => `{${gap}${entries.map(([k, v]) => `${k}${gap}:${gap}${v}`).join(`${gap},${gap}`)}${gap}}`,
      ),
  ),
}))

const KEYS = ['payload', 'type', '', 'payload"', '\\', 'a:b', '{', '}', ',', 'pay load', '__proto__']

const objectText = fc
  .tuple(
    fc.array(fc.tuple(stringText(fc.constantFrom(...KEYS)), valueText), { maxLength: 6 }),
    fc.infiniteStream(space),
  )
  .map(([entries, spaces]) => {
    const gap = () => spaces.next().value as string
    const inner = entries.map(([key, value]) => `${gap()}${key}${gap()}:${gap()}${value}${gap()}`).join(',')
    return { entries, text: `${gap()}{${inner || gap()}}${gap()}` }
  })

test('property: rawValue is byte for byte what stands in the text', () => {
  fc.assert(
    fc.property(objectText, ({ entries, text }) => {
      JSON.parse(text)
      for (const key of KEYS) {
        const expected = entries.findLast(([token]) => JSON.parse(token) === key)?.[1]
        assert.equal(rawValue(text, key), expected, `key ${JSON.stringify(key)} of ${text}`)
      }
    }),
    { numRuns: 300 },
  )
})

test('rawValue: the last of two equal keys counts, nested keys do not, numbers and spaces stay', () => {
  assert.equal(rawValue('{"payload":1,"payload":2}', 'payload'), '2')
  assert.equal(rawValue('{"a":{"payload":1},"b":["payload",{"payload":2}]}', 'payload'), undefined)
  assert.equal(
    rawValue('{"payload":1,"p\\u0061yload" : [ 1.0 , 12345678901234567890 ] }', 'payload'),
    '[ 1.0 , 12345678901234567890 ]',
  )
  assert.equal(rawValue('{"a":"\\\\\\"","payload":"}\\""}', 'payload'), '"}\\""')
  assert.equal(rawValue('{}', 'payload'), undefined)
})
