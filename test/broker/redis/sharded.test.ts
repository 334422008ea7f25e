import assert from 'node:assert/strict'
import { after, before, type TestContext, test } from 'node:test'
import type { Broker } from '../../../src/broker/broker.ts'
import type { Sharded } from '../../../src/broker/redis/pub-sub.ts'
import { slotOf } from '../../../src/broker/redis/topology.ts'
import type { Topic } from '../../../src/protocol/topic.ts'
import { createPublisher } from '../../../src/publisher.ts'
import { cleanups } from '../../helpers/processes.ts'
import { type RedisCluster, startCluster } from '../../helpers/redis-cluster.ts'
import { connectToCluster } from '../../helpers/redis-node.ts'
import { until, within } from '../../helpers/waiting.ts'
import { envelope, FakeSubscriber, publishOne } from '../suite.ts'

const SLOW = { timeout: 240_000 }
const HISTORY = { size: 1000, ttl: 600 }

const all = cleanups()
let cluster: RedisCluster
let prefixes = 0

before(async () => {
  cluster = await startCluster(all)
})

after(() => all.end())

async function node(t: TestContext, options: { sharded: Sharded; prefix: string; node?: string }) {
  const made = connectToCluster(t, cluster, { publishTimeout: 5000, ...options })
  await within(made.broker.whenLive, 'the broker is live')
  return { ...made, subscriber: new FakeSubscriber(made.broker) }
}

/** What may keep publications back. */
const stateOf = ({ connected, problem, filling, refused, lag, backlog }: Broker) =>
  JSON.stringify({ connected, problem, filling, refused, lag, backlog })

const newPrefix = () => `s${++prefixes}:`

const record = (broker: Broker, topic: Topic, n: number) =>
  broker.publish([{ topic, envelope: envelope(n), history: HISTORY }])

test('a backend says SPUBLISH to the master of the channel, and only that reaches the nodes', SLOW, async t => {
  const prefix = newPrefix()
  const { subscriber } = await node(t, { sharded: true, prefix })
  await subscriber.join('channel:x')
  const channel = `${prefix}channel:x`
  const { admin } = await cluster.masterOf(channel)
  assert.equal(await admin.call('PUBLISH', channel, envelope(1)), 0)
  assert.equal(await admin.call('SPUBLISH', channel, envelope(2)), 1)
  const events = [await subscriber.next(), await subscriber.next()]
  assert.deepEqual(
    events.toSorted((a, b) => Object.keys(a)[0]!.localeCompare(Object.keys(b)[0]!)),
    [{ misdirected: 'channel:x' }, { topic: 'channel:x', text: envelope(2) }],
  )
})

test('a PUBLISH at any server of the Cluster is noticed once, and only by nodes that hold the topic', SLOW, async t => {
  const prefix = newPrefix()
  const nodes = [
    await node(t, { sharded: true, prefix, node: 'n1' }),
    await node(t, { sharded: true, prefix, node: 'n2' }),
  ]
  const [first, second] = nodes.map(({ subscriber }) => subscriber) as [FakeSubscriber, FakeSubscriber]
  await Promise.all([first.join('user:1'), first.join('all'), second.join('all')])
  for (const { admin } of cluster.masters) {
    await admin.call('PUBLISH', `${prefix}user:1`, envelope(1))
    assert.deepEqual(await first.next(), { misdirected: 'user:1' })
  }
  await cluster.masters[0]!.admin.call('PUBLISH', `${prefix}all`, envelope(1))
  for (const subscriber of [first, second]) assert.deepEqual(await subscriber.next(), { misdirected: 'all' })
})

test('when another server gets the slot of shard 0, its link notices a PUBLISH', SLOW, async t => {
  const prefix = newPrefix()
  const { subscriber } = await node(t, { sharded: true, prefix })
  await subscriber.join('channel:x')
  const tag = `{${prefix}shard-0}`
  const from = await cluster.masterOf(tag)
  const to = cluster.masters.find(master => master !== from)!
  const patterns = async ({ admin }: typeof to) => Number(await admin.call('PUBSUB', 'NUMPAT'))
  const before = { from: await patterns(from), to: await patterns(to) }
  await cluster.move(tag, to)
  await until(
    async () => (await patterns(from)) < before.from && (await patterns(to)) > before.to,
    'the watch has moved',
  )
  subscriber.clear()
  await from.admin.call('PUBLISH', `${prefix}channel:x`, envelope(1))
  assert.deepEqual(await subscriber.next(), { misdirected: 'channel:x' })
})

