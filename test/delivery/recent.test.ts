import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LimitNotes } from '../../src/delivery/limit-notes.ts'
import { RecentPublications } from '../../src/delivery/recent.ts'
import type { Topic } from '../../src/protocol/topic.ts'

const topicOf = (n: number): Topic => `user:${n}`

test('before anything comes, nothing is known', () => {
  const recent = new RecentPublications()
  recent.rotate(1)
  assert.deepEqual([recent.of('all'), recent.busiest(10)], [[], []])
})

test('the newest sixteen of a topic are known, the newest first, with what became of them', () => {
  const recent = new RecentPublications()
  for (let n = 0; n < 20; n++) {
    recent.now = n
    const index = recent.note('channel:a', `type-${n}`, n === 19 ? 'id' : undefined)
    recent.reached(index, n)
    if (n === 18) recent.skipped(index, 'slow', 2)
    if (n === 18) recent.skipped(index, 'except')
  }
  const found = recent.of('channel:a')
  assert.deepEqual(
    found.map(({ at }) => at),
    Array.from({ length: 16 }, (_, i) => 19 - i),
  )
  const nothing = { skipped: {}, rejected: undefined }
  assert.deepEqual(found[0], { at: 19, type: 'type-19', id: 'id', delivered: 19, ...nothing })
  assert.deepEqual(found[1], {
    at: 18,
    type: 'type-18',
    id: undefined,
    delivered: 18,
    skipped: { except: 1, slow: 2 },
    rejected: undefined,
  })
  // Counts of what was there before are gone.
  assert.deepEqual(found[2]!.skipped, {})
})

test('what was rejected says why', () => {
  const recent = new RecentPublications()
  recent.rejected('user:1', 'json', 'id')
  const [only] = recent.of('user:1')
  assert.deepEqual([only!.rejected, only!.type, only!.id, only!.delivered], ['json', undefined, 'id', 0])
})

/** A topic that shares the place of `topic`: it pushes it out. */
function sharerOf(recent: RecentPublications, topic: Topic): Topic {
  recent.note(topic, 'x', undefined)
  for (let n = 0; n < 100_000; n++) {
    for (let times = 0; times < 16; times++) recent.note(topicOf(n), 'x', undefined)
    if (recent.of(topic).length === 0) return topicOf(n)
  }
  return assert.fail('no topic shares the place')
}

test('those that were queued together get their counts together, whatever else is in their place', () => {
  const recent = new RecentPublications()
  const other = sharerOf(recent, 'channel:run')
  for (const topic of ['channel:run', other, 'channel:run', other, 'channel:run', other] as const) {
    recent.note(topic, 'y', undefined)
  }
  recent.ended('channel:run', 3, { reached: 40, closing: 1, slow: 2, overload: 3 })
  const ended = { delivered: 40, skipped: { closing: 1, slow: 2, overload: 3 } }
  const counts = (topic: Topic) => recent.of(topic).map(({ delivered, skipped }) => ({ delivered, skipped }))
  assert.deepEqual(counts('channel:run'), [ended, ended, ended])
  assert.deepEqual(new Set(recent.of(other).map(({ delivered }) => delivered)), new Set([0]))
})

test('a run that is longer than what is kept does no harm', () => {
  const recent = new RecentPublications()
  for (let n = 0; n < 100; n++) recent.note('all', 'x', undefined)
  recent.ended('all', 100, { reached: 7, closing: 0, slow: 0, overload: 0 })
  assert.deepEqual(new Set(recent.of('all').map(({ delivered }) => delivered)), new Set([7]))
})

test('a busy topic leaves the others alone, but for those that share its place', () => {
  const recent = new RecentPublications()
  for (let n = 0; n < 1000; n++) recent.note(topicOf(n), 'quiet', undefined)
  for (let n = 0; n < 100_000; n++) recent.note('channel:busy', 'busy', undefined)
  const lost = Array.from({ length: 1000 }, (_, n) => recent.of(topicOf(n))).filter(({ length }) => length === 0)
  assert.ok(lost.length < 30, `${lost.length} of 1,000 topics were pushed out`)
})

