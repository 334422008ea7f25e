import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { earliest, idAfter, isBefore } from '../../../src/broker/redis/stream-ids.ts'

const part = fc.oneof(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), fc.bigInt({ min: 0n, max: 3n }))
const id = fc.tuple(part, part).map(([time, number]) => `${time}-${number}`)

test('one after an id is later, and nothing is between them', () => {
  assert.equal(idAfter('5-3'), '5-4')
  assert.equal(idAfter(`5-${2n ** 64n - 1n}`), '6-0')
  fc.assert(
    fc.property(id, id, (a, b) => {
      assert.ok(isBefore(a, idAfter(a)))
      if (isBefore(a, b)) assert.ok(!isBefore(b, idAfter(a)))
    }),
  )
})

test('ids are ordered as numbers, not as text, and exactly one of two is first', () => {
  assert.ok(isBefore('9-0', '10-0') && isBefore('1-9', '1-10'))
  // Both are the same number for a double.
  assert.ok(isBefore('9007199254740992-0', '9007199254740993-0'))
  fc.assert(
    fc.property(id, id, (a, b) => {
      assert.equal(Number(isBefore(a, b)) + Number(isBefore(b, a)), a === b ? 0 : 1)
    }),
  )
})

test('the earliest of many is one of them, and none is before it', () => {
  assert.equal(earliest([]), undefined)
  fc.assert(
    fc.property(fc.array(id, { minLength: 1 }), ids => {
      const least = earliest(ids)!
      assert.ok(ids.includes(least) && !ids.some(other => isBefore(other, least)))
    }),
  )
})
