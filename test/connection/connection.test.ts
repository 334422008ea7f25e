import assert from 'node:assert/strict'
import { test } from 'node:test'
import { numbersIn, published, setUp, WELCOME } from '../helpers/connection.ts'

// ── opening ──────────────────────────────────────────────────────────────────────────────────────────────────────

test('what is pushed before the welcome waits and comes after it, in order', () => {
  const { connection, transport, flush } = setUp()
  assert.equal(connection.isOpening, true)
  assert.equal(connection.push(published('all', 1)), true)
  assert.equal(connection.send('b', {}), true)
  flush()
  assert.deepEqual(transport.writes, [])
  connection.open(WELCOME)
  assert.deepEqual(numbersIn(transport), ['welcome'])
  flush()
  assert.deepEqual(numbersIn(transport), ['welcome', 1, 'b'])
  connection.open(WELCOME)
  flush()
  assert.equal(transport.messages.length, 3)
})

test('a welcome that fills the socket is followed by the rest when it drains', () => {
  const { connection, transport, flush, writeQueue } = setUp()
  connection.push(published('all', 1))
  transport.room = 1
  connection.open(WELCOME)
  flush()
  assert.deepEqual(numbersIn(transport), ['welcome'])
  assert.equal(writeQueue.slow.size, 1)
  transport.drain()
  assert.deepEqual(numbersIn(transport), ['welcome', 1])
  assert.equal(writeQueue.slow.size, 0)
})

test('what comes before the welcome may be far more than the budget: it waits for the node, not for the client', () => {
  const { connection, transport, flush, wait, writeQueue } = setUp()
  for (let n = 0; n < 20; n++) assert.equal(connection.push(published('all', n, 600)), true)
  assert.deepEqual([writeQueue.slow.size, writeQueue.held.bytes > 12_000], [1, true])
  wait()
  connection.open(WELCOME)
  flush()
  assert.deepEqual(numbersIn(transport), ['welcome', ...Array(20).keys()])
  assert.deepEqual([writeQueue.held.bytes, writeQueue.slow.size, writeQueue.isIdle], [0, 0, true])
})

test('a welcome that does not come in time ends a connection over its budget; nothing is written before it', () => {
  const { connection, transport, dropped, closing, outlast } = setUp()
  for (const n of [1, 2]) assert.equal(connection.push(published('all', n, 600)), true)
  outlast()
  assert.deepEqual(transport.closed, { code: 4503, reason: 'slow consumer' })
  assert.deepEqual(transport.writes, [])
  assert.equal(dropped('slow_consumer'), 2)
  assert.deepEqual(closing, [connection])
})

// ── flush ────────────────────────────────────────────────────────────────────────────────────────────────────────

test('a connection alone is flushed in one write per turn, however many messages it has', () => {
  const { connection, transport, flush, writeQueue } = setUp()
  connection.open(WELCOME)
  for (let n = 0; n < 5; n++) connection.push(published('all', n))
  assert.equal(transport.writes.length, 1)
  assert.equal(writeQueue.isIdle, false)
  flush()
  assert.equal(transport.writes.length, 2)
  assert.equal(writeQueue.isIdle, true)
  assert.deepEqual(numbersIn(transport), ['welcome', 0, 1, 2, 3, 4])
})

test('what the node has not got round to writing is no fault of the client', () => {
  const { connection, transport } = setUp({ buffer: 100 })
  connection.open(WELCOME)
  for (let n = 0; n < 20; n++) assert.equal(connection.push(published('all', n, 60)), true)
  assert.equal(connection.isClosing, false)
  assert.deepEqual(numbersIn(transport).slice(0, 3), ['welcome', 0, 1])
})

test('binary messages, replies and refs are written as they are', () => {
  const { connection, transport, flush } = setUp()
  connection.open(WELCOME)
  connection.sendBinary(Buffer.from([0, 255, 128]))
  connection.reply('reply', { ok: true }, 'r1')
  connection.reply('reply', undefined, undefined)
  flush()
  const [, binary, reply, bare] = transport.texts
  assert.deepEqual(
    Buffer.concat(transport.writes)
      .subarray(-1000)
      .includes(Buffer.from([0x82, 3, 0, 255, 128])),
    true,
  )
  assert.equal(binary?.length, 3)
  assert.equal(reply, '{"type":"reply","payload":{"ok":true},"ref":"r1"}')
  assert.equal(bare, '{"type":"reply","payload":null}')
})

