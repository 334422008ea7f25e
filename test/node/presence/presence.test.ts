import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Redis } from 'ioredis'
import type { PushBridgeOptions } from '../../../src/index.ts'
import type { PresenceMessage } from '../../../src/protocol/presence.ts'
import { buildPush, openConnection, type TestApp } from '../../helpers/app.ts'
import { startNode } from '../../helpers/nodes.ts'
import { follow, look, presenceIn, ROOM } from '../../helpers/presence.ts'
import { cleanups } from '../../helpers/processes.ts'
import { type RedisServer, startRedis } from '../../helpers/redis.ts'
import { once, until } from '../../helpers/waiting.ts'

const LONG = { timeout: 240_000 }
const RIGHTS = [{ topics: ['channel:*', 'user:*', 'all'], actions: ['subscribe', 'presence'] as const }]

const all = cleanups()
let redis: RedisServer
let admin: Redis

before(async () => {
  redis = await startRedis(all)
  admin = redis.admin
})

after(() => all.end())

let prefixes = 0
const newPrefix = () => `p${++prefixes}:`

const RULES: PushBridgeOptions['presence'] = {
  users: { grace: 0 },
  lease: 1500,
  'channel:room.*': { info: true, grace: 0 },
}

const options = (more: Partial<PushBridgeOptions> = {}): Partial<PushBridgeOptions> => ({
  presence: RULES,
  authenticate: request => {
    const { user } = request.query as { user?: string }
    return { allow: RIGHTS, ...(user !== undefined && { user, info: { name: user.toUpperCase() } }) }
  },
  ...more,
})

/** Every change was understood as it came: a list that is read again would hide that none is. */
async function usedNoReload(app: TestApp['app']): Promise<void> {
  const { metrics } = await app.push.status()
  assert.deepEqual(
    Object.keys(metrics).filter(name => name.startsWith('publications_rejected')),
    [],
  )
}

for (const kind of ['in process', 'redis'] as const) {
  const build = (t: Parameters<typeof buildPush>[0], more: Partial<PushBridgeOptions> = {}) =>
    buildPush(t, options(kind === 'redis' ? { redis: redis.url, redisPrefix: newPrefix(), ...more } : more))

  test(`${kind}: a client sees who is there, who comes, who changes and who goes`, LONG, async t => {
    const { app } = await build(t)
    const ann = await openConnection(app, '/ws/room.1?user=ann')
    assert.ok(ann.welcome.features.includes('presence'))
    const bob = await openConnection(app, '/ws?user=bob')
    const list = await look(bob)
    await follow(bob, list, ['ann', 'bob'])
    const again = await openConnection(app, '/ws/room.1?user=ann')
    const more = presenceIn(await bob.next('push.presence'))
    assert.deepEqual(
      more.updated?.map(({ user, connections, info }) => [user, connections, info]),
      [['ann', 2, { name: 'ANN' }]],
    )
    app.push.setInfo(app.push.connections.get(ann.welcome.connection)!, { name: 'Ann' })
    assert.deepEqual(presenceIn(await bob.next('push.presence')).updated?.[0]?.info, { name: 'Ann' })
    await Promise.all([ann.close(), again.close()])
    await follow(bob, { topic: ROOM, count: 2, anonymous: 0, members: [{ user: 'ann', connections: 1, since: 0 }] }, [])
    await usedNoReload(app)
  })

  test(`${kind}: anonymous connections are a number, and who is online is known`, LONG, async t => {
    const { app } = await build(t)
    const nobody = await openConnection(app, '/ws/room.1')
    const ann = await openConnection(app, '/ws/room.1?user=ann')
    await until(async () => (await app.push.presence(ROOM)).anonymous === 1, 'the anonymous connection is counted')
    await until(async () => (await app.push.user('ann')).online, 'ann is online')
    const user = await app.push.user('ann')
    assert.deepEqual([user.count, user.connections.map(({ id }) => id)], [1, [ann.welcome.connection]])
    assert.equal(user.connections[0]!.node, (await app.push.status()).node)
    assert.deepEqual(
      (await app.push.users()).members.map(({ user }) => user),
      ['ann'],
    )
    await ann.close()
    await nobody.close()
    await until(async () => !(await app.push.user('ann')).online, 'ann is gone')
    assert.deepEqual(await app.push.user('ann'), { user: 'ann', online: false, connections: [], count: 0 })
    await until(async () => (await app.push.presence(ROOM)).anonymous === 0, 'nobody is left')
  })

  test(`${kind}: who leaves and comes back within the grace was never away`, LONG, async t => {
    const { app } = await build(t, { presence: { 'channel:room.*': { grace: 60_000 } } })
    const bob = await openConnection(app, '/ws/room.1?user=bob')
    const ann = await openConnection(app, '/ws/room.1?user=ann')
    await follow(bob, await look(bob), ['ann', 'bob'])
    await ann.close()
    await openConnection(app, '/ws/room.1?user=ann')
    await openConnection(app, '/ws/room.1?user=carl')
    const changes = await follow(bob, { topic: ROOM, count: 0, anonymous: 0, members: [] }, ['carl'])
    assert.deepEqual(
      changes.flatMap(({ left, joined }) => [left, joined?.map(({ user }) => user)]),
      [undefined, ['carl']],
    )
  })

  test(`${kind}: of too many users the numbers are told, and a sample`, LONG, async t => {
    const { app } = await build(t, { presence: { 'channel:room.*': { grace: 0, members: 3 } } })
    const watcher = await openConnection(app, '/ws/room.1?user=w')
    await follow(watcher, await look(watcher), ['w'])
    const others = await Promise.all([1, 2, 3, 4].map(n => openConnection(app, `/ws/room.1?user=u${n}`)))
    let last: PresenceMessage
    do last = presenceIn(await watcher.next('push.presence'))
    while (last.count < 5)
    assert.deepEqual([last.partial, last.count, last.joined], [true, 5, undefined])
    await Promise.all(others.slice(1).map(it => it.close()))
    do last = presenceIn(await watcher.next('push.presence'))
    while (last.partial || last.count > 2)
    assert.deepEqual(last.members?.map(({ user }) => user).toSorted(), ['u1', 'w'], 'a list again')
  })
}

