import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import { WebSocket, WebSocketServer } from 'ws'
import { encodeFrame } from '../src/frame.ts'
import { Queue, Segment } from '../src/queue.ts'

const KIB = 1024
const LENGTHS = [0, 1, 124, 125, 126, 127, 255, 256, 65_534, 65_535, 65_536, 65_537, 200_000]

interface Parsed {
  message: string | Buffer
  isBinary: boolean
}

/** What the parser of `ws` makes of bytes that a server wrote. */
async function parsed(t: { after(hook: () => unknown): void }, bytes: Buffer, count: number): Promise<Parsed[]> {
  const http = createServer()
  const server = new WebSocketServer({ noServer: true })
  t.after(() => http.close())
  http.on('upgrade', (request, socket: Socket, head) => {
    server.handleUpgrade(request, socket, head, () => socket.write(bytes))
  })
  http.listen(0, '127.0.0.1')
  await once(http, 'listening')
  const client = new WebSocket(`ws://127.0.0.1:${(http.address() as AddressInfo).port}`, { perMessageDeflate: false })
  t.after(() => client.terminate())
  const messages: Parsed[] = []
  return new Promise((resolve, reject) => {
    client.on('error', reject)
    client.on('message', (data, isBinary) => {
      messages.push({ message: isBinary ? (data as Buffer) : String(data), isBinary })
      if (messages.length === count) resolve(messages)
    })
  })
}

test('ws parses text frames of every length class, in one run', async t => {
  const messages = LENGTHS.map(length => 'x'.repeat(length))
  const bytes = Buffer.concat(messages.map(message => encodeFrame(message).bytes))
  const received = await parsed(t, bytes, messages.length)
  assert.deepEqual(
    received,
    messages.map(message => ({ message, isBinary: false })),
  )
})

test('ws parses binary frames of every length class, in one run', async t => {
  const messages = LENGTHS.map(length => Buffer.alloc(length, length & 255))
  const bytes = Buffer.concat(messages.map(message => encodeFrame(message).bytes))
  const received = await parsed(t, bytes, messages.length)
  assert.deepEqual(
    received,
    messages.map(message => ({ message, isBinary: true })),
  )
})

test('property: ws gives back whatever text and bytes were framed', async t => {
  const edge = fc.constantFrom(125, 126, 65_535, 65_536).map(length => 'é'.repeat(length >> 1) + 'x'.repeat(length & 1))
  const text = fc.oneof(fc.string({ unit: 'grapheme', maxLength: 200 }), edge)
  const message = fc.oneof(
    text,
    fc.uint8Array({ maxLength: 200 }).map(bytes => Buffer.from(bytes)),
  )
  const samples = fc.sample(message, { numRuns: 200, seed: 7 })
  const received = await parsed(t, Buffer.concat(samples.map(sample => encodeFrame(sample).bytes)), samples.length)
  assert.deepEqual(
    received,
    samples.map(sample => ({ message: sample, isBinary: typeof sample !== 'string' })),
  )
})

test('a lone surrogate takes the place of U+FFFD and no byte is left over', () => {
  const { bytes, payloadStart } = encodeFrame('a\ud800b')
  assert.equal(bytes.subarray(payloadStart).toString(), 'a\ufffdb')
  assert.equal(bytes[1], bytes.length - 2)
})

test('the payload begins where the frame says', () => {
  for (const length of LENGTHS) {
    const { bytes, payloadStart, binary } = encodeFrame('y'.repeat(length))
    assert.equal(bytes.length, payloadStart + length)
    assert.equal(bytes.subarray(payloadStart).toString(), 'y'.repeat(length))
    assert.equal(binary, false)
  }
})

// ── queues ───────────────────────────────────────────────────────────────────────────────────────────────────────

const segment = (...sizes: number[]) =>
  new Segment(
    sizes.map((size, i) => encodeFrame(String(i % 10).repeat(size))),
    ['all'],
  )

