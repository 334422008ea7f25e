import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { KeptTopics } from '../../../src/broker/redis/kept-topics.ts'
import type { Topic } from '../../../src/protocol/topic.ts'

const REFUSAL = new Error("NOPERM this user has no permissions to run the 'unsubscribe' command")

function setUp(t: TestContext) {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const asked: number[] = []
  const left: Topic[] = []
  const wanted = new Set<Topic>()
  const state = { error: REFUSAL as Error | undefined, hold: undefined as Promise<void> | undefined }
  const kept = new KeptTopics({
    commands: {
      parts: topics => (topics.length > 0 ? [[...topics]] : []),
      async leave(part) {
        asked.push(part.length)
        const { error } = state
        await state.hold
        return error
      },
    },
    isWanted: topic => wanted.has(topic),
    left: topics => left.push(...topics),
  })
  t.after(() => kept.clear())
  const pass = async () => {
    t.mock.timers.tick(2000)
    await setImmediate()
  }
  return { kept, asked, left, wanted, state, pass }
}

test('what Redis does not let go is tried with one topic every other second, and left as a whole once that is granted', async t => {
  const { kept, asked, left, state, pass } = setUp(t)
  assert.equal(await kept.leave(['user:1', 'user:2', 'user:3']), false)
  await pass()
  await pass()
  assert.deepEqual([asked, left], [[3, 1, 1], []])
  state.error = undefined
  await pass()
  assert.deepEqual(
    [asked.slice(3), left],
    [
      [1, 2],
      ['user:1', 'user:2', 'user:3'],
    ],
  )
  await pass()
  assert.equal(asked.length, 5)
})

test('what is wanted again is not left later, also when the refusal comes after that', async t => {
  const { kept, asked, left, wanted, state, pass } = setUp(t)
  await kept.leave(['user:1', 'user:2', 'user:3'])
  kept.delete('user:1')
  let answer = () => {}
  state.hold = new Promise(resolve => {
    answer = resolve
  })
  const leaving = kept.leave(['user:4'])
  wanted.add('user:4')
  kept.delete('user:4')
  answer()
  await leaving
  state.error = undefined
  await pass()
  assert.deepEqual(
    [asked.slice(2), left],
    [
      [1, 1],
      ['user:2', 'user:3'],
    ],
  )
})

test('with the link all is forgotten, and a late answer of it says nothing', async t => {
  const { kept, asked, left, state, pass } = setUp(t)
  await kept.leave(['user:1'])
  kept.clear()
  await pass()
  let answer = () => {}
  state.hold = new Promise(resolve => {
    answer = resolve
  })
  const leaving = kept.leave(['user:2'])
  kept.clear()
  answer()
  assert.equal(await leaving, false)
  await pass()
  assert.deepEqual([asked, left], [[1, 1], []])
})

test('another error than a refusal is none: the topic is somewhere else, or the link is lost', async t => {
  const { kept, asked, left, state, pass } = setUp(t)
  state.error = new Error('MOVED 1 127.0.0.1:1')
  assert.equal(await kept.leave(['user:1']), true)
  await pass()
  assert.deepEqual([asked, left], [[1], ['user:1']])
})

test('it keeps ten thousand topics in mind', async t => {
  const { kept, left, state, pass } = setUp(t)
  await kept.leave(Array.from({ length: 10_500 }, (_, n): Topic => `user:${n}`))
  state.error = undefined
  await pass()
  assert.equal(left.length, 10_000)
})
