import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { Type } from 'typebox'
import { WebSocket } from 'ws'
import {
  type Client,
  type ClientEvents,
  type ClientOptions,
  connect,
  type PublishedMessage,
  type WebSocketLike,
} from '../../src/client/index.ts'
import type { PushBridgeOptions } from '../../src/index.ts'
import type { TopicState, Welcome } from '../../src/protocol/messages.ts'
import { buildPush, type TestApp } from '../helpers/app.ts'
import { ACKS_HELD, holdAcks, roundTrips } from '../helpers/held-acks.ts'
import { Inbox, within } from '../helpers/waiting.ts'

const LIMIT = { timeout: 120_000 }
const RULE = { size: 100, ttl: 60 }
/** Looks for whose identity has expired every 20 ms. */
const FAST = { interval: 200, timeout: 200 }
const HISTORY = { 'channel:*': RULE, 'user:*': RULE, all: RULE }

/** Comes back at once, and is gone when the test is. */
function start(t: TestContext, url: string, options: ClientOptions): Client {
  t.mock.method(Math, 'random', () => 0)
  const client = connect(url, options)
  t.after(() => client.close())
  return client
}

function eventOf<T>(listen: (told: (what: T) => void) => () => void): Promise<T> {
  const told = new Promise<T>(resolve => {
    const off = listen(what => {
      off()
      resolve(what)
    })
  })
  return within(told, 'an event of the client')
}

const welcomed = (client: Client) => eventOf<Welcome>(told => client.listen('welcome', told))

/** What the handlers get, one at a time, in order. */
function heard(client: Client) {
  const messages = new Inbox<PublishedMessage>('a message')
  client.on('*', (_, message) => messages.put(message))
  const payloads = async (count: number) => {
    const taken: unknown[] = []
    while (taken.length < count) taken.push((await messages.take()).payload)
    return taken
  }
  return { messages, take: () => messages.take(), payloads }
}

// Against a real server

const record = ({ app }: TestApp, topic: string, payload: unknown) => app.push.publish(topic, { type: 'n', payload })

/** A client of a real server, and the means to cut its connection. */
async function online(t: TestContext, path = '', options: ClientOptions = {}, server: Partial<PushBridgeOptions> = {}) {
  const node = await buildPush(t, { history: HISTORY, ...server })
  const sockets: WebSocket[] = []
  let mayReturn = Promise.resolve()
  class Tracked extends WebSocket {
    constructor(url: string) {
      super(url)
      sockets.push(this)
    }
  }
  const open = (more: ClientOptions) => {
    const ticket = () => mayReturn.then(() => 'unused')
    return start(t, `ws://127.0.0.1:${node.port}/ws${path}`, { WebSocket: Tracked, ticket, ...more })
  }
  /** Nothing of what is under way arrives any more. */
  const cut = () => {
    const socket = sockets.at(-1)!
    socket.onmessage = null
    socket.terminate()
  }
  /** Cuts the connection and publishes while the client is away; resolves with the welcome of the next. */
  const whileAway = async (publish: () => Promise<unknown>) => {
    let comeBack = () => {}
    mayReturn = new Promise(resolve => {
      comeBack = resolve
    })
    const back = welcomed(client)
    cut()
    await publish()
    comeBack()
    return back
  }
  const client = open(options)
  const inbox = heard(client)
  await welcomed(client)
  return { node, client, open, sockets, cut, whileAway, inbox }
}

const sinceOf = (url: string) => JSON.parse(new URL(url).searchParams.get('since') ?? '{}') as Record<string, string>

test('a return brings what was missed of all topics, in order and once, then goes on live', LIMIT, async t => {
  const { node, client, inbox, whileAway, sockets } = await online(t, '/room?user=7')
  await client.subscribe('channel:a')
  const own = ['channel:room', 'user:7', 'all']
  const topics = [...own, 'channel:a']
  for (const topic of topics) await record(node, topic, [topic, 1])
  await inbox.payloads(4)
  const again = eventOf<TopicState>(told => client.listen('subscribed', told))
  const welcome = await whileAway(async () => {
    for (const n of [2, 3]) for (const topic of topics) await record(node, topic, [topic, n])
  })
  const missed = (await inbox.payloads(8)) as [string, number][]
  for (const topic of topics) {
    const numbers = missed.filter(([of]) => of === topic).map(([, n]) => n)
    assert.deepEqual(numbers, [2, 3], topic)
  }
  for (const topic of own) assert.equal(welcome.topics[topic]!.recovered, true, topic)
  assert.equal((await again).recovered, true)
  assert.deepEqual(Object.keys(sinceOf(sockets[1]!.url)).sort(), own.sort())
  assert.equal(new URL(sockets[1]!.url).searchParams.get('ticket'), 'unused')
  await record(node, 'channel:a', 'live')
  assert.deepEqual(await inbox.payloads(1), ['live'])
})

test('a topic in which nothing was heard yet goes on from where it stood when it was subscribed', LIMIT, async t => {
  const { node, client, inbox, whileAway } = await online(t, '?user=7')
  await record(node, 'channel:a', 'before')
  await client.subscribe('channel:a')
  await whileAway(async () => {
    await record(node, 'channel:a', 1)
    await record(node, 'user:7', 2)
  })
  assert.deepEqual((await inbox.payloads(2)).sort(), [1, 2])
})

