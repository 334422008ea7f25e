import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { binaryForm, bytesOf, stringify, withBytes, withForms } from '../../src/protocol/binary.ts'

const plain = (value: unknown) => JSON.parse(JSON.stringify(value))

test('property: bytes have a form in JSON and come back from it', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), bytes => {
      const form = binaryForm(bytes)
      assert.equal(form.$binary, Buffer.from(bytes).toString('base64'))
      assert.deepEqual(bytesOf(plain(form)), Uint8Array.from(bytes))
    }),
  )
})

test('many bytes have a form as well', () => {
  for (const length of [300_000, 8_000_000]) {
    const bytes = new Uint8Array(length).map((_, i) => i * 31)
    const back = bytesOf(binaryForm(bytes))!
    assert.ok(Buffer.from(bytes).equals(back), `${length}`)
    // Its own memory: what is sent must not change with what Node keeps in the same pool.
    assert.equal(back.buffer.byteLength, length)
  }
})

test('what only looks like the form is left alone', () => {
  const others: unknown[] = [
    null,
    'aGk=',
    {},
    [],
    ['$binary'],
    { $binary: 1 },
    { $binary: 'aGk' },
    { $binary: 'aGk-' },
    { $binary: 'a===' },
    { $binary: 'aGk=', more: 1 },
    { binary: 'aGk=' },
  ]
  for (const other of others) {
    assert.equal(bytesOf(other), undefined, JSON.stringify(other))
    assert.deepEqual(withBytes(other), other)
  }
})

test('property: bytes anywhere in a value get their form, and nothing else changes', () => {
  const value = fc.letrec(tie => ({
    any: fc.oneof(
      { maxDepth: 3 },
      fc.jsonValue({ maxDepth: 1 }),
      fc.uint8Array({ maxLength: 5 }),
      fc.array(tie('any'), { maxLength: 3 }),
      fc.dictionary(fc.string({ maxLength: 3 }), tie('any'), { maxKeys: 3 }),
    ),
  })).any
  fc.assert(
    fc.property(value, given => {
      const text = stringify(given)!
      assert.equal(text, JSON.stringify(withForms(given)))
      assert.deepEqual(plain(withForms(withBytes(JSON.parse(text)))), JSON.parse(text))
    }),
  )
})

test('JSON without bytes is that of JSON.stringify, and what it refuses is refused', () => {
  const date = new Date(0)
  for (const value of [undefined, () => {}, null, 'é', { a: undefined, at: date }, [undefined, -0]]) {
    assert.equal(stringify(value), JSON.stringify(value))
  }
  const circle: Record<string, unknown> = { bytes: new Uint8Array(1) }
  circle.self = circle
  assert.throws(() => stringify(circle), /circular/)
  assert.throws(() => stringify(1n), TypeError)
  assert.equal(
    stringify({ at: date, is: Buffer.from('hi') }),
    '{"at":"1970-01-01T00:00:00.000Z","is":{"$binary":"aGk="}}',
  )
})

test('a key __proto__ stays a key', () => {
  const parsed = withBytes(JSON.parse('{"__proto__":{"$binary":"aGk="}}')) as object
  assert.deepEqual(Object.keys(parsed), ['__proto__'])
  assert.equal(Object.getPrototypeOf(parsed), Object.prototype)
})
