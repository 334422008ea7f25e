import assert from 'node:assert/strict'
import { after, before, type TestContext, test } from 'node:test'
import { createServer } from '../../../src/cli.ts'
import type { PushBridgeOptions } from '../../../src/index.ts'
import { readSettings, type ServeSettings } from '../../../src/node/serve-settings.ts'
import type { Gap } from '../../../src/protocol/messages.ts'
import type { Topic } from '../../../src/protocol/topic.ts'
import { buildPush, openConnection, type TestApp } from '../../helpers/app.ts'
import { cleanups } from '../../helpers/processes.ts'
import { type RedisServer, startRedis } from '../../helpers/redis.ts'
import { startCluster } from '../../helpers/redis-cluster.ts'
import { rightsOfNode } from '../../helpers/rights.ts'
import { until, within } from '../../helpers/waiting.ts'

const SLOW = { timeout: 240_000 }
const SIDE_BY_SIDE = { timeout: 500_000, concurrency: 4 }

/** A right that is granted or taken away has its effect within so many milliseconds, on a slow machine too. */
const HEALED = 40_000

/** Who comes and goes is known within so many milliseconds. */
const PRESENT = 3000

type Feature =
  | 'connects'
  | 'publishes'
  | 'receipts'
  | 'records'
  | 'recovers'
  | 'begins'
  | 'tickets'
  | 'counts'
  | 'notes'
  | 'revokes'
  | 'presence'

interface Row {
  right: string
  /** What does not work without it; everything else does. */
  fails: readonly Feature[]
  /** The same if the node has never had it. */
  failsAtStart?: readonly Feature[]
  /** What the log and the status say; undefined if nothing is lost. */
  problem: RegExp | undefined
  /** It is needed only when a link is opened. */
  isOfLink?: boolean
}

/** `…` stands for any text. */
const lacks = (command: string, right: string) =>
  new RegExp(
    `Redis refuses ${command}: its user lacks the right ${right.replaceAll(/[+|*{}&]/g, '\\$&')}, so `.replaceAll(
      '…',
      '.*',
    ),
  )

const ROWS: Row[] = [
  {
    right: '~push:*',
    fails: ['receipts', 'records', 'recovers', 'begins', 'tickets', 'revokes', 'notes', 'presence'],
    problem: lacks('RPUSH', '~PREFIXreceipt:*'),
  },
  {
    right: '~{push:*',
    fails: ['records', 'recovers', 'begins', 'presence'],
    problem: lacks('push_publish', '~{PREFIXchannel:…}:*'),
  },
  {
    right: '+publish',
    fails: ['publishes', 'receipts', 'records', 'recovers', 'begins', 'revokes', 'presence'],
    problem: lacks('PUBLISH', '+publish'),
  },
  { right: '+pubsub|numsub', fails: ['counts'], problem: lacks('PUBSUB NUMSUB', '+pubsub|numsub') },
  { right: '+rpush', fails: ['receipts'], problem: lacks('RPUSH', '+rpush') },
  { right: '+lrange', fails: ['receipts'], problem: lacks('LRANGE', '+lrange') },
  { right: '+lpush', fails: ['notes'], problem: lacks('LPUSH', '+lpush') },
  { right: '+ltrim', fails: [], problem: lacks('LTRIM', '+ltrim') },
  { right: '+expire', fails: ['records'], problem: lacks('EXPIRE', '+expire') },
  { right: '+set', fails: ['recovers', 'begins', 'tickets', 'revokes'], problem: lacks('push_tick', '+set') },
  { right: '+getdel', fails: ['tickets'], problem: lacks('GETDEL', '+getdel') },
  { right: '+fcall', fails: ['records', 'recovers', 'begins', 'presence'], problem: lacks('…', '+fcall') },
  { right: '+time', fails: ['records', 'recovers', 'begins', 'presence'], problem: lacks('push_…', '+time') },
  { right: '+get', fails: ['recovers', 'begins'], problem: lacks('push_tick', '+get') },
  { right: '+mget', fails: ['revokes'], problem: lacks('MGET', '+mget') },
  {
    right: '+hset',
    fails: ['records', 'presence'],
    failsAtStart: ['records', 'recovers', 'begins', 'presence'],
    problem: lacks('push_publish', '+hset…'),
  },
  { right: '+hmget', fails: ['records', 'recovers', 'begins'], problem: lacks('push_…', '+hmget') },
  { right: '+xadd', fails: ['records'], problem: lacks('push_publish', '+xadd or …') },
  { right: '+xtrim', fails: ['records'], problem: lacks('push_publish', '+xtrim or …') },
  { right: '+xrange', fails: ['recovers', 'begins'], problem: lacks('push_…', '+xrange') },
  { right: '+xrevrange', fails: ['begins'], problem: lacks('push_newest', '+xrevrange') },
  { right: '+hgetall', fails: ['presence'], problem: lacks('push_…', '+hgetall') },
  ...['hget', 'hdel', 'hlen', 'hscan', 'pexpire'].map(
    (command): Row => ({
      right: `+${command}`,
      fails: ['presence'],
      problem: lacks('push_…', `+${command}…`),
    }),
  ),
  { right: '+unlink', fails: ['records', 'presence'], problem: lacks('push_publish', '+unlink or …') },
  { right: '+unsubscribe', fails: [], problem: lacks('UNSUBSCRIBE', '+unsubscribe') },
  { right: '+info', fails: [], problem: lacks('INFO', '+info'), isOfLink: true },
  // Their refusal is an answer like any other, or costs a name in CLIENT LIST.
  { right: '+ping', fails: [], problem: undefined },
  { right: '+client|setname', fails: [], problem: undefined },
]