test('a break in the middle of a replay loses nothing, twice', LIMIT, async t => {
  const { node, client, inbox, cut, whileAway, sockets } = await online(t, '?user=7')
  await client.subscribe('channel:a')
  const publish = async () => {
    for (let n = 1; n <= 30; n++) {
      await record(node, 'channel:a', n)
      await record(node, 'user:7', n)
    }
  }
  let handled = 0
  client.on('n', () => {
    if (++handled === 5 || handled === 17) cut()
  })
  await whileAway(publish)
  const got = new Map<string, unknown[]>()
  for (let n = 0; n < 60; n++) {
    const { topic, payload } = await inbox.take()
    got.set(topic!, [...(got.get(topic!) ?? []), payload])
  }
  const all = Array.from({ length: 30 }, (_, i) => i + 1)
  assert.deepEqual(got.get('channel:a'), all)
  assert.deepEqual(got.get('user:7'), all)
  assert.equal(sockets.length, 4)
  await record(node, 'channel:a', 'live')
  assert.deepEqual(await inbox.payloads(1), ['live'])
})

test('what cannot be recovered is a gap, told after the answer says so, and later returns recover', LIMIT, async t => {
  const { node, client, inbox, whileAway } = await online(t)
  await client.subscribe('channel:a')
  const events: unknown[] = []
  client.listen('subscribed', ({ recovered }) => events.push(recovered))
  const gap = eventOf(told => client.listen('gap', told))
  await whileAway(async () => {
    for (let n = 1; n <= 101; n++) await record(node, 'channel:a', n)
  })
  assert.deepEqual(await gap, { topics: ['channel:a'], reason: 'history_trimmed' })
  assert.deepEqual(events, [false])
  await whileAway(() => record(node, 'channel:a', 102))
  assert.deepEqual(await inbox.payloads(1), [102])
  assert.deepEqual(events, [false, true])
})

test('an unsubscribed topic starts afresh', LIMIT, async t => {
  const { node, client, inbox, whileAway, sockets } = await online(t)
  await client.subscribe('channel:a')
  await record(node, 'channel:a', 1)
  await inbox.payloads(1)
  assert.deepEqual(Object.keys(client.positions).sort(), ['all', 'channel:a'])
  client.unsubscribe('channel:a')
  await whileAway(() => record(node, 'channel:a', 2))
  assert.deepEqual(Object.keys(sinceOf(sockets[1]!.url)), ['all'])
  assert.equal((await client.subscribe('channel:a')).recovered, undefined)
  await record(node, 'channel:a', 3)
  assert.deepEqual(await inbox.payloads(1), [3])
})

test('positions that were kept let the next page go on', LIMIT, async t => {
  const { node, client, inbox, open } = await online(t, '/room?user=7')
  const topics = ['channel:a', 'channel:room', 'user:7', 'all']
  await client.subscribe('channel:a')
  for (const topic of topics) await record(node, topic, 1)
  await inbox.payloads(4)
  client.close()
  const kept = JSON.parse(JSON.stringify(client.positions))
  assert.deepEqual(Object.keys(kept).sort(), topics.sort())
  for (const topic of topics) await record(node, topic, topic)
  const next = open({ since: { ...kept, 'channel:elsewhere': kept.all }, topics: ['channel:a'] })
  assert.deepEqual(Object.keys(next.positions).length, 5, 'kept as long as nothing is known')
  assert.deepEqual((await heard(next).payloads(4)).sort(), topics.sort())
  assert.deepEqual(Object.keys(next.positions).length, 5, 'it may be subscribed yet')
  next.unsubscribe('channel:elsewhere')
  assert.deepEqual(Object.keys(next.positions).sort(), topics.sort())
})

test('a topic subscribed long after the welcome goes on from a kept position too', LIMIT, async t => {
  const { node, client, open } = await online(t)
  await client.subscribe('channel:a')
  const { positions } = client
  client.close()
  await record(node, 'channel:a', 1)
  const next = open({ since: positions })
  const inbox = heard(next)
  await welcomed(next)
  assert.equal((await next.subscribe('channel:a')).recovered, true)
  assert.deepEqual(await inbox.payloads(1), [1])
})

test('what the server subscribes again is caught up, live messages in their turn', LIMIT, async t => {
  const { node, client, inbox, whileAway } = await online(t, '?user=7')
  const subscribe = async () => {
    const told = eventOf<TopicState>(tell => client.listen('subscribed', tell))
    await node.app.push.subscribe('user:7', 'channel:s')
    await told
  }
  await subscribe()
  await record(node, 'channel:s', 1)
  await inbox.payloads(1)
  await whileAway(() => record(node, 'channel:s', 2))
  await subscribe()
  await record(node, 'channel:s', 3)
  assert.deepEqual(await inbox.payloads(2), [2, 3])
})

test('more topics than the server takes in hand at once are all subscribed again', LIMIT, async t => {
  const topics = Array.from({ length: 100 }, (_, n) => `channel:${n}`)
  const { node, client, inbox, whileAway } = await online(t, '', { topics })
  await Promise.all(topics.map(topic => client.subscribe(topic)))
  await whileAway(async () => {
    for (const topic of topics) await record(node, topic, topic)
  })
  assert.deepEqual((await inbox.payloads(100)).sort(), topics.sort())
})

