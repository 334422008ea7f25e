import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Broker } from '../../src/broker/broker.ts'
import { SubscribeBatcher } from '../../src/delivery/subscribe-batcher.ts'
import { errors } from '../../src/protocol/errors.ts'
import type { Position } from '../../src/protocol/position.ts'
import type { Topic } from '../../src/protocol/topic.ts'

const positionOf = (topic: Topic): Position => ({ id: `t.0.${topic.length}-0`, seq: 0 })

interface Behaviour {
  isHeld(topic: Topic): boolean
  isHigh(): boolean
  shardOf(topic: Topic): unknown
}

const ONE = () => undefined

/** A broker that confirms what it is asked for, and keeps that. */
function confirming({ isHeld = () => true, isHigh = () => false, shardOf = ONE }: Partial<Behaviour>) {
  const asked: (readonly Topic[])[] = []
  const subscribe = async (topics: readonly Topic[]) => {
    asked.push(topics)
    return new Map(topics.map(topic => [topic, positionOf(topic)]))
  }
  return { asked, batcher: new SubscribeBatcher({ subscribe, shardOf }, isHeld, { isHigh }) }
}

test('the broker is asked once for all that come in one turn, and then anew', async () => {
  const { asked, batcher } = confirming({})
  const first = batcher.confirm(['all', 'user:1'])
  assert.equal(batcher.confirm(['all', 'user:2']), first)
  assert.equal(first.get('user:2'), undefined)
  assert.deepEqual(first.missing(['user:1']), ['user:1'])
  await first.begun
  assert.deepEqual([first.get('user:2'), first.missing(['user:1'])], [positionOf('user:2'), []])
  await batcher.confirm(['user:3']).begun
  assert.deepEqual(asked, [['all', 'user:1', 'user:2'], ['user:3']])
})

test('a busy node gathers for some milliseconds, however few come in a turn', async () => {
  const { asked, batcher } = confirming({ isHigh: () => true })
  const began = performance.now()
  const answers: Promise<unknown>[] = []
  for (let n = 0; n < 100; n++) {
    answers.push(batcher.confirm([`user:${n}`]).begun)
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
  await places.begun
  assert.deepEqual([places.get('user:1'), places.get('user:2')], [undefined, positionOf('user:2')])
  assert.deepEqual(places.missing(['user:1', 'user:2']), [])
  held.clear()
  const nothing = batcher.confirm(['user:2'])
  await nothing.begun
  assert.equal(nothing.get('user:2'), undefined)
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
  const batcher = new SubscribeBatcher({ subscribe, shardOf: ONE }, () => true, { isHigh: () => false })
  // The pause before it is asked again keeps no process alive.
  const alive = setInterval(() => {}, 1000)
  const second = batcher.confirm(['all'])
  await second.begun
  assert.deepEqual(second.get('all'), positionOf('all'))
  assert.equal(asked, 2)
  failures.push(new Error('no'))
  const unknown = batcher.confirm(['all'])
  await unknown.begun
  assert.deepEqual([unknown.get('all'), unknown.missing(['all'])], [undefined, []])
  clearInterval(alive)
})

/** Shards that answer when a test lets them: what each was asked, in order. */
function sharded() {
  type Confirmed = NonNullable<Parameters<Broker['subscribe']>[1]>
  const asked: { topics: readonly Topic[]; confirmed: Confirmed; answer: () => void }[] = []
  const subscribe: Broker['subscribe'] = (topics, confirmed) =>
    new Promise(resolve => {
      const answer = () => resolve(new Map(topics.map(topic => [topic, positionOf(topic)])))
      asked.push({ topics, confirmed: confirmed!, answer })
    })
  const shardOf = (topic: Topic) => topic.split(':')[0]
  return { asked, batcher: new SubscribeBatcher({ subscribe, shardOf }, () => true, { isHigh: () => false }) }
}

const turn = () => new Promise(setImmediate)

/** Whether it is settled by now. */
async function isOver(promise: Promise<unknown>): Promise<boolean> {
  let isSettled = false
  void promise.then(() => {
    isSettled = true
  })
  await turn()
  return isSettled
}

test('each shard is asked once and answers for itself; who has topics of the same shards waits together', async () => {
  const { asked, batcher } = sharded()
  const both = batcher.confirm(['user:1', 'channel:1'])
  const one = batcher.confirm(['user:2'])
  assert.equal(batcher.confirm(['channel:2', 'user:3']), both)
  assert.equal(batcher.confirm(['user:4']), one)
  await turn()
  assert.deepEqual(
    asked.map(({ topics }) => topics),
    [
      ['user:1', 'user:2', 'user:3', 'user:4'],
      ['channel:1', 'channel:2'],
    ],
  )
  asked[0]!.answer()
  assert.deepEqual([await isOver(one.begun), await isOver(both.begun)], [true, false])
  assert.deepEqual([await isOver(both.confirmed('user:1')), await isOver(both.confirmed('channel:1'))], [true, false])
  assert.deepEqual(both.get('user:1'), positionOf('user:1'))
  assert.deepEqual(both.missing(['user:1', 'channel:1']), ['channel:1'])
  assert.notEqual(batcher.confirm(['user:5']), one)
  asked[1]!.answer()
  assert.equal(await isOver(both.begun), true)
  assert.deepEqual([both.get('channel:1'), both.missing(['user:1', 'channel:1'])], [positionOf('channel:1'), []])
})

test('topics that are confirmed before the others of their shard do not wait for them, and are not asked for again', async () => {
  const { asked, batcher } = sharded()
  const answers = batcher.confirm(['user:1', 'user:22'])
  await turn()
  asked[0]!.confirmed(['user:1'], new Map([['user:1', positionOf('user:1')]]))
  assert.deepEqual([await isOver(answers.confirmed('user:1')), await isOver(answers.begun)], [true, true])
  const rest = answers.confirmed('user:1', 'user:22')
  assert.equal(await isOver(rest), false)
  assert.deepEqual([answers.get('user:1'), answers.missing(['user:1', 'user:22'])], [positionOf('user:1'), ['user:22']])
  asked[0]!.answer()
  await rest
  assert.deepEqual([answers.get('user:22'), answers.missing(['user:22'])], [positionOf('user:22'), []])
})

test('a shard that fails for a while is asked again for what it has not confirmed', async () => {
  const asked: (readonly Topic[])[] = []
  const subscribe: Broker['subscribe'] = async (topics, confirmed) => {
    asked.push(topics)
    if (asked.length > 1) return new Map(topics.map(topic => [topic, positionOf(topic)]))
    confirmed!(['user:1'], new Map([['user:1', positionOf('user:1')]]))
    throw new errors.BROKER_AWAY('for now')
  }
  const batcher = new SubscribeBatcher({ subscribe, shardOf: ONE }, () => true, { isHigh: () => false })
  const alive = setInterval(() => {}, 1000)
  const answers = batcher.confirm(['user:1', 'user:22'])
  await answers.confirmed('user:1', 'user:22')
  clearInterval(alive)
  assert.deepEqual(asked, [['user:1', 'user:22'], ['user:22']])
  assert.deepEqual([answers.get('user:1'), answers.get('user:22')], [positionOf('user:1'), positionOf('user:22')])
})