const all = cleanups()
let server: RedisServer

before(async () => {
  server = await startRedis(all)
})

after(() => all.end())

const rights = rightsOfNode()

let users = 0

/** A node of a new user, with a prefix of its own. `isGranted` says whether it has the right of the row. */
async function limitedNode(t: TestContext, isGranted: boolean, right: string) {
  const user = `u${++users}`
  const prefix = `push:${user}:`
  const url = server.url.replace('//', `//${user}:pw@`)
  const setUser = (has: boolean) =>
    server.admin.call(
      'ACL',
      'SETUSER',
      user,
      'reset',
      'on',
      '>pw',
      ...rights.slice(2).filter(it => has || it !== right),
    )
  await setUser(isGranted)
  const history = { 'channel:recorded*': { size: 10, ttl: 60 } }
  const authenticate: PushBridgeOptions['authenticate'] = request => {
    const { user, issuedAt } = request.query as { user: string; issuedAt?: string }
    return {
      user,
      ...(issuedAt && { issuedAt: Number(issuedAt) }),
      allow: [{ topics: 'channel:*', actions: ['subscribe', 'history'] }],
    }
  }
  const presence = { 'channel:room*': { grace: 0 }, lease: 3000 }
  const more = { presence, publishTimeout: 1000, authenticate }
  const options = { redis: url, redisPrefix: prefix, tickets: true, history, ...more }
  const node = await buildPush(t, options)
  return { ...node, prefix, setUser }
}

type Node = Awaited<ReturnType<typeof limitedNode>>

let names = 0