test('topics that authenticate() joined are recovered whether they fit into the URL or not', LIMIT, async t => {
  const join = Array.from({ length: 60 }, (_, n) => `channel:${n}-${'x'.repeat(150)}` as const)
  const { node, client, inbox, whileAway, sockets } = await online(t, '', {}, { authenticate: () => ({ join }) })
  for (const round of [1, 2]) {
    await whileAway(async () => {
      for (const n of [1, 2, 3]) for (const topic of join) await record(node, topic, round * 10 + n)
    })
    const got = new Map<string, unknown[]>()
    for (let n = 0; n < 180; n++) {
      const { topic, payload } = await inbox.take()
      got.set(topic!, [...(got.get(topic!) ?? []), payload])
    }
    for (const topic of join)
      assert.deepEqual(
        got.get(topic),
        [1, 2, 3].map(n => round * 10 + n),
      )
    assert.ok(Object.keys(sinceOf(sockets.at(-1)!.url)).length < 30)
  }
  assert.equal(inbox.messages.size, 0)
  assert.equal(client.state, 'open')
})

for (const [name, withTickets] of [
  ['a fresh ticket', true],
  ['the cookie it has', false],
] as const) {
  test(`when its identity expires the client comes back with ${name}`, LIMIT, async t => {
    t.mock.timers.enable({ apis: ['Date'], now: Date.now() })
    const identity = () => ({ user: 7, expires: Date.now() + 60_000 })
    const { app, port } = await buildPush(t, { tickets: withTickets, authenticate: identity, heartbeat: FAST })
    const ticket = withTickets ? { ticket: () => app.push.ticket(identity()) } : {}
    const client = start(t, `ws://127.0.0.1:${port}/ws`, { WebSocket, ...ticket })
    for (const _twice of [1, 2]) {
      await welcomed(client)
      const lost = eventOf<ClientEvents['state']>(told => client.listen('state', told))
      t.mock.timers.tick(60_000)
      const { state, code, reason } = await lost
      assert.deepEqual({ state, code, reason }, { state: 'waiting', code: 4502, reason: 'expired' })
    }
    assert.equal((await welcomed(client)).user, '7')
  })
}

test('a page whose session is over when its identity expires is told so, and stays closed', LIMIT, async t => {
  t.mock.timers.enable({ apis: ['Date'], now: Date.now() })
  const end = Date.now() + 60_000
  const { port } = await buildPush(t, { authenticate: () => ({ user: 7, expires: end }), heartbeat: FAST })
  class Page extends WebSocket {
    constructor(url: string) {
      super(url, { origin: `http://127.0.0.1:${port}` })
    }
  }
  const client = start(t, `ws://127.0.0.1:${port}/ws`, { WebSocket: Page })
  await welcomed(client)
  const closed = eventOf<ClientEvents['state']>(told =>
    client.listen('state', change => {
      codes.push(change.code)
      if (change.state === 'closed') told(change)
    }),
  )
  const codes: unknown[] = []
  t.mock.timers.tick(60_000)
  assert.equal((await closed).reason, 'the identity has expired')
  assert.deepEqual(codes, [4502, undefined, 4401])
})

const MAY_ALL = { authorize: () => ['subscribe', 'publish', 'history'] as const }

/** Two recorded topics, one of which is the client's own, with messages of a time before there was a client. */
async function withPast(t: TestContext, count: number) {
  const topics = ['channel:a', 'user:7']
  const { node, client, open, cut, sockets } = await online(t, '?user=7', {}, MAY_ALL)
  client.close()
  const publish = async (from: number, to: number) => {
    for (let n = from; n <= to; n++) for (const topic of topics) await record(node, topic, [topic, n])
  }
  await publish(1, count)
  const second = open({})
  const inbox = heard(second)
  const numbers = async (each: number) => {
    const got = (await inbox.payloads(each * topics.length)) as [string, number][]
    return topics.map(topic => got.filter(([of]) => of === topic).map(([, n]) => n))
  }
  return { client: second, numbers, publish, cut, sockets }
}

test('the newest messages come first, and after a break the client goes on where it was', LIMIT, async t => {
  const { client, numbers, publish, cut, sockets } = await withPast(t, 5)
  client.subscribe('channel:a', { last: 2 })
  client.subscribe('user:7', { last: 2 })
  const [a, own] = await numbers(2)
  assert.deepEqual(
    [a, own],
    [
      [4, 5],
      [4, 5],
    ],
  )
  const again = welcomed(client)
  cut()
  await publish(6, 9)
  assert.deepEqual(await numbers(4), [
    [6, 7, 8, 9],
    [6, 7, 8, 9],
  ])
  await again
  assert.ok(sinceOf(sockets.at(-1)!.url)['user:7'])
  await publish(10, 10)
  assert.deepEqual(await numbers(1), [[10], [10]])
})

