import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Connection } from '../../src/connection/connection.ts'
import type { Segment } from '../../src/connection/queue.ts'
import type { WriteQueueOptions } from '../../src/connection/write-queue.ts'
import { FakeTransport, numbersIn, published, WELCOME, writeQueueOf } from '../helpers/connection.ts'

function setUp(options: Partial<WriteQueueOptions> = {}) {
  const node = writeQueueOf({ buffer: 100_000, ...options })
  const { writeQueue } = node
  const open = (id: string) => {
    const transport = new FakeTransport()
    const identity = {
      id,
      user: null,
      data: undefined,
      info: '',
      allow: [],
      expires: Number.POSITIVE_INFINITY,
      began: 0,
    }
    const connection = new Connection(identity, transport, writeQueue)
    connection.open(WELCOME)
    return { connection, transport }
  }
  /** Gives `segment` to all, as a delivery does. */
  const deliver = (segment: Segment, to: { connection: Connection }[]) => {
    writeQueue.delivered(segment.bytes)
    for (const { connection } of to) connection.push(segment)
  }
  /** One whose socket is full. */
  const stalled = (id: string) => {
    const it = open(id)
    it.transport.room = 1
    deliver(published('all', 0), [it])
    node.flush()
    return it
  }
  return { ...node, open, stalled, deliver, closed: () => node.closing.map(({ id }) => id) }
}

test('a connection that has something to write is due once, and the node is woken', () => {
  const { writeQueue, open, flush, wakes } = setUp()
  const a = open('a')
  assert.equal(writeQueue.isIdle, true)
  a.connection.push(published('all', 1))
  a.connection.push(published('all', 2))
  assert.equal(wakes(), 1)
  assert.equal(writeQueue.isIdle, false)
  flush()
  assert.equal(writeQueue.isIdle, true)
  assert.equal(a.transport.writes.length, 2)
})

test('flushing stops at the deadline and goes on where it stopped, in order of arrival', () => {
  const { writeQueue, open, flush } = setUp()
  const all = Array.from({ length: 50 }, (_, i) => open(`c${i}`))
  for (const { connection } of all) connection.push(published('all', 1))
  const written = () => all.map(({ transport }) => transport.writes.length - 1)
  writeQueue.flush(Number.NEGATIVE_INFINITY)
  const first = written().reduce((sum, n) => sum + n, 0)
  assert.ok(first > 0 && first < 50, `${first} of 50 in one slice`)
  assert.deepEqual(written(), [...Array(first).fill(1), ...Array(50 - first).fill(0)])
  assert.equal(writeQueue.isIdle, false)
  flush()
  assert.deepEqual(written(), Array(50).fill(1))
})

test('where much waits for each, fewer are written to between two looks at the clock', () => {
  const { writeQueue, open } = setUp()
  const all = Array.from({ length: 20 }, (_, i) => open(`c${i}`))
  for (const { connection } of all) connection.push(published('all', 1, 90_000))
  writeQueue.flush(Number.NEGATIVE_INFINITY)
  assert.deepEqual(
    all.map(({ transport }) => transport.writes.length - 1),
    [...Array(3).fill(1), ...Array(17).fill(0)],
  )
})

test('thousands of due connections are all flushed, in slices, while others come due', () => {
  const { writeQueue, open } = setUp()
  const all = Array.from({ length: 5000 }, (_, i) => open(`c${i}`))
  for (const { connection } of all) connection.push(published('all', 1))
  let slices = 0
  while (!writeQueue.isIdle) {
    writeQueue.flush(Number.NEGATIVE_INFINITY)
    if (slices++ === 0) all[0]!.connection.push(published('all', 2))
  }
  assert.ok(slices > 1)
  assert.ok(all.every(({ transport }) => transport.writes.length >= 2))
  assert.equal(all[0]!.transport.messages.length, 3)
})