test('presence must be granted by name, and asked of a topic that has it', LONG, async t => {
  const { app } = await buildPush(t, options({ authenticate: () => ({ user: 'ann', allow: ['channel:*'] }) }))
  const ann = await openConnection(app, '/ws?user=ann')
  ann.send('subscribe', { topic: ROOM, presence: true }, 1)
  assert.deepEqual((await ann.next('error')).payload, {
    code: 'PUSH_ERR_FORBIDDEN',
    message: `authenticate() grants subscribe on ${ROOM}, not presence, and there is no authorize option`,
  })
  ann.send('subscribe', { topic: 'channel:other', presence: true }, 2)
  assert.equal(((await ann.next('error')).payload as { code: string }).code, 'PUSH_ERR_TOPIC')
  ann.send('subscribe', { topic: ROOM, presence: 'yes' }, 3)
  assert.equal(((await ann.next('error')).payload as { code: string }).code, 'PUSH_ERR_BAD_MESSAGE')
  ann.send('subscribe', { topic: ROOM }, 4)
  assert.equal((await ann.next('subscribed')).ref, 4)
  await assert.rejects(app.push.presence('channel:other'), { code: 'PUSH_ERR_TOPIC' })
})

test('a list of many comes in parts', LONG, async t => {
  const { app } = await buildPush(t, options())
  const users = Array.from({ length: 250 }, (_, n) => `u${n}`)
  await Promise.all(users.map(user => openConnection(app, `/ws/room.1?user=${user}`)))
  await until(async () => (await app.push.presence(ROOM)).count === 250, 'all are counted')
  const watcher = await openConnection(app, '/ws?user=u0')
  const first = await look(watcher)
  assert.deepEqual([first.members?.length, first.more, first.count], [100, true, 250])
  const second = presenceIn(await watcher.next('push.presence'))
  const third = presenceIn(await watcher.next('push.presence'))
  assert.deepEqual([second.continued, second.more, third.continued, third.more], [true, true, true, undefined])
  const listed = [first, second, third].flatMap(({ members }) => members!.map(({ user }) => user))
  assert.deepEqual(listed.toSorted(), users.toSorted())
})

/** Two nodes of their own, with a watcher on the second one. */
async function twoNodes(t: Parameters<typeof startNode>[0]) {
  const server = await startRedis(t)
  const nodes = await Promise.all([startNode(t, server.url), startNode(t, server.url)])
  const watcher = await nodes[1]!.connect('/ws/room.1?user=w')
  return { server, nodes, watcher }
}

test('the users of a node that is killed leave once, told by one of the others', LONG, async t => {
  const { nodes, watcher } = await twoNodes(t)
  for (const user of ['ann', 'bob']) await nodes[0]!.connect(`/ws/room.1?user=${user}`)
  const second = await nodes[1]!.connect('/ws/room.1?user=bob')
  await follow(watcher, await look(watcher), ['ann', 'bob', 'w'])
  const list = await look(second)
  nodes[0]!.process.kill('SIGKILL')
  await once(nodes[0]!.process, 'exit')
  const changes = await follow(second, list, ['bob', 'w'])
  assert.deepEqual(
    changes.flatMap(({ left = [] }) => left),
    ['ann'],
  )
  assert.deepEqual(
    changes.flatMap(({ joined = [] }) => joined),
    [],
  )
})

test('a node that was frozen is not there meanwhile, and is there again', LONG, async t => {
  const { nodes, watcher } = await twoNodes(t)
  await nodes[0]!.connect('/ws/room.1?user=ann')
  const list = await look(watcher)
  await follow(watcher, list, ['ann', 'w'])
  nodes[0]!.process.kill('SIGSTOP')
  await follow(watcher, { ...list, members: [{ user: 'ann', connections: 1, since: 0 }] }, [])
  nodes[0]!.process.kill('SIGCONT')
  await follow(watcher, { ...list, members: [] }, ['ann'])
})