test('a break in the middle of the newest messages loses none of them', LIMIT, async t => {
  const { client, numbers, publish, cut } = await withPast(t, 30)
  let handled = 0
  client.on('n', () => {
    if (++handled === 3 || handled === 9) cut()
  })
  client.subscribe('channel:a', { last: 10 }).catch(() => {})
  client.subscribe('user:7', { last: 10 }).catch(() => {})
  const newest = [21, 22, 23, 24, 25, 26, 27, 28, 29, 30]
  assert.deepEqual(await numbers(10), [newest, newest])
  await publish(31, 31)
  assert.deepEqual(await numbers(1), [[31], [31]])
})

test(
  'a topic without messages is not asked for the newest again once something may have been missed',
  LIMIT,
  async t => {
    const { node, client, inbox, whileAway } = await online(t, '', {}, MAY_ALL)
    await client.subscribe('channel:a', { last: 1 })
    await whileAway(async () => {
      for (let n = 1; n <= 3; n++) await record(node, 'channel:a', n)
    })
    assert.deepEqual(await inbox.payloads(3), [1, 2, 3])
  },
)

test('a page with a kept position goes on there, and begins with the newest after a gap', LIMIT, async t => {
  const { node, client, inbox, open } = await online(t, '', {}, MAY_ALL)
  await client.subscribe('channel:a')
  await record(node, 'channel:a', 1)
  await inbox.payloads(1)
  client.close()
  const { positions } = client
  for (let n = 2; n <= 4; n++) await record(node, 'channel:a', n)
  const second = open({ since: positions })
  const inbox2 = heard(second)
  second.subscribe('channel:a', { last: 1 })
  assert.deepEqual(await inbox2.payloads(3), [2, 3, 4])
  for (let n = 5; n <= 110; n++) await record(node, 'channel:a', n)
  const third = open({ since: positions })
  const inbox3 = heard(third)
  const gap = eventOf<ClientEvents['gap']>(told => third.listen('gap', told))
  third.subscribe('channel:a', { last: 2 })
  assert.equal((await gap).reason, 'history_trimmed')
  assert.deepEqual(await inbox3.payloads(2), [109, 110])
})

test('the newest of a topic that are refused cost nothing of what comes live', LIMIT, async t => {
  const authorize = () => ['subscribe'] as const
  const { node, client, inbox, whileAway } = await online(t, '?user=7', {}, { authorize })
  client.listen('error', () => {})
  await record(node, 'user:7', 1)
  await inbox.payloads(1)
  await assert.rejects(client.subscribe('channel:a', { last: 1 }), { code: 'PUSH_ERR_FORBIDDEN' })
  await whileAway(() => record(node, 'user:7', 2))
  await record(node, 'user:7', 3)
  assert.deepEqual(await inbox.payloads(2), [2, 3])
})

test('what a client publishes comes back to it with its user, and the promise has the place', LIMIT, async t => {
  const clientPublications = { said: { schema: Type.Object({ text: Type.String() }) } }
  const { client, inbox } = await online(t, '/room?user=7', {}, { ...MAY_ALL, clientPublications })
  const { id, seq, topic } = await client.publish('channel:room', 'said', { text: 'hi' }, { key: 'k' })
  assert.deepEqual([seq, topic], [1, 'channel:room'])
  const message = await inbox.take()
  assert.deepEqual([message.payload, message.from, message.id], [{ text: 'hi' }, { user: '7' }, id])
  const again = await client.publish('channel:room', 'said', { text: 'hi' }, { key: 'k', timeout: 30_000 })
  assert.equal(again.id, id)
  await client.publish('channel:room', 'said', { text: 'to others' }, { echo: false })
  await client.publish('channel:room', 'said', { text: 'to all' })
  assert.deepEqual((await inbox.take()).payload, { text: 'to all' })
  await assert.rejects(client.publish('channel:room', 'said', {}), { code: 'PUSH_ERR_SCHEMA' })
  await assert.rejects(client.publish('channel:other', 'said', { text: 'x' }), { code: 'PUSH_ERR_FORBIDDEN' })
  client.close()
  await assert.rejects(client.publish('channel:room', 'said', { text: 'x' }), { code: 'CLOSED' })
  // Not awaited: neither is it an unhandled rejection.
  void client.publish('channel:room', 'said', { text: 'x' })
  await new Promise(setImmediate)
})

test('what it wants no echo of does not come with what it missed either', LIMIT, async t => {
  const clientPublications = { said: { schema: Type.Object({ text: Type.String() }) } }
  const { node, client, inbox, whileAway } = await online(t, '/a?user=7', {}, { ...MAY_ALL, clientPublications })
  await record(node, 'channel:a', 1)
  assert.deepEqual(await inbox.payloads(1), [1])
  const { id } = await client.publish('channel:a', 'said', { text: 'hi' }, { echo: false })
  await whileAway(() => record(node, 'channel:a', 3))
  assert.deepEqual(await inbox.payloads(1), [3])
  // The same from somebody else would have come.
  assert.notEqual(client.positions['channel:a'], id)
  await whileAway(() => node.app.push.publish('channel:a', { type: 'said', payload: { text: 'hi' } }))
  assert.deepEqual(await inbox.payloads(1), [{ text: 'hi' }])
})

