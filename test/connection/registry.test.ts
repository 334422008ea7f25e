import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { timeOf } from '../../src/connection/identity.ts'
import { type Member, Registry } from '../../src/connection/registry.ts'
import { ownTopics, type Topic } from '../../src/protocol/topic.ts'

function member(id: string, user: string | null = null): Member {
  return { id, user, subscriptions: undefined, joined: 0 }
}

const ids = (members: Iterable<Member>) => [...members].map(({ id }) => id).toSorted()

test('a member has its own topics from the start', () => {
  const registry = new Registry<Member>()
  const a = member('a', '42')
  registry.add(a)
  for (const topic of ownTopics('a', '42')) {
    assert.equal(registry.has(a, topic), true, topic)
    assert.equal(registry.holds(topic), true, topic)
    assert.deepEqual(ids(registry.members(topic)), ['a'], topic)
  }
  assert.deepEqual([...registry.topics()].toSorted(), ['all', 'connection:a', 'user:42'])
  assert.equal(registry.topicCount, 3)
  assert.equal(registry.get('a'), a)
})

test('an empty registry holds nothing, and an unknown topic has no members', () => {
  const registry = new Registry<Member>()
  for (const topic of ['all', 'connection:a', 'user:1', 'channel:__proto__'] as Topic[]) {
    assert.equal(registry.holds(topic), false, topic)
    assert.deepEqual([...registry.members(topic)], [], topic)
  }
  assert.deepEqual([...registry.topics()], [])
  assert.equal(registry.topicCount, 0)
})

test('an anonymous member is not "user:null"', () => {
  const registry = new Registry<Member>()
  const anonymous = member('a')
  registry.add(anonymous)
  assert.equal(registry.has(anonymous, 'user:null'), false)
  registry.join(anonymous, 'user:null')
  registry.leave(anonymous, 'user:null')
  assert.equal(registry.holds('user:null'), false, 'an anonymous member that left user:null is still in it')
})

test('remove says which topics it was the last one of, once', () => {
  const registry = new Registry<Member>()
  const [a, b] = [member('a', '42'), member('b', '42')]
  registry.add(a)
  registry.add(b)
  registry.join(a, 'channel:x')
  registry.join(b, 'channel:x')
  registry.join(a, 'channel:y')
  assert.deepEqual(registry.remove(a).toSorted(), ['channel:y', 'connection:a'])
  assert.deepEqual(registry.remove(a), [])
  assert.deepEqual(registry.remove(b).toSorted(), ['all', 'channel:x', 'connection:b', 'user:42'])
  assert.equal(registry.topicCount, 0)
})

test('a member that subscribed to its own user leaves it only by going', () => {
  const registry = new Registry<Member>()
  const a = member('a', '42')
  registry.add(a)
  registry.join(a, 'user:42')
  registry.leave(a, 'user:42')
  assert.deepEqual(ids(registry.members('user:42')), ['a'])
  assert.deepEqual(registry.remove(a).toSorted(), ['all', 'connection:a', 'user:42'])
})

test('a stranger with the id of a member is not removed in its place', () => {
  const registry = new Registry<Member>()
  registry.add(member('a'))
  assert.deepEqual(registry.remove(member('a')), [])
  assert.equal(registry.size, 1)
})

test('a member that subscribed to the topic of another connection or to all leaves no trace', () => {
  const registry = new Registry<Member>()
  const [a, b] = [member('a'), member('b')]
  registry.add(a)
  registry.add(b)
  registry.join(a, 'connection:b')
  registry.join(a, 'all')
  const topics = [...registry.topics()]
  assert.equal(new Set(topics).size, topics.length, `each topic once: ${topics}`)
  registry.remove(a)
  registry.remove(b)
  assert.deepEqual([...registry.topics()], [])
})