/** What of everything that a node does fails now. */
async function failing(t: TestContext, node: Node): Promise<Feature[]> {
  const { app, prefix } = node
  const topic: Topic = `channel:recorded${++names}`
  const bare: Topic = `channel:bare${names}`
  const connection = await openConnection(app, `/ws/bare${names}?user=${names}`)
  t.after(() => connection.close())
  const works: Partial<Record<Feature, () => Promise<boolean>>> = {
    async connects() {
      await server.admin.publish(prefix + bare, '{"type":"live"}')
      return (await connection.next('live')).topic === bare
    },
    async publishes() {
      return (await app.push.publish(bare, { type: 'a' })).nodes === 1
    },
    async receipts() {
      const { delivered, complete } = await app.push.publish(bare, { type: 'b', receipt: true })
      return delivered === 1 && complete === true
    },
    async records() {
      return (await app.push.publish(topic, { type: 'c' })).seq === 1
    },
    async recovers() {
      await server.admin.call('FCALL', 'push_publish', 1, prefix + topic, '{"type":"d"}', 10, 60)
      const [[, [, first]]] = (await server.admin.xrange(`{${prefix}${topic}}:history`, '-', '+')) as [
        [string, string[]],
      ]
      await server.admin.call('FCALL', 'push_publish', 1, prefix + topic, '{"type":"e"}', 10, 60)
      connection.send('subscribe', { topic, since: first }, 1)
      const { payload } = await connection.next('subscribed')
      connection.send('unsubscribe', { topic }, 2)
      return (payload as { recovered: boolean }).recovered
    },
    async begins() {
      const other: Topic = `${topic}-first`
      await server.admin.call('FCALL', 'push_publish', 1, prefix + other, '{"type":"f"}', 10, 60)
      connection.send('subscribe', { topic: other, last: 1 }, 3)
      for (;;) {
        const { type, payload } = await connection.next()
        if (type === 'f') return true
        if (type === 'gap' && (payload as Gap).topics.includes(other)) return false
      }
    },
    async tickets() {
      const other = await openConnection(app, `/ws?ticket=${await app.push.ticket({ user: '7' })}`)
      await other.close()
      return other.welcome.user === '7'
    },
    async revokes() {
      const path = `/ws?user=revoked${names}&issuedAt=${Date.now()}`
      await app.push.revoke(`user:revoked${names}`)
      const other = await openConnection(app, path).catch(() => undefined)
      await other?.close()
      return other === undefined
    },
    async counts() {
      return (await app.push.status()).nodes === 1
    },
    async notes() {
      const rejected = async () => (await app.push.status()).metrics['publications_rejected_total{json}'] ?? 0
      const before = await rejected()
      const junk = `junk-${names}-`
      await server.admin.publish(prefix + bare, junk)
      // The status asks over the link that the note was written to before.
      await until(async () => (await rejected()) > before, 'the node has rejected what it could not use')
      // Not by its length: only the newest hundred are kept.
      return (await server.admin.lrange(`${prefix}rejected`, 0, -1)).some(note => note.includes(junk))
    },
  }
  works.presence = async () => {
    const room: Topic = `channel:room${names}`
    const guest = await openConnection(app, `/ws/room${names}?user=guest`)
    const isThere = async (count: number) => (await app.push.presence(room)).count === count
    try {
      await until(() => isThere(1), 'the guest is there', PRESENT)
    } finally {
      await guest.close()
    }
    await until(() => isThere(0), 'the guest is gone', PRESENT)
    return true
  }
  const results: Feature[] = []
  for (const [feature, isWorking] of Object.entries(works) as [Feature, () => Promise<boolean>][]) {
    if (!(await isWorking().catch(() => false))) results.push(feature)
  }
  await connection.close()
  return results
}

const errorOf = (line: TestApp['log'][number]) => String((line as { err?: { message: string } }).err?.message)

type Loss = Pick<Row, 'right' | 'fails' | 'problem'>

async function assertLost(t: TestContext, node: Node, { right, fails, problem }: Loss): Promise<void> {
  let found: Feature[] = []
  await until(
    async () => {
      found = await failing(t, node)
      return JSON.stringify(found) === JSON.stringify(fails)
    },
    () => `without ${right} there fail ${fails}; found ${found}`,
    HEALED,
  )
  if (!problem) return
  const pattern = new RegExp(problem.source.replaceAll('PREFIX', node.prefix))
  let status = await node.app.push.status()
  await until(
    async () => {
      status = await node.app.push.status()
      return pattern.test(String(status.problem))
    },
    () => `the problem is like ${pattern}; it is ${status.problem}`,
    HEALED,
  )
  assert.equal(status.connected, true)
  assert.ok(
    node.log.some(line => pattern.test(line.msg)),
    `${pattern} in the log: ${node.log.map(line => `${line.msg} ${errorOf(line)}`).join('\n')}`,
  )
}

async function assertHealed(t: TestContext, node: Node, right: string): Promise<void> {
  let found: Feature[] = []
  let problem: string | undefined
  await until(
    async () => {
      found = await failing(t, node)
      problem = (await node.app.push.status()).problem
      return found.length === 0 && problem === undefined
    },
    () => `all works with ${right}, but ${found} fail, and the problem is ${problem}`,
    HEALED,
  )
}

test('acl: each right costs what needs it, says so, and counts as soon as it is granted', SIDE_BY_SIDE, async t => {
  // Most of the time they wait for what a node does every few seconds.
  const left = [...ROWS]
  const worker = async () => {
    for (let row = left.shift(); row; row = left.shift()) {
      const title = `without ${row.right} fails ${row.fails.join(', ') || 'nothing'}`
      await t.test(title, SLOW, own => assertRow(own, row!))
    }
  }
  await Promise.all(Array.from({ length: 4 }, worker))
})

async function assertRow(t: TestContext, row: Row): Promise<void> {
  const { right } = row
  assert.ok(rights.includes(right), 'docs/redis.md prints it')
  const node = await limitedNode(t, true, right)
  await assertHealed(t, node, right)
  await node.setUser(false)
  await assertLost(t, node, row.isOfLink ? { ...row, problem: undefined } : row)
  await node.setUser(true)
  await assertHealed(t, node, right)

  const late = await limitedNode(t, false, right)
  await assertLost(t, late, { ...row, fails: row.failsAtStart ?? row.fails })
  await late.setUser(true)
  await assertHealed(t, late, right)
}

