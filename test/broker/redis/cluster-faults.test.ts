import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { type TestContext, test } from 'node:test'
import { Redis } from 'ioredis'
import type { Broker } from '../../../src/broker/broker.ts'
import type { Sharded } from '../../../src/broker/redis/pub-sub.ts'
import { SLOTS, slotOf } from '../../../src/broker/redis/topology.ts'
import type { GapReason } from '../../../src/protocol/messages.ts'
import type { Position } from '../../../src/protocol/position.ts'
import type { Topic } from '../../../src/protocol/topic.ts'
import { createPublisher } from '../../../src/publisher.ts'
import { FaultProxy } from '../../chaos/proxy.ts'
import { freePort, type RedisServer, startRedis } from '../../helpers/redis.ts'
import { inStep, joinCluster, type RedisCluster, SlotMove, startCluster } from '../../helpers/redis-cluster.ts'
import { connect, connectToCluster } from '../../helpers/redis-node.ts'
import { once, until, within } from '../../helpers/waiting.ts'
import { envelope, FakeSubscriber } from '../suite.ts'

const LIBRARY = readFileSync(new URL('../../../src/broker/redis/push.lua', import.meta.url), 'utf8')
const VERSION = Number(/^local VERSION = (\d+)$/m.exec(LIBRARY)![1])

const SLOW = { timeout: 240_000 }
const HISTORY = { size: 10_000, ttl: 600 }

/** What a node is handed, and which topics it is told a gap of. */
class Watcher extends FakeSubscriber {
  readonly got = new Map<Topic, number[]>()
  readonly gaps = new Map<Topic, GapReason[]>()

  override receive(incoming: Parameters<FakeSubscriber['receive']>[0]): void {
    const { payload } = JSON.parse(incoming.envelope.view().toString())
    this.got.set(incoming.topic, [...(this.got.get(incoming.topic) ?? []), payload])
  }

  override lost(reason: GapReason, topics?: ReadonlyMap<Topic, Position | undefined>): void {
    for (const topic of topics!.keys()) this.gaps.set(topic, [...(this.gaps.get(topic) ?? []), reason])
  }
}

/** A recorded topic, and one that is not, at each of the masters. */
function topicsAt(cluster: RedisCluster, master: number): { recorded: Topic; bare: Topic } {
  const isThere = (topic: Topic) => Math.floor((slotOf(`push:${topic}`) * cluster.masters.length) / SLOTS) === master
  const find = (name: string) =>
    Array.from({ length: 100 }, (_, n): Topic => `channel:${name}${n}`).find(isThere) as Topic
  return { recorded: find('recorded'), bare: find('bare') }
}

async function setUp(t: TestContext, { replicas = false, sharded = false as Sharded } = {}) {
  const cluster = await startCluster(t, { replicas })
  const { broker } = connectToCluster(t, cluster, { publishTimeout: 5000, sharded })
  await within(broker.whenLive, 'the broker is live')
  const watcher = new Watcher(broker)
  const places = cluster.masters.map((_, i) => topicsAt(cluster, i))
  for (const { recorded, bare } of places) await Promise.all([watcher.join(recorded), watcher.join(bare)])
  return { cluster, broker, watcher, places }
}

let keys = 0

async function record(broker: Broker, topic: Topic, n: number): Promise<void> {
  const item = { topic, envelope: envelope(n), history: HISTORY, idempotencyKey: `k${++keys}` }
  await until(async () => {
    const [sent] = await broker.publish([item])
    return !(sent instanceof Error)
  }, `${n} is recorded on ${topic}`)
}

const isOver = (watcher: Watcher, topic: Topic, n: number) =>
  until(
    () => watcher.got.get(topic)?.at(-1) === n,
    () => `${n} on ${topic}; ${watcher.got.get(topic)?.at(-1)} came`,
  )

/** Publishes on a topic that is not recorded until it comes: what comes before the gap of its last move is dropped. */
const hears = (broker: Broker, watcher: Watcher, topic: Topic, n: number) =>
  until(
    async () => {
      await broker.publish([{ topic, envelope: envelope(n) }])
      return watcher.got.get(topic)?.at(-1) === n
    },
    () => `${n} on ${topic}; ${watcher.got.get(topic)?.at(-1)} came`,
  )

