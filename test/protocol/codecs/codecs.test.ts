import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Encoder, encode } from '@msgpack/msgpack'
import fc from 'fast-check'
import type { Codec } from '../../../src/protocol/codecs/codec.ts'
import { msgpack } from '../../../src/protocol/codecs/msgpack.ts'
import { protobuf } from '../../../src/protocol/codecs/protobuf.ts'
import { envelopeToJson, msgpackProblem, strictMsgpack } from '../../../src/protocol/codecs/strict-msgpack.ts'

const CODECS: Record<string, Codec> = { msgpack, 'msgpack of strangers': strictMsgpack, protobuf }

const bytes = fc.uint8Array({ maxLength: 12 }).map(given => Uint8Array.from(given))
const text = fc.string({ unit: 'grapheme', maxLength: 12 })
const number = fc.oneof(
  fc.maxSafeInteger(),
  fc.integer(),
  fc.double({ noNaN: true, noDefaultInfinity: true }).map(n => (Object.is(n, -0) ? 0 : n)),
)
const value = fc.letrec(tie => ({
  any: fc.oneof(
    { maxDepth: 4 },
    fc.constantFrom<unknown>(null, true, false),
    number,
    text,
    bytes,
    fc.array(tie('any'), { maxLength: 4 }),
    fc.dictionary(
      text.filter(key => key !== '__proto__'),
      tie('any'),
      { maxKeys: 4, noNullPrototype: true },
    ),
  ),
})).any

/** With every key that a message may have. */
const message = fc.record(
  {
    type: fc.stringMatching(/^[a-z.]{1,20}$/),
    payload: value,
    topic: text,
    seq: fc.maxSafeNat(),
    id: text,
    from: fc.record({ user: fc.option(text) }, { noNullPrototype: true }),
    ack: text,
    ref: fc.oneof(fc.maxSafeInteger(), text),
  },
  { requiredKeys: ['type'], noNullPrototype: true },
)

/** As they come from a socket: a part of memory that others share. */
function received(sent: Uint8Array): Buffer {
  return Buffer.concat([Buffer.alloc(3), sent, Buffer.alloc(2)]).subarray(3, 3 + sent.length)
}

/** Every list of bytes as of one class: a decoder may give a view of a Buffer. */
function uniform(given: unknown): unknown {
  if (given instanceof Uint8Array) return Uint8Array.from(given)
  if (Array.isArray(given)) return given.map(uniform)
  if (typeof given !== 'object' || given === null) return given
  return Object.fromEntries(Object.entries(given).map(([key, item]) => [key, uniform(item)]))
}

for (const [name, codec] of Object.entries(CODECS)) {
  test(`property: ${name} reads what it writes`, () => {
    fc.assert(
      fc.property(message, given => {
        assert.deepEqual(uniform(codec.decodeMessage(received(codec.encodeMessage(given)))), given)
      }),
      { numRuns: 500 },
    )
  })

  test(`${name}: long texts, many items and many bytes`, () => {
    for (const size of [31, 32, 127, 128, 255, 256, 16_383, 16_384, 65_535, 65_536, 100_000]) {
      const payload = [
        'x'.repeat(size),
        'ü'.repeat(size),
        new Uint8Array(size),
        Array(size).fill(7),
        Object.fromEntries(Array.from({ length: Math.min(size, 70_000) }, (_, i) => [`k${i}`, i])),
      ]
      assert.deepEqual(uniform(codec.decodeMessage(codec.encodeMessage({ type: 'a', payload }))), {
        type: 'a',
        payload,
      })
    }
  })

  test(`${name}: what is undefined is not there, and a Date is its text`, () => {
    const at = new Date(0)
    const payload = { at, list: [at], none: undefined, is: Buffer.from('hi') }
    const written = codec.encodeMessage({ type: 'a', payload, ref: undefined })
    const expected = { at: at.toJSON(), list: [at.toJSON()], is: Uint8Array.from(Buffer.from('hi')) }
    assert.deepEqual(uniform(codec.decodeMessage(written)), { type: 'a', payload: expected })
  })

  test(`${name}: a hundred objects inside each other, and not one more`, () => {
    const nested = (depth: number) => {
      let payload: unknown = 'deepest'
      for (let i = 0; i < depth; i++) payload = i % 2 ? [payload] : { a: payload }
      return { type: 'a', payload }
    }
    const deepest = nested(99)
    assert.deepEqual(codec.decodeMessage(codec.encodeMessage(deepest)), deepest)
    assert.throws(() => codec.encodeMessage(nested(100)), /it is nested more than 100 deep/)
    assert.throws(() => codec.encodeMessage(nested(20_000)), /it is nested more than 100 deep/)
  })

  test(`${name}: a value that goes round in a circle, or has no form, is an error`, () => {
    const circle: unknown[] = []
    circle.push(circle)
    const clock = { toJSON: () => clock }
    for (const payload of [circle, clock, { n: 1n }, [() => {}], [Symbol('s')]]) {
      assert.throws(() => codec.encodeMessage({ type: 'a', payload }), Error)
    }
  })
}

