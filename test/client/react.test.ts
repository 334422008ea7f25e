import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { createElement, type ReactNode } from 'react'
import { renderToString } from 'react-dom/server'
import { WebSocket } from 'ws'
import { type Client, connect } from '../../src/client/index.ts'
import {
  PushProvider,
  useChannel,
  useClient,
  useClientState,
  useMessages,
  usePresence,
} from '../../src/client/react/index.ts'
import { LINGER, SharedClient } from '../../src/client/react/shared-client.ts'
import { startScriptedServer, type Visit } from '../helpers/scripted-server.ts'
import { until, within } from '../helpers/waiting.ts'

const LIMIT = { timeout: 120_000 }

/** What React does with components is tested in a browser: test/interop/react.test.ts. */
async function start(t: TestContext) {
  t.mock.method(Math, 'random', () => 0)
  const server = await startScriptedServer(t)
  let connects = 0
  const clients: Client[] = []
  const make = () => {
    connects++
    const client = connect(`ws://127.0.0.1:${server.port}/ws`, { WebSocket })
    t.after(() => client.close())
    clients.push(client)
    return client
  }
  return { server, make, clients, connects: () => connects }
}

/** The next message of the client about a topic, answered. */
async function grant(visit: Visit, topic: string): Promise<void> {
  const { type, payload, ref } = await visit.messages.take()
  assert.deepEqual([type, (payload as { topic: string }).topic], ['subscribe', topic])
  visit.say('subscribed', { topic, id: 'i', seq: 1 }, { ref })
}

const becomes = (shared: SharedClient, topic: string, state: string) =>
  until(
    () => shared.held(topic)?.channel.state === state,
    () => `${topic} is ${state}: ${shared.held(topic)?.channel.state}`,
  )

/** Behind everything that the client does within LINGER from now: timers fire in the order of their times. */
const afterLinger = () => new Promise(resolve => setTimeout(resolve, LINGER + 1))

test(
  'two components share one subscription, which outlives both for a second, and so does the client',
  LIMIT,
  async t => {
    const { server, make, clients, connects } = await start(t)
    const shared = new SharedClient({ connect: make })
    assert.equal(connects(), 0, 'who makes one opens nothing')
    const release = [shared.hold('channel:a'), shared.hold('channel:a')]
    const unmount = shared.mount()
    const visit = await server.next()
    visit.welcome()
    await grant(visit, 'channel:a')
    await becomes(shared, 'channel:a', 'subscribed')

    // As StrictMode does: all effects are undone and done again.
    release[0]!()
    release[1]!()
    unmount()
    const [hold, mounted] = [shared.hold('channel:a'), shared.mount()]
    await afterLinger()
    assert.equal(connects(), 1)
    clients[0]!.send('marker')
    assert.equal((await visit.messages.take()).type, 'marker', 'nothing else was sent')

    hold()
    hold()
    const { type, payload } = await visit.messages.take()
    assert.deepEqual([type, payload], ['unsubscribe', { topic: 'channel:a' }])
    assert.equal(shared.held('channel:a'), undefined)
    mounted()
    mounted()
    assert.equal(await visit.endedWith(), 1000)
    assert.equal(shared.client, undefined)
  },
)

test('a component that holds on while another lets go keeps the topic', LIMIT, async t => {
  const { server, make, clients } = await start(t)
  const shared = new SharedClient({ connect: make })
  t.after(shared.mount())
  const letGo = shared.hold('channel:a')
  shared.hold('channel:a')
  const visit = await server.next()
  visit.welcome()
  await grant(visit, 'channel:a')
  letGo()
  letGo()
  await afterLinger()
  clients[0]!.send('marker')
  assert.equal((await visit.messages.take()).type, 'marker')
})

test(
  'the state of a topic: granted, lost, granted again, taken away by the server, asked for by who comes anew',
  LIMIT,
  async t => {
    const { server, make, clients } = await start(t)
    const shared = new SharedClient({ connect: make })
    t.after(shared.mount())
    shared.hold('channel:a')
    const visit = await server.next()
    visit.welcome()
    await grant(visit, 'channel:a')
    await becomes(shared, 'channel:a', 'subscribed')
    const before = shared.held('channel:a')!.channel
    visit.cut()
    await becomes(shared, 'channel:a', 'subscribing')
    assert.notEqual(shared.held('channel:a')!.channel, before)

    const next = await server.next()
    next.welcome()
    await grant(next, 'channel:a')
    await becomes(shared, 'channel:a', 'subscribed')
    next.say('unsubscribed', { topic: 'channel:a' })
    await becomes(shared, 'channel:a', 'failed')
    assert.equal(shared.held('channel:a')!.channel.error!.code, 'UNSUBSCRIBED')
    next.cut()
    const last = await server.next()
    const open = within(new Promise(resolve => clients[0]!.listen('welcome', resolve)), 'a welcome')
    last.welcome()
    await open
    clients[0]!.send('marker')
    assert.equal((await last.messages.take()).type, 'marker', 'what the server decided is not undone')
    shared.hold('channel:a')
    await grant(last, 'channel:a')
    await becomes(shared, 'channel:a', 'subscribed')
  },
)