test('acl: the health of serve names the right, and stays healthy', SLOW, async t => {
  await server.admin.call('ACL', 'SETUSER', 'health', 'on', '>pw', ...rights.slice(2).filter(it => it !== '+rpush'))
  const redis = server.url.replace('//', '//health:pw@')
  const settings = readSettings(['serve', '--redis', redis, '--prefix', 'push:health:', '--log-level', 'silent'], {})
  const app = await createServer(settings as ServeSettings)
  t.after(() => within(app.close(), 'the end of serve'))
  await app.ready()
  const health = async () => {
    const { statusCode, body } = await app.inject('/readyz?strict')
    return { statusCode, problem: JSON.parse(body).problem as string | undefined }
  }
  await until(async () => (await health()).statusCode === 200, 'serve is healthy')
  const ticket = await app.push.ticket({ user: '1' })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const connection = await openConnection(app, `/ws?ticket=${ticket}`)
  t.after(() => connection.close())
  await app.push.publish('user:1', { type: 'a', receipt: true })
  assert.deepEqual(await health(), {
    statusCode: 200,
    problem: 'Redis refuses RPUSH: its user lacks the right +rpush, so receipts fail',
  })
})

test('acl: a node that may not subscribe is not connected and says why, and is when that is granted', SLOW, async t => {
  const late = await limitedNode(t, false, '+subscribe')
  const refusal = /NOPERM.*'subscribe' command/
  // It starts without Redis on a slow machine, and learns of the refusal afterwards.
  let status = await late.app.push.status()
  await until(
    async () => {
      status = await late.app.push.status()
      return refusal.test(String(status.problem))
    },
    () => `the refusal is the problem, not ${status.problem}`,
    HEALED,
  )
  assert.equal(status.connected, false)
  assert.ok(late.log.some(line => refusal.test(errorOf(line))))
  await late.setUser(true)
  await assertHealed(t, late, '+subscribe')
  // What it has by now goes on; only new topics are refused.
  await late.setUser(false)
  const connection = await openConnection(late.app, '/ws/refused')
  t.after(() => connection.close())
  await until(
    () => late.log.some(({ msg }) => /Redis refuses .*: its user lacks the right \+subscribe$/.test(msg)),
    'the log names the right',
  )
  assert.equal((await late.app.push.status()).connected, true)
  await late.setUser(true)
  await until(async () => (await late.app.push.status()).refusedTopics === 0, 'no topic is refused', HEALED)
  await assertHealed(t, late, '+subscribe')
})

test('acl: without the functions a node that may not load them says so, and records once it may', SLOW, async t => {
  const own = await startRedis(t)
  const setUser = (...more: string[]) =>
    own.admin.call(
      'ACL',
      'SETUSER',
      'u',
      'on',
      '>pw',
      ...rights.slice(2).filter(it => it !== '+function|load'),
      ...more,
    )
  await setUser()
  const history = { 'channel:recorded': { size: 10, ttl: 60 } }
  const { app, log } = await buildPush(t, { redis: own.url.replace('//', '//u:pw@'), history })
  const problem = /Redis refuses FUNCTION LOAD: its user lacks the right \+function\|load, so nothing is recorded/
  await until(async () => problem.test(String((await app.push.status()).problem)), 'the right is named', HEALED)
  assert.ok(log.some(({ msg }) => problem.test(msg)))
  await assert.rejects(app.push.publish('channel:recorded', { type: 'a' }), { code: 'PUSH_ERR_UNSUPPORTED' })
  assert.equal((await app.push.publish('channel:bare', { type: 'a' })).nodes, 0)
  await setUser('+function|load')
  await until(async () => (await app.push.status()).problem === undefined, 'the functions are loaded', HEALED)
  assert.equal((await app.push.publish('channel:recorded', { type: 'a' })).seq, 1)
})

test('acl: every right that docs/redis.md prints for a node is tried here', () => {
  const elsewhere = ['&push:*', '+subscribe', '+function|load']
  const tried = [...ROWS.map(({ right }) => right), ...elsewhere]
  assert.deepEqual(rights.filter(right => /^[+~&]/.test(right)).toSorted(), tried.toSorted())
})

