import assert from 'node:assert/strict'
import { after, afterEach, before, type TestContext, test } from 'node:test'
import type { Broker } from '../../../src/broker/broker.ts'
import { checkSource, type RedisSource } from '../../../src/broker/redis/client.ts'
import type { GapReason } from '../../../src/protocol/messages.ts'
import type { Position } from '../../../src/protocol/position.ts'
import type { Topic } from '../../../src/protocol/topic.ts'
import { buildPush } from '../../helpers/app.ts'
import { nodesOn } from '../../helpers/broker-nodes.ts'
import { cleanups } from '../../helpers/processes.ts'
import { freePort, type RedisServer, startRedis } from '../../helpers/redis.ts'
import { inStep } from '../../helpers/redis-cluster.ts'
import { connectTo } from '../../helpers/redis-node.ts'
import {
  explainFailure,
  NAME,
  type RedisSentinels,
  startSentinel,
  startSentinels,
} from '../../helpers/redis-sentinel.ts'
import { PATIENCE, until, within } from '../../helpers/waiting.ts'
import { brokerSuite, envelope, FakeSubscriber } from '../suite.ts'

const SLOW = { timeout: 240_000 }
const HISTORY = { size: 10_000, ttl: 600 }
const RECORDED: Topic = 'channel:recorded'
const BARE: Topic = 'channel:bare'

/** After a failover a node has to be live again within this many milliseconds, on a slow machine too. */
const BOUND = 30_000

const all = cleanups()
let group: RedisSentinels

before(async () => {
  // While the suite runs, a master that had to wait for a core is to stay one.
  group = await startSentinels(all, { downAfter: PATIENCE })
})

after(() => all.end())

afterEach(t => explainFailure(t, group))

brokerSuite(
  'sentinel',
  nodesOn(async () => ({ source: group.source, admins: [(await group.settled()).admin] })),
)

/** The master, which its Sentinels replace as soon as it is dead. */
async function mortalMaster(): Promise<RedisServer> {
  await group.hasten()
  return group.settled()
}

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

let prefixes = 0

async function liveNode(t: TestContext, source: RedisSource) {
  const node = connectTo(t, source, { prefix: `f${++prefixes}:`, publishTimeout: 5000 })
  await within(node.broker.whenLive, 'the node is live', BOUND)
  const watcher = new Watcher(node.broker)
  await Promise.all([watcher.join(RECORDED), watcher.join(BARE)])
  return { ...node, watcher }
}

let keys = 0

/** With one key for all attempts: what was acknowledged counts once. */
async function record(broker: Broker, n: number): Promise<void> {
  const item = { topic: RECORDED, envelope: envelope(n), history: HISTORY, idempotencyKey: `k${++keys}` }
  let last: unknown
  await until(
    async () => {
      const [sent] = await broker.publish([item])
      last = sent
      return !(sent instanceof Error)
    },
    () => `${n} is recorded; ${last}`,
    BOUND,
  )
}

const isOver = (watcher: Watcher, topic: Topic, n: number) =>
  until(
    () => watcher.got.get(topic)?.at(-1) === n,
    () => `${n} on ${topic}; ${watcher.got.get(topic)?.at(-1)} came`,
    BOUND,
  )

/** 1 was received before the failover and 2 was acknowledged after it; then 3 comes on both topics. */
async function assertNothingSilent({ broker, watcher }: Awaited<ReturnType<typeof liveNode>>): Promise<void> {
  await record(broker, 2)
  await until(
    () => broker.connected,
    () => `the node is live again; ${broker.problem}`,
    BOUND,
  )
  await record(broker, 3)
  await isOver(watcher, RECORDED, 3)
  // The gap stands for what the promoted replica may not have had, so 2 may be in it.
  assert.deepEqual(watcher.gaps.get(RECORDED), ['history_replaced'])
  const got = watcher.got.get(RECORDED)!
  assert.deepEqual(
    got.filter(n => n !== 2),
    [1, 3],
  )
  assert.deepEqual(got, got.toSorted())
  assert.deepEqual([...new Set(watcher.gaps.get(BARE))], ['broker_link'])
  await until(async () => {
    const [sent] = await broker.publish([{ topic: BARE, envelope: envelope(4) }])
    return !(sent instanceof Error) && sent!.nodes === 1
  }, 'a bare publication')
  await isOver(watcher, BARE, 4)
}

