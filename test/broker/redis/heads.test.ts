import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Heads } from '../../../src/broker/redis/heads.ts'
import { errors } from '../../../src/protocol/errors.ts'
import type { Position } from '../../../src/protocol/position.ts'
import type { Topic } from '../../../src/protocol/topic.ts'

const names = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => `channel:${from + i}` as Topic)

const positionOf = (topic: Topic): Position => ({ id: `t.0.${topic.slice('channel:'.length)}-0`, seq: 0 })

/** Answers, and keeps what it was asked. */
function answering() {
  const asked: (readonly Topic[])[] = []
  const heads = new Heads(async topics => {
    asked.push(topics)
    return new Map(topics.map(topic => [topic, positionOf(topic)]))
  })
  return { asked, heads }
}

test('what is asked in one turn is one question, each topic in it once', async () => {
  const { asked, heads } = answering()
  const asking = [heads.ask(['all', 'channel:1']), heads.ask(['channel:1', 'channel:2'])]
  // A promise that is settled in the same turn, as those of topics confirmed by one answer.
  asking.push(Promise.resolve().then(() => heads.ask(['channel:3'])))
  const [first, second, third] = await Promise.all(asking)
  assert.deepEqual(asked, [['all', 'channel:1', 'channel:2', 'channel:3']])
  assert.deepEqual(first?.get('channel:1'), positionOf('channel:1'))
  assert.deepEqual(second?.get('channel:2'), positionOf('channel:2'))
  assert.deepEqual(third?.get('channel:3'), positionOf('channel:3'))
  await heads.ask(['all'])
  assert.equal(asked.length, 2)
})

test('no question is about more than 500 topics, and the answers are one', async () => {
  const { asked, heads } = answering()
  const topics = names(0, 1201)
  const positions = await heads.ask(topics)
  assert.deepEqual(
    asked.map(part => part.length),
    [500, 500, 201],
  )
  assert.deepEqual([...positions.keys()], topics)
  for (const [topic, position] of positions) assert.deepEqual(position, positionOf(topic))
})

test('of very many topics only a few parts are asked for at once', async () => {
  let open = 0
  let most = 0
  const heads = new Heads(async topics => {
    most = Math.max(most, ++open)
    await new Promise(setImmediate)
    open--
    return new Map(topics.map(topic => [topic, positionOf(topic)]))
  })
  const answers = await Promise.all([heads.ask(names(0, 20_000)), heads.ask(['channel:7'])])
  assert.deepEqual(
    answers.map(({ size }) => size),
    [20_000, 20_000],
  )
  assert.ok(most > 1 && most <= 4, `${most} at once`)
})

test('a failure is that of all who asked, and the next question is a new one', async () => {
  let isAway = true
  const heads = new Heads(async topics => {
    if (isAway) throw new errors.BROKER_AWAY('for now')
    return new Map(topics.map(topic => [topic, positionOf(topic)]))
  })
  const asking = [heads.ask(['channel:1']), heads.ask(names(2, 700))]
  for (const result of await Promise.allSettled(asking)) assert.equal(result.status, 'rejected')
  isAway = false
  assert.equal((await heads.ask(['channel:1'])).size, 1)
})
