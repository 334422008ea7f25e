import assert from 'node:assert/strict'
import { test } from 'node:test'
import { numbersIn, published, setUp, WELCOME } from './helpers/connection.ts'

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
  const { connection, transport, flush, outbox } = setUp()
  connection.push(published('all', 1))
  transport.room = 1
  connection.open(WELCOME)
  flush()
  assert.deepEqual(numbersIn(transport), ['welcome'])
  assert.equal(outbox.stalledConnections, 1)
  transport.drain()
  assert.deepEqual(numbersIn(transport), ['welcome', 1])
  assert.equal(outbox.stalledConnections, 0)
})

test('a connection over its budget before the welcome is closed', () => {
  const { connection, transport, dropped, closing } = setUp()
  assert.equal(connection.push(published('all', 1, 600)), true)
  assert.equal(connection.push(published('all', 2, 600)), false)
  assert.deepEqual(transport.closed, { code: 4503, reason: 'slow consumer' })
  assert.equal(dropped('slow_consumer'), 2)
  assert.deepEqual(closing, [connection])
})

// ── flush ────────────────────────────────────────────────────────────────────────────────────────────────────────

test('a connection alone is flushed in one write per turn, however many messages it has', () => {
  const { connection, transport, flush, outbox } = setUp()
  connection.open(WELCOME)
  for (let n = 0; n < 5; n++) connection.push(published('all', n))
  assert.equal(transport.writes.length, 1)
  assert.equal(outbox.isIdle, false)
  flush()
  assert.equal(transport.writes.length, 2)
  assert.equal(outbox.isIdle, true)
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
  const { connection, transport, flush, outbox } = setUp({ buffer: 10_000 }, 'framewise')
  connection.open(WELCOME)
  for (let n = 0; n < 3; n++) connection.push(published('all', n))
  transport.room = 1
  flush()
  assert.deepEqual(numbersIn(transport), ['welcome', 0])
  assert.ok(outbox.heldBytes > 0)
  connection.push(published('all', 3))
  flush()
  assert.deepEqual(numbersIn(transport), ['welcome', 0])
  transport.drain(2)
  assert.deepEqual(numbersIn(transport), ['welcome', 0, 1, 2])
  transport.drain()
  assert.deepEqual(numbersIn(transport), ['welcome', 0, 1, 2, 3])
  assert.equal(transport.unwanted, 0)
  assert.deepEqual([outbox.heldBytes, outbox.sum, outbox.stalledConnections], [0, 0, 0])
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

test('close: over the budget a stalled connection is closed with 4503 and its messages are counted', () => {
  const { connection, transport, flush, outbox, dropped, closing } = setUp()
  connection.open(WELCOME)
  transport.room = 1
  connection.push(published('all', 0))
  flush()
  assert.equal(connection.push(published('all', 1, 500)), true)
  assert.equal(connection.push(published('all', 2, 500)), false)
  assert.deepEqual(transport.closed, { code: 4503, reason: 'slow consumer' })
  assert.deepEqual(numbersIn(transport), ['welcome', 0])
  assert.equal(dropped('slow_consumer'), 2)
  assert.deepEqual(closing, [connection])
  assert.deepEqual([outbox.heldBytes, outbox.sum], [0, 0])
  assert.equal(connection.push(published('all', 3)), false)
  assert.equal(connection.send('b'), false)
  assert.equal(dropped('slow_consumer'), 2)
})

test('close: messages of a flush that the socket did not take are counted as dropped too', () => {
  const { connection, transport, flush, dropped } = setUp({}, 'framewise')
  connection.open(WELCOME)
  for (let n = 0; n < 3; n++) connection.push(published('all', n))
  transport.room = 1
  flush()
  assert.deepEqual(numbersIn(transport), ['welcome', 0])
  assert.equal(connection.push(published('all', 3, 2000)), false)
  assert.equal(dropped('slow_consumer'), 3, '1, 2 and 3 were never written')
})

test('drop: a gap names every topic of what was dropped, before the next message; direct replies are kept', () => {
  const { connection, transport, flush, dropped, metrics, outbox } = setUp({ slowConsumer: 'drop' })
  connection.open(WELCOME)
  transport.room = 1
  connection.push(published('all', 0))
  flush()
  connection.push(published('channel:x', 1, 200))
  connection.reply('reply', {}, 7)
  connection.push(published('channel:y', 2, 200))
  assert.equal(connection.push(published('channel:z', 3, 600)), false)
  assert.equal(connection.isClosing, false)
  assert.equal(connection.push(published('channel:x', 4)), true)
  transport.drain()
  assert.deepEqual(numbersIn(transport), ['welcome', 0, 'reply', 'gap', 4])
  const gap = transport.messages[3]!.payload as { topics: string[]; reason: string }
  assert.deepEqual(gap.topics.toSorted(), ['channel:x', 'channel:y', 'channel:z'])
  assert.equal(gap.reason, 'slow_consumer')
  assert.equal(dropped('slow_consumer'), 3)
  assert.equal(metrics.snapshot()['gaps_total{slow_consumer}'], 1)
  assert.deepEqual([outbox.heldBytes, outbox.sum], [0, 0])
})

test('drop: what the socket left of a flush is named in the gap, and its replies are kept', () => {
  const { connection, transport, flush } = setUp({ slowConsumer: 'drop' }, 'framewise')
  connection.open(WELCOME)
  connection.push(published('channel:x', 0))
  connection.push(published('channel:x', 1))
  connection.reply('reply', {}, 7)
  transport.room = 1
  flush()
  assert.deepEqual(numbersIn(transport), ['welcome', 0])
  connection.push(published('channel:y', 2, 2000))
  transport.drain()
  const gap = transport.messages.find(({ type }) => type === 'gap')?.payload as { topics: string[] } | undefined
  assert.deepEqual(gap?.topics.toSorted(), ['channel:x', 'channel:y'])
  assert.equal(numbersIn(transport).includes('reply'), true, 'the reply went missing')
})

test('drop: a second overflow joins the first gap, which is no dropped message', () => {
  const { connection, transport, flush, dropped } = setUp({ slowConsumer: 'drop' })
  connection.open(WELCOME)
  transport.room = 1
  connection.push(published('all', 0))
  flush()
  connection.push(published('channel:x', 1, 2000))
  connection.push(published('channel:y', 2, 2000))
  transport.drain()
  assert.deepEqual(numbersIn(transport), ['welcome', 0, 'gap'])
  assert.deepEqual((transport.messages[2]!.payload.topics as string[]).toSorted(), ['channel:x', 'channel:y'])
  assert.equal(dropped('slow_consumer'), 2)
})

test('drop: a reply over the budget ends the connection, or is taken; it is never refused and sent all the same', () => {
  const { connection, transport, flush } = setUp({ slowConsumer: 'drop', buffer: 400 })
  connection.open(WELCOME)
  transport.room = 1
  connection.push(published('all', 0))
  flush()
  connection.push(published('channel:x', 1, 200))
  const isTaken = connection.send('b', 'y'.repeat(150))
  transport.drain()
  assert.equal(numbersIn(transport).includes('b'), isTaken)
})

test('drop: a client that asks without reading is cut off', () => {
  const { connection, transport, flush, outbox } = setUp({ slowConsumer: 'drop' })
  connection.open(WELCOME)
  transport.room = 1
  connection.push(published('all', 0))
  flush()
  for (let i = 0; i < 50; i++) connection.reply('reply', 'x'.repeat(50), i)
  assert.equal(transport.closed?.code, 4503)
  assert.deepEqual([outbox.heldBytes, outbox.sum], [0, 0])
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
  const { connection, transport, flush, outbox, dropped } = setUp({ buffer: 10_000 })
  connection.open(WELCOME)
  transport.room = 1
  connection.push(published('all', 0))
  flush()
  for (let n = 1; n < 4; n++) connection.push(published('all', n))
  assert.ok(outbox.heldBytes > 0)
  connection.gone()
  assert.deepEqual([outbox.heldBytes, outbox.sum, outbox.stalledConnections], [0, 0, 0])
  assert.equal(dropped('closed'), 3)
  transport.drain()
  assert.deepEqual(numbersIn(transport), ['welcome', 0])
})

test('what the application sees: identity, own topics and subscriptions', () => {
  const { connection, transport } = setUp()
  assert.deepEqual([...connection.topics], ['all', 'connection:c1', 'user:42'])
  connection.subscriptions = new Set(['channel:x'])
  assert.deepEqual([...connection.topics], ['all', 'connection:c1', 'user:42', 'channel:x'])
  assert.deepEqual([connection.id, connection.user, connection.data], ['c1', '42', { a: 1 }])
  connection.ping()
  connection.terminate()
  assert.deepEqual([transport.pings, transport.isTerminated], [1, true])
})
