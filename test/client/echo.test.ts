import assert from 'node:assert/strict'
import { createServer, type IncomingHttpHeaders } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { WebSocket } from 'ws'
import { eventOf, typeOf } from '../../src/client/echo/events.ts'
import { type Admission, ChannelError, PushConnector, type PushConnectorOptions } from '../../src/client/echo/index.ts'
import type { Authentication, PushBridgeOptions } from '../../src/index.ts'
import { buildPush, type TestApp } from '../helpers/app.ts'
import { type Echo, EchoClass, EventFormatter, errorsOf, heard } from '../helpers/echo.ts'
import { ACKS_HELD, holdAcks, roundTrips } from '../helpers/held-acks.ts'
import { Inbox, once, until } from '../helpers/waiting.ts'

const LONG = { timeout: 120_000 }

const ANYTHING = { type: 'object' } as const

/** A node, and a backend that says what pages may hear. */
async function setUp(t: TestContext, options: Partial<PushBridgeOptions> = {}) {
  const node: TestApp = await buildPush(t, {
    authenticate: () => null,
    tickets: true,
    history: { 'channel:private-kept': { size: 10, ttl: 60 } },
    presence: { 'channel:presence-*': { info: true, grace: 0 } },
    clientPublications: { whisper: { schema: ANYTHING as never } },
    ...options,
  })
  const backend = {
    /** The channels of each call. */
    asked: [] as string[][],
    denied: new Set<string>(),
    /** How often the callback of a channel will fail. */
    failing: new Map<string, number>(),
    identity: {} as Authentication,
    failure: undefined as Error | undefined,
  }
  const admit = async (user: string, channels: string[]): Promise<Admission> => {
    backend.asked.push(channels)
    if (backend.failure) throw backend.failure
    const denied = Object.fromEntries(channels.filter(it => backend.denied.has(it)).map(it => [it, 403]))
    for (const [name, times] of backend.failing) {
      if (channels.includes(name) && times > 0) denied[name] = 500
      backend.failing.set(name, times - 1)
    }
    const actions = ['subscribe', 'publish', 'presence'] as const
    const allow = channels
      .filter(it => !(it in denied))
      .map(it => ({ topics: [`channel:${it}`], actions, info: { name: `${user} of ${it}` } }))
    return { ticket: await node.app.push.ticket({ user, allow, ...backend.identity }), denied }
  }
  const open = (user: string, more: PushConnectorOptions = {}): Echo => {
    const echo = new EchoClass({
      broadcaster: PushConnector,
      url: `ws://127.0.0.1:${node.port}/ws`,
      WebSocket,
      admit: channels => admit(user, channels),
      ...more,
    })
    t.after(() => echo.disconnect())
    return echo
  }
  const { push } = node.app
  const publish = (name: string, type: string, payload: unknown = {}, more: object = {}) =>
    push.publish(`channel:${name}`, { type, payload, receipt: true, ...more } as never)
  const drop = (echo: Echo, code = 1012) => push.close(`connection:${echo.socketId()}`, code)
  return { node, backend, admit, open, publish, drop }
}

const inbox = <Item>(what: string) => new Inbox<Item>(what)

test('events have the names of Echo, with dots', () => {
  const names = fc.tuple(fc.constantFrom('', '.', '\\'), fc.stringMatching(/^[A-Za-z.\\-]{0,12}$/))
  fc.assert(
    fc.property(names, fc.constantFrom('App.Events', 'Shop', false), ([mark, rest], namespace) => {
      const event = mark + rest
      const echo = new EventFormatter(namespace as string).format(event)
      assert.equal(typeOf(event, namespace as string), echo.replaceAll('\\', '.'))
    }),
  )
  assert.equal(eventOf('App.Events.OrderShipped', 'App.Events'), 'OrderShipped')
  assert.equal(eventOf('order.shipped', 'App.Events'), '.order.shipped')
  assert.equal(eventOf('order.shipped', false), '.order.shipped')
})

