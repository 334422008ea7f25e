import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import { WebSocket, WebSocketServer } from 'ws'
import { BufferPool } from '../../src/connection/buffer-pool.ts'
import { encodeExtended, encodeFrame, type Frames, framesIn } from '../../src/connection/frame.ts'
import { type Queue, Segment } from '../../src/connection/queue.ts'
import { needsNoEscape } from '../../src/protocol/messages.ts'
import { Slice } from '../../src/protocol/slice.ts'
import { once, within } from '../helpers/waiting.ts'

const KIB = 1024
const LENGTHS = [0, 1, 124, 125, 126, 127, 255, 256, 65_534, 65_535, 65_536, 65_537, 200_000]

interface Parsed {
  message: string | Buffer
  isBinary: boolean
}

const bytesOf = ({ memory, start, end }: Frames) => memory.subarray(start, end)

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
  const all = new Promise<Parsed[]>((resolve, reject) => {
    client.on('error', reject)
    client.on('message', (data, isBinary) => {
      messages.push({ message: isBinary ? (data as Buffer) : String(data), isBinary })
      if (messages.length === count) resolve(messages)
    })
  })
  return within(all, () => `${count} messages, only ${messages.length}`)
}

test('ws parses text frames of every length class, in one run', async t => {
  const messages = LENGTHS.map(length => 'x'.repeat(length))
  const bytes = Buffer.concat(messages.map(message => bytesOf(encodeFrame(message))))
  const received = await parsed(t, bytes, messages.length)
  assert.deepEqual(
    received,
    messages.map(message => ({ message, isBinary: false })),
  )
})

test('ws parses binary frames of every length class, in one run', async t => {
  const messages = LENGTHS.map(length => Buffer.alloc(length, length & 255))
  const bytes = Buffer.concat(messages.map(message => bytesOf(encodeFrame(message))))
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
  const received = await parsed(t, Buffer.concat(samples.map(sample => bytesOf(encodeFrame(sample)))), samples.length)
  assert.deepEqual(
    received,
    samples.map(sample => ({ message: sample, isBinary: typeof sample !== 'string' })),
  )
})

test('a lone surrogate takes the place of U+FFFD and no byte is left over', () => {
  const { bytes, payloadStart } = framesIn(encodeFrame('a\ud800b'))[0]!
  assert.equal(bytes.subarray(payloadStart).toString(), 'a\ufffdb')
  assert.equal(bytes[1], bytes.length - 2)
})

test('frames that stand side by side are found again, each with its payload', () => {
  for (const length of LENGTHS) {
    const [{ bytes, payloadStart, binary }, ...rest] = framesIn(encodeFrame('y'.repeat(length))) as [never]
    assert.equal(rest.length, 0)
    assert.equal((bytes as Buffer).length, payloadStart + length)
    assert.equal((bytes as Buffer).subarray(payloadStart).toString(), 'y'.repeat(length))
    assert.equal(binary, false)
  }
  const run = runOf([3, 125, 126, 9])
  assert.deepEqual(
    framesIn(run).map(frame => frame.bytes.length - frame.payloadStart),
    [3, 125, 126, 9],
  )
})

test('property: an object with an origin in the place of its brace is what would have been written anew', () => {
  fc.assert(
    fc.property(
      fc.dictionary(fc.string(), fc.jsonValue(), { minKeys: 1 }),
      fc.oneof(fc.string(), fc.string({ unit: 'binary' })),
      fc.boolean(),
      (object, topic, isGiven) => {
        const text = `,"topic":${JSON.stringify(topic)}}`
        const origin = isGiven || !needsNoEscape(topic) ? Buffer.from(text) : undefined
        const [frame] = framesIn(
          encodeExtended({ object: new Slice(Buffer.from(JSON.stringify(object))), topic, origin }),
        )
        const written = frame!.bytes.subarray(frame!.payloadStart)
        assert.equal(String(written), String(Buffer.from(JSON.stringify(object).slice(0, -1) + text)))
      },
    ),
  )
})

// ── queues ───────────────────────────────────────────────────────────────────────────────────────────────────────

/** Frames of payloads of these sizes, copied into memory of their own, side by side. */
function runOf(sizes: readonly number[]): Frames {
  const memory = Buffer.concat(sizes.map((size, i) => bytesOf(encodeFrame(String(i % 10).repeat(size)))))
  return { memory, start: 0, end: memory.length }
}

const segment = (...sizes: number[]) => new Segment(runOf(sizes), 'all', { count: sizes.length })
const pool = new BufferPool()

test('a segment counts its bytes and is a queue by itself', () => {
  const both = segment(10, 200)
  assert.equal(both.bytes, 12 + 204)
  assert.deepEqual(both.segments(), [both])
  assert.equal(both.count, 2)
})

