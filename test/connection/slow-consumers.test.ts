import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { type Consumer, SlowConsumers } from '../../src/connection/slow-consumers.ts'

/** One whose backlog the test plays. */
class Peer implements Consumer {
  buffered: number
  readonly name: string
  readonly #onEnd: (name: string) => void
  isDroppable = true

  constructor(name: string, buffered: number, onEnd: (name: string) => void) {
    this.name = name
    this.buffered = buffered
    this.#onEnd = onEnd
  }

  giveUp(): boolean {
    if (this.isDroppable) this.#onEnd(this.name)
    return this.isDroppable
  }

  cut(): void {
    this.#onEnd(`${this.name} cut`)
  }
}

function setUp(t: TestContext, time = 10_000) {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const slow = new SlowConsumers<Peer>(1000, time)
  const ended: string[] = []
  const peer = (name: string, buffered = 2000) => new Peer(name, buffered, it => ended.push(it))
  const pass = (milliseconds: number) => {
    for (let i = 0; i < milliseconds; i++) t.mock.timers.tick(1)
  }
  t.after(() => slow.close())
  return { slow, ended, peer, pass }
}

for (const late of [0, 1, 500, 999]) {
  test(`over the budget from ${late} ms after a sweep: given up after the time, within a tenth of it`, t => {
    const { slow, ended, peer, pass } = setUp(t)
    slow.waits(peer('other'))
    pass(1000 + late)
    slow.waits(peer('a'))
    pass(10_000)
    assert.ok(!ended.includes('a'))
    pass(1000)
    assert.ok(ended.includes('a'))
    pass(100_000)
    assert.equal(ended.length, 2, 'once each')
  })
}

test('below the budget no time is counted, and coming back above it begins anew', t => {
  const { slow, ended, peer, pass } = setUp(t)
  const [low, dipping] = [peer('low', 1000), peer('dipping')]
  slow.waits(low)
  slow.waits(dipping)
  pass(9000)
  dipping.buffered = 1000
  pass(1000)
  dipping.buffered = 1001
  slow.waits(dipping)
  pass(10_000)
  assert.deepEqual(ended, [])
  pass(1000)
  assert.deepEqual(ended, ['dipping'])
})

test('who reads and stays over the budget is given no more time than who does not', t => {
  const { slow, ended, peer, pass } = setUp(t)
  const [reading, stuck] = [peer('reading'), peer('stuck')]
  slow.waits(reading)
  slow.waits(stuck)
  for (let i = 0; i < 110; i++) {
    pass(100)
    slow.progressed(reading)
    slow.waits(stuck)
  }
  assert.deepEqual(ended.toSorted(), ['reading', 'stuck'])
})

test('who was given up, and has more than its budget waiting again, is given the whole time again', t => {
  const { slow, ended, peer, pass } = setUp(t)
  const it = peer('it')
  slow.waits(it)
  pass(11_000)
  slow.waits(it)
  pass(10_000)
  assert.deepEqual(ended, ['it'])
  pass(1000)
  assert.deepEqual(ended, ['it', 'it'])
})

test('one timer for all, and none while nobody is over the budget', t => {
  let timers = 0
  const { slow, peer, pass } = setUp(t, 100)
  const set = globalThis.setTimeout
  t.mock.method(globalThis, 'setTimeout', ((then: () => void, ms: number) => {
    timers++
    return set(then, ms)
  }) as typeof setTimeout)
  const peers = Array.from({ length: 10 }, (_, i) => peer(`${i}`))
  slow.waits(peer('low', 1000))
  assert.equal(timers, 0)
  for (const it of peers) slow.waits(it)
  assert.equal(timers, 1)
  pass(10)
  assert.equal(timers, 2)
  for (const it of peers) slow.forget(it)
  pass(1000)
  assert.equal(timers, 2)
  slow.waits(peers[0]!)
  assert.equal(timers, 3)
  slow.close()
  pass(1000)
  assert.equal(timers, 3)
})

test('when memory is short: over the budget first, of them who took nothing for longest; no more than it takes', t => {
  const { slow, ended, peer } = setUp(t)
  const [low, a, b, c] = [peer('low', 500), peer('a'), peer('b'), peer('c')]
  for (const it of [low, a, b, c]) slow.waits(it)
  slow.progressed(a)
  let wanted = 0
  const relieve = (count: number) => {
    wanted += count
    slow.relieve(() => ended.length < wanted)
  }
  relieve(1)
  assert.deepEqual(ended, ['b'])
  relieve(2)
  assert.deepEqual(ended, ['b', 'c', 'a'])
  assert.equal(slow.size, 1)
  relieve(2)
  assert.deepEqual(ended, ['b', 'c', 'a', 'low'], 'when nobody is left that is all')
  assert.equal(slow.size, 0)
})

test('when memory is short: who has nothing to drop is cut', t => {
  const { slow, ended, peer } = setUp(t)
  const it = peer('it')
  it.isDroppable = false
  slow.waits(it)
  slow.relieve(() => ended.length === 0)
  assert.deepEqual(ended, ['it cut'])
})
