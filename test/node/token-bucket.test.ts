import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { TokenBucket } from '../../src/node/token-bucket.ts'

test('so many a second, twice as many in a burst, and what is refused costs nothing', () => {
  const bucket = new TokenBucket(10, 0)
  const taken = (now: number) => {
    let count = 0
    while (bucket.take(now)) count++
    return count
  }
  assert.equal(bucket.isFull(0), true)
  assert.equal(taken(0), 20)
  assert.equal(bucket.isFull(0), false)
  assert.equal(bucket.wait(0), 0.1)
  assert.equal(taken(99), 0)
  assert.equal(taken(1000), 10)
  assert.equal(bucket.isFull(2999), false)
  assert.equal(bucket.isFull(3000), true)
  assert.equal(bucket.wait(3000), 0)
  assert.equal(taken(1_000_000), 20)
})

test('property: never more than the burst and the rate, whatever the moments', () => {
  const moments = fc.array(fc.integer({ min: 0, max: 500 }), { minLength: 1, maxLength: 400 })
  const property = fc.property(fc.integer({ min: 1, max: 50 }), moments, (rate, steps) => {
    const bucket = new TokenBucket(rate, 0)
    let [now, taken] = [0, 0]
    for (const step of steps) {
      now += step
      if (bucket.take(now)) taken++
      assert.ok(taken <= rate * 2 + (now / 1000) * rate + 1e-6, `${taken} of ${rate} a second after ${now} ms`)
    }
  })
  fc.assert(property)
})