test('a page asks once for all channels that it begins with, and once for those that it adds', LONG, async t => {
  const { backend, open, publish } = await setUp(t)
  backend.denied.add('private-orders.2')
  const echo = open('42')
  assert.equal(echo.socketId(), undefined)
  const seen = inbox<unknown[]>('an event')
  const [news, orders, others] = [echo.channel('news'), echo.private('orders.1'), echo.private('orders.2')]
  assert.equal(echo.private('orders.1'), orders)
  const errors = errorsOf(others)
  for (const channel of [news, orders, others]) {
    channel.listen('OrderShipped', (data: unknown) => seen.put([channel.name, data]))
  }
  await heard(news, orders)
  const { status, type } = await errors.take()
  assert.deepEqual([status, type], [403, 'AuthError'])
  assert.deepEqual(backend.asked, [['news', 'private-orders.1', 'private-orders.2']])
  assert.equal(echo.connectionStatus(), 'connected')

  const later = [echo.channel('later'), echo.private('later')] as const
  const dotted = inbox<unknown>('an event of another name')
  later[1].listen('.order.shipped', (data: unknown) => dotted.put(data))
  await heard(...later)
  assert.deepEqual(backend.asked.slice(1), [['news', 'private-orders.1', 'later', 'private-later']])
  for (const name of ['news', 'private-orders.1']) {
    assert.equal((await publish(name, 'App.Events.OrderShipped', { name })).delivered, 1)
    assert.deepEqual(await seen.take(), [name, { name }])
  }
  assert.equal((await publish('private-orders.2', 'App.Events.OrderShipped')).delivered, 0)
  await publish('private-later', 'order.shipped', 7)
  assert.equal(await dotted.take(), 7)
  assert.throws(() => echo.encryptedPrivate('x'), /does not support encrypted private channels/)
})

test('stopListening, listenToAll, notifications and leave', LONG, async t => {
  const { open, publish } = await setUp(t)
  const echo = open('42')
  const all = inbox<unknown[]>('any event')
  const seen: unknown[] = []
  const note = (data: unknown) => void seen.push(data)
  const news = echo.listen('news', 'A', note).listen('B', note).notification(note)
  news.listenToAll((event: string, data: unknown) => all.put([event, data]))
  news.listen('A', () => seen.push('another'))
  await heard(news)
  news.stopListening('A', note).stopListening('B')
  for (const type of ['App.Events.A', 'App.Events.B', 'c.d']) await publish('news', type, 1)
  await publish('news', 'Illuminate.Notifications.Events.BroadcastNotificationCreated', { id: 'n' })
  const names: unknown[] = []
  for (let i = 0; i < 4; i++) names.push((await all.take())[0])
  assert.deepEqual(names, ['A', 'B', '.c.d', '.Illuminate.Notifications.Events.BroadcastNotificationCreated'])
  assert.deepEqual(seen, ['another', { id: 'n' }])
  news.stopListeningForNotification().stopListeningToAll()

  const orders = echo.private('news')
  await heard(orders)
  echo.leave('news')
  assert.deepEqual(Object.keys(echo.connector.channels), [])
  await until(async () => (await publish('news', 'App.Events.A')).delivered === 0, 'news is left')
  await until(async () => (await publish('private-news', 'App.Events.A')).delivered === 0, 'private-news is left')
  await heard(echo.channel('news'))
  echo.leaveAllChannels()
  await until(async () => (await publish('news', 'App.Events.A')).delivered === 0, 'it is left again')
})