test('a stalled connection writes nothing until it drains, then all in order', () => {
  const { connection, transport, flush, writeQueue } = setUp({ buffer: 10_000 }, 'framewise')
  connection.open(WELCOME)
  for (let n = 0; n < 3; n++) connection.push(published('all', n))
  transport.room = 1
  flush()
  assert.deepEqual(numbersIn(transport), ['welcome', 0])
  assert.ok(writeQueue.held.bytes > 0)
  connection.push(published('all', 3))
  flush()
  assert.deepEqual(numbersIn(transport), ['welcome', 0])
  transport.drain(2)
  assert.deepEqual(numbersIn(transport), ['welcome', 0, 1, 2])
  transport.drain()
  assert.deepEqual(numbersIn(transport), ['welcome', 0, 1, 2, 3])
  assert.equal(transport.unwanted, 0)
  assert.deepEqual([writeQueue.held.bytes, writeQueue.slow.size], [0, 0])
})

test('whoever waits until it has drained is told when the socket takes the last of it', async () => {
  const { connection, transport, flush } = setUp({ buffer: 10_000 })
  const opened = connection.drained()
  connection.open(WELCOME)
  await opened
  transport.room = 1
  connection.push(published('all', 0))
  flush()
  const drained = connection.drained()
  transport.drain()
  await drained
})

// ── budget ───────────────────────────────────────────────────────────────────────────────────────────────────────

/** A connection whose socket is full: `welcome` and publication 0 are written. */
function stalled(options: Parameters<typeof setUp>[0] = {}, framewise: Parameters<typeof setUp>[1] = 'joined') {
  const node = setUp(options, framewise)
  node.connection.open(WELCOME)
  node.transport.room = 1
  node.connection.push(published('all', 0))
  node.flush()
  return node
}

for (const framewise of ['joined', 'framewise'] as const) {
  test(`${framewise}: a burst far over the budget arrives complete when it is taken in time`, () => {
    const { connection, transport, writeQueue, wait, dropped } = stalled({}, framewise)
    for (let n = 1; n <= 100; n++) assert.equal(connection.push(published('all', n, 500)), true)
    assert.ok(writeQueue.held.bytes > 50_000)
    wait()
    while (transport.isFull) transport.drain(3)
    assert.deepEqual(numbersIn(transport), ['welcome', ...Array(101).keys()])
    assert.equal(connection.isClosing, false)
    assert.equal(dropped('slow_consumer'), 0)
    assert.deepEqual([writeQueue.held.bytes, writeQueue.slow.size], [0, 0])
  })
}

test('what waits is written in portions: no more is joined than the socket is about to take', () => {
  const { connection, transport } = stalled({ buffer: 1e6, nodeBuffer: 1e8 })
  for (let n = 1; n <= 3000; n++) connection.push(published('all', n, 30))
  const before = transport.writes.length
  transport.drain(1)
  const sizes = transport.writes.slice(before).map(part => part.length)
  assert.deepEqual([sizes.length, sizes[0]! > 60_000, sizes[0]! <= 65_536], [1, true, true])
  transport.drain()
  assert.deepEqual(numbersIn(transport), ['welcome', ...Array(3001).keys()])
})

test('close: whoever stays over the budget is told when to come back, closed with 4503 and its messages are counted', () => {
  const { connection, transport, writeQueue, dropped, closing, outlast } = stalled()
  for (const n of [1, 2]) assert.equal(connection.push(published('all', n, 500)), true)
  outlast()
  assert.deepEqual(transport.closed, { code: 4503, reason: 'slow consumer' })
  assert.deepEqual(numbersIn(transport), ['welcome', 0, 'reconnect'])
  const { after } = transport.messages[2]!.payload as { after: number }
  assert.ok(Number.isInteger(after) && after >= 500 && after < 1000, `${after}`)
  assert.equal(dropped('slow_consumer'), 2)
  assert.deepEqual(closing, [connection])
  assert.deepEqual([writeQueue.held.bytes, writeQueue.slow.size], [0, 0])
  assert.equal(connection.push(published('all', 3)), false)
  assert.equal(connection.send('b'), false)
  transport.drain()
  outlast()
  assert.equal(dropped('slow_consumer'), 2)
})

test('who comes below the budget in between is given the whole time again', () => {
  const { connection, transport, wait, outlast } = stalled({ buffer: 2000 }, 'framewise')
  for (let n = 1; n <= 5; n++) connection.push(published('all', n, 500))
  wait()
  transport.drain(4)
  for (let n = 6; n <= 10; n++) connection.push(published('all', n, 500))
  wait()
  assert.equal(connection.isClosing, false)
  outlast()
  assert.equal(transport.closed?.code, 4503)
})

test('who reads, and stays over the budget all the same, is closed as well', () => {
  const { connection, transport, outlast } = stalled({ buffer: 2000 }, 'framewise')
  for (let n = 1; n <= 20; n++) connection.push(published('all', n, 500))
  transport.drain(3)
  transport.drain(3)
  outlast()
  assert.equal(transport.closed?.code, 4503)
})