test('a publisher learns how many handled its message', LIMIT, async t => {
  const giveUp = holdAcks(t)
  const { node, client } = await online(t, '?user=7', {}, ACKS_HELD)
  client.listen('error', () => {})
  let handled = false
  client.on('slow', async () => {
    await new Promise(setImmediate)
    handled = true
  })
  client.on('broken', () => {
    throw new Error('mine')
  })
  const publish = (type: string) => node.app.push.publish('user:7', { type, ack: true })
  assert.equal((await publish('slow')).acknowledged, 1)
  assert.equal(handled, true)
  const publishing = publish('broken')
  await roundTrips(client)
  giveUp()
  assert.equal((await publishing).acknowledged, 0)
})

// Against a server of the test's own

interface Sent {
  type: string
  payload: { topic?: string; since?: string; last?: number; token?: string }
  ref?: number
}

/** Both ends of a connection. */
class Wire implements WebSocketLike {
  static onMade: (wire: Wire) => void
  binaryType = ''
  readyState = 1
  onmessage: ((event: never) => unknown) | null = null
  onclose: ((event: never) => unknown) | null = null
  onerror: ((event: never) => unknown) | null = null
  readonly sent: Sent[] = []
  readonly url: string

  constructor(url: string) {
    this.url = url
    Wire.onMade(this)
  }

  send(data: unknown): void {
    this.sent.push(JSON.parse(String(data)))
  }

  close(): void {}

  tell(type: string, payload: unknown, more: object = {}): void {
    this.onmessage?.({ data: JSON.stringify({ type, payload, ...more }) } as never)
  }

  welcome(topics: Record<string, TopicState> = {}, user: string | null = null): void {
    this.tell('welcome', { connection: 'c', user, topics })
  }

  publish(topic: string, id: string, more: object = {}): void {
    this.tell('n', id, { topic, id, seq: Number(id.split('.')[1]), ...more })
  }

  get since(): Record<string, string> {
    return sinceOf(this.url)
  }
}

async function wired(t: TestContext, options: ClientOptions = {}) {
  const made = eventOf<Wire>(told => {
    Wire.onMade = told
    return () => {}
  })
  const client = start(t, 'ws://a.example/ws', { WebSocket: Wire, ...options })
  const wire = await made
  const ids: string[] = []
  client.on('n', (_, { id }) => ids.push(id!))
  /** The connection breaks; resolves with the next. */
  const broken = (old: Wire) =>
    eventOf<Wire>(told => {
      Wire.onMade = told
      old.onclose?.({ code: 1012, reason: '' } as never)
      return () => {}
    })
  return { client, wire, ids, broken }
}

test('a head that is told does not count as heard when everything follows', LIMIT, async t => {
  const { client, wire, broken } = await wired(t, { topics: ['channel:a'] })
  wire.welcome({ all: { id: 't.1.0-0', seq: 1 } })
  wire.tell('subscribed', { topic: 'channel:a', id: 't.5.0-0', seq: 5 }, { ref: wire.sent[0]!.ref })
  const second = await broken(wire)
  second.welcome({ all: { id: 't.9.0-0', seq: 9, recovered: true } })
  const { payload, ref } = second.sent[0]!
  assert.deepEqual(payload, { topic: 'channel:a', since: 't.5.0-0' })
  second.tell('subscribed', { topic: 'channel:a', id: 't.8.0-0', seq: 8, recovered: true }, { ref })
  second.publish('channel:a', 't.6.0-0')
  const third = await broken(second)
  assert.deepEqual(third.since, { all: 't.1.0-0' })
  third.welcome({ all: {} })
  assert.equal(third.sent[0]!.payload.since, 't.6.0-0')
  third.tell('subscribed', { topic: 'channel:a' }, { ref: third.sent[0]!.ref })
  assert.deepEqual(client.positions, { all: 't.1.0-0', 'channel:a': 't.6.0-0' }, 'the server could not say yet')
})

const FEATURES = ['recovery', 'history']
const welcomeWith = (wire: Wire, topics: Record<string, TopicState>, features = FEATURES) =>
  wire.tell('welcome', { connection: 'c', user: '7', features, topics })

test('live messages before the newest of an own topic are ignored, for they come again', LIMIT, async t => {
  const { client, wire, ids, broken } = await wired(t)
  client.subscribe('user:7', { last: 2 }).catch(() => {})
  welcomeWith(wire, { 'user:7': { id: 't.5.0-0', seq: 5 } })
  const { payload, ref } = wire.sent[0]!
  assert.deepEqual(payload, { topic: 'user:7', last: 2 })
  wire.publish('user:7', 't.6.0-0')
  wire.tell('subscribed', { topic: 'user:7', id: 't.6.0-0', seq: 6 }, { ref })
  assert.deepEqual(ids, [])
  // Nothing of it was heard: the next connection begins anew.
  const second = await broken(wire)
  assert.deepEqual(second.since, { 'user:7': 't.5.0-0' })
  welcomeWith(second, { 'user:7': { id: 't.6.0-0', seq: 6, recovered: true } })
  second.publish('user:7', 't.6.0-0')
  assert.deepEqual(second.sent[0]!.payload, { topic: 'user:7', last: 2 })
  second.tell('subscribed', { topic: 'user:7', id: 't.6.0-0', seq: 6 }, { ref: second.sent[0]!.ref })
  for (const id of ['t.5.0-0', 't.6.0-0', 't.7.0-0']) second.publish('user:7', id)
  assert.deepEqual(ids, ['t.5.0-0', 't.6.0-0', 't.7.0-0'])
  const third = await broken(second)
  assert.deepEqual(third.since, { 'user:7': 't.7.0-0' })
  welcomeWith(third, { 'user:7': { id: 't.7.0-0', seq: 7, recovered: true } })
  assert.deepEqual(third.sent, [])
})