test('who is here, who joins and who leaves, with what the backend says of them on this channel', LONG, async t => {
  const { open, backend } = await setUp(t)
  const [ann, bob] = [open('ann'), open('bob')]
  const told = inbox<[string, unknown]>('news of the room')
  const room = ann.join('room.1')
  room
    .here((users: unknown) => told.put(['here', users]))
    .joining((user: unknown) => told.put(['joining', user]))
    .leaving((user: unknown) => told.put(['leaving', user]))
  const name = (user: string) => ({ name: `${user} of presence-room.1` })
  let [event, users] = await told.take()
  // The list may have been read before ann herself was written.
  while (event === 'here' && (users as unknown[]).length === 0) [event, users] = await told.take()
  assert.deepEqual([event, users], ['here', [name('ann')]])
  const lists = inbox<unknown>('a list')
  room.here((list: unknown) => lists.put(list))
  assert.deepEqual(await lists.take(), [name('ann')])
  await heard(bob.join('room.1'))
  assert.deepEqual(await told.take(), ['joining', name('bob')])
  bob.leave('room.1')
  assert.deepEqual(await told.take(), ['leaving', name('bob')])
  // Another page of the same user is nobody new.
  const again = open('ann')
  await heard(again.join('room.1'))
  await until(() => ann.connector.client.presence('channel:presence-room.1').get('ann')?.connections === 2, 'two pages')
  await heard(bob.join('room.1'))
  assert.deepEqual(await told.take(), ['joining', name('bob')])
  assert.deepEqual(
    backend.asked.filter(it => it.length > 1),
    [],
  )
})

test('who came and went while the connection was lost is told as a difference', LONG, async t => {
  const { open, drop } = await setUp(t)
  const [ann, bob, carl] = [open('ann'), open('bob'), open('carl')]
  await heard(bob.join('room.1'))
  const room = ann.join('room.1')
  const roster = () => ann.connector.client.presence('channel:presence-room.1')
  await heard(room)
  await until(() => roster().count === 2, 'two are there')
  const told: unknown[] = []
  const isName = ({ name }: { name: string }) => void told.push(name.split(' ')[0])
  room.joining((user: never) => told.push('+') && isName(user)).leaving((user: never) => told.push('-') && isName(user))
  const id = ann.socketId()
  await drop(ann)
  await until(() => ann.socketId() !== id, 'the connection is lost')
  bob.leave('room.1')
  await heard(carl.join('room.1'))
  await until(() => roster().isKnown && roster().get('carl') && !roster().get('bob'), 'it is known again')
  await until(
    () => told.length >= 4,
    () => `told: ${told}`,
  )
  assert.deepEqual(told.sort(), ['+', '-', 'bob', 'carl'])
})

test('whispers reach the others, and only as whispers', LONG, async t => {
  const { open, publish } = await setUp(t)
  const [ann, bob] = [open('ann'), open('bob')]
  const [hers, his] = [ann.private('chat'), bob.join('chat')]
  const other = bob.private('chat')
  const heardByBob = inbox<unknown>('a whisper')
  const heardByAnn: unknown[] = []
  other.listenForWhisper('typing', (data: unknown) => heardByBob.put(data))
  hers.listenForWhisper('typing', (data: unknown) => heardByAnn.push(data))
  await heard(hers, his, other)
  // What looks like one and comes from the application is none.
  await publish('private-chat', 'whisper', { event: 'typing', data: 'forged' })
  hers.whisper('typing', { text: 'hi' })
  assert.deepEqual(await heardByBob.take(), { text: 'hi' })
  other.stopListeningForWhisper('typing').listen('.client-done', (data: unknown) => heardByBob.put(data))
  hers.whisper('typing', 1).whisper('done', { end: true })
  assert.deepEqual(await heardByBob.take(), { end: true })
  assert.deepEqual(heardByAnn, [])
})

test('a whisper that the node does not take is an error of the channel', LONG, async t => {
  const { open } = await setUp(t, { clientPublications: {} })
  const channel = open('ann').private('chat')
  const errors = errorsOf(channel)
  await heard(channel)
  channel.whisper('typing')
  const { code, message } = await errors.take()
  assert.equal(code, 'PUSH_ERR_FORBIDDEN')
  assert.match(message, /^whisper: clients may not publish "whisper"/)
})

test('the id of the socket is that of the connection, for toOthers', LONG, async t => {
  const { open, publish } = await setUp(t)
  const [ann, bob] = [open('ann'), open('bob')]
  await heard(ann.private('x'), bob.private('x'))
  assert.equal(ann.socketId(), ann.connector.client.welcome!.connection)
  const { delivered, skipped } = await publish('private-x', 'a', {}, { except: `connection:${ann.socketId()}` })
  assert.deepEqual([delivered, skipped], [1, 1])
})

