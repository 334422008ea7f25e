import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Backlog, HeldMemory } from '../../src/connection/backlog.ts'
import { BufferPool } from '../../src/connection/buffer-pool.ts'
import { directSegment, type Queue, type Segment } from '../../src/connection/queue.ts'
import { published } from '../helpers/connection.ts'

const bytesOf = (queues: readonly Queue[]) => Buffer.concat(queues.flatMap(it => it.chunks(new BufferPool())))

function takeAll(backlog: Backlog): Queue[] {
  const taken: Queue[] = []
  for (let next = backlog.take(); next; next = backlog.take()) taken.push(next)
  return taken
}

test('it is taken in portions of up to 64 KiB, larger messages by themselves', () => {
  const backlog = new Backlog(new HeldMemory())
  const sizes = [10_000, 10_000, 100_000, 30_000, 30_000, 30_000]
  const segments = sizes.map((size, n) => published('all', n, size))
  for (const segment of segments) backlog.push(segment)
  const taken = takeAll(backlog)
  assert.deepEqual(
    taken.map(it => it.segments().length),
    [2, 1, 2, 1],
  )
  assert.deepEqual(bytesOf(taken), bytesOf(segments))
})

test('what waits for many is joined once for all of them', () => {
  const segments = Array.from({ length: 100 }, (_, n) => published('all', n, 100))
  const held = new HeldMemory()
  const [a, b] = [new Backlog(held), new Backlog(held)]
  for (const segment of segments) for (const backlog of [a, b]) backlog.push(segment)
  const [first, second] = [a.take()!, b.take()!]
  assert.equal(first.chunks(new BufferPool())[0], second.chunks(new BufferPool())[0])
})

test('what was written is not kept in memory by what is not', () => {
  const held = new HeldMemory()
  const backlog = new Backlog(held)
  const segments = Array.from({ length: 10 }, (_, n) => published('all', n, 40_000))
  for (const segment of segments) backlog.push(segment)
  const all = held.bytes
  backlog.take()
  assert.equal(held.bytes, all - segments[0]!.bytes)
})

test('memory that is held is counted once for all holders, in whatever order they come and go', () => {
  const segments = Array.from({ length: 5 }, (_, n) => published('all', n, 20_000 + n))
  const step = fc.record({
    who: fc.nat(2),
    what: fc.nat(4),
    how: fc.constantFrom('push', 'push', 'take', 'clear', 'putBack'),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), steps => {
      const held = new HeldMemory()
      const peers = [0, 1, 2].map(() => ({ backlog: new Backlog(held), expected: [] as Segment[] }))
      for (const { who, what, how } of steps) {
        const { backlog, expected } = peers[who]!
        const segment = segments[what]!
        if (how === 'push') {
          backlog.push(segment)
          expected.push(segment)
        } else if (how === 'putBack') {
          backlog.putBack(segment, segment.bytes)
          expected.unshift(segment)
        } else if (how === 'take') {
          const taken = backlog.take()?.segments() ?? []
          assert.deepEqual(taken, expected.splice(0, taken.length))
        } else assert.deepEqual(backlog.clear(), expected.splice(0))
        assert.equal(
          backlog.bytes,
          expected.reduce((sum, { bytes }) => sum + bytes, 0),
        )
        const unique = new Set(peers.flatMap(it => it.expected))
        assert.equal(
          held.bytes,
          [...unique].reduce((sum, { bytes }) => sum + bytes, 0),
        )
      }
    }),
  )
})

test('dropping keeps what is no publication, and puts one gap behind it', () => {
  const held = new HeldMemory()
  const backlog = new Backlog(held)
  const reply = directSegment('{"type":"reply"}')
  for (const segment of [published('channel:x', 1), reply, published('channel:y', 2)]) backlog.push(segment)
  assert.deepEqual(backlog.drop(published('channel:z', 3)), { lost: 3, isTold: true })
  const [kept, gap] = backlog.take()!.segments()
  assert.equal(kept!.view().toString(), reply.view().toString())
  assert.deepEqual(gap!.topics, ['channel:x', 'channel:y', 'channel:z'])
  assert.equal(held.bytes, 0)
  assert.deepEqual(backlog.drop(), { lost: 0, isTold: false })
})