test('a refusal that is final is a failure, with its error; any other is tried again', LIMIT, async t => {
  const { server, make } = await start(t)
  t.mock.method(console, 'error', () => {})
  const shared = new SharedClient({ connect: make })
  t.after(shared.mount())
  const topics = ['channel:secret', 'channel:busy']
  for (const topic of topics) shared.hold(topic)
  const visit = await server.next()
  visit.welcome()
  for (const code of ['PUSH_ERR_FORBIDDEN', 'PUSH_ERR_BUSY']) {
    const { ref } = await visit.messages.take()
    visit.say('error', { code, message: 'no' }, { ref })
  }
  await becomes(shared, 'channel:secret', 'failed')
  assert.equal(shared.held('channel:secret')!.channel.error!.code, 'PUSH_ERR_FORBIDDEN')
  const busy = shared.held('channel:busy')!
  await until(() => busy.channel.error, 'the error is shown')
  assert.deepEqual([busy.channel.state, busy.channel.error!.code], ['subscribing', 'PUSH_ERR_BUSY'])
  await grant(visit, 'channel:busy')
  await becomes(shared, 'channel:busy', 'subscribed')
  assert.equal(busy.channel.error, undefined)

  // Who comes anew may have new rights.
  shared.hold('channel:secret')
  assert.equal(shared.held('channel:secret')!.channel.state, 'subscribing')
  await grant(visit, 'channel:secret')
  await becomes(shared, 'channel:secret', 'subscribed')
})

test('a client that the server closes for good is a failure of every topic', LIMIT, async t => {
  const { server, make } = await start(t)
  const shared = new SharedClient({ connect: make })
  t.after(shared.mount())
  shared.hold('channel:a')
  const visit = await server.next()
  visit.welcome()
  await grant(visit, 'channel:a')
  visit.close(4403)
  await becomes(shared, 'channel:a', 'failed')
  assert.equal(shared.held('channel:a')!.channel.error!.code, 'CLOSED')
  assert.deepEqual([shared.state.state, shared.state.code], ['closed', 4403])
})

test('a topic that the connection has by itself is not left', LIMIT, async t => {
  const { server, make, clients } = await start(t)
  const shared = new SharedClient({ connect: make })
  t.after(shared.mount())
  const letGo = shared.hold('user:42')
  const visit = await server.next()
  visit.welcome({ 'user:42': {} })
  await becomes(shared, 'user:42', 'subscribed')
  letGo()
  await afterLinger()
  clients[0]!.send('marker')
  assert.equal((await visit.messages.take()).type, 'marker')
})

test('who is there: one question for all, the list, a loss, and a refusal that is shown', LIMIT, async t => {
  const { server, make } = await start(t)
  t.mock.method(console, 'error', () => {})
  const shared = new SharedClient({ connect: make })
  t.after(shared.mount())
  const topic = 'channel:a'
  for (let n = 0; n < 2; n++) shared.hold(topic, { presence: true })
  const visit = await server.next()
  visit.welcome()
  await grant(visit, topic)
  const { payload, ref } = await visit.messages.take()
  assert.deepEqual(payload, { topic, presence: true })
  const ann = { user: 'ann', connections: 1, since: 1 }
  visit.say('subscribed', { topic, presence: { topic, members: [ann], count: 1, anonymous: 2 } }, { ref })
  await until(() => shared.held(topic)!.presence.isKnown, 'the list is known')
  const { members, count, anonymous, state } = shared.held(topic)!.presence
  assert.deepEqual([members, count, anonymous, state], [[ann], 1, 2, 'subscribed'])

  visit.cut()
  await until(() => !shared.held(topic)!.presence.isKnown, 'the list may be out of date')
  assert.equal(shared.held(topic)!.presence.members.length, 1, 'and is shown meanwhile')
  const next = await server.next()
  next.welcome()
  for (let n = 0; n < 2; n++) {
    const message = await next.messages.take()
    const { presence } = message.payload as { presence?: boolean }
    if (presence) next.say('error', { code: 'PUSH_ERR_FORBIDDEN', message: 'no' }, { ref: message.ref })
    else next.say('subscribed', { topic, id: 'i', seq: 1 }, { ref: message.ref })
  }
  await until(() => shared.held(topic)!.presence.state === 'failed', 'the refusal is shown')
  assert.equal(shared.held(topic)!.presence.error!.code, 'PUSH_ERR_FORBIDDEN')
  await becomes(shared, topic, 'subscribed')
})