test('when the newest of an own topic are refused, what was ignored meanwhile is asked for', LIMIT, async t => {
  const { client, wire, ids } = await wired(t)
  client.listen('error', () => {})
  const subscribing = client.subscribe('user:7', { last: 2 })
  welcomeWith(wire, { 'user:7': { id: 't.5.0-0', seq: 5 } })
  wire.publish('user:7', 't.6.0-0')
  wire.tell('error', { code: 'PUSH_ERR_FORBIDDEN', message: 'no' }, { ref: wire.sent[0]!.ref })
  await assert.rejects(subscribing, { code: 'PUSH_ERR_FORBIDDEN' })
  assert.deepEqual(wire.sent[1]!.payload, { topic: 'user:7', since: 't.5.0-0' })
  wire.tell('subscribed', { topic: 'user:7', id: 't.6.0-0', seq: 6, recovered: true }, { ref: wire.sent[1]!.ref })
  for (const id of ['t.6.0-0', 't.7.0-0']) wire.publish('user:7', id)
  assert.deepEqual(ids, ['t.6.0-0', 't.7.0-0'])
  assert.equal(client.positions['user:7'], 't.7.0-0')
})

test('a server that knows nothing of the newest messages is not asked for them', LIMIT, async t => {
  const { client, wire, broken } = await wired(t)
  client.subscribe('channel:a', { last: 2 }).catch(() => {})
  wire.welcome()
  assert.deepEqual(wire.sent[0]!.payload, { topic: 'channel:a' })
  wire.tell('subscribed', { topic: 'channel:a', id: 't.5.0-0', seq: 5 }, { ref: wire.sent[0]!.ref })
  const second = await broken(wire)
  welcomeWith(second, {})
  assert.deepEqual(second.sent[0]!.payload, { topic: 'channel:a', since: 't.5.0-0' })
})

test('a gap moves the topics that have a place in it, and no others', LIMIT, async t => {
  const { client, wire, ids } = await wired(t)
  wire.welcome({ all: { id: 't.1.0-0', seq: 1 }, 'channel:a': { id: 't.1.0-0', seq: 1 } })
  wire.publish('all', 't.7.0-0')
  const positions = { all: { id: 't.3.0-0', seq: 3 }, 'channel:other': { id: 't.3.0-0', seq: 3 } }
  wire.tell('gap', { topics: ['all', 'channel:a', 'channel:other'], reason: 'broker_link', positions })
  assert.deepEqual(client.positions, { all: 't.3.0-0', 'channel:a': 't.1.0-0' })
  wire.publish('all', 't.4.0-0')
  assert.deepEqual(ids, ['t.7.0-0', 't.4.0-0'], 'a history that went back is not taken for a repeat')
})

test(
  'a gap that was announced and did not come before the connection broke is told by the next one',
  LIMIT,
  async t => {
    const { client, wire, broken } = await wired(t)
    wire.welcome({ all: { id: 't.1.0-0', seq: 1 } })
    const second = await broken(wire)
    second.welcome({ all: { id: 'u.5.0-0', seq: 5, recovered: false } })
    assert.deepEqual(client.positions, { all: 't.1.0-0' })
    const third = await broken(second)
    assert.deepEqual(third.since, { all: 't.1.0-0' }, 'otherwise nobody would know that something is missing')
    third.welcome({ all: { id: 'u.6.0-0', seq: 6, recovered: false } })
    third.tell('gap', { topics: ['all'], reason: 'history_trimmed' })
    assert.deepEqual(client.positions, { all: 'u.6.0-0' })
  },
)

test('only what every handler has handled is acknowledged', LIMIT, async t => {
  const { client, wire } = await wired(t)
  client.listen('error', () => {})
  wire.welcome()
  const publish = (type: string) => wire.tell(type, {}, { topic: 'all', ack: type })
  const turns = async () => {
    await new Promise(setImmediate)
    return wire.sent.splice(0).map(({ type, payload }) => [type, payload.token])
  }
  publish('nobody.listens')
  assert.deepEqual(await turns(), [])

  let finish = () => {}
  client.on('slow', () => new Promise<void>(resolve => (finish = resolve)))
  publish('slow')
  assert.deepEqual(await turns(), [], 'a handler is at it')
  finish()
  assert.deepEqual(await turns(), [['ack', 'slow']])

  client.on('half', () => {})
  client.on('half', async () => {
    throw new Error('mine')
  })
  client.on('thrown', () => {
    throw new Error('mine')
  })
  publish('half')
  publish('thrown')
  assert.deepEqual(await turns(), [])

  const off = client.on('gone', () => {})
  off()
  publish('gone')
  assert.deepEqual(await turns(), [], 'whoever listened has stopped')
  client.on('*', () => {})
  publish('any')
  assert.deepEqual(await turns(), [['ack', 'any']])
})

