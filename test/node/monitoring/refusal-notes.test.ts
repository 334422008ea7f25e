import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MAX_REFUSALS, RefusalNotes } from '../../../src/node/monitoring/refusal-notes.ts'
import { errors } from '../../../src/protocol/errors.ts'
import type { Topic } from '../../../src/protocol/topic.ts'

const forbidden = new errors.FORBIDDEN('no')
const usersOf = (notes: RefusalNotes, topic: Topic, now: number) => notes.of(topic, now).map(({ user }) => user)

test('a client that tries again and again is one note, and pushes out no other', () => {
  const notes = new RefusalNotes()
  notes.add({ user: '1', id: 'a' }, 'channel:a', forbidden, 0)
  for (let n = 1; n <= 50; n++) notes.add({ user: '2', id: `c${n}` }, 'channel:a', forbidden, n)
  notes.add({ user: '2', id: 'c50' }, 'channel:a', new errors.LIMIT('full'), 60)
  assert.deepEqual(
    notes.of('channel:a', 100).map(({ at, user, connection, code, times }) => [at, user, connection, code, times]),
    [
      [60, '2', 'c50', 'PUSH_ERR_LIMIT', 1],
      [50, '2', 'c50', 'PUSH_ERR_FORBIDDEN', 50],
      [0, '1', 'a', 'PUSH_ERR_FORBIDDEN', 1],
    ],
  )
})

test('anonymous clients are told apart by their connections', () => {
  const notes = new RefusalNotes()
  for (const id of ['a', 'b', 'a']) notes.add({ user: null, id }, 'channel:a', forbidden, 0)
  assert.deepEqual(
    notes.of('channel:a', 0).map(({ connection, times }) => [connection, times]),
    [
      ['a', 2],
      ['b', 1],
    ],
  )
})

test('ten minutes, a thousand topics, five clients of each, and no message without an end', () => {
  const notes = new RefusalNotes()
  for (let n = 0; n < 20; n++) notes.add({ user: `${n}` }, 'channel:a', forbidden, n)
  assert.deepEqual(usersOf(notes, 'channel:a', 20), ['19', '18', '17', '16', '15'])
  assert.equal(MAX_REFUSALS, 5)
  assert.deepEqual(usersOf(notes, 'channel:a', 600_016), ['19', '18', '17'])
  assert.deepEqual(usersOf(notes, 'channel:a', 600_019), [])
  for (let n = 0; n < 999; n++) notes.add({ user: '1' }, `channel:${n}`, forbidden, 20)
  assert.equal(notes.of('channel:a', 20).length, MAX_REFUSALS)
  notes.add({ user: '1' }, 'channel:0', forbidden, 21)
  notes.add({ user: '1' }, 'channel:one.more', forbidden, 21)
  assert.deepEqual([notes.of('channel:a', 21).length, notes.of('channel:0', 21).length], [0, 1])
  const long = Object.assign(new Error('x'.repeat(100_000)), { statusCode: 400, code: 'y'.repeat(100_000) })
  notes.add({ user: '1' }, 'channel:long', long, 21)
  const [{ message, code } = { message: '', code: '' }] = notes.of('channel:long', 21)
  assert.deepEqual([message.length, code.length], [300, 100])
})

test('what is watched ends as it does, and whatever is thrown is noted without its secrets', async () => {
  const notes = new RefusalNotes()
  await notes.watch({ user: '1' }, 'channel:a', Promise.resolve())
  assert.deepEqual(notes.of('channel:a'), [])
  for (const thrown of [undefined, null, 'secret', new Error('secret'), { statusCode: 400, message: 'secret' }]) {
    const rejected = notes.watch({ user: '1' }, 'channel:a', Promise.reject(thrown))
    await assert.rejects(rejected, error => error === thrown)
  }
  const [note, ...others] = notes.of('channel:a')
  assert.deepEqual([note!.code, note!.times, others.length], ['PUSH_ERR_HANDLER', 5, 0])
  assert.ok(!note!.message.includes('secret'))
})