test('memory that is held: what waits for many is counted once, and until the last of them has it', () => {
  const { writeQueue, open, stalled, deliver } = setUp({ nodeBuffer: 1e6 })
  const slow = Array.from({ length: 20 }, (_, i) => stalled(`c${i}`))
  assert.deepEqual([writeQueue.slow.size, writeQueue.held.bytes], [0, 0], 'nothing waits for them')
  const [shared, own] = [published('all', 1, 5000), published('user:1', 2, 3000)]
  deliver(shared, [...slow, open('healthy')])
  deliver(own, [slow[0]!])
  assert.deepEqual([writeQueue.slow.size, writeQueue.held.bytes], [20, shared.bytes + own.bytes])
  for (const { transport } of slow.slice(0, -1)) transport.drain()
  assert.deepEqual([writeQueue.slow.size, writeQueue.held.bytes], [1, shared.bytes])
  slow.at(-1)!.transport.drain()
  assert.deepEqual([writeQueue.slow.size, writeQueue.held.bytes], [0, 0])
})

test('a burst to many over a long link is held once, and all of them get it', () => {
  const { writeQueue, stalled, deliver, closed, wait } = setUp({ buffer: 10_000, nodeBuffer: 1e6 })
  const slow = Array.from({ length: 200 }, (_, i) => stalled(`c${i}`))
  for (let n = 1; n <= 20; n++) deliver(published('all', n, 5000), slow)
  wait()
  assert.deepEqual(closed(), [])
  assert.ok(writeQueue.held.bytes < 110_000)
  for (const { transport } of slow) transport.drain()
  for (const { transport } of slow) assert.deepEqual(numbersIn(transport), ['welcome', ...Array(21).keys()])
})

test('close: when the memory of the node is short, the slowest over their budget pay first', () => {
  const { writeQueue, stalled, deliver, closed, dropped } = setUp({ buffer: 5000, nodeBuffer: 800_000 })
  const [small, reading, stuck, late] = ['small', 'reading', 'stuck', 'late'].map(id => stalled(id))
  deliver(published('user:1', 1, 1000), [small!])
  for (let n = 1; n <= 40; n++) deliver(published('user:2', n, 2000), [reading!])
  for (let n = 1; n <= 3; n++) deliver(published('user:3', n, 2000), [stuck!])
  for (let n = 1; n <= 3; n++) deliver(published('user:4', n, 2000), [late!])
  // Most of it is taken, and the rest waits: those whose sockets took nothing are slower.
  reading!.transport.drain(1)
  const fill = (left: number) => deliver(published('all', 1, 800_000 - 100 - left), [])
  fill(writeQueue.held.bytes - 5000)
  assert.deepEqual(closed(), ['stuck'])
  assert.equal(dropped('slow_consumer'), 3)
  fill(writeQueue.held.bytes - 5000)
  assert.deepEqual(closed(), ['stuck', 'late'])
  fill(2000)
  assert.deepEqual(closed(), ['stuck', 'late', 'reading'], 'who is below its budget comes last')
  fill(0)
  assert.deepEqual(closed(), ['stuck', 'late', 'reading', 'small'])
})

test('drop: when the memory of the node is short, the slowest are told a gap first', () => {
  const { writeQueue, stalled, deliver, closed, metrics } = setUp({
    buffer: 5000,
    nodeBuffer: 60_000,
    slowConsumer: 'drop',
  })
  const [a, b] = [stalled('a'), stalled('b')]
  for (let n = 1; n <= 3; n++) deliver(published('channel:a', n, 2000), [a])
  for (let n = 1; n <= 3; n++) deliver(published('channel:b', n, 2000), [b])
  deliver(published('all', 4, 50_000), [])
  assert.deepEqual(closed(), [])
  assert.deepEqual(
    [metrics.snapshot()['gaps_total{slow_consumer}'], metrics.snapshot()['messages_dropped_total{slow_consumer}']],
    [1, 3],
  )
  for (const { transport } of [a, b]) transport.drain()
  assert.deepEqual(
    [numbersIn(a.transport), numbersIn(b.transport)],
    [
      ['welcome', 0, 'gap'],
      ['welcome', 0, 1, 2, 3],
    ],
  )
  assert.equal(writeQueue.held.bytes, 0)
})

test('drop: who has nothing to drop is closed when the memory of the node is short, and not before', () => {
  const { stalled, deliver, closed, dropped } = setUp({ nodeBuffer: 60_000, slowConsumer: 'drop' })
  const asking = stalled('asking')
  for (let i = 0; i < 10; i++) asking.connection.reply('reply', 'x'.repeat(600), i)
  const told = stalled('told')
  deliver(published('channel:x', 1, 6000), [told])
  deliver(published('all', 2, 50_000), [])
  assert.deepEqual(closed(), ['asking'])
  assert.equal(dropped('slow_consumer'), 10)
  deliver(published('all', 2, 70_000), [])
  assert.deepEqual(closed(), ['asking', 'told'], 'the gap was held as well')
})