for (const [fault, sharded] of [
  ['kill', false],
  ['freeze', false],
  ['kill', true],
  ['freeze', true],
] as const) {
  test(
    `cluster, sharded ${sharded}: after the ${fault} of a master its topics have at most a gap, the others nothing`,
    SLOW,
    async t => {
      const { cluster, broker, watcher, places } = await setUp(t, { replicas: true, sharded })
      const [dead, other] = places as [(typeof places)[0], (typeof places)[0]]
      for (const { recorded } of places) await record(broker, recorded, 1)
      await inStep(cluster.masters[0]!, cluster.replicas[0]!)
      if (fault === 'freeze') t.after(() => cluster.masters[0]!.thaw())
      await cluster.masters[0]![fault]()
      await until(() => !broker.connected, 'the loss is noticed')
      await record(broker, dead.recorded, 2)
      await until(() => broker.connected, 'the replica has taken over')
      for (const { recorded } of places) await record(broker, recorded, 3)
      for (const { recorded } of places) await isOver(watcher, recorded, 3)
      assert.deepEqual(watcher.got.get(other.recorded), [1, 3])
      assert.deepEqual([...watcher.gaps.keys()].toSorted(), [dead.bare, dead.recorded].toSorted())
      // What was acknowledged after the failover is there; the gap says that the replica may not have had everything.
      assert.deepEqual(watcher.gaps.get(dead.recorded), ['history_replaced'])
      await hears(broker, watcher, dead.bare, 4)
    },
  )
}

for (const sharded of [false, true]) {
  test(
    `cluster, sharded ${sharded}: while a slot moves nothing recorded is lost, comes twice or is told a gap`,
    SLOW,
    async t => {
      const { cluster, broker, watcher, places } = await setUp(t, { sharded })
      const [{ recorded, bare }, other] = places as [(typeof places)[0], (typeof places)[0]]
      let n = 0
      let isMoving = true
      const publishing = (async () => {
        while (isMoving) await record(broker, recorded, ++n)
      })()
      await until(() => n > 10, 'publications before the first move')
      for (const to of [1, 2, 0]) {
        const before = n
        for (const topic of [recorded, bare]) await cluster.move(`push:${topic}`, cluster.masters[to]!)
        await until(() => n > before + 20, 'publications after the move')
      }
      isMoving = false
      await publishing
      await isOver(watcher, recorded, n)
      assert.deepEqual(
        watcher.got.get(recorded),
        Array.from({ length: n }, (_, i) => i + 1),
      )
      assert.equal(watcher.gaps.get(recorded), undefined)
      assert.equal(watcher.gaps.get(other.recorded), undefined)
      // What was published bare while the topic went from one link to another may be missing. Nobody asks for this one, so
      // the node may not have looked yet where it is.
      await until(() => watcher.gaps.has(bare), 'a gap of the other topic')
      await until(() => broker.connected, 'all is well')
      await hears(broker, watcher, bare, 1)
    },
  )
}

test(
  'cluster: topics that are confirmed together are where they are by then, though one master answers late',
  SLOW,
  async t => {
    const { cluster, broker, watcher, places } = await setUp(t)
    const [{ recorded }, late] = places as [(typeof places)[0], (typeof places)[0]]
    await record(broker, recorded, 1)
    await isOver(watcher, recorded, 1)
    t.after(() => cluster.masters[1]!.thaw())
    cluster.masters[1]!.freeze()
    watcher.leave(late.recorded)
    watcher.held.add(late.recorded)
    const asked = broker.subscribe([recorded, late.recorded])
    await record(broker, recorded, 2)
    await isOver(watcher, recorded, 2)
    cluster.masters[1]!.thaw()
    const positions = await within(asked, 'both are confirmed')
    assert.equal(positions.get(recorded)?.seq, 2)
    assert.equal(positions.get(late.recorded)?.seq, 0)
  },
)

test('cluster: when the slot of the ticks moves the timelines stay, and nobody is told a gap', SLOW, async t => {
  const { cluster, broker, watcher, places } = await setUp(t)
  for (const { recorded } of places) await record(broker, recorded, 1)
  const tag = '{push:shard-0}'
  const owner = cluster.masters.indexOf(await cluster.masterOf(tag))
  const next = cluster.masters[(owner + 1) % 3]!
  const ticksOf = async ({ admin }: typeof next) => (await admin.keys('{push:shard-*}:tick:*')).length
  await cluster.move(tag, next)
  // Both have other keys now: one lost the lowest of its numbers, and the other one got a lower one.
  await until(async () => (await ticksOf(cluster.masters[owner]!)) > 0, 'ticks in another slot of the first')
  await until(async () => (await next.admin.keys(`${tag}:tick:n1.*`)).length > 1, 'ticks of the other in the slot')
  for (const { recorded } of places) await record(broker, recorded, 2)
  for (const { recorded } of places) await isOver(watcher, recorded, 2)
  assert.equal(broker.connected, true)
  for (const { recorded } of places) assert.deepEqual(watcher.got.get(recorded), [1, 2])
  assert.deepEqual([...watcher.gaps], [])
})