test('what was heard before is dropped, and not acknowledged; another history is not compared', LIMIT, async t => {
  const { wire, ids, broken } = await wired(t)
  wire.welcome({ all: { id: 't.1.0-0', seq: 1 } })
  wire.publish('all', 't.2.0-0')
  wire.publish('all', 't.3.0-0')
  const second = await broken(wire)
  second.welcome({ all: { id: 't.3.0-0', seq: 3, recovered: true } })
  second.publish('all', 't.2.0-0', { ack: 'k2' })
  second.publish('all', 't.3.0-0')
  second.publish('all', 't.4.0-0')
  second.publish('all', 'u.1.0-0')
  second.publish('channel:unrecorded', 'x.1')
  second.publish('channel:unrecorded', 'x.1')
  assert.deepEqual(ids, ['t.2.0-0', 't.3.0-0', 't.4.0-0', 'u.1.0-0', 'x.1', 'x.1'])
  await new Promise(setImmediate)
  assert.deepEqual(second.sent, [], 'nobody knows whether its handler is done')
})

test(
  'topics that do not fit into the URL are asked for after the welcome, live messages in their turn',
  LIMIT,
  async t => {
    const names = Array.from({ length: 30 }, (_, n) => `channel:${n}-${'ü'.repeat(90)}`)
    const topics = [...names, 'all', 'user:7']
    const at = (seq: number) => Object.fromEntries(topics.map(topic => [topic, { id: `t.${seq}.0-0`, seq }]))
    const { client, wire, ids, broken } = await wired(t)
    const gaps: unknown[] = []
    client.listen('gap', ({ topics }) => gaps.push(topics))
    client.listen('error', () => {})
    wire.welcome(at(1), '7')
    const second = await broken(wire)
    assert.ok(second.url.length < 5_000, `${second.url.length}`)
    assert.deepEqual(Object.keys(second.since).slice(0, 2).sort(), ['all', 'user:7'])
    const state = Object.fromEntries(
      Object.entries(at(3)).map(([topic, it]) => [topic, topic in second.since ? { ...it, recovered: true } : it]),
    )
    second.welcome(state, '7')
    const rest = topics.filter(topic => !(topic in second.since))
    const asked = second.sent.map(({ payload }) => payload)
    assert.deepEqual(
      asked,
      rest.slice(0, 16).map(topic => ({ topic, since: 't.1.0-0' })),
    )
    const [late, refused] = rest as [string, string]
    second.publish(late, 't.4.0-0')
    assert.deepEqual(ids, [], 'it would come before what was missed')
    second.tell('subscribed', { topic: late, id: 't.4.0-0', seq: 4, recovered: true }, { ref: second.sent[0]!.ref })
    for (const seq of [2, 3, 4, 5]) second.publish(late, `t.${seq}.0-0`)
    assert.deepEqual(ids, ['t.2.0-0', 't.3.0-0', 't.4.0-0', 't.5.0-0'])
    second.tell('error', { code: 'PUSH_ERR_LIMIT', message: 'no' }, { ref: second.sent[1]!.ref })
    await new Promise(setImmediate)
    assert.deepEqual(gaps, [[refused]])
    second.publish(refused, 't.6.0-0')
    assert.equal(ids.at(-1), 't.6.0-0')
    assert.equal(second.sent.length, 18, 'two answers, two more questions')
  },
)

test('a live message before the word of the server that it subscribed again is no loss', LIMIT, async t => {
  const { wire, ids, broken } = await wired(t)
  wire.welcome()
  wire.tell('subscribed', { topic: 'channel:s', id: 't.1.0-0', seq: 1 })
  const second = await broken(wire)
  second.welcome()
  second.publish('channel:s', 't.4.0-0')
  second.publish('channel:s', 't.5.0-0')
  second.tell('subscribed', { topic: 'channel:s', id: 't.5.0-0', seq: 5 })
  const { payload, ref } = second.sent[0]!
  assert.deepEqual(payload, { topic: 'channel:s', since: 't.1.0-0' })
  second.tell('subscribed', { topic: 'channel:s', id: 't.5.0-0', seq: 5, recovered: true }, { ref })
  for (const seq of [2, 3, 4, 5, 6]) second.publish('channel:s', `t.${seq}.0-0`)
  assert.deepEqual(ids, ['t.2.0-0', 't.3.0-0', 't.4.0-0', 't.5.0-0', 't.6.0-0'])
})

test('a live message before the answer to a question comes in its turn', LIMIT, async t => {
  const { wire, ids, broken } = await wired(t, { topics: ['channel:a'] })
  wire.welcome()
  wire.tell('subscribed', { topic: 'channel:a', id: 't.2.0-0', seq: 2 }, { ref: wire.sent[0]!.ref })
  const second = await broken(wire)
  second.welcome()
  second.publish('channel:a', 't.4.0-0')
  second.tell(
    'subscribed',
    { topic: 'channel:a', id: 't.4.0-0', seq: 4, recovered: true },
    { ref: second.sent[0]!.ref },
  )
  for (const seq of [3, 4, 5]) second.publish('channel:a', `t.${seq}.0-0`)
  assert.deepEqual(ids, ['t.3.0-0', 't.4.0-0', 't.5.0-0'])
})