test('acl: a Cluster: what it takes to find the masters, and to notice changes', SLOW, async t => {
  const cluster = await startCluster(t, { masters: 1 })
  const { admin, url } = cluster.masters[0]!
  const all = rightsOfNode({ isCluster: true }).slice(2)
  const setUser = (lacking?: string) =>
    admin.call('ACL', 'SETUSER', 'c', 'reset', 'on', '>pw', ...all.filter(it => it !== lacking))
  const redis = { cluster: [url.replace('//', '//c:pw@')] }
  await setUser('+cluster|slots')
  const { app, log } = await buildPush(t, { redis })
  const problem = async () => String((await app.push.status()).problem)
  const isTold = async (pattern: RegExp) => {
    await until(async () => pattern.test(await problem()), `the problem is like ${pattern}`, HEALED)
    assert.ok(log.some(line => pattern.test(line.msg) || pattern.test(errorOf(line))))
  }
  assert.equal((await app.push.status()).connected, false)
  await isTold(/NOPERM.*'cluster\|slots' command/)
  const works = async () => {
    const status = await app.push.status()
    return status.connected && status.problem === undefined
  }
  await setUser()
  await until(works, 'the node is connected', HEALED)
  await setUser('+cluster|info')
  await isTold(/Redis refuses CLUSTER INFO: its user lacks the right \+cluster\|info, so a server that was cut off/)
  const late = await buildPush(t, { redis, redisPrefix: 'push:late:' })
  await until(async () => (await late.app.push.status()).connected, 'another node is connected', HEALED)
  assert.equal((await app.push.publish('user:1', { type: 'a', history: { size: 1, ttl: 60 } })).seq, 1)
  await setUser()
  await until(works, 'nothing is refused', HEALED)
  await setUser('+cluster|slots')
  await isTold(/Redis refuses CLUSTER SLOTS: its user lacks the right \+cluster\|slots, so a failover/)
  assert.equal((await app.push.status()).connected, true)
  await setUser()
  await until(works, 'nothing is refused', HEALED)
})

for (const sharded of [false, true]) {
  const [right, question] = sharded ? ['+sunsubscribe', 'SHARDNUMSUB'] : ['+unsubscribe', 'NUMSUB']
  test(
    `acl: what a node may not leave (${right}) it goes on receiving, says so once, and leaves when it may`,
    SLOW,
    async t => {
      const cluster = await startCluster(t, { masters: 1 })
      const { admin, url } = cluster.masters[0]!
      const all = rightsOfNode({ isCluster: true }).slice(2)
      const setUser = (lacking?: string) =>
        admin.call('ACL', 'SETUSER', 'c', 'reset', 'on', '>pw', ...all.filter(it => it !== lacking))
      await setUser(right)
      const { app, log } = await buildPush(t, { redis: { cluster: [url.replace('//', '//c:pw@')], sharded } })
      await until(async () => (await app.push.status()).connected, 'the node is connected', HEALED)
      const subscribed = async (name: string) =>
        ((await admin.call('PUBSUB', question, `push:channel:${name}`)) as [string, number])[1] === 1
      const problem = new RegExp(
        `Redis refuses ${sharded ? 'SUNSUBSCRIBE' : 'UNSUBSCRIBE'}: its user lacks the right \\${right}, so this node goes on`,
      )
      for (const name of ['a', 'b', 'back']) await (await openConnection(app, `/ws/${name}`)).close()
      await until(async () => problem.test(String((await app.push.status()).problem)), 'the right is named', HEALED)
      await until(async () => (await app.push.status()).connections === 0, 'all have gone')
      assert.equal((await app.push.status()).connected, true)
      assert.deepEqual(await Promise.all(['a', 'b', 'back'].map(subscribed)), [true, true, true])
      assert.equal((await app.push.publish('channel:a', { type: 'unwanted', receipt: true })).delivered, 0)
      assert.equal(log.filter(({ msg }) => problem.test(msg)).length, 1)

      const back = await openConnection(app, '/ws/back')
      t.after(() => back.close())
      await app.push.publish('channel:back', { type: 'live' })
      assert.equal((await back.next('live')).topic, 'channel:back')
      await setUser()
      await until(async () => !(await subscribed('a')) && !(await subscribed('b')), 'both are left', HEALED)
      await until(async () => (await app.push.status()).problem === undefined, 'nothing is refused', HEALED)
      await app.push.publish('channel:back', { type: 'still' })
      assert.equal((await back.next()).type, 'still')
    },
  )
}
