import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Pace } from '../src/pace.ts'

/** Rounds of `took` milliseconds, each for so many runs, the next of which comes `every` milliseconds. */
function run({ took, every, runs, rounds }: { took: number; every: number; runs: number; rounds: number }): number[] {
  const pace = new Pace()
  const rests: number[] = []
  let now = 1000
  for (let i = 0; i < rounds; i++) {
    rests.push(Math.max(0, pace.rest(now, false)))
    now += rests.at(-1)!
    for (let n = 0; n < runs; n++) pace.gather()
    pace.flushed(now, now + took, true)
    now += Math.max(took, every - rests.at(-1)!)
  }
  return rests
}

test('a node that is not busy never lets anything wait', () => {
  const property = fc.property(fc.integer({ min: 1, max: 50 }), fc.integer({ min: 1, max: 9 }), (took, runs) => {
    assert.ok(run({ took, every: took * 2 + 1, runs, rounds: 100 }).every(rest => rest === 0))
  })
  fc.assert(property)
})

test('a busy node gathers, and no longer than ten milliseconds', () => {
  const rests = run({ took: 8, every: 8, runs: 4, rounds: 100 })
  assert.equal(rests[0], 0)
  assert.ok(rests.filter(rest => rest > 0).length > 20, `${rests}`)
  assert.ok(rests.every(rest => rest <= 10))
})

test('what comes alone leaves alone, however busy the node is', () => {
  assert.ok(run({ took: 20, every: 20, runs: 1, rounds: 100 }).every(rest => rest === 0))
})

test('a round in several slices is one round, which nothing interrupts', () => {
  const pace = new Pace()
  for (let now = 0; now < 400; now += 8) {
    pace.gather()
    pace.gather()
    pace.flushed(now, now + 8, false)
    assert.ok(pace.isFlushing)
    assert.equal(pace.rest(now + 8, true), 0)
  }
  pace.flushed(400, 408, true)
  assert.equal(pace.isFlushing, false)
  assert.equal(pace.rest(408, false), 10)
  assert.equal(pace.rest(408, true), 30)
})