test('a topic that is asked for has a place of its own for ten minutes, and what was known goes with it', () => {
  const recent = new RecentPublications()
  const other = sharerOf(recent, 'channel:asked')
  const publish = (topic: Topic, kind: string, times = 1) => {
    for (let n = 0; n < times; n++) recent.reached(recent.note(topic, kind, undefined), 3)
  }
  const kinds = () => recent.of('channel:asked').map(({ type }) => type)
  publish('channel:asked', 'a')
  publish('channel:asked', 'b')
  recent.watch('channel:asked', 0)
  publish(other, 'x', 1000)
  publish('channel:asked', 'c')
  assert.deepEqual(kinds(), ['c', 'b', 'a'])
  assert.deepEqual(new Set(recent.of('channel:asked').map(({ delivered }) => delivered)), new Set([3]))
  assert.equal(recent.busiest(2)[0]!.topic, other)
  recent.rotate(599_000)
  publish(other, 'x', 1000)
  assert.deepEqual(kinds(), ['c', 'b', 'a'])
  recent.rotate(600_000)
  assert.deepEqual(kinds(), ['c', 'b', 'a'])
  publish('channel:asked', 'd')
  assert.deepEqual(kinds(), ['d', 'c', 'b', 'a'])
  publish(other, 'x', 16)
  assert.deepEqual(kinds(), [])
})

test('thirty-two topics have a place of their own, those that were asked for last', () => {
  const recent = new RecentPublications()
  for (let n = 0; n < 40; n++) {
    recent.note(topicOf(n), 'x', undefined)
    recent.watch(topicOf(n), n)
    recent.watch(topicOf(0), n)
  }
  for (let n = 0; n < 40; n++) recent.note(topicOf(n), 'y', undefined)
  for (let n = 0; n < 40; n++)
    assert.deepEqual(
      recent.of(topicOf(n)).map(({ type }) => type),
      ['y', 'x'],
    )
  for (let n = 1000; n < 100_000; n++) recent.note(topicOf(n), 'z', undefined)
  const kept = Array.from({ length: 40 }, (_, n) => n).filter(n => recent.of(topicOf(n)).length > 0)
  assert.deepEqual(kept, [0, ...Array.from({ length: 31 }, (_, i) => i + 9)])
})

test('names that differ only far from their end are told apart, and so are equal ones of other memory', () => {
  const recent = new RecentPublications()
  const end = 'x'.repeat(30)
  recent.note(`channel:a.${end}`, 'a', undefined)
  recent.note(`channel:b.${end}`, 'b', undefined)
  assert.deepEqual(
    recent.of(['channel:a', end].join('.') as Topic).map(({ type }) => type),
    ['a'],
  )
  assert.deepEqual(
    recent.of(`channel:b.${end}`).map(({ type }) => type),
    ['b'],
  )
})

test('the busiest topics are those of this period and the one before it', () => {
  const recent = new RecentPublications()
  const publish = (topic: Topic, times: number) => {
    for (let n = 0; n < times; n++) recent.note(topic, 'x', undefined)
  }
  recent.now = 10
  publish('channel:a', 500)
  publish('channel:b', 20)
  publish('channel:c', 3)
  assert.deepEqual(recent.busiest(2), [
    { topic: 'channel:a', publications: 500 },
    { topic: 'channel:b', publications: 20 },
  ])
  assert.equal(recent.busiest(100).length, 3)
  recent.rotate(20)
  recent.now = 30
  publish('channel:b', 30)
  assert.deepEqual(
    recent.busiest(2).map(({ topic, publications }) => [topic, publications]),
    [
      ['channel:a', 500],
      ['channel:b', 50],
    ],
  )
  recent.rotate(40)
  assert.deepEqual(recent.busiest(10), [{ topic: 'channel:b', publications: 30 }])
  recent.rotate(60)
  assert.deepEqual(recent.busiest(10), [])
})

test('what limits did is kept for ten minutes, for a thousand topics', () => {
  const notes = new LimitNotes()
  notes.add(['user:1', 'channel:a'], 'slow_consumer', 0)
  notes.add(['user:1'], 'slow_consumer', 1000)
  notes.add(['user:1'], 'overload', 1000)
  assert.deepEqual(notes.of('user:1', 2000), { slow_consumer: 2, overload: 1 })
  assert.deepEqual([notes.of('channel:a', 599_000), notes.of('channel:a', 600_000)], [{ slow_consumer: 1 }, {}])
  for (let n = 0; n < 2000; n++) notes.add([topicOf(n + 10)], 'overload', 3000)
  assert.deepEqual([notes.of('user:1', 4000), notes.of(topicOf(2009), 4000)], [{}, { overload: 1 }])
  notes.add(
    Array.from({ length: 100 }, (_, n) => topicOf(n + 5000)),
    'overload',
    3000,
  )
  assert.deepEqual([notes.of(topicOf(5009), 3000), notes.of(topicOf(5010), 3000)], [{ overload: 1 }, {}])
})