test('after a reconnect the page asks once, gets what it missed, and hears no channel that it lost', LONG, async t => {
  const { backend, open, publish, drop } = await setUp(t)
  const echo = open('42')
  const [kept, lost, room] = [echo.private('kept'), echo.private('lost'), echo.join('room')]
  const seen = inbox<unknown>('an event')
  for (const channel of [kept, lost]) channel.listen('.n', (n: unknown) => seen.put(n))
  await heard(kept, lost, room)
  await publish('private-kept', 'n', 1)
  assert.equal(await seen.take(), 1)
  const statuses: string[] = []
  const stop = echo.connector.onConnectionChange(status => statuses.push(status))
  const errors = errorsOf(lost)
  backend.denied.add('private-lost')
  const id = echo.socketId()
  const again = heard(kept, room)
  await drop(echo)
  await until(() => echo.socketId() !== id, 'the connection is lost')
  await publish('private-kept', 'n', 2)
  await again
  assert.equal((await errors.take()).status, 403)
  assert.equal(await seen.take(), 2)
  await publish('private-kept', 'n', 3)
  assert.equal(await seen.take(), 3)
  assert.deepEqual(backend.asked, Array(2).fill(['private-kept', 'private-lost', 'presence-room']))
  assert.equal((await publish('private-lost', 'n')).delivered, 0)
  assert.deepEqual(statuses, ['reconnecting', 'connected'])
  stop()
  echo.disconnect()
  assert.deepEqual([echo.connectionStatus(), echo.socketId(), statuses.length], ['disconnected', undefined, 2])
})

test('a connection that the server closes for good has failed, and connect() begins again', LONG, async t => {
  const { open, drop } = await setUp(t)
  const echo = open('42')
  const channel = echo.private('x')
  await heard(channel)
  await drop(echo, 4403)
  await until(() => echo.connectionStatus() === 'failed', 'it has failed')
  const again = heard(channel)
  echo.connector.connect()
  await again
  assert.equal(echo.connectionStatus(), 'connected')
})

test('another user on the page gets another connection, with the same channels', LONG, async t => {
  const { admit, open, publish, node } = await setUp(t)
  let user = 'guest'
  const echo = open('', { admit: channels => admit(user, channels) })
  const news = echo.channel('news')
  const seen = inbox<unknown>('an event')
  news.listen('.n', (n: unknown) => seen.put(n))
  await heard(news)
  const id = echo.socketId()
  user = 'ann'
  const both = [heard(news), heard(echo.private('orders'))]
  await Promise.all(both)
  assert.notEqual(echo.socketId(), id)
  assert.equal(echo.connector.client.welcome!.user, 'ann')
  await until(() => node.app.push.connections.size === 1, 'the connection before is gone')
  assert.equal((await publish('news', 'n', 1)).delivered, 1)
  assert.equal(await seen.take(), 1)
})

test('before an identity ends the backend is asked again, and what it denies is left', LONG, async t => {
  const hour = 3600_000
  const quick = { heartbeat: { interval: 1000, timeout: 1000 }, expiry: { warn: 2 * hour } }
  const { admit, backend, open, publish } = await setUp(t, quick)
  const isHeard = inbox<void>('that both are heard')
  const echo = open('42', {
    async admit(channels) {
      const isFirst = backend.asked.length === 0
      // The node asks after a second, whether they are heard or not.
      if (!isFirst) await isHeard.take()
      if (!isFirst) backend.denied.add('private-goes')
      backend.identity = isFirst ? { issuedAt: Date.now() - 10 * hour, expires: Date.now() + hour } : {}
      return admit('42', channels)
    },
  })
  const [stays, goes] = [echo.private('stays'), echo.private('goes')]
  const errors = errorsOf(goes)
  await heard(stays, goes)
  const id = echo.socketId()
  isHeard.put()
  assert.equal((await errors.take()).status, 403)
  await until(async () => (await publish('private-goes', 'n')).delivered === 0, 'it is left')
  assert.equal((await publish('private-stays', 'n')).delivered, 1)
  assert.equal(echo.socketId(), id)
  assert.deepEqual(backend.asked, Array(2).fill(['private-stays', 'private-goes']))
})

