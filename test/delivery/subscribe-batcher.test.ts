import assert from 'node:assert/strict'
import { test } from 'node:test'
import { SubscribeBatcher } from '../../src/delivery/subscribe-batcher.ts'
import { errors } from '../../src/protocol/errors.ts'
import type { Position } from '../../src/protocol/position.ts'
import type { Topic } from '../../src/protocol/topic.ts'

const positionOf = (topic: Topic): Position => ({ id: `t.0.${topic.length}-0`, seq: 0 })

interface Behaviour {
  isHeld(topic: Topic): boolean
  isHigh(): boolean
}

/** A broker that confirms what it is asked for, and keeps that. */
function confirming({ isHeld = () => true, isHigh = () => false }: Partial<Behaviour>) {
  const asked: (readonly Topic[])[] = []
  const subscribe = async (topics: readonly Topic[]) => {
    asked.push(topics)
    return new Map(topics.map(topic => [topic, positionOf(topic)]))
  }
  return { asked, batcher: new SubscribeBatcher({ subscribe }, isHeld, { isHigh }) }
}

test('the broker is asked once for all that come in one turn, and then anew', async () => {
  const { asked, batcher } = confirming({})
  const first = batcher.confirm(['all', 'user:1'])
  assert.equal(batcher.confirm(['all', 'user:2']), first)
  assert.deepEqual((await first).get('user:2'), positionOf('user:2'))
  await batcher.confirm(['user:3'])
  assert.deepEqual(asked, [['all', 'user:1', 'user:2'], ['user:3']])
})

test('a busy node gathers for some milliseconds, however few come in a turn', async () => {
  const { asked, batcher } = confirming({ isHigh: () => true })
  const began = performance.now()
  const answers: Promise<unknown>[] = []
  while (answers.length < 100) {
    answers.push(batcher.confirm([`user:${answers.length}`]))
    await new Promise(setImmediate)
  }
  await Promise.all(answers)
  // A timer may be a millisecond early.
  const most = (performance.now() - began) / 9 + 1
  assert.ok(asked.length <= most, `asked ${asked.length} times, not ${most}`)
  assert.equal(asked.flat().length, answers.length)
})

test('what nobody holds any more when it is asked for is not asked for', async () => {
  const held = new Set<Topic>(['user:1', 'user:2'])
  const { asked, batcher } = confirming({ isHeld: topic => held.has(topic) })
  const places = batcher.confirm(['user:1', 'user:2'])
  held.delete('user:1')
  assert.deepEqual([...(await places).keys()], ['user:2'])
  held.clear()
  assert.equal((await batcher.confirm(['user:2'])).size, 0)
  assert.deepEqual(asked, [['user:2']])
})

test('a broker that is away is asked again; one that says no leaves the places unknown', async () => {
  const failures: Error[] = [new errors.BROKER_AWAY('for now')]
  let asked = 0
  const subscribe = async (topics: readonly Topic[]) => {
    asked++
    const failure = failures.pop()
    if (failure) throw failure
    return new Map(topics.map(topic => [topic, positionOf(topic)]))
  }
  const batcher = new SubscribeBatcher({ subscribe }, () => true, { isHigh: () => false })
  // The pause before it is asked again keeps no process alive.
  const alive = setInterval(() => {}, 1000)
  assert.equal((await batcher.confirm(['all'])).size, 1)
  assert.equal(asked, 2)
  failures.push(new Error('no'))
  assert.equal((await batcher.confirm(['all'])).size, 0)
  clearInterval(alive)
})