test('below the budget a connection may wait for as long as it likes', () => {
  const { connection, transport, outlast } = stalled()
  connection.push(published('all', 1, 500))
  outlast()
  outlast()
  transport.drain()
  assert.deepEqual(numbersIn(transport), ['welcome', 0, 1])
})

test('close: beyond an eighth of the memory of the node no time is given', () => {
  const { connection, transport, writeQueue, dropped } = stalled({ nodeBuffer: 40_000 })
  for (let n = 1; n <= 8; n++) assert.equal(connection.push(published('all', n, 500)), true)
  assert.equal(connection.push(published('all', 9, 1000)), false)
  assert.deepEqual(transport.closed, { code: 4503, reason: 'slow consumer' })
  assert.equal(dropped('slow_consumer'), 9)
  assert.deepEqual([writeQueue.held.bytes, writeQueue.slow.size], [0, 0])
})

test('close: messages of a flush that the socket did not take are counted as dropped too', () => {
  const { connection, transport, flush, dropped, outlast } = setUp({}, 'framewise')
  connection.open(WELCOME)
  for (let n = 0; n < 3; n++) connection.push(published('all', n))
  transport.room = 1
  flush()
  assert.deepEqual(numbersIn(transport), ['welcome', 0])
  connection.push(published('all', 3, 2000))
  outlast()
  assert.equal(dropped('slow_consumer'), 3, '1, 2 and 3 were never written')
})

for (const when of ['after the time', 'beyond the ceiling'] as const) {
  test(`drop, ${when}: a gap names every topic of what was dropped, before the next message; direct replies are kept`, () => {
    const nodeBuffer = when === 'after the time' ? 1e6 : 8000
    const { connection, transport, dropped, metrics, writeQueue, outlast } = stalled({
      slowConsumer: 'drop',
      nodeBuffer,
    })
    connection.push(published('channel:x', 1, 200))
    connection.reply('reply', {}, 7)
    connection.push(published('channel:y', 2, 200))
    assert.equal(connection.push(published('channel:z', 3, 600)), when === 'after the time')
    outlast()
    assert.equal(connection.isClosing, false)
    assert.equal(connection.push(published('channel:x', 4)), true)
    transport.drain()
    assert.deepEqual(numbersIn(transport), ['welcome', 0, 'reply', 'gap', 4])
    const gap = transport.messages[3]!.payload as { topics: string[]; reason: string }
    assert.deepEqual(gap.topics.toSorted(), ['channel:x', 'channel:y', 'channel:z'])
    assert.equal(gap.reason, 'slow_consumer')
    assert.equal(dropped('slow_consumer'), 3)
    assert.equal(metrics.snapshot()['gaps_total{slow_consumer}'], 1)
    assert.deepEqual([writeQueue.held.bytes, writeQueue.slow.size], [0, 0])
  })
}

test('drop: a burst far over the budget arrives complete when it is taken in time', () => {
  const { connection, transport, wait } = stalled({ slowConsumer: 'drop' })
  for (let n = 1; n <= 100; n++) connection.push(published('all', n, 500))
  wait()
  transport.drain()
  assert.deepEqual(numbersIn(transport), ['welcome', ...Array(101).keys()])
})

test('drop: what the socket left of a flush is named in the gap, and its replies are kept', () => {
  const { connection, transport, flush, outlast } = setUp({ slowConsumer: 'drop' }, 'framewise')
  connection.open(WELCOME)
  connection.push(published('channel:x', 0))
  connection.push(published('channel:x', 1))
  connection.reply('reply', {}, 7)
  transport.room = 1
  flush()
  assert.deepEqual(numbersIn(transport), ['welcome', 0])
  connection.push(published('channel:y', 2, 2000))
  outlast()
  transport.drain()
  assert.deepEqual(numbersIn(transport), ['welcome', 0, 'reply', 'gap'])
  const gap = transport.messages[3]!.payload as { topics: string[] }
  assert.deepEqual(gap.topics.toSorted(), ['channel:x', 'channel:y'])
})

test('drop: a second time joins the first gap, which is no dropped message', () => {
  const { connection, transport, dropped, outlast } = stalled({ slowConsumer: 'drop' })
  connection.push(published('channel:x', 1, 2000))
  outlast()
  connection.push(published('channel:y', 2, 2000))
  outlast()
  transport.drain()
  assert.deepEqual(numbersIn(transport), ['welcome', 0, 'gap'])
  assert.deepEqual((transport.messages[2]!.payload.topics as string[]).toSorted(), ['channel:x', 'channel:y'])
  assert.equal(dropped('slow_consumer'), 2)
})