for (const codec of [strictMsgpack, protobuf]) {
  test(`property: no bytes of strangers make ${codec.name} do more than read or throw an Error`, () => {
    const written = message.map(given => codec.encodeMessage(given))
    const broken = fc
      .tuple(written, fc.nat(), fc.uint8Array({ maxLength: 6 }), fc.nat({ max: 6 }))
      .map(([whole, at, more, less]) => {
        const from = at % (whole.length + 1)
        return Buffer.concat([whole.subarray(0, from), more, whole.subarray(from + less)])
      })
    fc.assert(
      fc.property(fc.oneof(fc.uint8Array({ maxLength: 60 }), broken), given => {
        let read: unknown
        try {
          read = codec.decodeMessage(received(Uint8Array.from(given)))
        } catch (error) {
          assert.ok(error instanceof Error && error.message.length > 0)
          return
        }
        // What is taken is taken whole, and JSON can say it too.
        assert.doesNotThrow(() => JSON.stringify(read))
      }),
      { numRuns: 3000 },
    )
    assert.equal(Object.keys(Object.prototype).length, 0)
  })
}

const nil = 0xc0
/** A message with this payload. */
const withPayload = (...payload: number[]) => [0x82, 0xa4, ...Buffer.from('type'), 0xa1, 0x61, 0xa1, 0x70, ...payload]

const HOSTILE: [what: string, bytes: number[], problem: RegExp][] = [
  ['nothing', [], /ends too early/],
  ['a map that ends', [0x81], /ends too early/],
  ['a text that ends', withPayload(0xa5, 0x61), /ends too early/],
  ['a length that ends', withPayload(0xdb, 0xff), /ends too early/],
  ['a list of four billion', withPayload(0xdd, 0xff, 0xff, 0xff, 0xff), /ends too early/],
  ['a map of four billion', [0xdf, 0xff, 0xff, 0xff, 0xff], /ends too early/],
  ['four gigabytes', withPayload(0xc6, 0xff, 0xff, 0xff, 0xff), /ends too early/],
  ['more behind it', [0x80, nil], /more bytes follow/],
  ['a number as a key', [0x81, 0x01, nil], /a key that is not a text/],
  ['a map as a key', [0x81, 0x80, nil], /a key that is not a text/],
  ['bytes as a key', [0x81, 0xc4, 0x01, 0x61, nil], /a key that is not a text/],
  ['__proto__', [0x81, 0xa9, ...Buffer.from('__proto__'), 0x80], /the key __proto__/],
  ['__proto__ with a long head', [0x81, 0xd9, 9, ...Buffer.from('__proto__'), 0x80], /the key __proto__/],
  ['a timestamp', withPayload(0xd6, 0xff, 0, 0, 0, 0), /an extension type/],
  ['an extension', withPayload(0xc7, 0x01, 0x05, 0x00), /an extension type/],
  ['0xc1', withPayload(0xc1), /0xc1/],
  ['NaN', withPayload(0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0), /not finite/],
  ['infinity in four bytes', withPayload(0xca, 0x7f, 0x80, 0, 0), /not finite/],
  ['2^53', withPayload(0xcf, 0, 0x20, 0, 0, 0, 0, 0, 0), /beyond 2\^53/],
  ['-2^63', withPayload(0xd3, 0x80, 0, 0, 0, 0, 0, 0, 0), /beyond 2\^53/],
  ['a text that is not UTF-8', withPayload(0xa2, 0xc3, 0x28), /not UTF-8/],
  ['a key that is not UTF-8', [0x81, 0xa1, 0xff, nil], /not UTF-8/],
  ['depth', withPayload(...Array(100).fill(0x91), nil), /nested more than 100 deep/],
]

for (const [what, given, problem] of HOSTILE) {
  test(`msgpack of strangers: ${what} is refused`, () => {
    assert.match(msgpackProblem(received(Uint8Array.from(given)))!, problem)
    assert.throws(() => strictMsgpack.decodeMessage(Uint8Array.from(given)), problem)
    assert.throws(() => envelopeToJson(Uint8Array.from(given)), problem)
  })
}