test('an identity that was asked for before a channel was new does not take it away for long', LONG, async t => {
  const { admit, open, publish, node } = await setUp(t)
  const gate = inbox<void>('the late answer')
  let isLate = false
  const echo = open('42', {
    async admit(channels) {
      const answer = await admit('42', channels)
      if (isLate) await gate.take()
      return answer
    },
  })
  const first = echo.private('first')
  await heard(first)
  isLate = true
  // As the client does when the identity is about to expire.
  const renewed = echo.connector.client.authenticate(
    await node.app.push.ticket({ user: '42' }).then(ticket => ({ ticket })),
  )
  const again = heard(first)
  await renewed
  await until(async () => (await publish('private-first', 'n')).delivered === 0, 'it was taken away')
  gate.put()
  await again
  assert.equal((await publish('private-first', 'n')).delivered, 1)
})

test('a backend that refuses is told to the channels; one that fails is asked again', LONG, async t => {
  const { backend, open } = await setUp(t)
  const echo = open('42')
  await heard(echo.channel('news'))
  const statusOf = async (name: string) => (await errorsOf(echo.private(name)).take()).status
  backend.failure = new ChannelError('no', { status: 419 })
  assert.equal(await statusOf('refused'), 419)
  const passing = [503, 408, 425, 429]
  for (const status of passing) {
    backend.failure = new ChannelError('away', { status })
    assert.equal(await statusOf(`later-${status}`), status)
  }
  assert.deepEqual(backend.asked.slice(1, 3), [
    ['news', 'private-refused'],
    ['news', 'private-later-503'],
  ])
  backend.failure = undefined
  await heard(...passing.map(status => echo.private(`later-${status}`)))
  assert.ok(!backend.asked.at(-1)!.includes('private-refused'))
})

test(
  'a channel whose callback in the backend fails for a moment comes back, and says what it missed',
  LONG,
  async t => {
    const { backend, open, publish, drop } = await setUp(t)
    const echo = open('42')
    const [kept, room] = [echo.private('kept'), echo.join('room')]
    await heard(kept, room)
    const missed = inbox<string>('a gap')
    for (const channel of [kept, room]) channel.missed(() => missed.put(channel.name))
    const first = ['private-kept', 'presence-room']

    const problems = errorsOf(kept)
    const again = heard(kept)
    backend.failing.set('private-kept', 1)
    await heard(echo.private('new'))
    assert.equal((await problems.take()).status, 500)
    await again
    assert.equal(await missed.take(), 'private-kept')
    const all = [...first, 'private-new']
    assert.deepEqual(backend.asked, [first, all, all])

    const id = echo.socketId()
    const other = errorsOf(room)
    const back = [heard(kept), heard(room)]
    backend.failing.set('presence-room', 1)
    await drop(echo)
    assert.equal((await other.take()).status, 500)
    await Promise.all(back)
    assert.notEqual(echo.socketId(), id)
    assert.equal(await missed.take(), 'presence-room')
    assert.deepEqual(backend.asked, [first, all, all, all, all])
    for (const name of all) assert.equal((await publish(name, 'n')).delivered, 1)
    assert.equal(missed.size + problems.size + other.size, 0)
  },
)

test('an answer that comes after the connection it was asked for denies nothing on the next one', LONG, async t => {
  const { admit, backend, open, publish, drop } = await setUp(t)
  const [asked, gate] = [inbox<void>('the question'), inbox<void>('the late answer')]
  let isLate = false
  const echo = open('42', {
    async admit(channels) {
      const isHeld = isLate
      isLate = false
      const answer = await admit('42', channels)
      if (isHeld) {
        asked.put()
        await gate.take()
      }
      return answer
    },
  })
  const first = echo.private('first')
  const errors = errorsOf(first)
  await heard(first)
  isLate = true
  backend.denied.add('private-first')
  const second = echo.private('second')
  await asked.take()
  backend.denied.delete('private-first')
  const again = heard(first, second)
  await drop(echo)
  await again
  gate.put()
  // It is asked for when that answer has been taken.
  await heard(echo.private('third'))
  assert.equal((await publish('private-first', 'n')).delivered, 1)
  assert.equal(errors.size, 0)
})

