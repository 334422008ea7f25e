import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { encodeFrame } from '../../src/connection/frame.ts'
import { Segment } from '../../src/connection/queue.ts'
import { ReplayBarrier } from '../../src/connection/replay-barrier.ts'
import { encodePublication } from '../../src/protocol/messages.ts'
import { encodeId, type Position } from '../../src/protocol/position.ts'
import { messagesIn } from '../helpers/connection.ts'

const TOPIC = 'channel:x'

const at = (seq: number, timeline = 'a', time = seq): Position => ({ id: encodeId(timeline, seq, `${time}-0`), seq })

const frameOf = (n: number | string, position?: Position) =>
  encodeFrame(encodePublication(TOPIC, 'n', JSON.stringify(n), position ?? {}))

/** Neighbours as one segment, where they stand side by side in memory; else several. */
function recorded(positions: readonly Position[]): Segment[] {
  const segments: Segment[] = []
  for (const position of positions) {
    const frame = frameOf(position.seq, position)
    if (!segments.at(-1)?.extend(frame, position)) segments.push(new Segment(frame, TOPIC, { position }))
  }
  return segments
}

const bare = (n: number | string) => new Segment(frameOf(n), TOPIC)

const payloadsOf = (segments: readonly (Segment | undefined | false)[]) =>
  segments.flatMap(segment => (segment ? messagesIn(segment.view()).map(text => JSON.parse(String(text)).payload) : []))

test('neighbours can be one segment', () => {
  assert.ok(recorded([1, 2, 3, 4].map(seq => at(seq))).length < 4)
})

interface Run {
  /** So many recorded ones come as neighbours; 0 stands for one that is bare. */
  count: number
}

const runs = fc.array(fc.record<Run>({ count: fc.nat(4) }), { maxLength: 20 })

test('replay and live together are everything, once and in order; what is bare is never dropped', () => {
  const property = fc.property(runs, fc.nat(20), fc.nat(60), (live, openAfter, readTo) => {
    const barrier = new ReplayBarrier()
    const got: (number | string)[] = []
    let seq = 0
    let bares = 0
    let atOpen = 0
    const open = () => {
      // The history was read at some time after what was let go, and may be ahead of what came here.
      atOpen = Math.max(seq, readTo)
      got.push(...Array.from({ length: atOpen }, (_, i) => i + 1))
      const { waiting, gap } = barrier.open(atOpen > 0 ? at(atOpen) : undefined)
      assert.equal(gap, undefined)
      got.push(...payloadsOf(waiting))
    }
    for (const [i, { count }] of live.entries()) {
      if (i === openAfter) open()
      if (count === 0) got.push(...payloadsOf([barrier.admit(bare(`b${++bares}`))]))
      const positions = Array.from({ length: count }, (_, j) => at(seq + j + 1))
      seq += count
      for (const segment of recorded(positions)) got.push(...payloadsOf([barrier.admit(segment)]))
    }
    if (live.length <= openAfter) open()
    const last = Math.max(seq, atOpen)
    assert.deepEqual(
      got.filter(payload => typeof payload === 'number'),
      Array.from({ length: last }, (_, i) => i + 1),
    )
    assert.deepEqual(
      got.filter(payload => typeof payload === 'string'),
      Array.from({ length: bares }, (_, i) => `b${i + 1}`),
    )
    assert.equal(barrier.isDone, seq > atOpen || atOpen === 0)
  })
  fc.assert(property, { numRuns: 500 })
})

test('a bounded number that is not recorded waits, and a gap stands for the rest', () => {
  const barrier = new ReplayBarrier()
  for (let n = 0; n < 300; n++) assert.equal(barrier.admit(bare(n)), n < 256 ? undefined : false)
  assert.equal(barrier.withheld, 256)
  assert.equal(barrier.isClosed, true)
  const { waiting, gap } = barrier.open(undefined)
  assert.deepEqual([waiting.length, gap], [256, 'overload'])
  assert.deepEqual(payloadsOf(waiting).at(-1), 255)
  assert.ok(barrier.isDone)
})

test('what was lost before the barrier is told when it opens; before the open barrier at once', () => {
  const barrier = new ReplayBarrier()
  assert.equal(barrier.lost('broker_link'), true)
  assert.equal(barrier.lost('rejected'), true)
  assert.equal(barrier.open(at(3)).gap, 'broker_link')
  assert.equal(barrier.lost('rejected'), false)
  assert.equal(barrier.isDone, false)
})

test('a gap that a replay has passed is needless, unless the history was found replaced after it was read', () => {
  const opened = () => {
    const barrier = new ReplayBarrier()
    barrier.open(at(10), 5)
    return barrier
  }
  assert.equal(opened().lost('history_replaced', at(3), 4), true)
  assert.equal(opened().lost('history_replaced', at(3), 6), false)
  assert.equal(opened().lost('history_replaced', at(10), 6), true, 'it has exactly what the client has')
  assert.equal(opened().lost('rejected', at(3), 6), true, 'the replay has said so already')
  assert.equal(opened().lost('history_replaced', at(11), 4), false)
})

test('a replay covers what was let go, or is asked for again', async () => {
  const barrier = new ReplayBarrier()
  assert.equal(barrier.isCoveredBy(at(0), barrier.newestAt - 1), false, 'read before it was joined')
  assert.ok(barrier.isCoveredBy(at(0), barrier.newestAt + 1))
  barrier.admit(recorded([at(5)])[0]!)
  const { newestAt } = barrier
  assert.ok(newestAt > 0)
  assert.equal(barrier.isCoveredBy(at(4), newestAt - 1), false)
  assert.equal(barrier.isCoveredBy(at(5), newestAt - 1), true)
  // What is not in a history that was read later is not of this history.
  assert.equal(barrier.isCoveredBy(at(2, 'b'), newestAt + 1), true)
})

test('of another history nothing was replayed', () => {
  for (const next of [at(2, 'b'), at(2, 'a', 100)]) {
    const barrier = new ReplayBarrier()
    barrier.open(at(5))
    assert.deepEqual(payloadsOf([barrier.admit(recorded([at(5)])[0]!)]), [])
    assert.deepEqual(payloadsOf([barrier.admit(recorded([next])[0]!)]), [2], next.id)
    assert.ok(barrier.isDone)
  }
})

test('a position that is older than what has come meanwhile does not let the replay end before that', () => {
  const until = (position: Position, readAt: number) => {
    const barrier = new ReplayBarrier()
    barrier.admit(recorded([at(5)])[0]!)
    barrier.begin(position)
    return [at(4), at(5), at(6)].map(end => barrier.isCoveredBy(end, readAt))
  }
  assert.deepEqual(until(at(4), 0), [false, true, true])
  assert.deepEqual(until(at(6), 0), [false, false, true])
  // Of another history: only what is read from now on will do.
  assert.deepEqual(until(at(4, 'b'), 0), [false, false, false])
  assert.deepEqual(until(at(4, 'b'), Number.POSITIVE_INFINITY), [true, true, true])
})