test('it is known since when a member has each topic, and again since when after it was left', t => {
  t.mock.timers.enable({ apis: ['Date'], now: 1e12 })
  const registry = new Registry<Member>()
  const a = member('a', '42')
  registry.add(a)
  const since = (topic: Topic) => {
    const joined = registry.joinedAt(a, topic)
    return joined === undefined ? undefined : timeOf(joined) - 1e12
  }
  const joinLater = (topic: Topic) => {
    t.mock.timers.tick(1000)
    registry.join(a, topic)
  }
  joinLater('channel:x')
  assert.equal(since('channel:x'), 1000, 'a single one')
  joinLater('channel:y')
  joinLater('channel:x')
  assert.deepEqual([since('channel:x'), since('channel:y')], [1000, 2000], 'joining what it has changes nothing')
  registry.leave(a, 'channel:x')
  assert.equal(since('channel:x'), undefined)
  joinLater('channel:x')
  assert.deepEqual([since('channel:x'), since('channel:y')], [4000, 2000])
  for (const topic of ['all', 'connection:a', 'user:42'] as Topic[]) {
    assert.equal(since(topic), undefined, `${topic} is as old as the connection`)
  }
})

// ── against a naive model ────────────────────────────────────────────────────────────────────────────────────────

const TOPICS: Topic[] = ['channel:x', 'channel:y', 'user:1', 'user:2', 'channel:__proto__']
const USERS = ['1', '2', null, '1', 'null', '__proto__']

/** Every member with every topic it has. */
class Model {
  readonly members = new Map<Member, Set<Topic>>()
  /** When which topic was joined, by member and topic. */
  readonly joined = new Map<string, number>()

  topics(): Topic[] {
    return [...new Set([...this.members.values()].flatMap(topics => [...topics]))].toSorted()
  }

  of(topic: Topic): string[] {
    return [...this.members]
      .filter(([, topics]) => topics.has(topic))
      .map(([{ id }]) => id)
      .toSorted()
  }
}

const step = fc.record({
  do: fc.constantFrom('add', 'add', 'remove', 'join', 'join', 'leave'),
  who: fc.nat(5),
  topic: fc.nat(4),
})

test('property: the registry is what the naive model says, and nothing is left after all are removed', t => {
  t.mock.timers.enable({ apis: ['Date'], now: 1e12 })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), steps => {
      const registry = new Registry<Member>()
      const model = new Model()
      const everyone = USERS.map((user, i) => member(`c${i}`, user))
      for (const { do: act, who, topic: index } of steps) {
        const one = everyone[who]!
        const topic = TOPICS[index]!
        const own = ownTopics(one.id, one.user)
        const mine = model.members.get(one)
        t.mock.timers.tick(1)
        if (act === 'add' && !mine) {
          registry.add(one)
          model.members.set(one, new Set(own))
        } else if (act === 'join' && mine) {
          registry.join(one, topic)
          if (!mine.has(topic)) model.joined.set(`${one.id} ${topic}`, Date.now())
          mine.add(topic)
        } else if (act === 'leave' && mine) {
          registry.leave(one, topic)
          if (!own.includes(topic)) mine.delete(topic)
        } else if (act === 'remove') {
          const before = model.topics()
          model.members.delete(one)
          const after = model.topics()
          assert.deepEqual(
            registry.remove(one).toSorted(),
            before.filter(held => !after.includes(held)),
          )
        }
        check(registry, model)
      }
      for (const one of everyone) registry.remove(one)
      check(registry, new Model())
      assert.ok(everyone.every(({ subscriptions }) => subscriptions === undefined))
    }),
    { numRuns: 200 },
  )
})

function check(registry: Registry<Member>, model: Model): void {
  assert.equal(registry.size, model.members.size)
  assert.deepEqual([...registry.topics()].toSorted(), model.topics())
  assert.equal(registry.topicCount, model.topics().length)
  for (const topic of new Set([...TOPICS, ...model.topics()])) {
    assert.deepEqual(ids(registry.members(topic)), model.of(topic), topic)
    assert.equal(registry.holds(topic), model.of(topic).length > 0, topic)
    for (const [one, topics] of model.members) {
      assert.equal(registry.has(one, topic), topics.has(topic), topic)
      if (!topics.has(topic) || ownTopics(one.id, one.user).includes(topic)) continue
      assert.equal(timeOf(registry.joinedAt(one, topic)!), model.joined.get(`${one.id} ${topic}`), topic)
    }
  }
}