test('connections with the same history share one queue and its bytes', () => {
  const [a, b, c] = [segment(10), segment(20), segment(30)]
  const one = a.with(b).with(c)
  const two = a.with(b).with(c)
  assert.equal(one, two)
  assert.equal(one.chunks(pool), two.chunks(pool))
  assert.deepEqual(one.segments(), [a, b, c])
  assert.equal(one.bytes, a.bytes + b.bytes + c.bytes)
})

test('connections that part ways have queues of their own', () => {
  const [a, b, c] = [segment(10), segment(20), segment(30)]
  const shared = a.with(b)
  const other = a.with(c)
  assert.notEqual(shared, other)
  assert.deepEqual(other.segments(), [a, c])
  assert.deepEqual(shared.segments(), [a, b])
  assert.deepEqual(a.segments(), [a])
})

test('property: sharing never mixes histories up', () => {
  const pool = Array.from({ length: 4 }, (_, i) => segment(i + 1))
  const history = fc.array(fc.nat(3), { minLength: 1, maxLength: 8 })
  fc.assert(
    fc.property(fc.array(history, { minLength: 1, maxLength: 8 }), histories => {
      const queues = histories.map(([first, ...rest]) =>
        rest.reduce((queue, i) => queue.with(pool[i]!), pool[first!]! as Queue),
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
  // A segment is a large frame by itself, or fits into a block.
  const few = fc.array(fc.nat(600), { minLength: 1, maxLength: 20 })
  const sizes = fc.array(fc.oneof(few, fc.tuple(size)), { minLength: 1, maxLength: 20 })
  fc.assert(
    fc.property(sizes, all => {
      const [first, ...rest] = all.map(some => segment(...some))
      const queue = rest.reduce((q, s) => q.with(s), first! as Queue)
      const frames = queue.frames()
      const chunks = queue.chunks(pool)
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
        const isSingle = frames.some(({ bytes }) => bytes.length === chunk.length)
        assert.ok(chunk.length <= 64 * KIB || isSingle, `a chunk of ${chunk.length} bytes`)
        at += chunk.length
        assert.ok(ends.has(at), 'a frame was cut')
      }
    }),
    { numRuns: 100 },
  )
})

test('large frames of a queue that takes more than one chunk are not copied', () => {
  const large = segment(20 * KIB)
  const queue = segment(1)
    .with(large)
    .with(segment(50 * KIB))
  assert.equal(queue.chunks(pool)[1]!.buffer, large.memory.buffer)
})

test('frames that were built one after the other make one segment, until a connection holds it', () => {
  const frames = ['a', 'b', 'c'].map(text => encodeFrame(text))
  const run = new Segment(frames[0]!, 'all')
  assert.ok(run.extend(frames[1]!))
  assert.ok(!run.extend(frames[1]!), 'it does not stand behind it')
  assert.deepEqual([run.count, run.bytes], [2, 6])
  run.taken()
  assert.ok(!run.extend(frames[2]!), 'somebody counts on its length')
  assert.deepEqual(
    framesIn(run).map(({ bytes }) => bytes.toString('latin1').slice(2)),
    ['a', 'b'],
  )
})

test('a detached segment is the same in memory of its own, made once', () => {
  const frame = encodeFrame('alone')
  const among = new Segment(frame, 'all')
  const own = among.detached()
  assert.equal(own.memory.length, own.bytes)
  assert.ok(own.view().equals(among.view()))
  assert.deepEqual([own.topics, own.count], [['all'], 1])
  assert.equal(among.detached(), own)
  assert.equal(own.detached(), own)
})

// ── memory that is lent ──────────────────────────────────────────────────────────────────────────────────────────

test('what one connection holds alone is joined into memory that is lent, and lent again when it was given back', () => {
  const lender = new BufferPool()
  const queues = [0, 1].map(() => segment(10).with(segment(20)))
  const [first] = queues[0]!.chunks(lender)
  const copy = Buffer.from(first!)
  const [second] = queues[1]!.chunks(lender)
  assert.equal(second!.byteOffset, first!.byteOffset + first!.length, 'side by side while both are needed')
  lender.giveBack(first!)
  assert.equal(lender.take(5).byteOffset, second!.byteOffset + second!.length, 'only the last one makes room')
  assert.ok(first!.equals(copy))
  const part = lender.take(7)
  lender.giveBack(part)
  assert.equal(lender.take(9).byteOffset, part.byteOffset)
})

test('property: parts that are lent at the same time never overlap', () => {
  const step = fc.record({ size: fc.integer({ min: 1, max: 70_000 }), giveBack: fc.boolean() })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), steps => {
      const lender = new BufferPool()
      const held: Buffer[] = []
      steps.forEach(({ size, giveBack }, i) => {
        held.push(lender.take(size).fill(i))
        for (const part of held) assert.ok(part.every(byte => byte === part[0]))
        if (giveBack) lender.giveBack(held.pop()!)
      })
      for (const part of held) assert.ok(part.every(byte => byte === part[0]))
    }),
    { numRuns: 30 },
  )
})