test('a node that may not watch says so, and works', SLOW, async t => {
  const prefix = newPrefix()
  const admins = cluster.masters.map(({ admin }) => admin)
  await Promise.all(admins.map(admin => admin.call('ACL', 'SETUSER', 'default', '-psubscribe')))
  t.after(() => Promise.all(admins.map(admin => admin.call('ACL', 'SETUSER', 'default', '+psubscribe'))))
  const { subscriber, broker, blind } = await node(t, { sharded: true, prefix })
  await until(() => blind.length > 0, 'a line in the log')
  assert.match(blind[0]!.message, /NOPERM.*psubscribe/)
  await subscriber.join('channel:x')
  assert.deepEqual(await publishOne(broker, 'channel:x', envelope(1)), { nodes: 1 })
  assert.equal(await subscriber.text(), envelope(1))
})

test('what a backend records with one key reaches nodes of all kinds, once, and is counted once', SLOW, async t => {
  for (const sharded of [false, 'receive', 'publish', true] as const) {
    const prefix = newPrefix()
    const { subscriber } = await node(t, { sharded, prefix })
    await subscriber.join('channel:x')
    const channel = `${prefix}channel:x`
    const { admin } = await cluster.masterOf(channel)
    for (const n of [1, 2]) {
      const reply = (await admin.call('FCALL', 'push_publish', 1, channel, envelope(n), 10, 60)) as unknown[]
      assert.equal(reply[2], 1, `sharded: ${sharded}`)
      assert.equal(await subscriber.text(), envelope(n))
    }
  }
})

test('a fleet is moved step by step, and nothing comes twice or is missing', SLOW, async t => {
  const prefix = newPrefix()
  const topics: Topic[] = ['channel:recorded', 'channel:bare', 'user:1']
  let n = 0
  const nodeOf = (sharded: Sharded) => node(t, { sharded, prefix, node: `n${++n}` })
  type Node = Awaited<ReturnType<typeof nodeOf>>
  const joined = async (made: Node) => {
    await Promise.all(topics.map(topic => made.subscriber.join(topic)))
    made.subscriber.clear()
    return made
  }
  const backend = async (command: 'PUBLISH' | 'SPUBLISH', topic: Topic, text: string) => {
    const { admin } = await cluster.masterOf(prefix + topic)
    return admin.call(command, prefix + topic, text)
  }
  let published = 0
  /** Each of these nodes and a backend publish; all of them get all of it. */
  const round = async (nodes: Node[], command: 'PUBLISH' | 'SPUBLISH') => {
    const expected: string[] = []
    const expect = (topic: Topic) => {
      expected.push(`${topic} ${envelope(++published)}`)
      return envelope(published)
    }
    for (const { broker } of nodes) {
      assert.deepEqual(await publishOne(broker, 'user:1', expect('user:1')), { nodes: nodes.length })
      await broker.publish([{ topic: 'channel:recorded', envelope: expect('channel:recorded'), history: HISTORY }])
    }
    assert.equal(await backend(command, 'channel:bare', expect('channel:bare')), nodes.length)
    for (const { subscriber } of nodes) {
      const got: string[] = []
      while (got.length < expected.length) {
        const event = await subscriber.next()
        // A PUBLISH of the round before may still be on the bus when the first node no longer hears it.
        if ('misdirected' in event) continue
        assert.ok('text' in event, JSON.stringify(event))
        got.push(`${event.topic} ${event.text}`)
      }
      assert.deepEqual(got.toSorted(), expected.toSorted())
    }
  }
  const steps: Sharded[] = [false, 'receive', 'publish', true]
  let old = await joined(await nodeOf(false))
  for (const step of steps.slice(1)) {
    const next = await joined(await nodeOf(step))
    await round([old, next], step === true ? 'SPUBLISH' : 'PUBLISH')
    // Backends may be moved while all nodes hear both.
    if (step === 'publish') await round([old, next], 'SPUBLISH')
    await old.broker.close()
    old = next
  }
})

test('a publisher without a node says SPUBLISH too', SLOW, async t => {
  const prefix = newPrefix()
  const { subscriber } = await node(t, { sharded: true, prefix })
  await subscriber.join('channel:x')
  const urls = cluster.masters.map(({ port }) => `127.0.0.1:${port}`).join(',')
  for (const redis of [`redis+cluster://${urls}?sharded=true`, { cluster: cluster.urls, sharded: true } as const]) {
    const publisher = createPublisher({ redis, redisPrefix: prefix })
    t.after(() => publisher.end())
    const sent = await publisher.publish('channel:x', { type: 'a', payload: 1 })
    assert.equal(sent.nodes, 1)
    assert.match(await subscriber.text(), /"payload":1/)
  }
})