test('what clients ask for without reading counts for the node as well', () => {
  const { writeQueue, stalled, closed } = setUp({ nodeBuffer: 60_000 })
  const slow = Array.from({ length: 20 }, (_, i) => stalled(`c${i}`))
  for (let i = 0; i < 10; i++) for (const { connection } of slow) connection.reply('reply', 'x'.repeat(500), i)
  assert.ok(writeQueue.held.bytes <= 60_000)
  assert.equal(closed()[0], 'c0')
  assert.ok(closed().length < 20, 'no more than it takes')
})

test('what the sockets left of a flush counts before the next connections are flushed', () => {
  const { writeQueue, open, flush, closed } = setUp({ nodeBuffer: 300_000 })
  const all = Array.from({ length: 100 }, (_, i) => open(`c${i}`))
  for (const { connection, transport } of all) {
    transport.room = 1
    for (let n = 0; n < 4; n++) connection.push(published('all', n, 20_000))
  }
  flush()
  assert.ok(writeQueue.held.bytes <= 300_000)
  assert.ok(closed().length > 0 && closed().length < 100)
})

test('those who are cut together come back one after the other', () => {
  const { stalled, deliver, outlast } = setUp({ buffer: 1000 })
  const slow = Array.from({ length: 50 }, (_, i) => stalled(`c${i}`))
  deliver(published('all', 1, 2000), slow)
  const begin = performance.now()
  outlast()
  const took = Math.ceil(performance.now() - begin)
  const delays = slow.map(({ transport }) => transport.messages.at(-1)!.payload.after as number)
  // Each has ten milliseconds of its own, less what passed since the first of them was cut.
  for (const [i, delay] of delays.toSorted((a, b) => a - b).entries()) {
    assert.ok(delay >= 500 + i * 10 - took && delay < 510 + i * 10, `${i}: ${delays}`)
  }
})

test('a connection that was cut off and goes leaves nothing behind', () => {
  const { writeQueue, stalled, deliver } = setUp({ buffer: 50_000, nodeBuffer: 100_000 })
  const a = stalled('a')
  deliver(published('all', 1, 40_000), [a])
  deliver(published('all', 2, 90_000), [])
  assert.equal(a.connection.isClosing, true)
  a.connection.gone()
  assert.deepEqual([writeQueue.slow.size, writeQueue.held.bytes], [0, 0])
  const b = stalled('b')
  deliver(published('all', 1), [b])
  assert.equal(writeQueue.slow.size, 1)
})

test('nothing held: a node budget is no reason to cut a stalled connection off', () => {
  const { writeQueue, stalled, closed } = setUp({ nodeBuffer: 1 })
  stalled('a')
  for (let i = 0; i < 10; i++) writeQueue.delivered(1_000_000)
  assert.deepEqual(closed(), [])
})

test('gaps are counted by reason', () => {
  const { metrics, open } = setUp()
  open('a').connection.gap(['all'], 'broker_link')
  open('b').connection.gap(['all'], 'broker_link')
  open('c').connection.gap(['all'], 'overload')
  assert.deepEqual(metrics.snapshot(), { 'gaps_total{broker_link}': 2, 'gaps_total{overload}': 1 })
})

test('a round is over when those are flushed that were due when it began, whatever becomes due meanwhile', () => {
  const { writeQueue } = writeQueueOf()
  const identity = (id: string) => ({ id, user: null, data: null, info: '', allow: [], expires: undefined, began: 0 })
  const connections = Array.from(
    { length: 3 },
    (_, i) => new Connection(identity(`c${i}`), new FakeTransport(), writeQueue),
  )
  for (const connection of connections) connection.open(WELCOME)
  const [first, ...others] = connections
  for (const connection of connections) connection.push(published('all', 1))
  // What is written to the last makes the first due again.
  const flush = others[1]!.flush.bind(others[1])
  others[1]!.flush = () => {
    flush()
    first!.push(published('all', 2))
  }
  assert.equal(writeQueue.flush(Number.POSITIVE_INFINITY), true)
  assert.equal(writeQueue.isIdle, false)
  assert.equal(writeQueue.flush(Number.POSITIVE_INFINITY), true)
  assert.equal(writeQueue.isIdle, true)
})
