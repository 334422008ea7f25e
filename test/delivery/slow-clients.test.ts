import assert from 'node:assert/strict'

import { type TestContext, test } from 'node:test'
import type { FastifyInstance } from 'fastify'
import { WebSocket } from 'ws'
import type { PushBridgeOptions } from '../../src/index.ts'
import type { TestMessage } from '../../src/testing.ts'
import { FaultProxy } from '../chaos/proxy.ts'
import { buildPush } from '../helpers/app.ts'
import { SlowLink } from '../helpers/slow-link.ts'
import { once, until } from '../helpers/waiting.ts'

const LIMIT = { timeout: 120_000 }

/** 1 Mbit/s, and everything 100 ms late. */
const LONG_LINK = { rate: 125_000, delay: 100 }

/** As long as no result may depend on it. */
const LONG = 1_000_000

type Limits = NonNullable<PushBridgeOptions['limits']>

interface Reader {
  socket: WebSocket
  messages: TestMessage[]
  closed: Promise<number>
  /** Resolves when a message of `type` has come; rejects when none can come any more. */
  until(type: string): Promise<void>
}

function read(t: TestContext, socket: WebSocket): Reader {
  const messages: TestMessage[] = []
  socket.on('message', data => {
    messages.push(JSON.parse(String(data)))
    socket.emit('received')
  })
  socket.on('error', () => {})
  t.after(() => socket.terminate())
  const closed = once(socket, 'close').then(([code]) => code as number)
  const ended = closed.then(code => {
    throw new Error(`closed with ${code} after ${messages.length} messages`)
  })
  ended.catch(() => {})
  const until = async (type: string) => {
    while (!messages.some(message => message.type === type)) await Promise.race([once(socket, 'received'), ended])
  }
  return { socket, messages, closed, until }
}

async function welcomed(reader: Reader): Promise<Reader> {
  await reader.until('welcome')
  return reader
}

/** Publishes at once `count` messages of `size` bytes, and resolves when the node has dealt with all of them. */
async function burst(app: FastifyInstance, to: string, count: number, size: number): Promise<void> {
  const pad = 'x'.repeat(size)
  const publish = (_: unknown, n: number) => app.push.publish(to, { type: 'n', payload: { n, pad }, receipt: true })
  await Promise.all(Array.from({ length: count }, publish))
}

function numbers({ messages }: Reader): number[] {
  return messages.filter(({ type }) => type === 'n').map(({ payload }) => (payload as { n: number }).n)
}

const dropped = async (app: FastifyInstance) =>
  (await app.push.status()).metrics['messages_dropped_total{slow_consumer}'] ?? 0

async function untilDropped(app: FastifyInstance): Promise<void> {
  await until(async () => (await dropped(app)) > 0, 'a client is given up')
}

for (const [slowConsumer, buffer] of [
  ['close', 64 * 1024],
  ['drop', 20 * 1024],
] as const) {
  test(`${slowConsumer}: a burst of nine times the budget arrives complete over a long link`, LIMIT, async t => {
    const { app } = await buildPush(t, { limits: { buffer, bufferTime: LONG }, slowConsumer })
    const count = Math.ceil((9 * buffer) / 10_000)
    const link = new SlowLink(LONG_LINK)
    const reader = await welcomed(read(t, link.open(app, '/ws')))
    link.hold()
    await burst(app, 'all', count, 10_000)
    const { heldBytes } = await app.push.status()
    assert.ok(heldBytes > 5 * buffer, `${heldBytes} bytes wait`)
    await app.push.publish('all', { type: 'last' })
    link.release()
    await reader.until('last')
    assert.deepEqual(
      reader.messages.map(({ type }) => type),
      ['welcome', ...Array(count).fill('n'), 'last'],
    )
    assert.deepEqual(numbers(reader), [...Array(count).keys()])
    assert.equal((await app.push.status()).heldBytes, 0)
  })
}

test('300 times 64 KB at once: a client that paused for a moment gets them all', LIMIT, async t => {
  const { app, port } = await buildPush(t, { limits: { bufferTime: LONG } })
  const reader = await welcomed(read(t, new WebSocket(`ws://127.0.0.1:${port}/ws`)))
  reader.socket.pause()
  await burst(app, 'all', 300, 64_000)
  await app.push.publish('all', { type: 'last' })
  reader.socket.resume()
  await reader.until('last')
  assert.deepEqual(numbers(reader), [...Array(300).keys()])
})