test('drop: a reply beyond the ceiling ends the connection, or is taken; it is never refused and sent all the same', () => {
  for (const size of [150, 500]) {
    const { connection, transport } = stalled({ slowConsumer: 'drop', buffer: 400, nodeBuffer: 3200 })
    connection.push(published('channel:x', 1, 250))
    const isTaken = connection.send('b', 'y'.repeat(size))
    transport.drain()
    assert.deepEqual(
      [numbersIn(transport).includes('b'), transport.closed?.code],
      isTaken ? [true, undefined] : [false, 4503],
    )
    assert.equal(isTaken, size === 150)
  }
})

test('drop: a client that asks without reading is cut off', () => {
  const { connection, transport, writeQueue, outlast } = stalled({ slowConsumer: 'drop' })
  for (let i = 0; i < 50; i++) connection.reply('reply', 'x'.repeat(50), i)
  connection.push(published('channel:x', 1))
  outlast()
  assert.equal(transport.closed?.code, 4503)
  assert.deepEqual(numbersIn(transport), ['welcome', 0, 'reconnect'])
  assert.deepEqual([writeQueue.held.bytes, writeQueue.slow.size], [0, 0])
})

test('a socket that takes what waits is a sign of life', () => {
  const { connection, transport } = stalled()
  connection.idle = 7
  connection.push(published('all', 1))
  assert.equal(connection.idle, 7)
  transport.drain(1)
  assert.equal(connection.idle, 0)
})

// ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────

test('close writes what is queued, then the close frame, once', () => {
  const { connection, transport, flush, closing } = setUp({ buffer: 10_000 }, 'framewise')
  connection.open(WELCOME)
  transport.room = 1
  for (let n = 0; n < 3; n++) connection.push(published('all', n))
  flush()
  connection.push(published('all', 3))
  connection.close(4000, 'bye')
  assert.deepEqual(numbersIn(transport), ['welcome', 0, 1, 2, 3])
  assert.deepEqual(transport.closed, { code: 4000, reason: 'bye' })
  connection.close(4001)
  assert.deepEqual(transport.closed, { code: 4000, reason: 'bye' })
  assert.deepEqual(closing, [connection])
})

test('a close behind a long backlog copies nothing of it: what waits is shared', () => {
  const { connection, transport } = setUp({ buffer: 1e6, nodeBuffer: 1e8 })
  connection.open(WELCOME)
  transport.room = 1
  connection.push(published('all', 0))
  connection.flush()
  const segments = Array.from({ length: 10 }, (_, n) => published('all', n + 1, 20_000))
  for (const segment of segments) connection.push(segment)
  connection.close()
  const memories = transport.memories.slice(-10)
  assert.ok(
    segments.every(({ memory }, i) => memory.buffer === memories[i]),
    'something was copied',
  )
  assert.deepEqual(numbersIn(transport), ['welcome', ...Array(11).keys()])
})

test('close before the welcome writes nothing and counts what waited', () => {
  const { connection, transport, metrics } = setUp()
  connection.push(published('all', 0))
  connection.close()
  assert.deepEqual(transport.writes, [])
  assert.deepEqual(transport.closed, { code: 1000, reason: '' })
  connection.open(WELCOME)
  assert.deepEqual(transport.writes, [])
  connection.gone()
  assert.equal(metrics.snapshot()['messages_dropped_total{closed}'], 1)
})

test('gone releases what a stalled connection held and counts what it had not written', () => {
  const { connection, transport, flush, writeQueue, dropped } = setUp({ buffer: 10_000 })
  connection.open(WELCOME)
  transport.room = 1
  connection.push(published('all', 0))
  flush()
  for (let n = 1; n < 4; n++) connection.push(published('all', n))
  assert.ok(writeQueue.held.bytes > 0)
  connection.gone()
  assert.deepEqual([writeQueue.held.bytes, writeQueue.slow.size], [0, 0])
  assert.equal(dropped('closed'), 3)
  transport.drain()
  assert.deepEqual(numbersIn(transport), ['welcome', 0])
})

test('what the application sees: identity, own topics and subscriptions', () => {
  const { connection, transport } = setUp()
  assert.deepEqual([...connection.topics], ['all', 'connection:c1', 'user:42'])
  connection.subscriptions = new Map([['channel:x', 5]])
  assert.deepEqual([...connection.topics], ['all', 'connection:c1', 'user:42', 'channel:x'])
  assert.deepEqual([connection.id, connection.user, connection.data], ['c1', '42', { a: 1 }])
  connection.ping()
  connection.terminate()
  assert.deepEqual([transport.pings, transport.isTerminated], [1, true])
})