test('a place that was named before a live message, and told after it, is asked about', LIMIT, async t => {
  const { wire, ids, broken } = await wired(t)
  wire.welcome()
  const head = { topic: 'channel:s', id: 't.1.0-0', seq: 1 }
  wire.tell('subscribed', head)
  const second = await broken(wire)
  second.welcome()
  second.publish('channel:s', 't.2.0-0')
  second.tell('subscribed', head)
  second.tell('subscribed', { ...head, recovered: true }, { ref: second.sent[0]?.ref })
  second.publish('channel:s', 't.2.0-0')
  second.tell('subscribed', { ...head, id: 't.2.0-0' })
  second.publish('channel:s', 't.3.0-0')
  assert.deepEqual(ids, ['t.2.0-0', 't.3.0-0'])
  assert.equal(second.sent.length, 1, 'once')
})

test('the answer to a question without a place is none to a later one with it', LIMIT, async t => {
  const { wire, ids } = await wired(t, { topics: ['channel:a'] })
  wire.welcome()
  wire.tell('subscribed', { topic: 'channel:a', id: 't.1.0-0', seq: 1 })
  wire.tell('subscribed', { topic: 'channel:a', id: 't.3.0-0', seq: 3 })
  const [first, second] = wire.sent
  assert.deepEqual([first!.payload.since, second!.payload.since], [undefined, 't.1.0-0'])
  wire.tell('subscribed', { topic: 'channel:a', id: 't.3.0-0', seq: 3 }, { ref: first!.ref })
  wire.publish('channel:a', 't.4.0-0')
  wire.tell('subscribed', { topic: 'channel:a', id: 't.4.0-0', seq: 4, recovered: true }, { ref: second!.ref })
  for (const seq of [2, 3, 4, 5]) wire.publish('channel:a', `t.${seq}.0-0`)
  assert.deepEqual(ids, ['t.2.0-0', 't.3.0-0', 't.4.0-0', 't.5.0-0'])
})

test('questions that were refused or lost are waited for no longer', LIMIT, async t => {
  const { client, wire, ids, broken } = await wired(t, { topics: ['channel:a'] })
  client.listen('error', () => {})
  wire.welcome()
  wire.tell('subscribed', { topic: 'channel:a', id: 't.1.0-0', seq: 1 }, { ref: wire.sent[0]!.ref })
  const second = await broken(wire)
  second.welcome()
  const third = await broken(second)
  third.welcome()
  third.tell('error', { code: 'PUSH_ERR_LIMIT', message: 'no' }, { ref: third.sent[0]!.ref })
  await new Promise(setImmediate)
  client.subscribe('channel:a')
  const { payload, ref } = third.sent[1]!
  assert.deepEqual(payload, { topic: 'channel:a', since: 't.1.0-0' })
  third.publish('channel:a', 't.2.0-0')
  third.tell('subscribed', { topic: 'channel:a' }, { ref })
  third.publish('channel:a', 't.3.0-0')
  assert.deepEqual(ids, ['t.3.0-0'], 'the server could not say yet: a gap follows')
})

test('a kept position of a topic that the connection had and has no more is dropped', LIMIT, async t => {
  const head = { id: 't.1.0-0', seq: 1 }
  const { client, wire, broken } = await wired(t, { since: { 'channel:own': head.id } })
  wire.welcome({ 'channel:own': { ...head, recovered: true } })
  const second = await broken(wire)
  second.welcome()
  assert.deepEqual(client.positions, {})
  assert.deepEqual((await broken(second)).since, {})
})

test('a kept position waits for its topic to be subscribed, through every reconnect', LIMIT, async t => {
  const since = { 'channel:late': 't.1.0-0' }
  const { client, wire, broken } = await wired(t, { since })
  let last = wire
  for (let connection = 0; connection < 3; connection++) {
    last.welcome()
    assert.deepEqual(client.positions, since)
    last = await broken(last)
  }
  last.welcome()
  client.subscribe('channel:late')
  assert.deepEqual(last.sent[0]!.payload, { topic: 'channel:late', since: 't.1.0-0' })
  client.unsubscribe('channel:late')
  assert.deepEqual(client.positions, {})
})

test('another user goes on from nothing of the user before', LIMIT, async t => {
  const { client, wire, broken } = await wired(t, { topics: ['user:1'] })
  const head = { id: 't.1.0-0', seq: 1 }
  wire.welcome({ all: head, 'user:1': head }, '1')
  assert.deepEqual(await client.subscribe('user:1'), { ...head, topic: 'user:1' }, 'known without asking')
  const second = await broken(wire)
  assert.deepEqual(Object.keys(second.since).sort(), ['all', 'user:1'])
  second.welcome({ all: { ...head, recovered: true }, 'user:2': head }, '2')
  assert.deepEqual(
    second.sent.map(({ payload }) => payload),
    [{ topic: 'user:1' }],
  )
  assert.deepEqual(
    Object.keys(client.positions).sort(),
    ['all', 'user:1', 'user:2'].filter(it => it !== 'user:1'),
  )
})

test('positions that are none are left out', LIMIT, async t => {
  const { wire } = await wired(t, { since: { all: 7, 'user:1': null, 'channel:a': 'x' } as never })
  assert.deepEqual(wire.since, { 'channel:a': 'x' })
  assert.equal((await wired(t, { since: null })).wire.url, 'ws://a.example/ws')
})