test('400 KB at once: three clients behind a proxy that lets 1 Mbit/s pass get them all', LIMIT, async t => {
  const { app, port } = await buildPush(t, { limits: { bufferTime: LONG } })
  const proxy = await FaultProxy.start(port)
  t.after(() => proxy.close())
  const open = () => welcomed(read(t, new WebSocket(`ws://127.0.0.1:${proxy.port}/ws`)))
  const readers = await Promise.all(Array.from({ length: 3 }, open))
  proxy.rate = LONG_LINK.rate
  proxy.delay = LONG_LINK.delay
  await burst(app, 'all', 100, 4000)
  await app.push.publish('all', { type: 'last' })
  await Promise.all(readers.map(reader => reader.until('last')))
  for (const reader of readers) assert.deepEqual(numbers(reader), [...Array(100).keys()])
})

/** Milliseconds of the clock of the test that pass in one step. */
const STEP = 100

for (const [what, count] of [
  ['can be taken within bufferTime loses nothing', 100],
  ['takes longer than bufferTime ends with 4503', 200],
] as const) {
  test(`over 1 Mbit/s a burst that ${what}`, LIMIT, async t => {
    t.after(() => t.mock.timers.reset())
    const { app } = await buildPush(t, { limits: { buffer: 20 * 1024, bufferTime: 3000 } })
    const link = new SlowLink({ delay: LONG_LINK.delay })
    const reader = await welcomed(read(t, link.open(app, '/ws')))
    // From here on time passes when the test says so, and each step lets through what the link takes in it.
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const step = async () => {
      link.take((LONG_LINK.rate * STEP) / 1000)
      await until(() => !link.isPassing, 'what may pass has passed')
      t.mock.timers.tick(STEP)
      await new Promise(setImmediate)
    }
    link.hold()
    await burst(app, 'all', count, 3000)
    for (let time = 0; time < 6000; time += STEP) await step()
    const lost = await dropped(app)
    assert.equal(lost > 0, count === 200, `${lost} messages were dropped`)
    link.release()
    const hasEnded = () => (lost > 0 ? reader.socket.readyState === WebSocket.CLOSED : numbers(reader).length === count)
    await until(
      async () => {
        await step()
        return hasEnded()
      },
      () => `${numbers(reader).length} of ${count} messages came, and the state is ${reader.socket.readyState}`,
    )
    assert.deepEqual(numbers(reader), [...Array(count - lost).keys()])
    if (lost > 0) assert.equal(await reader.closed, 4503)
    else assert.equal(reader.socket.readyState, WebSocket.OPEN)
  })
}

test('those who do not read are closed in time, and told different times to come back', LIMIT, async t => {
  const limits: Limits = { buffer: 64 * 1024, bufferTime: 300 }
  const { app } = await buildPush(t, { limits })
  const links = Array.from({ length: 5 }, () => new SlowLink())
  const readers = await Promise.all(links.map(link => welcomed(read(t, link.open(app, '/ws')))))
  for (const link of links) link.hold()
  const since = performance.now()
  await burst(app, 'all', 20, 10_000)
  await untilDropped(app)
  const patience = performance.now() - since
  assert.ok(patience >= 300, `${patience} ms`)
  assert.equal((await app.push.status()).heldBytes, 0)
  for (const link of links) link.release()
  assert.deepEqual(await Promise.all(readers.map(({ closed }) => closed)), Array(5).fill(4503))
  const delays = readers.map(({ messages }) => {
    const { type, payload } = messages.at(-1)!
    assert.equal(type, 'reconnect')
    return (payload as { after: number }).after
  })
  // By how much they differ depends on the machine: test/connection/reconnect-times.test.ts says it exactly.
  assert.ok(new Set(delays).size > 1, `${delays}`)
  for (const reader of readers) assert.deepEqual(numbers(reader), [...Array(numbers(reader).length).keys()])
})