test('a node that stops hands its users over: those who come back elsewhere were never away', LONG, async t => {
  const { server, nodes, watcher } = await twoNodes(t)
  await nodes[0]!.connect('/ws/room.1?user=ann')
  await nodes[0]!.connect('/ws/room.1?user=bob')
  const list = await look(watcher)
  await follow(watcher, list, ['ann', 'bob', 'w'])
  await nodes[1]!.connect('/ws/room.1?user=ann')
  // She is welcomed before it is written that she is there.
  const entryOfAnn = async () => JSON.parse((await server.admin.hget(`{push:${ROOM}}:members`, 'ann'))!)
  await until(async () => (await entryOfAnn()).connections === 2, 'ann is on both nodes')
  nodes[0]!.process.kill('SIGTERM')
  const members = ['ann', 'bob'].map(user => ({ user, connections: 1, since: 0 }))
  const changes = await follow(watcher, { ...list, members }, ['ann'])
  assert.deepEqual(
    changes.flatMap(({ left = [] }) => left),
    ['bob'],
  )
})

test('Redis that is flushed or killed gets the list again, and clients keep theirs', LONG, async t => {
  const { server, nodes, watcher } = await twoNodes(t)
  await nodes[0]!.connect('/ws/room.1?user=ann')
  const list = await look(watcher)
  await follow(watcher, list, ['ann', 'w'])
  const key = `{push:${ROOM}}:members`
  await server.admin.flushall()
  await until(async () => (await server.admin.hlen(key)) === 2, 'the list is written again')
  await server.kill()
  await server.start()
  await until(async () => (await server.admin.hlen(key).catch(() => 0)) === 2, 'the list is written to a new Redis')
  await nodes[0]!.connect('/ws/room.1?user=zoe')
  const changes = await follow(watcher, { ...list, members: [] }, ['zoe'])
  assert.deepEqual(
    changes.flatMap(({ left = [] }) => left),
    [],
    'nobody was said to leave',
  )
})

test('any backend reads who is there by plain commands', LONG, async t => {
  const prefix = newPrefix()
  const app: TestApp = await buildPush(t, options({ redis: redis.url, redisPrefix: prefix }))
  await openConnection(app.app, '/ws/room.1?user=ann')
  await openConnection(app.app, '/ws')
  const members = `{${prefix}${ROOM}}:members`
  await until(async () => (await admin.hlen(members)) === 1, 'ann is in the list')
  const entry = JSON.parse((await admin.hget(members, 'ann'))!)
  assert.deepEqual([entry.connections, entry.info], [1, { name: 'ANN' }])
  await until(async () => (await admin.hget(`{${prefix}all}:presence`, 'anonymous')) === '1', 'the other is counted')
  assert.equal(await admin.hexists(`{${prefix}all}:members`, 'ann'), 1)
  const [text, owner, own] = (await admin.call('FCALL', 'push_member', 1, `${prefix}all`, 'ann')) as string[]
  assert.equal(JSON.parse(text!).connections, 1)
  assert.equal(owner!.split('.')[0], (await app.app.push.status()).node)
  assert.equal(JSON.parse(own!).ids.length, 1)
  assert.ok((await admin.pttl(members)) > 0, 'the list ends with the last lease')
})

test('what Redis refuses is in the log, and the list is written when it no longer does', LONG, async t => {
  const prefix = newPrefix()
  const members = `{${prefix}${ROOM}}:members`
  const version = `{${prefix}${ROOM}}:presence`
  await admin.set(version, 'something else')
  const { app, log } = await buildPush(t, options({ redis: redis.url, redisPrefix: prefix }))
  await openConnection(app, '/ws/room.1?user=ann')
  const isTold = () => log.some(({ msg }) => msg === 'push: who is there cannot be written; it is tried again')
  await until(isTold, 'the log says that the list cannot be written')
  assert.match(JSON.stringify(log.findLast(({ msg }) => msg.includes('who is there'))), /WRONGTYPE/)
  await admin.del(version)
  await until(async () => (await admin.hexists(members, 'ann')) === 1, 'ann is there')
})

test('what Redis evicted of a list is noticed, and the list is whole again', LONG, async t => {
  const prefix = newPrefix()
  const { app } = await buildPush(t, options({ redis: redis.url, redisPrefix: prefix }))
  await openConnection(app, '/ws/room.1?user=ann')
  const members = `{${prefix}${ROOM}}:members`
  for (const evicted of ['members', 'presence', 'own'] as const) {
    await until(async () => (await admin.hlen(members)) === 1, 'ann is in the list')
    const own = (await admin.keys(`${members.replaceAll(/[{}]/g, '?')}:*`))[0]!
    await admin.del({ members, presence: `{${prefix}${ROOM}}:presence`, own }[evicted])
    await until(
      async () => (await admin.hget(members, 'ann').then(text => text && JSON.parse(text).connections)) === 1,
      'once',
    )
    await until(async () => (await admin.exists(own)) === 1, 'the own entries are there again')
  }
})
