import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { WebSocket } from 'ws'
import { type Client, connect, type Roster, type RosterChange } from '../../../src/client/index.ts'
import { buildPush, openConnection, type TestApp } from '../../helpers/app.ts'
import { Inbox, until, within } from '../../helpers/waiting.ts'

const LONG = { timeout: 120_000 }
const ROOM = 'channel:room.1'
const RIGHTS = [{ topics: 'channel:*', actions: ['subscribe', 'presence'] as const }]

const build = (t: TestContext, members = 500) =>
  buildPush(t, {
    presence: { 'channel:room.*': { info: true, grace: 0, members } },
    authenticate: request => {
      const { user } = request.query as { user?: string }
      return { allow: RIGHTS, ...(user !== undefined && { user, info: { name: user } }) }
    },
  })

function open(t: TestContext, { port }: TestApp, user: string): Client {
  const client: Client = connect(`ws://127.0.0.1:${port}/ws?user=${user}`, { WebSocket })
  client.listen('error', () => {})
  t.after(() => client.close())
  return client
}

function changesOf(roster: Roster): Inbox<RosterChange> {
  const changes = new Inbox<RosterChange>('a change of the roster')
  roster.listen(change => changes.put(change))
  return changes
}

const namesOf = (roster: Roster) => roster.members.map(({ user }) => user).toSorted()

test('the client keeps the list of who is there', LONG, async t => {
  const app = await build(t)
  const roster = open(t, app, 'ann').presence(ROOM)
  assert.deepEqual([roster.isKnown, roster.members, roster.count], [false, [], 0])
  await until(() => roster.get('ann'), 'ann sees herself')
  const changes = changesOf(roster)
  const bob = await openConnection(app.app, '/ws/room.1?user=bob')
  assert.deepEqual(
    (await changes.take()).joined.map(({ user, info }) => [user, info]),
    [['bob', { name: 'bob' }]],
  )
  const nobody = await openConnection(app.app, '/ws/room.1')
  await changes.take()
  assert.deepEqual([roster.count, roster.anonymous, roster.isPartial], [2, 1, false])
  await bob.close()
  assert.deepEqual(
    (await changes.take()).left.map(({ user }) => user),
    ['bob'],
  )
  assert.deepEqual(namesOf(roster), ['ann'])
  await nobody.close()
})

test('after a reconnect the client tells what has changed meanwhile, and nothing else', LONG, async t => {
  const app = await build(t)
  const client = open(t, app, 'ann')
  const roster = client.presence(ROOM)
  const bob = await openConnection(app.app, '/ws/room.1?user=bob')
  await openConnection(app.app, '/ws/room.1?user=carl')
  await until(() => roster.count === 3, 'three are there')
  const seen: string[] = []
  roster.listen(({ joined, left }) => {
    seen.push(...joined.map(({ user }) => `+${user}`), ...left.map(({ user }) => `-${user}`))
  })
  // Its next attempt may come before anybody has looked: it says itself when the list is out of date.
  const lost = new Promise<boolean>(resolve => {
    client.listen('state', ({ state }) => state === 'waiting' && resolve(roster.isKnown))
  })
  await app.app.push.close(`connection:${client.welcome!.connection}`, 1012)
  assert.equal(await within(lost, 'the loss of the connection'), false, 'the list is out of date')
  await bob.close()
  await openConnection(app.app, '/ws/room.1?user=dora')
  await until(
    () => roster.isKnown && roster.get('dora') && roster.get('ann') && !roster.get('bob'),
    'it is known again',
  )
  assert.deepEqual(seen.filter(it => !it.endsWith('ann')).toSorted(), ['+dora', '-bob'])
})

test('of too many users the client keeps the number', LONG, async t => {
  const app = await build(t, 2)
  const roster = open(t, app, 'ann').presence(ROOM)
  await until(() => roster.count === 1, 'ann is there')
  const left: unknown[] = []
  roster.listen(change => left.push(...change.left))
  await Promise.all(['b', 'c', 'd'].map(user => openConnection(app.app, `/ws/room.1?user=${user}`)))
  await until(() => roster.isPartial && roster.count === 4, 'four are there, and they are too many')
  assert.deepEqual(left, [])
})

test('a client that may not see who is there is told so, and goes on', LONG, async t => {
  const app = await buildPush(t, { presence: { 'channel:room.*': {} } })
  const client: Client = connect(`ws://127.0.0.1:${app.port}/ws?user=ann`, { WebSocket })
  t.after(() => client.close())
  const errors = new Inbox<{ code: string }>('an error')
  client.listen('error', error => errors.put(error))
  const roster = client.presence(ROOM)
  assert.equal((await errors.take()).code, 'PUSH_ERR_FORBIDDEN')
  assert.equal(roster.isKnown, false)
  await client.subscribe(ROOM)
})

test('a right shows something else of a user on its topics, also when the identity is replaced', LONG, async t => {
  const rights = (role: string) => [...RIGHTS, { topics: [ROOM], actions: [], info: { role } }]
  const app = await buildPush(t, {
    presence: { 'channel:room.*': { info: true, grace: 0 } },
    authenticate: () => ({ user: 'ann', info: { name: 'Ann' }, allow: rights('owner') }),
    onAuthenticate: ({ role }: { role: string }) => ({ user: 'ann', info: { name: 'Ann' }, allow: rights(role) }),
  })
  const client = open(t, app, 'ann')
  const [one, two] = [client.presence(ROOM), client.presence('channel:room.2')]
  await until(() => one.get('ann') && two.get('ann'), 'ann sees herself')
  assert.deepEqual([one.get('ann')!.info, two.get('ann')!.info], [{ role: 'owner' }, { name: 'Ann' }])
  const changes = changesOf(one)
  const told = new Inbox<readonly string[]>('an identity')
  client.listen('authenticated', ({ topics }) => told.put(topics))
  await client.authenticate({ role: 'guest' })
  assert.ok((await told.take()).includes(ROOM))
  assert.deepEqual(
    (await changes.take()).updated.map(({ info }) => info),
    [{ role: 'guest' }],
  )
  assert.deepEqual(two.get('ann')!.info, { name: 'Ann' })
})
