import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { sinceStart } from '../../src/connection/identity.ts'
import { type Beating, CLOSE_TIMEOUT, Heartbeat } from '../../src/node/heartbeat.ts'

class Peer implements Beating {
  idle = 0
  seen = 0
  closingFor = 0
  expires = Number.POSITIVE_INFINITY
  began = 0
  isWarned = false
  warned: number[] = []
  isClosing = false
  received: number | undefined = 0
  pings: number[] = []
  terminated: number | undefined
  silent: number | undefined
  expired: number | undefined
  readonly #now: () => number

  constructor(now: () => number) {
    this.#now = now
  }

  ping(): void {
    this.pings.push(this.#now())
  }

  terminate(): void {
    this.terminated = this.#now()
  }
}

function setUp(t: TestContext, given: { interval?: number; timeout?: number; warn?: number } = {}) {
  const options = { interval: 25_000, timeout: 10_000, warn: 0, ...given }
  t.mock.timers.reset()
  t.mock.timers.enable({ apis: ['setInterval', 'Date'] })
  let now = 0
  const peers = new Set<Peer>()
  const heartbeat = new Heartbeat<Peer>(peers, options, {
    silent(peer) {
      peer.silent ??= now
      peer.isClosing = true
    },
    expiring: peer => void peer.warned.push(now),
    expired(peer) {
      peer.expired ??= now
      peer.isClosing = true
    },
  })
  const add = () => {
    const peer = new Peer(() => now)
    peers.add(peer)
    return peer
  }
  const pass = (milliseconds: number) => {
    for (let i = 0; i < milliseconds; i++) {
      now++
      t.mock.timers.tick(1)
    }
  }
  t.after(() => heartbeat.close())
  return { heartbeat, add, pass, peers }
}

test('a silent peer is probed once and ends within interval and timeout', t => {
  const { add, pass } = setUp(t)
  const peer = add()
  pass(24_999)
  assert.equal(peer.silent, undefined)
  pass(10_001)
  assert.equal(peer.pings.length, 1)
  assert.ok(peer.pings[0]! > 20_000 && peer.pings[0]! <= 25_000, `pinged at ${peer.pings[0]}`)
  assert.ok(peer.silent! > 30_000 && peer.silent! <= 35_000, `silent at ${peer.silent}`)
})

test('any byte counts as life, one a time is enough', t => {
  const { add, pass } = setUp(t)
  const peer = add()
  for (let i = 0; i < 10; i++) {
    pass(20_000)
    peer.received = i + 1
  }
  assert.equal(peer.pings.length, 0)
  assert.equal(peer.silent, undefined)
})

test('an answered probe begins the wait anew', t => {
  const { add, pass } = setUp(t)
  const peer = add()
  peer.ping = function (this: Peer) {
    this.pings.push(0)
    this.received = (this.received ?? 0) + 2
  }
  pass(200_000)
  assert.equal(peer.silent, undefined)
  assert.ok(peer.pings.length >= 7 && peer.pings.length <= 9, `${peer.pings.length} pings in 200 s`)
})

test('where the socket does not count, idle is reset by whoever sees the message', t => {
  const { add, pass } = setUp(t)
  const [alive, dead] = [add(), add()]
  alive.received = undefined
  dead.received = undefined
  for (let i = 0; i < 10; i++) {
    pass(20_000)
    alive.idle = 0
  }
  assert.equal(alive.silent, undefined)
  assert.ok(dead.silent! <= 35_000)
})

test('property: whatever the options and the moment of the last byte, never before the interval, never after both', t => {
  const options = fc.record({
    interval: fc.integer({ min: 20, max: 3000 }),
    timeout: fc.integer({ min: 20, max: 3000 }),
  })
  fc.assert(
    fc.property(options, fc.nat(2000), fc.integer({ min: 1, max: 1e9 }), (given, at, bytes) => {
      const { add, pass, heartbeat } = setUp(t, given)
      const peer = add()
      const last = Math.min(at, given.interval - 1)
      pass(last)
      peer.received = bytes
      pass(given.interval + given.timeout)
      heartbeat.close()
      const silence = peer.silent! - last
      assert.ok(silence > given.interval, `closed after ${silence} ms`)
      assert.ok(silence <= given.interval + given.timeout, `closed after ${silence} ms`)
      const probe = peer.pings.at(-1)!
      assert.ok(probe > last && probe - last <= given.interval, `probed ${probe - last} ms after the last byte`)
    }),
    { numRuns: 100 },
  )
})

test('a process that was stopped for an hour does not take its own absence for theirs', t => {
  const { add, heartbeat } = setUp(t)
  const peer = add()
  // A stopped process gets one late tick, not three thousand.
  t.mock.timers.setTime(3_600_000)
  heartbeat.beat()
  assert.equal(peer.silent, undefined)
})

test('a connection is warned once, in time, and again only when it has another identity', t => {
  const { add, pass } = setUp(t, { warn: 10_000, interval: 600_000 })
  const [long, short, late] = [add(), add(), add()]
  for (const peer of [long, short, late]) peer.began = sinceStart(0)
  long.expires = 30_000
  short.expires = 8000
  // Issued by a clock that is ahead.
  late.began = sinceStart(20_000)
  late.expires = 10_000
  pass(40_000)
  assert.ok(long.warned.length === 1 && long.warned[0]! >= 20_000 && long.warned[0]! <= 21_000, `${long.warned}`)
  assert.ok(short.warned.length === 1 && short.warned[0]! >= 4000 && short.warned[0]! <= 5000, `${short.warned}`)
  assert.deepEqual(late.warned, [])
  assert.ok(long.expired! >= 30_000 && short.expired! >= 8000 && late.expired! >= 10_000)
})

test('a connection that expires is told at the next tick', t => {
  const { add, pass } = setUp(t)
  const [peer, other] = [add(), add()]
  peer.expires = 5500
  other.expires = Number.POSITIVE_INFINITY
  pass(5500)
  assert.equal(peer.expired, undefined)
  pass(1000)
  assert.ok(peer.expired! >= 5500 && peer.expired! <= 6500)
  assert.equal(other.expired, undefined)
})

test('who does not answer a close frame is terminated, once, and no longer probed', t => {
  const { add, pass, heartbeat } = setUp(t)
  const peer = add()
  peer.isClosing = true
  heartbeat.closing(peer)
  pass(CLOSE_TIMEOUT - 1500)
  assert.equal(peer.terminated, undefined)
  pass(2500)
  assert.ok(peer.terminated! <= CLOSE_TIMEOUT + 1000, `${peer.terminated}`)
  const first = peer.terminated
  pass(60_000)
  assert.equal(peer.terminated, first)
  assert.deepEqual([peer.pings, peer.silent], [[], undefined])
})

test('who has gone is forgotten, and after close nothing beats', t => {
  const { add, pass, heartbeat } = setUp(t)
  const [gone, left] = [add(), add()]
  gone.isClosing = true
  heartbeat.closing(gone)
  heartbeat.forget(gone)
  pass(10_000)
  assert.equal(gone.terminated, undefined)
  heartbeat.closing(left)
  heartbeat.close()
  pass(60_000)
  assert.deepEqual([left.terminated, left.silent, left.pings], [undefined, undefined, []])
})