test('a gap of a topic without onGap goes to the console, once, although other topics have one', LIMIT, async t => {
  const { server, make } = await start(t)
  const warn = t.mock.method(console, 'warn', () => {})
  const error = t.mock.method(console, 'error', () => {})
  const warned = () => warn.mock.calls.map(({ arguments: [text, detail] }) => [text, detail])
  const shared = new SharedClient({ connect: make })
  t.after(shared.mount())
  const gaps: string[] = []
  const broken = shared.listenToGaps('channel:a', () => {
    throw new Error('one odd handler')
  })
  const others = ['a', 'b'].map(it =>
    shared.listenToGaps(`channel:${it}`, ({ topics }) => gaps.push(`${it}: ${topics}`)),
  )
  const stops = [broken, ...others]
  const visit = await server.next()
  visit.welcome()
  const gap = (...topics: string[]) => visit.say('gap', { topics, reason: 'node' })
  gap('channel:a', 'channel:b')
  gap('channel:b', 'channel:c')
  gap('channel:c', 'channel:d')
  await until(() => gaps.length === 3, 'three gaps were told')
  assert.deepEqual(gaps, ['a: channel:a,channel:b', 'b: channel:a,channel:b', 'b: channel:b,channel:c'])
  await until(() => warn.mock.callCount() > 0, 'a warning')
  assert.deepEqual(warned(), [['messages were or may have been missed: give useChannel an onGap for', 'channel:c']])
  await until(() => error.mock.callCount() === 1, 'the handler that throws is reported, and keeps nobody from the gap')
  // With the last one gone the client warns itself again.
  for (const stop of stops) stop()
  gap('channel:a')
  await until(() => warn.mock.callCount() === 2, 'a second warning')
  assert.match(String(warned()[1]![0]), /listen for "gap"/)
})

test('providers of one client share it, and do not close it', LIMIT, async t => {
  const { server, make, clients } = await start(t)
  const client = make()
  const shared = SharedClient.of(client)
  assert.equal(SharedClient.of(client), shared)
  const unmount = [shared.mount(), shared.mount()]
  shared.hold('channel:a')
  const visit = await server.next()
  visit.welcome()
  await grant(visit, 'channel:a')
  for (const it of unmount) it()
  assert.equal((await visit.messages.take()).type, 'unsubscribe')
  client.send('marker')
  assert.equal((await visit.messages.take()).type, 'marker')
  assert.equal(clients[0]!.state, 'open')
  // And again, for a root that comes later.
  shared.mount()
  shared.hold('channel:b')
  await grant(visit, 'channel:b')
})

// On a server

const Everything = ({ topic }: { topic: string | null }): ReactNode => {
  const channel = useChannel(topic, { n: () => {} })
  const { messages } = useMessages(topic)
  const { members, isKnown } = usePresence(topic)
  const state = useClientState()
  const client = useClient()
  return [channel.state, state.state, messages.length, members.length, isKnown, client?.state].join(' ')
}

test('a server renders the hooks and opens nothing', () => {
  class Never {
    constructor() {
      throw new Error('a connection was opened')
    }
  }
  const options = { WebSocket: Never as never }
  const render = (topic: string | null) =>
    renderToString(createElement(PushProvider, { url: '/ws', options }, createElement(Everything, { topic })))
  assert.equal(render('channel:a'), 'subscribing connecting 0 0 false ')
  assert.equal(render(null), 'idle connecting 0 0 false ')
})

test('hooks without a provider say so', () => {
  assert.throws(() => renderToString(createElement(Everything, { topic: 'all' })), /no <PushProvider> above/)
})

test('components are told of changes until they go', LIMIT, async t => {
  const { server, make } = await start(t)
  const shared = new SharedClient({ connect: make })
  const states: string[] = []
  const stop = shared.watch(() => states.push(shared.state.state))
  t.after(shared.mount())
  const visit = await server.next()
  const open = within(new Promise(resolve => shared.client!.listen('welcome', resolve)), 'a welcome')
  visit.welcome()
  await open
  assert.equal(states.at(-1), 'open')
  stop()
  const { length } = states
  visit.close(1000)
  await until(() => shared.state.state === 'closed', 'the end')
  assert.equal(states.length, length)
})