test('msgpack of strangers: lists that claim to be as long as the rest take no memory for it', () => {
  // Each claims as many items as bytes follow: a decoder that believed it would take gigabytes.
  const size = 60_000
  const bomb = Buffer.alloc(size)
  for (let at = 0; at + 5 <= size; at += 5) {
    bomb[at] = 0xdd
    bomb.writeUInt32BE(size - at - 5, at + 1)
  }
  assert.match(msgpackProblem(bomb)!, /nested more than 100 deep|ends too early/)
})

test('property: what MessagePack says and JSON can say is taken', () => {
  const writers = [new Encoder(), new Encoder({ forceIntegerToFloat: true }), new Encoder({ sortKeys: true })]
  fc.assert(
    fc.property(message, fc.constantFrom(...writers), (given, writer) => {
      assert.equal(msgpackProblem(writer.encode(given)), undefined)
    }),
    { numRuns: 300 },
  )
})

test('an envelope in MessagePack is the same in JSON, with bytes in their form', () => {
  const payload = { text: 'hi', n: -7, big: 2 ** 53 - 1, half: 0.5, no: null, list: [], is: Buffer.from('hi') }
  assert.equal(
    envelopeToJson(encode({ type: 'notice', payload, except: ['user:1'] })),
    '{"type":"notice","payload":{"text":"hi","n":-7,"big":9007199254740991,"half":0.5,"no":null,"list":[],' +
      '"is":{"$binary":"aGk="}},"except":["user:1"]}',
  )
  // What a program without a library would write.
  const bare = [
    0x82,
    0xa4,
    ...Buffer.from('type'),
    0xa6,
    ...Buffer.from('notice'),
    0xa7,
    ...Buffer.from('payload'),
    0x2a,
  ]
  assert.equal(envelopeToJson(Uint8Array.from(bare)), '{"type":"notice","payload":42}')
})

test('protobuf: depth, half fields and keys of strangers', () => {
  const nested = (depth: number) => {
    let inner = Buffer.from([])
    // A list (7) with an item (1): lengths of two bytes are enough.
    for (let i = 0; i < depth; i++) {
      const item = Buffer.concat([Buffer.from([0x0a, (inner.length & 0x7f) | 0x80, inner.length >> 7]), inner])
      inner = Buffer.concat([Buffer.from([0x3a, (item.length & 0x7f) | 0x80, item.length >> 7]), item])
    }
    return Buffer.concat([Buffer.from([0x0a, 1, 0x61, 0x12, (inner.length & 0x7f) | 0x80, inner.length >> 7]), inner])
  }
  assert.equal(JSON.stringify(protobuf.decodeMessage(nested(99))).length, '{"type":"a","payload":}'.length + 99 * 2 + 4)
  assert.throws(() => protobuf.decodeMessage(nested(100)), /nested more than 100 deep/)
  const proto = protobuf.encodeMessage({ type: 'a', payload: { protoproto: 1 } })
  const at = Buffer.from(proto).indexOf('protoproto')
  const entry = Buffer.from(proto)
  entry.write('__proto__x', at)
  assert.deepEqual(protobuf.decodeMessage(entry), { type: 'a', payload: { __proto__x: 1 } })
  const real = Buffer.from(protobuf.encodeMessage({ type: 'a', payload: { protoprot: 1 } }))
  real.write('__proto__', real.indexOf('protoprot'))
  assert.throws(() => protobuf.decodeMessage(real), /the key __proto__/)
  assert.throws(() => protobuf.decodeMessage(Buffer.from([0x0a, 5, 0x61])), RangeError)
  // An inner field that is longer than the outer one.
  assert.throws(() => protobuf.decodeMessage(Buffer.from([0x12, 2, 0x2a, 9, 0x61, 0x61])), Error)
  assert.throws(() => protobuf.decodeMessage(Buffer.from([0x08, 1])), /wire type/)
  assert.throws(() => protobuf.decodeMessage(Buffer.from([0x0a, 1, 0xff])), Error)
})

test('protobuf: fields of later versions are named, and inside of a payload skipped', () => {
  const later = Buffer.concat([protobuf.encodeMessage({ type: 'a' }), Buffer.from([0x78, 1])])
  assert.deepEqual(protobuf.decodeMessage(later), { type: 'a', 'field 15': null })
  assert.deepEqual(protobuf.decodeMessage(Buffer.from([0x0a, 1, 0x61, 0x12, 2, 0x78, 1])), { type: 'a', payload: null })
})