test('a callback that throws harms no other, and what it got is not acknowledged', LONG, async t => {
  const giveUp = holdAcks(t)
  const { open, publish } = await setUp(t, ACKS_HELD)
  const echo = open('42')
  const seen: unknown[] = []
  const channel = echo.channel('news')
  channel.listen('.n', () => {
    throw new Error('one odd callback')
  })
  channel.listen('.n', (n: unknown) => seen.push(n)).listen('.good', (n: unknown) => seen.push(n))
  await heard(channel)
  const errors = inbox<{ code: string }>('an error')
  echo.connector.client.listen('error', error => errors.put(error))
  assert.equal((await publish('news', 'good', 1, { ack: true })).acknowledged, 1)
  const publishing = publish('news', 'n', 2, { ack: true })
  await roundTrips(echo.connector.client)
  giveUp()
  assert.equal((await publishing).acknowledged, 0)
  assert.equal((await errors.take()).code, 'HANDLER')
  assert.deepEqual(seen, [1, 2])
})

test(
  'what no callback of its channel takes is not acknowledged, and neither is what comes after stopListening',
  LONG,
  async t => {
    const giveUp = holdAcks(t)
    const { open, publish } = await setUp(t, ACKS_HELD)
    const echo = open('42')
    const seen: unknown[] = []
    const take = (n: unknown) => seen.push(n)
    const [a, b] = [echo.channel('a').listen('.n', take).listen('.n', take), echo.channel('b')]
    await heard(a, b)
    const acknowledged = async (name: string, n: number) => {
      const publishing = publish(name, 'n', n, { ack: true })
      await roundTrips(echo.connector.client)
      giveUp()
      return (await publishing).acknowledged
    }
    assert.deepEqual([await acknowledged('a', 1), await acknowledged('b', 2)], [1, 0])
    b.listenToAll((_event: string, n: unknown) => seen.push(n))
    assert.equal(await acknowledged('b', 3), 1)
    a.stopListening('.n')
    b.stopListeningToAll()
    assert.deepEqual([await acknowledged('a', 4), await acknowledged('b', 5)], [0, 0])
    // On the next connection as well.
    a.listen('.n', take)
    const again = heard(a, b)
    echo.connector.connect()
    await again
    assert.deepEqual([await acknowledged('a', 6), await acknowledged('b', 7)], [1, 0])
    echo.leave('a')
    a.listen('.n', take)
    assert.deepEqual(seen, [1, 3, 6])
  },
)

test('a gap is told to the channels that it concerns', LONG, async t => {
  const { admit, open, drop, node, backend } = await setUp(t)
  const gate = inbox<void>('what was missed')
  const echo = open('42', {
    async admit(channels) {
      if (backend.asked.length > 0) await gate.take()
      return admit('42', channels)
    },
  })
  const [kept, other] = [echo.private('kept'), echo.private('other')]
  const missed = inbox<string>('a gap')
  for (const channel of [kept, other]) channel.missed(() => missed.put(channel.name))
  await heard(kept, other)
  const again = heard(kept, other)
  await drop(echo)
  // More than the topic keeps.
  for (let n = 0; n < 12; n++) await node.app.push.publish('channel:private-kept', { type: 'n', payload: n })
  gate.put()
  await again
  assert.equal(await missed.take(), 'private-kept')
  assert.equal(missed.size, 0)
})

const NAMES = ['news', 'private-a', 'private-b', 'presence-c']

type Step = { act: 'open' | 'leave' | 'deny' | 'allow'; name: string } | { act: 'turn' }

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    fc.record({
      act: fc.constantFrom('open' as const, 'leave' as const, 'deny' as const, 'allow' as const),
      name: fc.constantFrom(...NAMES),
    }),
    fc.record({ act: fc.constant('turn' as const) }),
  ),
  { maxLength: 14 },
)