test('cluster: a backend that names only the channel begins no second history while the slot moves', SLOW, async t => {
  const { cluster, broker, places } = await setUp(t)
  const { recorded } = places[0]!
  await record(broker, recorded, 1)
  const channel = `push:${recorded}`
  const [from, to] = cluster.masters as [(typeof cluster.masters)[0], (typeof cluster.masters)[0]]
  const slot = slotOf(channel)
  const id = async ({ admin }: typeof from) => String(await admin.call('CLUSTER', 'MYID'))
  await to.admin.call('CLUSTER', 'SETSLOT', slot, 'IMPORTING', await id(from))
  await from.admin.call('CLUSTER', 'SETSLOT', slot, 'MIGRATING', await id(to))
  const call = ['FCALL', 'push_publish', 1, channel, envelope(2), 10, 60] as const
  const [name, ...args] = call
  await assert.rejects(from.admin.call(name, ...args), /^ReplyError: ASK /)
  const replies = await to.admin
    .pipeline()
    .call('ASKING')
    .call(name, ...args)
    .exec()
  assert.match(String(replies![1]![0]), /TRYAGAIN the slot of push:channel:recorded\d+ is being moved/)
  const [, [, count]] = (await to.admin.pipeline().call('ASKING').exists(`{${channel}}:head`).exec()) as [
    unknown,
    [unknown, number],
  ]
  assert.equal(count, 0)
})

test('cluster: a backend that names only the channel waits until all keys of the topic have arrived', SLOW, async t => {
  const cluster = await startCluster(t)
  const { broker } = connectToCluster(t, cluster, { publishTimeout: 5000 })
  await within(broker.whenLive, 'the broker is live')
  const channel = `push:${topicsAt(cluster, 0).recorded}`
  const [from, to] = cluster.masters as [(typeof cluster.masters)[0], (typeof cluster.masters)[0]]
  const call = (key: string) => ['FCALL', 'push_publish', 1, channel, envelope(1), 10, 60, key] as const
  const publishThere = async (key: string) => {
    const [name, ...args] = call(key)
    const replies = await to.admin
      .pipeline()
      .call('ASKING')
      .call(name, ...args)
      .exec()
    return replies![1]!
  }
  const [name, ...args] = call('a')
  const [id] = (await from.admin.call(name, ...args)) as [string]
  const slot = slotOf(channel)
  const move = new SlotMove(slot, from, to)
  await move.begin()
  const rest = await from.admin.call('CLUSTER', 'GETKEYSINSLOT', slot, 10)
  assert.equal((rest as string[]).length, 3)
  for (const moved of ['head', 'history']) {
    await from.admin.call('MIGRATE', '127.0.0.1', to.port, `{${channel}}:${moved}`, 0, 5000)
    // Known already, and new: the one would be recorded twice, the other in a second history.
    for (const key of ['a', 'b'])
      assert.match(String((await publishThere(key))[0]), /TRYAGAIN/, `${key}, ${moved} is there`)
  }
  while (await move.moveKeys(10));
  await move.end(cluster.masters)
  assert.deepEqual(await to.admin.call(name, ...args), [id, 1, 0, 1])
  const [, [, seq, , duplicate]] = (await publishThere('b')) as [null, [string, number, number, number]]
  assert.deepEqual([seq, duplicate], [2, 0])
})

/** Two masters, and a proxy before each. */
async function setUpProxies(t: TestContext) {
  const proxies = [await FaultProxy.start(), await FaultProxy.start()] as const
  for (const proxy of proxies) t.after(() => proxy.close())
  const settings = ['--cluster-enabled', 'yes', '--repl-diskless-sync-delay', '0']
  const start = async (proxy: FaultProxy): Promise<RedisServer> => {
    const ports = ['--cluster-port', `${await freePort()}`, '--cluster-announce-port', `${proxy.port}`]
    const server = await startRedis(t, { args: [...settings, ...ports] })
    proxy.target = server.port
    return server
  }
  const [from, to] = [await start(proxies[0]), await start(proxies[1])]
  await joinCluster([from, to], [])
  const urls = proxies.map(({ port }) => `redis://127.0.0.1:${port}`)
  const cluster = { urls, masters: [from, to] } as unknown as RedisCluster
  const { broker } = connectToCluster(t, cluster)
  await within(broker.whenLive, 'the broker is live')
  /** What the first master says over the link of this name comes later. */
  const stall = async (name: string) => {
    const port = await portOf(from, name)
    const resume = proxies[0].stall(({ server }) => server.localPort === port)
    t.after(resume)
    return resume
  }
  const move = async (channel: string) => {
    const moving = new SlotMove(slotOf(channel), from, to)
    await moving.begin()
    while (await moving.moveKeys(10));
    await moving.end([from, to])
  }
  return { cluster, from, to, broker, watcher: new Watcher(broker), stall, move }
}

