import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { type Client, type ClientError, connect } from '../../src/client/index.ts'
import { LINGER, SharedClient } from '../../src/client/react/shared-client.ts'
import type { PushBridgeOptions } from '../../src/index.ts'
import { buildPush } from '../helpers/app.ts'
import { holdTime, LOOK, Network } from '../helpers/blocked-network.ts'
import { Inbox, START, until, within } from '../helpers/waiting.ts'

/** What the components of a page share whose network lets no WebSocket through; the page is in test/interop/react.test.ts. */
async function start(t: TestContext, options: Partial<PushBridgeOptions> = {}) {
  const { look } = holdTime(t)
  t.mock.method(console, 'warn', () => {})
  // No timer of the server may look like that of a client.
  const limits = { handlerTime: LOOK - 1 }
  const { app } = await buildPush(t, {
    sse: true,
    history: { 'channel:*': { size: 100, ttl: 60 } },
    limits,
    ...options,
  })
  const { port } = app.server.address() as { port: number }
  const network = new Network()
  const clients: Client[] = []
  const make = () => {
    const client = connect(`ws://127.0.0.1:${port}/ws?user=7`, { WebSocket: network.WebSocket, fallback: true })
    t.after(() => client.close())
    clients.push(client)
    return client
  }
  const shared = new SharedClient({ connect: make })
  t.after(shared.mount())
  const [client] = clients as [Client]
  const errors: ClientError[] = []
  client.listen('error', error => void errors.push(error))
  const opened = async () => (await app.push.status()).metrics.connections_opened_total!
  /** What the only connection there is has, besides its own topics. */
  const topics = () => {
    const all = [...app.push.connections.values()].map(({ topics }) => [...topics])
    return all.length === 1 && all[0]!.filter(topic => /^(channel|user):/.test(topic) && topic !== 'user:7')
  }
  const hears = (...expected: string[]) =>
    until(
      () => JSON.stringify(topics()) === JSON.stringify(expected),
      () => {
        const all = [...app.push.connections.values()].map(({ topics }) => `[${[...topics]}]`)
        return `one stream with [${expected}], of the client that is ${client.state} over ${client.transport}: ${all}`
      },
      // A client that was too slow to connect waits ever longer.
      START,
    )
  const becomes = (topic: string, state: string) =>
    until(
      () => shared.held(topic)?.channel.state === state,
      () => `${topic} is ${state}: ${shared.held(topic)?.channel.state}`,
    )
  const isOver = (transport: Client['transport']) => until(() => client.transport === transport, `over ${transport}`)
  return { app, network, look, shared, client, errors, opened, hears, becomes, isOver }
}

/** Behind everything that happens within LINGER from now: timers fire in the order of their times. */
const afterLinger = () => new Promise(resolve => setTimeout(resolve, LINGER + 1))

const LIMIT = { timeout: 400_000 }

test('over a stream two components share a topic, which stays while one of them has it', LIMIT, async t => {
  const { app, shared, client, errors, opened, hears, becomes, isOver } = await start(t)
  const letGo = [shared.hold('channel:a'), shared.hold('channel:a')]
  await isOver('sse')
  await becomes('channel:a', 'subscribed')
  const before = await opened()
  const messages = new Inbox<unknown>('a message')
  client.on('n', payload => messages.put(payload))

  letGo[0]!()
  await afterLinger()
  await app.push.publish('channel:a', { type: 'n', payload: 1 })
  assert.equal(await messages.take(), 1)
  // The last one goes and another comes, within the second.
  letGo[1]!()
  const last = shared.hold('channel:a')
  await afterLinger()
  assert.equal(shared.held('channel:a')!.channel.state, 'subscribed')
  assert.equal(await opened(), before, 'no other stream')

  last()
  await hears()
  assert.equal(await opened(), before + 1, 'another stream, without the topic')
  // Who comes after that begins anew.
  shared.hold('channel:a')
  await becomes('channel:a', 'subscribed')
  await hears('channel:a')
  assert.deepEqual(errors, [])
})

test('over a stream a topic is left although the stream is away when its last component goes', LIMIT, async t => {
  let gate: Promise<void> | undefined
  const authenticate: PushBridgeOptions['authenticate'] = async () => {
    await gate
    return { user: '7', allow: ['channel:*'] }
  }
  const { app, shared, client, hears, becomes, isOver } = await start(t, { authenticate })
  shared.hold('channel:a')
  const letGo = shared.hold('channel:b')
  await isOver('sse')
  await becomes('channel:b', 'subscribed')
  await hears('channel:a', 'channel:b')

  let open = () => {}
  gate = new Promise(resolve => {
    open = resolve
  })
  const lost = new Promise<void>(resolve => client.listen('state', ({ state }) => state === 'waiting' && resolve()))
  for (const connection of app.push.connections.values()) (connection as unknown as { terminate(): void }).terminate()
  await within(lost, 'the loss')
  letGo()
  await afterLinger()
  assert.notEqual(client.state, 'open')
  open()
  await hears('channel:a')
})

test('over a stream the topic of another user is left as well, and that of this user is not', LIMIT, async t => {
  const authenticate = () => ({ user: '7', allow: ['channel:*', 'user:9'] })
  const { shared, client, opened, hears, becomes, isOver } = await start(t, { authenticate })
  const letGo = shared.hold('user:9')
  await isOver('sse')
  await becomes('user:9', 'subscribed')
  const own = shared.hold('user:7')
  await becomes('user:7', 'subscribed')
  await hears('user:9')
  letGo()
  await hears()
  const before = await opened()
  own()
  await afterLinger()
  await until(() => shared.held('user:7') === undefined, 'nobody holds it')
  assert.equal(client.transport, 'sse')
  assert.equal(await opened(), before)
})

test('over a stream nobody knows who is there, and a WebSocket brings the list', LIMIT, async t => {
  const { network, look, shared, errors, becomes, isOver } = await start(t, {
    presence: { 'channel:*': {} },
    authenticate: () => ({ user: '7', allow: [{ topics: 'channel:*', actions: ['subscribe', 'presence'] }] }),
  })
  shared.hold('channel:a', { presence: true })
  await isOver('sse')
  await becomes('channel:a', 'subscribed')
  const presence = () => shared.held('channel:a')!.presence
  // Another component asks again.
  shared.hold('channel:a', { presence: true })
  await becomes('channel:a', 'subscribed')
  assert.deepEqual([presence().isKnown, presence().state, presence().error], [false, 'subscribed', undefined])

  network.isBlocked = false
  look()
  await isOver('websocket')
  await until(() => presence().isKnown, 'the list is known')
  // The list may be older than the connection that asks for it.
  await until(
    () =>
      presence()
        .members.map(({ user }) => user)
        .join() === '7',
    'the user is in it',
  )
  assert.deepEqual(errors, [])
})
