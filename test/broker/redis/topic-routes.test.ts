import assert from 'node:assert/strict'
import { test } from 'node:test'
import { TopicCursor } from '../../../src/broker/redis/cursor.ts'
import { Names } from '../../../src/broker/redis/names.ts'
import type { Shard } from '../../../src/broker/redis/shard.ts'
import { TopicRoutes } from '../../../src/broker/redis/topic-routes.ts'
import type { Position } from '../../../src/protocol/position.ts'
import type { Topic } from '../../../src/protocol/topic.ts'

/** The links to one master, which confirm what a test lets them. */
class FakeSubscriber {
  readonly held = new Map<Topic, TopicCursor | undefined>()
  readonly open: (() => void)[] = []
  isSlow = false

  get topics(): Iterable<Topic> {
    return this.held.keys()
  }

  async subscribe(topics: readonly Topic[]) {
    for (const topic of topics) this.held.set(topic, new TopicCursor())
    if (this.isSlow) await new Promise<void>(resolve => this.open.push(resolve))
    return new Map(topics.filter(topic => this.held.has(topic)).map(topic => [topic, { id: 'x', seq: 1 }]))
  }

  whereabouts(_topic: Topic, then: Position): Position {
    return then
  }

  unsubscribe(topic: Topic): void {
    this.held.delete(topic)
  }

  release(topics: readonly Topic[]) {
    const released = new Map(topics.map(topic => [topic, this.held.get(topic)]))
    for (const topic of topics) this.held.delete(topic)
    for (const resolve of this.open.splice(0)) resolve()
    return released
  }

  async adopt(released: ReadonlyMap<Topic, TopicCursor | undefined>): Promise<void> {
    for (const [topic, cursor] of released) this.held.set(topic, cursor)
  }
}

function setUp() {
  const [first, second] = [new FakeSubscriber(), new FakeSubscriber()]
  const shards = [first, second].map(subscriber => ({ subscriber }) as unknown as Shard)
  const wanted = new Set<Topic>(['channel:a', 'channel:b'])
  const told: Topic[][] = []
  let owner: Shard | undefined = shards[0]
  const routes = new TopicRoutes({
    names: new Names('push:'),
    shardOf: () => owner,
    isWanted: topic => wanted.has(topic),
    moved: topics => void told.push([...topics]),
  })
  const move = (to: number | undefined, gone: Shard[] = []) => {
    owner = to === undefined ? undefined : shards[to]
    routes.moved(
      shards.filter(shard => !gone.includes(shard)),
      gone,
    )
  }
  return { first, second, shards, wanted, told, routes, move }
}

const turn = () => new Promise(setImmediate)

test('topics of a master that is gone wait for the next one, with the place that they had; one that is left does not', async () => {
  const { first, second, shards, routes, move } = setUp()
  await routes.subscribe(['channel:a', 'channel:b'])
  const cursor = first.held.get('channel:a')
  move(undefined, [shards[0]!])
  assert.deepEqual([first.held.size, second.held.size], [0, 0])
  routes.unsubscribe('channel:b')
  move(1)
  assert.deepEqual([...second.held], [['channel:a', cursor]])
  move(1)
  assert.equal(second.held.size, 1)
})

test('topics that have moved are told when the other master has them, and not before', async () => {
  const { second, shards, told, routes, move } = setUp()
  await routes.subscribe(['channel:a', 'channel:b'])
  let adopted = () => {}
  const adopt = second.adopt.bind(second)
  second.adopt = async released => {
    await new Promise<void>(resolve => {
      adopted = resolve
    })
    await adopt(released)
  }
  move(1)
  await turn()
  assert.deepEqual(told, [])
  adopted()
  await turn()
  assert.deepEqual(told, [['channel:a', 'channel:b']])
  move(undefined, [shards[1]!])
  move(0)
  await turn()
  assert.deepEqual(told[1], ['channel:a', 'channel:b'])
})

test('who subscribes while a slot has no master is subscribed when it has one, unless the topic was left', async () => {
  const { first, second, wanted, routes, move } = setUp()
  move(undefined)
  const subscribing = routes.subscribe(['channel:a', 'channel:b'])
  await turn()
  wanted.delete('channel:b')
  move(1)
  assert.deepEqual([...(await subscribing).keys()], ['channel:a'])
  assert.deepEqual([[...first.held.keys()], [...second.held.keys()]], [[], ['channel:a']])
})

test('a topic that moves while it is being subscribed is subscribed where it is then', async () => {
  const { first, second, routes, move } = setUp()
  first.isSlow = true
  const subscribing = routes.subscribe(['channel:a'])
  await turn()
  move(1)
  assert.deepEqual([...(await subscribing).keys()], ['channel:a'])
  assert.deepEqual([[...first.held.keys()], [...second.held.keys()]], [[], ['channel:a']])
})

test('a topic that moves to a master that does not answer holds up none of those that were asked for with it', async () => {
  const { first, second, shards, wanted } = setUp()
  first.isSlow = true
  second.isSlow = true
  const owners = new Map<Topic, Shard>([
    ['channel:a', shards[0]!],
    ['channel:b', shards[0]!],
  ])
  const names = new Names('push:')
  const routes = new TopicRoutes({
    names,
    shardOf: channel => owners.get(names.topic(channel)),
    isWanted: topic => wanted.has(topic),
    moved() {},
  })
  const told: Topic[] = []
  const subscribing = routes.subscribe(['channel:a', 'channel:b'], (topics, positions) => {
    assert.deepEqual([...positions.keys()], topics)
    told.push(...topics)
  })
  await turn()
  owners.set('channel:b', shards[1]!)
  routes.moved(shards, [])
  await turn()
  assert.deepEqual(told, ['channel:a'])
  for (const resolve of second.open.splice(0)) resolve()
  assert.deepEqual([...(await subscribing).keys()], ['channel:a', 'channel:b'])
})

test('nobody waits for a master after the end', async () => {
  const { routes, move } = setUp()
  move(undefined)
  const subscribing = routes.subscribe(['channel:a'])
  await turn()
  routes.close()
  assert.equal((await subscribing).size, 0)
})