/** Brings a server back once, at the latest when the test ends: the next ones need it. */
function reviving(t: TestContext, bringBack: () => unknown): () => Promise<void> {
  let isBack = false
  const revive = async () => {
    if (!isBack) await bringBack()
    isBack = true
  }
  t.after(revive)
  return revive
}

for (const fault of ['kill', 'freeze'] as const) {
  test(
    `sentinel: after the ${fault} of the master nothing is silent, and it comes back as a replica`,
    SLOW,
    async t => {
      const master = await mortalMaster()
      const node = await liveNode(t, group.source)
      await record(node.broker, 1)
      await isOver(node.watcher, RECORDED, 1)
      const other = group.servers.find(server => server !== master)!
      await inStep(master, other)
      const revive = reviving(t, () => (fault === 'kill' ? master.start() : master.thaw()))
      await master[fault]()
      await until(() => !node.broker.connected, 'the loss is noticed', BOUND)
      await assertNothingSilent(node)
      const changes = node.changes.length
      await revive()
      assert.equal(await group.settled(), other)
      // A master of the past disturbs nobody.
      await record(node.broker, 5)
      await isOver(node.watcher, RECORDED, 5)
      assert.equal(node.changes.length, changes)
      assert.deepEqual(node.watcher.gaps.get(RECORDED), ['history_replaced'])
    },
  )
}

/**
 * On command: two Sentinels of three may each vote for themselves again and again. And again if they gave it up, as they
 * do when a slow machine lets them wait.
 */
async function failOver(of: RedisSentinels, from: RedisServer, alive = of.sentinels): Promise<void> {
  const one = alive.at(-1)!
  await until(async () => {
    const master = await of.master(alive)
    if (master && master !== from) return true
    if ((await of.master([one])) === from) await one.admin.call('SENTINEL', 'FAILOVER', NAME).catch(() => {})
    return false
  }, 'the Sentinels have another master')
}

test('sentinel: a failover on command is followed although the old master lives', SLOW, async t => {
  const master = await mortalMaster()
  const node = await liveNode(t, group.source)
  await record(node.broker, 1)
  await isOver(node.watcher, RECORDED, 1)
  await failOver(group, master)
  assert.notEqual(await group.settled(), master)
  await assertNothingSilent(node)
  const names = String(await master.admin.client('LIST'))
  assert.doesNotMatch(names, /name=(commands|subscriber)/)
})

test('sentinel: with a frozen Sentinel first in the list a node starts, and follows a failover', SLOW, async t => {
  const master = await mortalMaster()
  const [frozen, ...others] = group.sentinels
  t.after(() => frozen!.thaw())
  frozen!.freeze()
  const node = await liveNode(t, group.source)
  await record(node.broker, 1)
  await isOver(node.watcher, RECORDED, 1)
  const revive = reviving(t, () => master.start())
  await inStep(master, group.servers.find(server => server !== master)!)
  await master.kill()
  await failOver(group, master, others)
  await assertNothingSilent(node)
  await revive()
  frozen!.thaw()
  await group.settled()
})

test('sentinel: a Sentinel that was cut off and names the master of the past is not believed', SLOW, async t => {
  await mortalMaster()
  // It lives, calls itself a master and takes publications that nobody else would see.
  const past = await startRedis(t)
  const cutOff = await startSentinel(t, past.port)
  const { source } = group
  const sentinels = [{ host: '127.0.0.1', port: cutOff.port }, ...source.sentinels]
  const node = await liveNode(t, { ...source, sentinels })
  await record(node.broker, 1)
  await isOver(node.watcher, RECORDED, 1)
  assert.equal(await past.admin.dbsize(), 0)
  const master = await group.settled()
  await failOver(group, master)
  assert.notEqual(await group.settled(), master)
  await assertNothingSilent(node)
  assert.equal(await past.admin.dbsize(), 0)
})

test(
  'sentinel: one of the list is enough to find the others, which lead to the master when it is dead',
  SLOW,
  async t => {
    const own = await startSentinels(t)
    t.after(() => explainFailure(t, own))
    const node = await liveNode(t, { ...own.source, sentinels: [`127.0.0.1:${own.sentinels[0]!.port}`] })
    await record(node.broker, 1)
    await isOver(node.watcher, RECORDED, 1)
    t.after(() => own.sentinels[0]!.thaw())
    own.sentinels[0]!.freeze()
    const alive = own.sentinels.slice(1)
    const master = (await own.master(alive))!
    await inStep(master, own.servers.find(server => server !== master)!)
    await master.kill()
    await failOver(own, master, alive)
    await assertNothingSilent(node)
  },
)