function openByName({ connector }: Echo, name: string): void {
  if (name.startsWith('presence-')) connector.presenceChannel(name.slice('presence-'.length))
  else if (name.startsWith('private-')) connector.privateChannel(name.slice('private-'.length))
  else connector.channel(name)
}

test('whatever a page opens and leaves while rights change: it hears what it may, and nothing else', LONG, async t => {
  const { backend, open, publish, drop } = await setUp(t)
  const take = async (echo: Echo, step: Step) => {
    if (step.act === 'turn') await new Promise(resolve => setImmediate(resolve))
    else if (step.act === 'open') openByName(echo, step.name)
    else if (step.act === 'leave') echo.connector.leaveChannel(step.name)
    else backend.denied[step.act === 'deny' ? 'add' : 'delete'](step.name)
  }
  const run = async (first: Step[], second: Step[]) => {
    backend.denied.clear()
    const echo = open('42')
    for (const step of first) await take(echo, step)
    await until(() => echo.socketId(), 'it is connected')
    for (const step of second) await take(echo, step)
    const id = echo.socketId()!
    // A change of rights is noticed by the next connection.
    await drop(echo)
    await until(() => (echo.socketId() ?? id) !== id, 'it is connected again')
    const wanted = Object.keys(echo.connector.channels)
    for (const name of NAMES) {
      const expected = wanted.includes(name) && !backend.denied.has(name) ? 1 : 0
      let last: unknown
      const isHeard = async () => {
        last = (await publish(name, 'n')).delivered
        return last === expected
      }
      await until(
        isHeard,
        () => `${name}: ${last} in place of ${expected}, of ${wanted}, without ${[...backend.denied]}`,
      )
    }
    echo.disconnect()
  }
  await fc.assert(fc.asyncProperty(steps, steps, run), { numRuns: 10 })
})

/** A backend over HTTP that answers as it is told. */
async function serveBackend(t: TestContext, answer: { status: number; body: string }) {
  const requests = inbox<{ headers: IncomingHttpHeaders; body: string; url: string }>('a request')
  const server = createServer(async (request, response) => {
    let body = ''
    for await (const chunk of request) body += chunk
    requests.put({ headers: request.headers, body, url: request.url! })
    response.writeHead(answer.status, { 'content-type': 'application/json' }).end(answer.body)
  }).listen(0, '127.0.0.1')
  t.after(() => server.close())
  await once(server, 'listening')
  return { requests, origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
}

test('Laravel is asked as Laravel expects it', LONG, async t => {
  const { node, open } = await setUp(t)
  const answer = { status: 200, body: '' }
  const { requests, origin } = await serveBackend(t, answer)
  const ticket = await node.app.push.ticket({ user: '42', allow: ['channel:news'] })
  answer.body = JSON.stringify({ ticket, denied: {} })
  const auth = { headers: { 'X-Tenant': 'shop' } }
  const more = { authEndpoint: `${origin}/broadcasting/auth`, csrfToken: 'csrf', bearerToken: 'bearer', auth }
  const echo = open('', { admit: undefined as never, ...more })
  await heard(echo.channel('news'))
  const { headers, body, url } = await requests.take()
  assert.deepEqual([url, body], ['/broadcasting/auth', '{"channels":["news"]}'])
  const { accept, authorization } = headers
  assert.deepEqual(
    [accept, authorization, headers['x-csrf-token'], headers['x-tenant'], headers['content-type']],
    ['application/json', 'Bearer bearer', 'csrf', 'shop', 'application/json'],
  )
  for (const [status, text, problem] of [
    [419, '{}', /answered 419/],
    [200, '<html>', /gave no ticket: is the broadcasting driver "push"\?/],
    [200, '{"auth":"key:signature"}', /gave no ticket/],
  ] as const) {
    Object.assign(answer, { status, body: text })
    const errors = inbox<ChannelError>('an error')
    const channel = echo.private(`later-${Math.random()}`).error((error: ChannelError) => errors.put(error))
    const { message, status: said } = await errors.take()
    assert.match(message, problem)
    assert.equal(said, status === 200 ? undefined : status)
    echo.connector.leaveChannel(channel.name)
  }
})
