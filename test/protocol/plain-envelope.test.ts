import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { decodeEnvelope } from '../../src/protocol/envelope.ts'
import { PlainEnvelope } from '../../src/protocol/plain-envelope.ts'
import { Slice } from '../../src/protocol/slice.ts'

const plain = new PlainEnvelope()

/** Between bytes that would be taken for a part of it by whoever reads past its ends. */
function matches(envelope: string | Uint8Array): boolean {
  const bytes = Buffer.from(envelope as string)
  const memory = Buffer.concat([Buffer.from('{"'), bytes, Buffer.from('"}}]\r\n0')])
  return plain.matches(new Slice(memory, 2, 2 + bytes.length))
}

/** What the strict decoder makes of it: a publication with a type, a payload and perhaps a publisher, in this order. */
function isPlain(envelope: string | Uint8Array): boolean {
  const bytes = Buffer.from(envelope as string)
  const decoded = decodeEnvelope(bytes, 1 << 20)
  const keys = Object.keys(JSON.parse(bytes.toString())).join()
  return decoded.kind === 'publication' && (keys === 'type,payload' || keys === 'type,payload,from')
}

const PLAIN = [
  '{"type":"n","payload":1}',
  '{"type":"order.created","payload":{"id":7,"text":"hi"}}',
  ' { "type" : "n" , "payload" : { "a" : [ 1 , 2 ] } \n}',
  '{"type":"n","payload":{"type":"x","payload":"y"}}',
  '{"type":"n","payload":"\\u00e9\\ud83d \\"\\\\\\/\\b\\f\\n\\r\\t"}',
  '{"type":"n","payload":"日本語 é 😀"}',
  ...['[]', '{}', '[[],{}]', 'true', 'false', 'null', '""', '0', '-0', '10', '-1.5e+10', '1E-3', '0.0'].map(
    value => `{"type":"n","payload":${value}}`,
  ),
  `{"type":"${'t'.repeat(128)}","payload":1}`,
  '{"type":"n","payload":1,"from":{"user":"42"}}',
  '{"type":"n","payload":{"from":{"user":"1"}},"from":{"user":null}}',
  ' { "type" : "n" , "payload" : 1 , "from" : { "user" : "a:b@c.example/!~" } }',
  `{"type":"n","payload":1,"from":{"user":"${'u'.repeat(200)}"}}`,
]

const NOT_PLAIN = [
  '',
  '{}',
  '[]',
  '{"payload":1,"type":"n"}',
  '{"type":"n"}',
  '{"type":"n","payload":1,"seq":1}',
  '{"type":"n","payload":1,}',
  '{"type":"n","payload":1}}',
  '{"type":"n","payload":1} ',
  '\ufeff{"type":"n","payload":1}',
  '{"type":"","payload":1}',
  '{"type":"a b","payload":1}',
  '{"type":"\\u006e","payload":1}',
  '{"type":"ping","payload":1}',
  '{"type":"push.x","payload":1}',
  `{"type":"${'t'.repeat(129)}","payload":1}`,
  ...[
    '{}',
    '{"user":}',
    '{"user":1}',
    '{"user":nul}',
    '{"user":""}',
    '{"user":"a b"}',
    '{"user":"a*"}',
    '{"user":"{}"}',
  ]
    .concat(['{"user":"\\u0061"}', '{"user":"é"}', '{"user":"a","b":1}', '{"user":"a",}', '{"user":"a"', '[]', 'null'])
    .concat([`{"user":"${'u'.repeat(201)}"}`, '{"user":"a"},', '{"user":"a"},"seq":1', '{"user":"\u007f"}'])
    .map(from => `{"type":"n","payload":1,"from":${from}}`),
  '{"type":"n","from":{"user":"a"},"payload":1}',
  ...[
    '01',
    '1.',
    '.5',
    '+1',
    '1e',
    '1e+',
    '-',
    '--1',
    'NaN',
    'tru',
    'truee',
    'nul',
    "'x'",
    '"\t"',
    '"\\x"',
    '"\\u12g4"',
  ].map(value => `{"type":"n","payload":${value}}`),
  ...['"x', '[1', '[1,]', '[,1]', '{"a"}', '{"a":}', '{"a":1,}', '{a:1}', '[1}', '{"a":1]', '1 2', ''].map(
    value => `{"type":"n","payload":${value}}`,
  ),
  Buffer.from('{"type":"n","payload":"\xff"}', 'latin1'),
  Buffer.from('{"type":"n","payload":"\xc3"}', 'latin1'),
  Buffer.from('{"type":"n","payload":"\xed\xa0\x80"}', 'latin1'),
]

test('a type and a payload and nothing else are plain, however they are spaced', () => {
  for (const envelope of PLAIN) assert.ok(matches(envelope), String(envelope))
})

test('what is wrong or unusual is not plain', () => {
  for (const envelope of NOT_PLAIN) assert.equal(matches(envelope), false, String(envelope))
})

test('the type is known until the next envelope', () => {
  assert.ok(matches('{"type":"order.created","payload":1}'))
  assert.equal(plain.type, 'order.created')
})

test('what is nested too deeply is left to the decoder, and costs no stack', () => {
  const nested = (depth: number) => `{"type":"n","payload":${'['.repeat(depth)}${']'.repeat(depth)}}`
  assert.ok(matches(nested(65)))
  assert.equal(matches(nested(66)), false)
  assert.equal(matches(nested(100_000)), false)
  assert.equal(matches(`{"type":"n","payload":${'['.repeat(100_000)}`), false)
})

test('property: any payload is plain, and what is plain is what the decoder takes', () => {
  const payload = fc.jsonValue({ maxDepth: 8 })
  fc.assert(
    fc.property(payload, fc.integer({ min: 0, max: 3 }), (value, indent) => {
      assert.ok(matches(`{"type":"n","payload":${JSON.stringify(value, undefined, indent)}}`))
    }),
  )
})

test('property: a byte more, less or other: plain only where the decoder agrees', () => {
  const seeds = fc.oneof(
    fc.constantFrom(...PLAIN),
    fc.jsonValue().map(value => `{"type":"n","payload":${JSON.stringify(value)}}`),
    fc
      .tuple(fc.jsonValue(), fc.option(fc.string()))
      .map(([value, user]) => `{"type":"n","payload":${JSON.stringify(value)},"from":${JSON.stringify({ user })}}`),
  )
  const byte = fc.oneof(fc.integer({ min: 0, max: 255 }), fc.constantFrom(...Buffer.from('{}[]":,\\u0123e.-+ tfn')))
  const change = fc.record({
    at: fc.nat(),
    removed: fc.integer({ min: 0, max: 2 }),
    added: fc.array(byte, { maxLength: 2 }),
  })
  fc.assert(
    fc.property(seeds, fc.array(change, { minLength: 1, maxLength: 3 }), (seed, changes) => {
      let bytes = Buffer.from(seed)
      for (const { at, removed, added } of changes) {
        const start = at % (bytes.length + 1)
        bytes = Buffer.concat([bytes.subarray(0, start), Buffer.from(added), bytes.subarray(start + removed)])
      }
      if (matches(bytes)) assert.ok(isPlain(bytes), bytes.toString())
    }),
    { numRuns: 5000 },
  )
})
