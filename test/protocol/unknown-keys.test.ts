import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { unknownKey } from '../../src/protocol/unknown-keys.ts'

const KNOWN = ['type', 'payload', 'except', 'receipt']

test('known keys pass, and so does nothing at all', () => {
  assert.equal(unknownKey({}, KNOWN), undefined)
  assert.equal(unknownKey({ type: 1, payload: undefined }, KNOWN), undefined)
})

test('a mistyped key is answered with the one that was meant', () => {
  const table: [key: string, meant: string][] = [
    ['excpet', 'except'],
    ['typ', 'type'],
    ['payloads', 'payload'],
    ['Receipt', 'receipt'],
    ['PAYLOAD', 'payload'],
    ['reciept', 'receipt'],
  ]
  for (const [key, meant] of table) {
    assert.equal(unknownKey({ [key]: 1 }, KNOWN), `unknown key "${key}": did you mean "${meant}"?`)
  }
})

test('a key that resembles none is answered with all', () => {
  assert.equal(unknownKey({ colour: 1 }, KNOWN), 'unknown key "colour": known are type, payload, except, receipt')
  assert.match(unknownKey(JSON.parse('{"__proto__":1}'), KNOWN) ?? '', /^unknown key "__proto__": known are/)
  assert.match(unknownKey({ constructor: 1 }, KNOWN) ?? '', /^unknown key "constructor"/)
})

test('a short key is not taken for another short one', () => {
  const known = ['v', 'receipt', 'type', 'payload', 'seq', 'except']
  for (const key of ['to', 'id', 'x', 'ts']) {
    assert.match(unknownKey({ [key]: 1 }, known) ?? '', /^unknown key "\w+": known are v, receipt/, key)
  }
})

test('of two keys that resemble it the nearer one is meant', () => {
  assert.equal(unknownKey({ eceipt: 1 }, KNOWN), 'unknown key "eceipt": did you mean "receipt"?')
})

test('the first unknown key is named', () => {
  assert.match(unknownKey({ type: 1, one: 1, two: 1 }, KNOWN) ?? '', /^unknown key "one"/)
})

test('x- keys belong to the publisher where that is allowed', () => {
  assert.equal(unknownKey({ 'x-trace': 1, 'x-': 1 }, KNOWN, 'x-'), undefined)
  assert.match(unknownKey({ 'x-trace': 1 }, KNOWN) ?? '', /^unknown key "x-trace"/)
  assert.match(unknownKey({ xtrace: 1 }, KNOWN, 'x-') ?? '', /^unknown key "xtrace"/)
})

test('a key is shown in 40 characters, with what is odd in it escaped', () => {
  assert.match(unknownKey({ ['y'.repeat(1000)]: 1 }, KNOWN) ?? '', /^unknown key "y{40}…": known are/)
  assert.match(unknownKey({ 'a"\n': 1 }, KNOWN) ?? '', /^unknown key "a\\"\\n": /)
})

test('property: one edit is always recognised, and any key gets an answer', () => {
  fc.assert(
    fc.property(
      fc.constantFrom('payload', 'receipt'),
      fc.integer({ min: 1, max: 5 }),
      fc.constantFrom('q', ''),
      (meant, at, put) => {
        const key = meant.slice(0, at) + put + meant.slice(at + 1)
        assert.equal(unknownKey({ [key]: 1 }, KNOWN), `unknown key "${key}": did you mean "${meant}"?`)
      },
    ),
    { numRuns: 100 },
  )
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), key => {
      fc.pre(!KNOWN.includes(key))
      const value = Object.defineProperty({}, key, { value: 1, enumerable: true })
      assert.match(unknownKey(value, KNOWN) ?? '', /^unknown key "/)
    }),
    { numRuns: 200 },
  )
})
