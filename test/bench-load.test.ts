import assert from 'node:assert/strict'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { LastingLoad } from './bench/lib/lasting.ts'
import { Meter } from './bench/lib/meter.ts'
import { Pool } from './bench/lib/pool.ts'
import { MESSAGE_BYTES, STAMP_BASE } from './bench/lib/stamp.ts'
import { StreamPool } from './bench/lib/stream-pool.ts'
import { until } from './helpers/waiting.ts'

const TOPIC = 'channel:burst'

function frame(text: string): Buffer {
  const payload = Buffer.from(text)
  const header = payload.length < 126 ? [0x81, payload.length] : [0x81, 126, payload.length >> 8, payload.length & 255]
  return Buffer.concat([Buffer.from(header), payload])
}

function message(number: number, size = MESSAGE_BYTES): Buffer {
  const text = (pad: string) =>
    `{"type":"bench","payload":{"t":${STAMP_BASE + number},"p":"${pad}"},"topic":"${TOPIC}"}`
  return frame(text('x'.repeat(size - text('').length)))
}

/** As long as a message. */
const GAP = frame(
  `{"type":"gap","payload":{"topics":["${TOPIC}","${'x'.repeat(60)}"],"reason":"broker_link"}}`.padEnd(128),
)

/** Two clients of the bench, and the sockets on which they get what the test says. */
async function clients(t: TestContext, count = 2): Promise<{ pool: Pool; sockets: Socket[] }> {
  const sockets: Socket[] = []
  const server = createServer(socket => {
    sockets.push(socket.on('error', () => {}))
    socket.once('data', () => socket.write('HTTP/1.1 101 Switching Protocols\r\n\r\n'))
  })
  t.after(() => {
    for (const socket of sockets) socket.destroy()
    server.close()
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const pool = new Pool('bridge', (server.address() as AddressInfo).port)
  for (let index = 0; index < count; index++) {
    pool.add({ topics: [TOPIC] })
    await until(() => pool.connections[index]!.open, 'the upgrade of a client')
    sockets[index]!.write(frame('{"type":"welcome","payload":{}}'))
    await until(() => pool.live === index + 1, 'the welcome of a client')
  }
  t.after(() => {
    for (const { socket } of pool.connections) socket.destroy()
  })
  return { pool, sockets }
}

test('bench: the load sees what comes out of order and what is told as a gap, however the bytes are cut', async t => {
  const { pool, sockets } = await clients(t)
  for (const cut of [1, 7, 60, 131, 132, 1000]) {
    pool.meter = new Meter(
      { perTopic: { [TOPIC]: 40 }, size: MESSAGE_BYTES, upTo: 228, stamped: false, numbered: true },
      pool.topics,
    )
    const { meter } = pool
    // The second one is recorded, and longer; two change places.
    const numbers = Array.from({ length: 40 }, (_, i) => (i === 20 ? 22 : i === 21 ? 21 : i + 1))
    const inOrder = Array.from({ length: 40 }, (_, i) => message(i + 1, i % 3 === 0 ? 200 : MESSAGE_BYTES))
    const first = Buffer.concat(inOrder)
    const second = Buffer.concat([...numbers.map(number => message(number)), GAP])
    for (let at = 0; at < Math.max(first.length, second.length); at += cut) {
      for (const [index, bytes] of [first, second].entries()) {
        const part = bytes.subarray(at, at + cut)
        if (part.length > 0) await new Promise(resolve => sockets[index]!.write(part, resolve))
      }
    }
    await until(
      () => meter.done && meter.gaps > 0,
      () => `${meter.got} of 80 messages and ${meter.gaps} gaps came`,
    )
    assert.deepEqual([meter.got, meter.disorder, meter.gaps], [80, 1, 1], `in pieces of ${cut}`)
    assert.deepEqual(meter.differences(), { missing: 0, extra: 0 })
  }
})

/** In chunks of three events: with an id, without, and a comment. */
function chunksOf(messages: readonly Buffer[]): Buffer {
  const events = messages.map((frame, i) => `${i % 3 === 0 ? `id: ${i}\n` : ''}data: ${textIn(frame)}\n\n`)
  const chunks: string[] = []
  for (let at = 0; at < events.length; at += 3) chunks.push(`${events.slice(at, at + 3).join('')}:\n\n`)
  return Buffer.from(chunks.map(chunk => `${chunk.length.toString(16)}\r\n${chunk}\r\n`).join(''))
}

function textIn(frame: Buffer): string {
  return frame.toString('latin1', frame[1] === 126 ? 4 : 2)
}

test('bench: the load sees the same in event streams, however the bytes are cut', async t => {
  let socket: Socket | undefined
  const server = createServer(it => {
    socket = it.on('error', () => {})
    it.once('data', () => it.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'))
  })
  t.after(() => {
    socket?.destroy()
    server.close()
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const pool = new StreamPool((server.address() as AddressInfo).port)
  t.after(() => pool.leave())
  pool.add({ topics: [TOPIC] })
  await until(() => pool.connections[0]!.isOpen, 'the answer to the request of a client')
  socket!.write(chunksOf([frame('{"type":"welcome","payload":{}}')]))
  await until(() => pool.live === 1, 'the welcome')
  for (const cut of [1, 7, 131, 500]) {
    const meter = new Meter(
      { perTopic: { [TOPIC]: 40 }, size: MESSAGE_BYTES, upTo: 228, stamped: false, numbered: true },
      pool.topics,
    )
    pool.meter = meter
    const numbers = Array.from({ length: 40 }, (_, i) => (i === 20 ? 22 : i === 21 ? 21 : i + 1))
    const sizeOf = (i: number) => (i % 3 === 0 ? 200 : MESSAGE_BYTES)
    const bytes = chunksOf([...numbers.map((number, i) => message(number, sizeOf(i))), GAP])
    for (let at = 0; at < bytes.length; at += cut) {
      await new Promise(resolve => socket!.write(bytes.subarray(at, at + cut), resolve))
    }
    await until(
      () => meter.done && meter.gaps > 0,
      () => `${meter.got} of 40 messages and ${meter.gaps} gaps came`,
    )
    assert.deepEqual([meter.got, meter.disorder, meter.gaps], [40, 1, 1], `in pieces of ${cut}`)
    assert.deepEqual(meter.differences(), { missing: 0, extra: 0 })
  }
  assert.deepEqual(pool.others, { gap: 4 })
})

test('bench: from when on messages come in the usual time is the first of a hundred in a row', () => {
  const meter = new Meter({ perTopic: { [TOPIC]: 400 }, size: MESSAGE_BYTES, stamped: true, usual: 10_000 }, [[TOPIC]])
  const late = (n: number) => (n < 50 || n === 120 ? 20_000 : 500)
  for (let n = 0; n < 400; n++) meter.stamp(0, message(n * 1000), 4, n * 1000 + late(n))
  assert.equal(meter.usualAt, 121_500)
  const never = new Meter({ perTopic: { [TOPIC]: 99 }, size: MESSAGE_BYTES, stamped: true, usual: 10_000 }, [[TOPIC]])
  for (let n = 0; n < 99; n++) never.stamp(0, message(n * 1000), 4, n * 1000 + 500)
  assert.equal(never.usualAt, 0)
})

test('bench: a load that lasts is as many messages as it says, each later than the one before', async () => {
  const topics = Array.from({ length: 50 }, (_, n) => `user:u${String(n).padStart(5, '0')}`)
  // Nearly two rounds of its templates.
  const plan = { kind: 'bridge', topics, size: MESSAGE_BYTES, rate: 1_000_000, seconds: 0.12 } as const
  const load = new LastingLoad(plan, ({ topic, size }) => Buffer.from(`${topic} ${STAMP_BASE}`.padEnd(size - 1) + '\n'))
  const perTopic: Record<string, number> = {}
  let [sent, lastStamp] = [0, 0]
  const write = (bytes: Buffer) => {
    for (const line of bytes.toString().split('\n').slice(0, -1)) {
      const [topic, stamp] = line.split(' ')
      assert.equal(line.length, MESSAGE_BYTES - 1)
      assert.ok(Number(stamp) > lastStamp)
      lastStamp = Number(stamp)
      perTopic[topic!] = (perTopic[topic!] ?? 0) + 1
      sent++
    }
  }
  await load.publish({ write }, () => sent)
  assert.equal(sent, 120_000)
  assert.equal(sent, load.total)
  assert.deepEqual(perTopic, load.perTopic)
})