test(
  'sentinel: why no master is found is in the log and in the status, and the node starts without it',
  SLOW,
  async t => {
    const server = await startRedis(t)
    const sentinel = await startSentinel(t, server.port, {
      sentinels: 1,
      lines: () => ['requirepass secret'],
      client: { password: 'secret' },
    })
    const sentinels = [`127.0.0.1:${sentinel.port}`]
    const dead = `127.0.0.1:${await freePort()}`
    const cases: [RedisSource, RegExp][] = [
      [{ sentinels, name: NAME }, /no Sentinel leads to the master "mymaster": 127\.0\.0\.1:\d+ NOAUTH/],
      [
        { sentinels, name: NAME, sentinelPassword: 'wrong' },
        /no Sentinel leads to the master .*: 127\.0\.0\.1:\d+ WRONGPASS/,
      ],
      [
        { sentinels, name: 'other', sentinelPassword: 'secret' },
        /no Sentinel leads to the master "other": .* knows no master of this name/,
      ],
      [{ sentinels: [dead], name: NAME }, /no Sentinel leads to the master "mymaster": .* ECONNREFUSED/],
    ]
    const told = cases.map(async ([redis, problem]) => {
      const { app, log } = await buildPush(t, { redis })
      let said: string | undefined
      await until(
        async () => {
          said = (await app.push.status()).problem
          return said && problem.test(said)
        },
        () => `${problem}; ${said}`,
      )
      assert.ok(
        log.some(line => problem.test(String((line as { err?: { message: string } }).err?.message))),
        `${problem} in the log`,
      )
      assert.doesNotMatch(JSON.stringify(log), /secret|wrong/)
    })
    await Promise.all(told)
    const { app } = await buildPush(t, { redis: { sentinels: [`redis://:secret@${sentinels[0]}`], name: NAME } })
    await until(async () => (await app.push.status()).connected, 'the password of the URL opens the Sentinel')
  },
)

test('sentinel: options that lead nowhere are refused with what to write instead', () => {
  const sentinels = ['10.0.0.1:26379']
  const cases: [object, RegExp][] = [
    [{ sentinels: [], name: NAME }, /option redis sentinels must be a list such as \["10\.0\.0\.1:26379"/],
    [{ sentinels: undefined, name: NAME }, /option redis sentinels must be a list/],
    [{ sentinels: '10.0.0.1:26379', name: NAME }, /option redis sentinels must be a list/],
    [{ sentinels: ['10.0.0.1:26379', 'http://a'], name: NAME }, /option redis sentinels\.1 must be "host:port"/],
    [{ sentinels: ['a:70000'], name: NAME }, /option redis sentinels\.0 must be "host:port"/],
    [{ sentinels: [{ port: 1 }], name: NAME }, /option redis sentinels\.0 must be "host:port"/],
    [{ sentinels }, /option redis has sentinels but no name: .*"sentinel monitor NAME …"/],
    [{ sentinels, name: '' }, /option redis has sentinels but no name/],
    [{ sentinels, name: NAME, role: 'slave' }, /option redis role must be "master"/],
    [{ sentinels, name: NAME, sentinelPassword: 7 }, /option redis sentinelPassword must be a string/],
    [
      { sentinels, name: NAME, sentinelPasword: 'x' },
      /unknown key "sentinelPasword": did you mean "sentinelPassword"\?/,
    ],
    [{ sentinels, name: NAME, url: 'redis://a' }, /option redis has url and sentinels: give one of them/],
    [{ sentinels, name: NAME, cluster: ['redis://a'] }, /option redis has sentinels and cluster: give one of them/],
    [{ url: 'localhost' }, /option redis must be a URL such as/],
    [{ url: 7 }, /option redis url must be a string/],
  ]
  for (const [given, message] of cases)
    assert.throws(() => checkSource(given), { code: 'PUSH_ERR_OPTIONS', message }, JSON.stringify(given))
  for (const sentinel of [
    'a',
    'a:1',
    'redis://a',
    'rediss://u:p@a:1',
    '[::1]:26379',
    { host: 'a' },
    { host: 'a', port: 1 },
  ])
    checkSource({ sentinels: [sentinel], name: NAME })
})