test('cluster: what is still on its way from the master that a topic has left does not come again', SLOW, async t => {
  const { cluster, from, to, broker, watcher, stall, move } = await setUpProxies(t)
  const { recorded, bare } = topicsAt(cluster, 0)
  await Promise.all([watcher.join(recorded), watcher.join(bare)])
  await record(broker, recorded, 1)
  await isOver(watcher, recorded, 1)
  const resume = await stall('subscriber')
  const channel = `push:${recorded}`
  const witness = new Redis(from.url)
  t.after(() => witness.disconnect())
  await witness.subscribe(channel)
  const seen = once(witness, 'message')
  await move(channel)
  await to.admin.call('FCALL', 'push_publish', 1, channel, envelope(2), 10, 60)
  await seen
  await record(broker, recorded, 3)
  await isOver(watcher, recorded, 3)
  resume()
  await broker.publish([{ topic: bare, envelope: envelope(1) }])
  await isOver(watcher, bare, 1)
  assert.deepEqual(watcher.got.get(recorded), [1, 2, 3])
})

test('cluster: whoever subscribes while the slot moves is told no gap of a recorded topic', SLOW, async t => {
  const { cluster, to, broker, watcher, stall, move } = await setUpProxies(t)
  const { recorded } = topicsAt(cluster, 0)
  const channel = `push:${recorded}`
  await record(broker, recorded, 1)
  await stall('commands')
  const joining = watcher.join(recorded)
  await move(channel)
  const position = await within(joining, 'the topic is confirmed')
  assert.equal(position?.seq, 1)
  await to.admin.call('FCALL', 'push_publish', 1, channel, envelope(2), 10, 60)
  await isOver(watcher, recorded, 2)
  assert.deepEqual(watcher.got.get(recorded), [2])
  assert.deepEqual([...watcher.gaps], [])
})

/** From which port the connection with this name comes. */
async function portOf({ admin }: RedisServer, name: string): Promise<number> {
  const line = String(await admin.client('LIST'))
    .split('\n')
    .find(client => client.includes(` name=${name} `))
  return Number(/ addr=127\.0\.0\.1:(\d+) /.exec(line!)?.[1])
}

test('cluster: a master that joins later has the functions, and its topics are received', SLOW, async t => {
  const { cluster, broker, watcher, places } = await setUp(t)
  const { recorded } = places[0]!
  await record(broker, recorded, 1)
  const added = await cluster.add()
  await cluster.move(`push:${recorded}`, added)
  await record(broker, recorded, 2)
  await isOver(watcher, recorded, 2)
  assert.deepEqual(watcher.got.get(recorded), [1, 2])
  assert.equal(await added.admin.call('FCALL', 'push_version', 0), VERSION)
  // And away again: its links are closed.
  await cluster.move(`push:${recorded}`, cluster.masters[1]!)
  await until(async () => !String(await added.admin.client('LIST')).includes('name=commands'), 'the links are closed')
  await record(broker, recorded, 3)
  await isOver(watcher, recorded, 3)
  assert.deepEqual(watcher.got.get(recorded), [1, 2, 3])
  assert.equal(watcher.gaps.get(recorded), undefined)
})

test('cluster: the URL of one of its servers alone is no way in, and the log says so', SLOW, async t => {
  const cluster = await startCluster(t, { masters: 2 })
  const { changes, broker } = connect(t, cluster.masters[1]!)
  await until(() => changes.length > 0, 'a line in the log')
  assert.equal(broker.connected, false)
  assert.match(String(changes[0]!.error?.message), /Cluster/)
})

test('cluster: a Redis that is none is told apart', SLOW, async t => {
  const server = await startRedis(t)
  const { changes } = connectToCluster(t, { urls: [server.url] } as RedisCluster)
  await until(() => changes.length > 0, 'a line in the log')
  assert.match(String(changes[0]!.error?.message), /cluster support disabled/)
})

test('cluster: a publisher that reaches none of the servers is told why', SLOW, async t => {
  const server = await startRedis(t, { isDown: true })
  const publisher = createPublisher({ redis: { cluster: [server.url] }, publishTimeout: 1000 })
  t.after(() => publisher.end())
  for (const history of [undefined, HISTORY]) {
    const publication = { type: 'a', ...(history && { history }) }
    await assert.rejects(publisher.publish('channel:x', publication), /no master of the Cluster .*ECONNREFUSED/)
  }
})