test(
  'topics that are left and joined while their slot moves are received where they are, or nobody wants them',
  SLOW,
  async t => {
    const prefix = newPrefix()
    const { subscriber, broker } = await node(t, { sharded: true, prefix })
    const slot = slotOf(`${prefix}channel:0`)
    // All in the slot that moves, some of them left at any moment.
    const tag = (i: number): Topic => `channel:${i}`
    const numbers = Array.from({ length: 200_000 }, (_, i) => i).filter(i => slotOf(`${prefix}channel:${i}`) === slot)
    const topics = numbers.slice(0, 8).map(tag)
    await Promise.all(topics.map(topic => subscriber.join(topic)))
    for (let round = 0; round < 12; round++) {
      const owner = await cluster.masterOf(`${prefix}${topics[0]}`)
      const target = cluster.masters[(cluster.masters.indexOf(owner) + 1) % 3]!
      const moving = cluster.move(`${prefix}${topics[0]}`, target)
      let isMoving = true
      void moving.finally(() => {
        isMoving = false
      })
      for (let i = 0; isMoving; i++) {
        const topic = topics[i % topics.length]!
        if (subscriber.holds(topic)) subscriber.leave(topic)
        else void subscriber.join(topic)
        await new Promise(setImmediate)
      }
      await moving
      for (const topic of topics) await within(subscriber.join(topic), `${topic} is joined`)
      const { admin } = await cluster.masterOf(`${prefix}${topics[0]}`)
      await until(async () => {
        const held = (await admin.call('PUBSUB', 'SHARDNUMSUB', ...topics.map(topic => prefix + topic))) as unknown[]
        return held.filter((_, i) => i % 2 === 1).every(count => count === 1)
      }, `all topics of the slot are subscribed at ${admin.options.port}`)
      for (const topic of topics) {
        const text = envelope(`${round} ${topic}`)
        await until(async () => {
          // What comes before the gap of its move is told is dropped.
          await publishOne(broker, topic, text)
          return subscriber.bytes.some(bytes => Buffer.from(bytes).toString() === text)
        }, `${topic} in round ${round}`)
      }
    }
  },
)

test(
  'what is recorded while the keys of a topic are at another server already comes when the slot has moved',
  SLOW,
  async t => {
    const prefix = newPrefix()
    const { subscriber, broker } = await node(t, { sharded: true, prefix })
    await subscriber.join('channel:recorded')
    await record(broker, 'channel:recorded', 1)
    assert.equal(await subscriber.text(), envelope(1))
    const from = await cluster.masterOf(`${prefix}channel:recorded`)
    const to = cluster.masters.find(master => master !== from)!
    const moving = cluster.move(`${prefix}channel:recorded`, to)
    for (let n = 2; n <= 50; n++) await record(broker, 'channel:recorded', n)
    await within(moving, 'the slot has moved')
    await record(broker, 'channel:recorded', 51)
    for (let n = 2; n <= 51; n++)
      assert.deepEqual(await subscriber.next(), { topic: 'channel:recorded', text: envelope(n) })
  },
)

test('a node that hears both hears a PUBLISH once after the slot of its topic has moved', SLOW, async t => {
  const prefix = newPrefix()
  const { subscriber, broker } = await node(t, { sharded: 'receive', prefix })
  await subscriber.join('channel:x')
  const channel = `${prefix}channel:x`
  for (let n = 1; n <= 3; n++) {
    const from = await cluster.masterOf(channel)
    const to = cluster.masters.find(master => master !== from)!
    await cluster.move(channel, to)
    const counts = (question: string) =>
      Promise.all(
        cluster.masters.map(
          async ({ admin }) => ((await admin.call('PUBSUB', question, channel)) as [string, number])[1],
        ),
      )
    const only = JSON.stringify(cluster.masters.map(master => (master === to ? 1 : 0)))
    await until(async () => {
      // It counts there only when the new master knows that it has the slot, so what follows is final.
      const sharded = JSON.stringify(await counts('SHARDNUMSUB'))
      return sharded === only && JSON.stringify(await counts('NUMSUB')) === only
    }, 'the topic is subscribed at its new master alone')
    // What comes before the gap is told is dropped.
    const before = subscriber.bytes.length
    await until(
      async () => {
        await publishOne(broker, 'channel:x', envelope('probe'))
        return subscriber.bytes.length > before
      },
      () => `publications come again in round ${n}: ${stateOf(broker)}`,
    )
    await publishOne(broker, 'channel:x', envelope(`${n} begins`))
    await until(async () => (await subscriber.text()) === envelope(`${n} begins`), 'the last of them')
    // From the old master it comes over the bus, so there is no order between the first two.
    await from.admin.call('PUBLISH', channel, envelope(`${n} a`))
    assert.deepEqual(await publishOne(broker, 'channel:x', envelope(`${n} b`)), { nodes: 1 })
    const got = [await subscriber.text(), await subscriber.text()]
    assert.deepEqual(got.toSorted(), [envelope(`${n} a`), envelope(`${n} b`)])
    await publishOne(broker, 'channel:x', envelope(`${n} c`))
    assert.equal(await subscriber.text(), envelope(`${n} c`))
  }
})