test('a segment counts its bytes and is a queue by itself', () => {
  const both = segment(10, 200)
  assert.equal(both.bytes, 12 + 204)
  assert.deepEqual(both.alone.segments(), [both])
  assert.equal(both.alone.bytes, both.bytes)
})

test('connections with the same history share one queue and its bytes', () => {
  const [a, b, c] = [segment(10), segment(20), segment(30)]
  const one = a.alone.with(b).with(c)
  const two = a.alone.with(b).with(c)
  assert.equal(one, two)
  assert.equal(one.chunks(), two.chunks())
  assert.deepEqual(one.segments(), [a, b, c])
  assert.equal(one.bytes, a.bytes + b.bytes + c.bytes)
})

test('connections that part ways have queues of their own', () => {
  const [a, b, c] = [segment(10), segment(20), segment(30)]
  const shared = a.alone.with(b)
  const other = a.alone.with(c)
  assert.notEqual(shared, other)
  assert.deepEqual(other.segments(), [a, c])
  assert.deepEqual(shared.segments(), [a, b])
  assert.deepEqual(a.alone.segments(), [a])
  assert.notEqual(new Queue(undefined, a), a.alone)
})

test('property: sharing never mixes histories up', () => {
  const pool = Array.from({ length: 4 }, (_, i) => segment(i + 1))
  const history = fc.array(fc.nat(3), { minLength: 1, maxLength: 8 })
  fc.assert(
    fc.property(fc.array(history, { minLength: 1, maxLength: 8 }), histories => {
      const queues = histories.map(([first, ...rest]) =>
        rest.reduce((queue, i) => queue.with(pool[i]!), pool[first!]!.alone),
      )
      queues.forEach((queue, i) => {
        const expected = histories[i]!.map(n => pool[n]!)
        assert.deepEqual(
          queue.segments().map(s => pool.indexOf(s)),
          histories[i],
        )
        assert.equal(
          queue.bytes,
          expected.reduce((sum, { bytes }) => sum + bytes, 0),
        )
      })
    }),
    { numRuns: 200 },
  )
})

test('property: chunks are cut between frames only, hold 64 KiB at most unless one frame is larger, and are the frames', () => {
  const size = fc.oneof(
    fc.nat(300),
    fc.integer({ min: 15 * KIB, max: 17 * KIB }),
    fc.integer({ min: 60_000, max: 70_000 }),
    fc.constant(150_000),
  )
  const sizes = fc.array(fc.array(size, { minLength: 1, maxLength: 20 }), { minLength: 1, maxLength: 8 })
  fc.assert(
    fc.property(sizes, all => {
      const [first, ...rest] = all.map(some => segment(...some))
      const queue = rest.reduce((q, s) => q.with(s), first!.alone)
      const frames = queue.frames()
      const chunks = queue.chunks()
      assert.equal(chunks, queue.chunks(), 'joined once')
      assert.ok(Buffer.concat(chunks as Buffer[]).equals(Buffer.concat(frames.map(({ bytes }) => bytes))))
      assert.equal(
        queue.bytes,
        chunks.reduce((sum, { length }) => sum + length, 0),
      )
      const ends = new Set<number>()
      let end = 0
      for (const { bytes } of frames) {
        end += bytes.length
        ends.add(end)
      }
      let at = 0
      for (const chunk of chunks) {
        const isSingle = frames.some(({ bytes }) => bytes === chunk)
        assert.ok(chunk.length <= 64 * KIB || isSingle, `a chunk of ${chunk.length} bytes`)
        at += chunk.length
        assert.ok(ends.has(at), 'a frame was cut')
      }
    }),
    { numRuns: 100 },
  )
})

test('large frames of a queue that takes more than one chunk are not copied', () => {
  const large = encodeFrame('x'.repeat(20 * KIB))
  const queue = new Segment([encodeFrame('a'), large, encodeFrame('b'.repeat(50 * KIB))], []).alone
  assert.equal(queue.chunks()[1], large.bytes)
})
