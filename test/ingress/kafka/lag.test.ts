import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Lag } from '../../../src/ingress/kafka/lag.ts'

test('it is known from the first assignment on, until the consumer fails', () => {
  const lag = new Lag()
  assert.equal(lag.total, undefined)
  lag.restart()
  assert.equal(lag.total, 0)
  lag.fetched('a/0', '10', '4')
  assert.equal(lag.total, 6)
  lag.handled('a/0', '4')
  lag.fetched('a/1', '3', '3')
  assert.equal(lag.total, 5)
  lag.restart()
  assert.equal(lag.total, 0)
  lag.forget()
  assert.equal(lag.total, undefined)
})

test('a partition that is no longer ours, and offsets beyond 2^53, do no harm', () => {
  const lag = new Lag()
  lag.restart()
  lag.handled('a/0', '5')
  assert.equal(lag.total, 0)
  lag.fetched('a/0', '9007199254740995', '9007199254740993')
  assert.equal(lag.total, 2)
})

test('it is the sum of what is behind the last message that was handled', () => {
  const partition = fc.record({ first: fc.nat(1000), length: fc.nat(100), handled: fc.nat(100) })
  fc.assert(
    fc.property(fc.array(partition, { maxLength: 10 }), partitions => {
      const lag = new Lag()
      lag.restart()
      let expected = 0
      for (const [i, { first, length, handled }] of partitions.entries()) {
        const done = Math.min(handled, length)
        lag.fetched(`t/${i}`, String(first + length), String(first))
        for (let n = 0; n < done; n++) lag.handled(`t/${i}`, String(first + n))
        expected += length - done
      }
      assert.equal(lag.total, expected)
    }),
  )
})
