import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { LoopLoad } from '../../src/broker/loop-load.ts'
import { FlushScheduler } from '../../src/delivery/flush-scheduler.ts'

interface Rhythm {
  /** Milliseconds that a round takes, and that the event loop has other work besides. */
  took: number
  other: number
  /** Milliseconds after which the next comes, and how many runs it is for. */
  every: number
  runs: number
}

/** How long each of a hundred rounds had to wait. */
function waits({ took, other, every, runs }: Rhythm): number[] {
  let now = 1000
  let idle = 0
  const scheduler = new FlushScheduler(new LoopLoad(now, () => idle))
  const pass = (milliseconds: number) => {
    now += milliseconds
    idle += Math.max(0, milliseconds - other)
  }
  return Array.from({ length: 100 }, () => {
    const wait = Math.max(0, scheduler.rest(now, 'calm'))
    pass(wait)
    for (let n = 0; n < runs; n++) scheduler.gather()
    scheduler.flushed(now, now + took, true)
    now += took
    pass(Math.max(other, every - took - wait))
    return wait
  })
}

const milliseconds = fc.integer({ min: 1, max: 20 })

test('on a node that has time nothing waits', () => {
  const property = fc.property(milliseconds, milliseconds, fc.integer({ min: 1, max: 9 }), (took, other, runs) => {
    const every = (took + other) * 2
    assert.ok(waits({ took, other, every, runs }).every(wait => wait === 0))
  })
  fc.assert(property)
})

test('a busy node gathers, and no longer than five milliseconds', () => {
  // What else there is to do takes less than the rest would.
  const property = fc.property(milliseconds, fc.integer({ min: 1, max: 9 }), (took, other) => {
    fc.pre(other < Math.min(5, took / 4))
    const found = waits({ took, other, every: took + other, runs: 4 })
    assert.equal(found[0], 0)
    assert.ok(found.filter(wait => wait > 0).length > 20, `${found}`)
    assert.ok(found.every(wait => wait <= 5))
  })
  fc.assert(property)
})

test('what comes alone leaves alone, however busy the node is', () => {
  assert.ok(waits({ took: 20, other: 5, every: 20, runs: 1 }).every(wait => wait === 0))
})

test('a round in several slices is one round, which nothing interrupts', () => {
  const scheduler = new FlushScheduler(new LoopLoad(0, () => 0))
  for (let now = 0; now < 400; now += 8) {
    scheduler.gather()
    scheduler.flushed(now, now + 8, false)
    assert.ok(scheduler.isFlushing)
    assert.equal(scheduler.rest(now + 8, 'flowing'), 0)
  }
  scheduler.flushed(400, 408, true)
  assert.equal(scheduler.isFlushing, false)
  assert.equal(scheduler.rest(408, 'calm'), 5)
  assert.equal(scheduler.rest(408, 'flowing'), 30)
  assert.equal(scheduler.rest(408, 'behind'), 60)
})