test('who reads more slowly than is published, for longer than the time, is closed', LIMIT, async t => {
  const { app } = await buildPush(t, { limits: { buffer: 64 * 1024, bufferTime: 300 } })
  const link = new SlowLink()
  const reader = await welcomed(read(t, link.open(app, '/ws')))
  link.hold()
  await burst(app, 'all', 20, 10_000)
  const isGivenUp = async () => {
    link.take(2000)
    await burst(app, 'all', 1, 4000)
    return (await dropped(app)) > 0
  }
  await until(isGivenUp, 'the client is given up')
  link.release()
  assert.equal(await reader.closed, 4503)
})

test('with slowConsumer "drop" they stay, and are told a gap where the messages are missing', LIMIT, async t => {
  const { app } = await buildPush(t, { limits: { buffer: 64 * 1024, bufferTime: 300 }, slowConsumer: 'drop' })
  const link = new SlowLink()
  const reader = await welcomed(read(t, link.open(app, '/ws/room')))
  link.hold()
  await burst(app, 'channel:room', 20, 10_000)
  await untilDropped(app)
  await app.push.publish('channel:room', { type: 'last' })
  link.release()
  await reader.until('last')
  const types = reader.messages.map(({ type }) => type)
  assert.deepEqual(types.slice(-2), ['gap', 'last'])
  const lost = await dropped(app)
  assert.equal(numbers(reader).length + lost, 20)
})

test(
  'however much is published, no more waits than the node may hold, and who reads gets everything',
  LIMIT,
  async t => {
    const nodeBuffer = 2_000_000
    const { app } = await buildPush(t, { limits: { buffer: 64 * 1024, bufferTime: LONG, nodeBuffer } })
    const links = Array.from({ length: 20 }, () => new SlowLink())
    const stalled = links.map((link, user) => read(t, link.open(app, `/ws?user=${user}`)))
    const reader = await welcomed(read(t, new SlowLink().open(app, '/ws?user=reader')))
    await Promise.all(stalled.map(welcomed))
    for (const link of links) link.hold()
    let most = 0
    for (let round = 0; round < 20; round++) {
      for (const user of [...links.keys(), 'reader']) await burst(app, `user:${user}`, 1, 10_000)
      most = Math.max(most, (await app.push.status()).heldBytes)
    }
    assert.ok(most > nodeBuffer / 2 && most <= nodeBuffer, `${most} bytes waited`)
    await app.push.publish('user:reader', { type: 'last' })
    await reader.until('last')
    assert.equal(numbers(reader).length, 20)
  },
)

test(
  'a long history is sent at the pace of the client: a short time over the budget does not end it',
  LIMIT,
  async t => {
    const limits: Limits = { buffer: 64 * 1024, bufferTime: 20 }
    const history = { 'channel:room': { size: 1000, ttl: 60 } }
    const { app } = await buildPush(t, { limits, history })
    const first = await welcomed(read(t, new SlowLink().open(app, '/ws/room')))
    const { topics } = first.messages[0]!.payload as { topics: Record<string, { id: string }> }
    first.socket.terminate()
    await burst(app, 'channel:room', 60, 5000)
    const since = encodeURIComponent(JSON.stringify({ 'channel:room': topics['channel:room']!.id }))
    const reader = read(t, new SlowLink(LONG_LINK).open(app, `/ws/room?since=${since}`))
    await reader.until('welcome')
    await app.push.publish('channel:room', { type: 'last' })
    await reader.until('last')
    assert.deepEqual(numbers(reader), [...Array(60).keys()])
  },
)

test('who does not read in the middle of its history is closed in time as well', LIMIT, async t => {
  const history = { 'channel:room': { size: 1000, ttl: 60 } }
  const { app } = await buildPush(t, { limits: { buffer: 64 * 1024, bufferTime: 300 }, history })
  const { id } = await app.push.publish('channel:room', { type: 'n', payload: {} })
  await burst(app, 'channel:room', 60, 5000)
  const since = encodeURIComponent(JSON.stringify({ 'channel:room': id }))
  const link = new SlowLink()
  const reader = await welcomed(read(t, link.open(app, `/ws/room?since=${since}`)))
  link.hold()
  await burst(app, 'all', 20, 10_000)
  await untilDropped(app)
  link.release()
  assert.equal(await reader.closed, 4503)
})
