import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Connection } from '../src/connection.ts'
import { Metrics } from '../src/metrics.ts'
import { Outbox, type OutboxOptions } from '../src/outbox.ts'
import type { Segment } from '../src/queue.ts'
import { FakeTransport, published, WELCOME } from './helpers/connection.ts'

function setUp(options: Partial<OutboxOptions> = {}) {
  const metrics = new Metrics()
  const closing: string[] = []
  let wakes = 0
  const outbox = new Outbox({ buffer: 100_000, nodeBuffer: 1e6, slowConsumer: 'close', ...options }, metrics, {
    wake: () => wakes++,
    closing: connection => closing.push(connection.id),
  })
  const open = (id: string) => {
    const transport = new FakeTransport()
    const identity = { id, user: null, data: undefined, allow: [], expires: Number.POSITIVE_INFINITY }
    const connection = new Connection(identity, transport, outbox)
    connection.open(WELCOME)
    return { connection, transport }
  }
  const flush = () => outbox.flush(Number.POSITIVE_INFINITY)
  /** Gives `segment` to all, as a delivery does. */
  const deliver = (segment: Segment, to: { connection: Connection }[]) => {
    outbox.delivered(segment.bytes)
    for (const { connection } of to) connection.push(segment)
  }
  return { metrics, closing, outbox, open, flush, deliver, wakes: () => wakes }
}

test('a connection that has something to write is due once, and the node is woken', () => {
  const { outbox, open, flush, wakes } = setUp()
  const a = open('a')
  assert.equal(outbox.isIdle, true)
  a.connection.push(published('all', 1))
  a.connection.push(published('all', 2))
  assert.equal(wakes(), 1)
  assert.equal(outbox.isIdle, false)
  flush()
  assert.equal(outbox.isIdle, true)
  assert.equal(a.transport.writes.length, 2)
})

test('flushing stops at the deadline and goes on where it stopped, in order of arrival', () => {
  const { outbox, open, flush } = setUp()
  const all = Array.from({ length: 50 }, (_, i) => open(`c${i}`))
  for (const { connection } of all) connection.push(published('all', 1))
  const written = () => all.map(({ transport }) => transport.writes.length - 1)
  outbox.flush(Number.NEGATIVE_INFINITY)
  const first = written().reduce((sum, n) => sum + n, 0)
  assert.ok(first > 0 && first < 50, `${first} of 50 in one slice`)
  assert.deepEqual(written(), [...Array(first).fill(1), ...Array(50 - first).fill(0)])
  assert.equal(outbox.isIdle, false)
  flush()
  assert.deepEqual(written(), Array(50).fill(1))
})

test('where much waits for each, fewer are written to between two looks at the clock', () => {
  const { outbox, open } = setUp()
  const all = Array.from({ length: 20 }, (_, i) => open(`c${i}`))
  for (const { connection } of all) connection.push(published('all', 1, 90_000))
  outbox.flush(Number.NEGATIVE_INFINITY)
  assert.deepEqual(
    all.map(({ transport }) => transport.writes.length - 1),
    [...Array(3).fill(1), ...Array(17).fill(0)],
  )
})

test('thousands of due connections are all flushed, in slices, while others come due', () => {
  const { outbox, open } = setUp()
  const all = Array.from({ length: 5000 }, (_, i) => open(`c${i}`))
  for (const { connection } of all) connection.push(published('all', 1))
  let slices = 0
  while (!outbox.isIdle) {
    outbox.flush(Number.NEGATIVE_INFINITY)
    if (slices++ === 0) all[0]!.connection.push(published('all', 2))
  }
  assert.ok(slices > 1)
  assert.ok(all.every(({ transport }) => transport.writes.length >= 2))
  assert.equal(all[0]!.transport.messages.length, 3)
})

test('heldBytes: what stalled connections hold, never more than was delivered since the first of them stalled', () => {
  const { outbox, open, flush, deliver } = setUp({ buffer: 10_000 })
  const slow = Array.from({ length: 20 }, (_, i) => open(`c${i}`))
  assert.equal(outbox.heldBytes, 0)
  for (const { transport } of slow) transport.room = 1
  deliver(published('all', 0), slow)
  flush()
  assert.deepEqual([outbox.stalledConnections, outbox.heldBytes], [20, 0])
  const shared = published('all', 1, 5000)
  deliver(shared, slow)
  assert.ok(outbox.heldBytes >= shared.bytes, 'less than the truth')
  assert.ok(outbox.heldBytes <= shared.bytes + outbox.budget, 'one buffer that twenty share is counted twenty times')
  for (const { transport } of slow) transport.drain()
  assert.deepEqual([outbox.stalledConnections, outbox.heldBytes], [0, 0])
})

for (const slowConsumer of ['close', 'drop'] as const) {
  test(`${slowConsumer}: over the budget of the node whoever has been stalled longest is cut off`, () => {
    const { outbox, open, flush, deliver, metrics, closing } = setUp({
      buffer: 50_000,
      nodeBuffer: 60_000,
      slowConsumer,
    })
    const [a, b, healthy] = [open('a'), open('b'), open('h')]
    a.transport.room = 1
    deliver(published('channel:x', 0), [a])
    flush()
    deliver(published('channel:x', 1, 40_000), [a])
    b.transport.room = 1
    deliver(published('channel:y', 0), [b])
    flush()
    deliver(published('channel:y', 1, 10_000), [b, healthy])
    assert.deepEqual(closing, [])
    deliver(published('channel:y', 2, 30_000), [b, healthy])
    deliver(published('channel:y', 3), [b, healthy])
    assert.deepEqual(closing, ['a'])
    assert.deepEqual(a.transport.closed, { code: 4503, reason: 'slow consumer' })
    assert.equal(metrics.snapshot()['messages_dropped_total{slow_consumer}'], 1)
    assert.ok(outbox.heldBytes <= 60_000)
    b.transport.drain()
    flush()
    assert.equal(b.transport.messages.length, 5)
    assert.equal(healthy.transport.messages.length, 4)
  })
}

test('a connection that was cut off and goes leaves nothing behind', () => {
  const { outbox, open, flush, deliver } = setUp({ buffer: 50_000, nodeBuffer: 100 })
  const a = open('a')
  a.transport.room = 1
  deliver(published('all', 0), [a])
  flush()
  deliver(published('all', 1, 40_000), [a])
  outbox.delivered(0)
  assert.equal(a.connection.isClosing, true)
  a.connection.gone()
  assert.deepEqual([outbox.stalledConnections, outbox.heldBytes], [0, 0])
  const b = open('b')
  b.transport.room = 1
  deliver(published('all', 0), [b])
  flush()
  assert.deepEqual([outbox.stalledConnections, outbox.heldBytes], [1, 0])
})

test('nothing held: a node budget is no reason to cut a stalled connection off', () => {
  const { outbox, open, flush, deliver, closing } = setUp({ nodeBuffer: 1 })
  const a = open('a')
  a.transport.room = 1
  deliver(published('all', 0), [a])
  flush()
  for (let i = 0; i < 10; i++) outbox.delivered(1_000_000)
  assert.deepEqual(closing, [])
})

test('gaps are counted by reason', () => {
  const { metrics, open } = setUp()
  open('a').connection.gap(['all'], 'broker_link')
  open('b').connection.gap(['all'], 'broker_link')
  open('c').connection.gap(['all'], 'overload')
  assert.deepEqual(metrics.snapshot(), { 'gaps_total{broker_link}': 2, 'gaps_total{overload}': 1 })
})
