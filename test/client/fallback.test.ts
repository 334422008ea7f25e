import assert from 'node:assert/strict'
import { createServer, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type TestContext, test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { Type } from 'typebox'
import { WebSocket } from 'ws'
import { Fallback } from '../../src/client/fallback.ts'
import {
  type Client,
  type ClientError,
  type ClientOptions,
  connect,
  type PublishedMessage,
} from '../../src/client/index.ts'
import { msgpack } from '../../src/client/msgpack.ts'
import type { PushBridgeOptions } from '../../src/index.ts'
import { buildPush, type TestApp } from '../helpers/app.ts'
import { holdTime, LOOK, Network } from '../helpers/blocked-network.ts'
import { Inbox, once, publishAhead, until, within } from '../helpers/waiting.ts'

interface Side {
  node: TestApp
  network: Network
  client: Client
  messages: Inbox<PublishedMessage>
  errors: ClientError[]
}

async function setUp(
  t: TestContext,
  options: Partial<PushBridgeOptions> = {},
  given: ClientOptions = {},
): Promise<Side> {
  t.mock.method(console, 'warn', () => {})
  // No timer of the server may look like that of a client.
  const limits = { handlerTime: LOOK - 1 }
  const node = await buildPush(t, { sse: true, history: { 'channel:r*': { size: 100, ttl: 60 } }, limits, ...options })
  const network = new Network()
  const client = connect(`ws://127.0.0.1:${node.port}/ws?user=7`, {
    WebSocket: network.WebSocket,
    fallback: true,
    ...given,
  })
  t.after(() => client.close())
  const messages = new Inbox<PublishedMessage>('a message')
  client.on('*', (_payload, message) => messages.put(message))
  const errors: ClientError[] = []
  client.listen('error', error => void errors.push(error))
  return { node, network, client, messages, errors }
}

const isOver = (client: Client, transport: Client['transport']) =>
  until(
    () => client.transport === transport,
    () => `over ${transport}; it is ${client.state} over ${client.transport}`,
  )

/** Resolves when the client has lost its connection, and before it begins to come back. */
const lossOf = (client: Client) =>
  within(
    new Promise<void>(resolve => client.listen('state', ({ state }) => state === 'waiting' && resolve())),
    'the loss',
  )

test('after three WebSockets without an answer the client takes the stream, with its topics', async t => {
  const held = holdTime(t)
  const { node, network, client, messages, errors } = await setUp(t, {}, { topics: ['channel:a'] })
  await isOver(client, 'sse')
  assert.equal(network.attempts, 3)
  assert.equal((await client.subscribe('channel:a')).topic, 'channel:a')
  await node.app.push.publish('channel:a', { type: 'n', payload: 1 })
  assert.equal((await messages.take()).payload, 1)
  await node.app.push.publish('user:7', { type: 'n', payload: 2 })
  assert.equal((await messages.take()).payload, 2)
  assert.deepEqual(errors, [])
  assert.equal(held.held.length, 1)
})

test('without the option it goes on with WebSockets', async t => {
  holdTime(t)
  const { network, client } = await setUp(t, {}, { fallback: false })
  await until(() => network.attempts >= 6, 'six attempts')
  assert.equal(client.transport, undefined)
})

test('a server without streams: the client goes on with both, and is open when WebSockets get through', async t => {
  holdTime(t)
  const { network, client } = await setUp(t, { sse: false })
  const reasons: string[] = []
  client.listen('state', ({ reason }) => void reasons.push(reason ?? ''))
  await until(
    () => reasons.some(reason => reason.includes('404')),
    () => `a 404 among ${reasons}`,
  )
  await until(() => network.attempts >= 5, 'further attempts')
  network.isBlocked = false
  await isOver(client, 'websocket')
})

test('topics come and go: another stream takes the place of the first, and recorded ones lose nothing', async t => {
  holdTime(t)
  const { node, client, messages } = await setUp(t, {}, { topics: ['channel:r1'] })
  await isOver(client, 'sse')
  await client.subscribe('channel:r1')
  const subscribed = client.subscribe('channel:late')
  for (let n = 1; n <= 10; n++) await node.app.push.publish('channel:r1', { type: 'n', payload: n })
  assert.equal((await within(subscribed, 'the answer')).topic, 'channel:late')
  for (let n = 1; n <= 10; n++) assert.equal((await messages.take()).payload, n)
  await node.app.push.publish('channel:late', { type: 'n', payload: 'late' })
  assert.equal((await messages.take()).payload, 'late')
  client.unsubscribe('channel:late')
  await until(
    () => [...node.app.push.connections.values()].every(({ topics }) => !topics.has('channel:late')),
    'it is left',
  )
  await isOver(client, 'sse')
})

test('a topic that the server refuses is given up, and the others stay', async t => {
  holdTime(t)
  const authorize: PushBridgeOptions['authorize'] = (_connection, topic) => topic === 'channel:a'
  const { client, errors } = await setUp(t, { authorize }, { topics: ['channel:a'] })
  const refused = client.subscribe('channel:secret')
  await assert.rejects(within(refused, 'the refusal'), { code: 'PUSH_ERR_FORBIDDEN' })
  assert.deepEqual(
    errors.map(({ code }) => code),
    ['PUSH_ERR_FORBIDDEN'],
  )
  assert.equal((await client.subscribe('channel:a')).topic, 'channel:a')
  assert.equal(client.transport, 'sse')
})

test('over a stream nothing is sent, and whoever wants to is told', async t => {
  holdTime(t)
  const { client } = await setUp(t)
  await isOver(client, 'sse')
  await assert.rejects(client.request('question'), (error: ClientError) => {
    assert.equal(error.code, 'SSE')
    return /needs a WebSocket/.test(error.message)
  })
  await assert.rejects(client.publish('channel:a', 'n'), { code: 'SSE' })
  assert.equal(client.send('n'), false)
  assert.equal(client.presence('channel:a').isKnown, false)
})

test('the WebSocket takes over when it gets through, and recorded messages come once and in order', async t => {
  const held = holdTime(t)
  const { node, network, client, messages, errors } = await setUp(t, {}, { topics: ['channel:r1'] })
  await isOver(client, 'sse')
  await client.subscribe('channel:r1')
  let published = 0
  const say = () => node.app.push.publish('channel:r1', { type: 'n', payload: ++published })
  await say()
  assert.equal((await messages.take()).payload, 1)
  // A WebSocket that does not get through changes nothing.
  held.look()
  await until(() => network.attempts === 4, 'another attempt')
  await say()
  assert.equal((await messages.take()).payload, 2)
  assert.equal(client.transport, 'sse')
  network.isBlocked = false
  await until(() => held.held.length > 0, 'the next look')
  held.look()
  // While it moves, and as fast as it goes.
  const read = () => 2 + messages.size
  await publishAhead(say, () => client.transport === 'websocket', { most: 50, read })
  await client.subscribe('channel:r1')
  await say()
  for (let n = 3; n <= published; n++) assert.equal((await messages.take()).payload, n)
  assert.equal(messages.size, 0)
  await until(() => node.app.push.connections.size === 1, 'the stream is left')
  assert.deepEqual(errors, [])
  await client.authenticate({ ticket: 'none' }).then(
    () => assert.fail(),
    ({ code }: ClientError) => assert.notEqual(code, 'SSE'),
  )
})

test('over a stream a request that may wait waits for a WebSocket, which may speak another codec', async t => {
  const { look } = holdTime(t)
  const echo = { schema: Type.Object({ n: Type.Integer() }), handler: (payload: unknown) => payload }
  const keep = { schema: Type.Unknown(), handler: (kept: unknown) => ({ kept }) }
  // Longer than the test lasts, and no timer that `look` fires.
  const TTL = 10 * LOOK - 1
  const given: ClientOptions = { codec: msgpack }
  const { client, network, messages, node } = await setUp(
    t,
    { codecs: ['json', 'msgpack'], handlers: { echo, keep } },
    given,
  )
  await isOver(client, 'sse')
  await assert.rejects(client.request('echo', { n: 1 }), { code: 'SSE' })
  const waiting = client.request('echo', { n: 2 }, { queue: { ttl: TTL } })
  const bytes = client.request('keep', { png: new Uint8Array([1, 2]) }, { queue: { ttl: TTL } })
  await node.app.push.publish('user:7', { type: 'n', payload: new Uint8Array([1]) })
  assert.deepEqual((await messages.take()).payload, { $binary: 'AQ==' })
  network.isBlocked = false
  look()
  assert.deepEqual(await within(waiting, 'the answer'), { n: 2 })
  assert.deepEqual(await within(bytes, 'the answer'), { kept: { png: new Uint8Array([1, 2]) } })
  assert.equal(client.transport, 'websocket')
  await node.app.push.publish('user:7', { type: 'n', payload: new Uint8Array([1]) })
  assert.deepEqual((await messages.take()).payload, new Uint8Array([1]))
})

test('over a stream a topic that was refused for once comes back', async t => {
  const refusals = new Map<string, number>()
  t.mock.method(Math, 'random', () => 0)
  const authorize = (_connection: unknown, topic: string) => {
    const left = refusals.get(topic) ?? 0
    refusals.set(topic, left - 1)
    if (left > 0) throw new Error('the database is away')
    return true
  }
  holdTime(t)
  const { client, node, messages, errors } = await setUp(t, { authorize }, { topics: ['channel:a'] })
  await isOver(client, 'sse')
  await client.subscribe('channel:a')
  refusals.set('channel:a', 2)
  // Another stream takes the place of this one, and twice it does not get the topic.
  await client.subscribe('channel:b')
  await until(() => refusals.get('channel:a')! < 0, 'the topic is asked for again')
  await client.subscribe('channel:a')
  await node.app.push.publish('channel:a', { type: 'n', payload: 1 })
  assert.equal((await messages.take()).payload, 1)
  assert.deepEqual(
    errors.map(({ code }) => code),
    ['PUSH_ERR_HANDLER', 'PUSH_ERR_HANDLER'],
  )
})

test('over a stream what is no topic is refused, and the others stay', async t => {
  holdTime(t)
  const { client, node, messages } = await setUp(t, {}, { topics: ['channel:a'] })
  await isOver(client, 'sse')
  await client.subscribe('channel:a')
  await assert.rejects(client.subscribe('orders'), { code: 'PUSH_ERR_TOPIC' })
  await assert.rejects(client.subscribe('channel:x,user:y'), { code: 'PUSH_ERR_TOPIC' })
  await client.subscribe('channel:b')
  await node.app.push.publish(['channel:a', 'channel:b'], { type: 'n', payload: 1 })
  assert.deepEqual([(await messages.take()).payload, (await messages.take()).payload], [1, 1])
})

test('whoever asks again and again over a stream for a topic that is wanted opens no other stream', async t => {
  holdTime(t)
  const { client, node } = await setUp(t, { authorize: (_connection, topic) => topic !== 'channel:no' })
  await isOver(client, 'sse')
  const opened = () => node.app.push.status().then(({ metrics }) => metrics.connections_opened_total)
  const before = await opened()
  client.listen('welcome', () => void client.subscribe('channel:a').catch(() => {}))
  await client.subscribe('channel:a')
  await client.subscribe('channel:a')
  await node.app.push.publish('channel:a', { type: 'n', payload: 1, receipt: true })
  assert.equal(await opened(), before! + 1)
})

test('a stream that breaks is opened again, and what was missed follows', async t => {
  holdTime(t)
  const { node, client, messages, network } = await setUp(t, {}, { topics: ['channel:r1'] })
  await isOver(client, 'sse')
  await client.subscribe('channel:r1')
  const lost = lossOf(client)
  const [connection] = node.app.push.connections.values()
  ;(connection as unknown as { terminate(): void }).terminate()
  await lost
  await node.app.push.publish('channel:r1', { type: 'n', payload: 1 })
  assert.equal((await messages.take()).payload, 1)
  assert.equal(client.transport, 'sse')
  assert.equal(network.attempts, 3)
})

/** A whole collection, without a flag for the process, and the turns in which finalizers run. */
async function collect() {
  setFlagsFromString('--expose-gc')
  const gc: () => void = runInNewContext('gc')
  for (let turn = 0; turn < 10; turn++) {
    gc()
    await new Promise(resolve => setImmediate(resolve))
  }
}

test('a client that is closed leaves its stream, whatever the garbage collector has taken since it began', async t => {
  holdTime(t)
  const { node, client } = await setUp(t)
  await isOver(client, 'sse')
  await collect()
  client.close()
  await until(() => node.app.push.connections.size === 0, 'the server knows that the client left')
})

test('a client that is closed before its stream is answered leaves it too', async t => {
  holdTime(t)
  const asked = new Inbox<() => void>('a request')
  const left = new Inbox<void>('the end of its TCP connection')
  const authenticate: PushBridgeOptions['authenticate'] = ({ raw }) => {
    raw.socket.once('close', () => left.put())
    return new Promise(resolve => asked.put(() => resolve({ user: '7' })))
  }
  const { node, client } = await setUp(t, { authenticate })
  const answer = await asked.take()
  await collect()
  client.close()
  answer()
  await left.take()
  await until(() => node.app.push.connections.size === 0, 'there is no stream of it')
})

test('a drain is obeyed over a stream, and who is shut out stays out', async t => {
  holdTime(t)
  const { node, client } = await setUp(t, { drain: { window: 0 } })
  await isOver(client, 'sse')
  const told = new Promise(resolve => client.listen('reconnect', resolve))
  const ended = new Promise<number | undefined>(resolve =>
    client.listen('state', ({ state, code }) => state === 'waiting' && resolve(code)),
  )
  await node.app.close()
  assert.deepEqual(await within(told, 'a reconnect'), { after: 0 })
  assert.equal(await within(ended, 'the end'), 1012)

  const other = await setUp(t, { authenticate: () => null })
  await until(() => other.client.state === 'closed', 'it stays out')
})

test('an application that says who it is with a message says it to a stream too, and a ticket is a new one each time', async t => {
  holdTime(t)
  const onAuthenticate: PushBridgeOptions['onAuthenticate'] = ({ token }: { token: string }) => ({
    user: `of-${token}`,
  })
  const { client } = await setUp(
    t,
    { authenticate: 'message', onAuthenticate },
    { authenticate: () => ({ token: 'ä' }) },
  )
  await isOver(client, 'sse')
  assert.equal(client.welcome?.user, 'of-ä')
  const other = await setUp(
    t,
    { tickets: true, authenticate: 'message' },
    {
      ticket: () => other.node.app.push.ticket({ user: '9' }),
    },
  )
  await isOver(other.client, 'sse')
  assert.equal(other.client.welcome?.user, '9')
})

test('binary messages come over a stream', async t => {
  holdTime(t)
  const { node, client } = await setUp(t)
  await isOver(client, 'sse')
  const came = new Promise<ArrayBuffer>(resolve => client.listen('binary', resolve))
  const [connection] = node.app.push.connections.values()
  connection!.sendBinary(Buffer.from([0, 255, 10]))
  assert.deepEqual([...new Uint8Array(await within(came, 'a binary message'))], [0, 255, 10])
})

test('who changes topics often looks for a WebSocket as well, and ever more rarely', t => {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'] })
  t.mock.method(Math, 'random', () => 1)
  const fallback = new Fallback(true)
  const looks: number[] = []
  for (let second = 1; second <= 1000; second++) {
    fallback.look(() => looks.push(second))
    t.mock.timers.tick(1000)
    fallback.stop()
  }
  assert.deepEqual(looks, [60, 180, 420, 900])
})

/** A proxy that accepts the request, says so or not, and holds everything else back until it is told. */
async function startBufferingProxy(t: TestContext, hasHeaders: boolean) {
  const responses = new Inbox<ServerResponse>('a request')
  const server: Server = createServer((_request, response) => {
    if (hasHeaders) response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders()
    responses.put(response)
  })
  server.on('upgrade', (_request, socket) => socket.destroy())
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return { responses, url: `ws://127.0.0.1:${(server.address() as AddressInfo).port}/ws` }
}

for (const hasHeaders of [true, false]) {
  test(`a proxy that holds the stream back is named, ${hasHeaders ? 'if the headers came' : 'if nothing came'}`, async t => {
    holdTime(t)
    t.mock.method(console, 'warn', () => {})
    const { responses, url } = await startBufferingProxy(t, hasHeaders)
    const client = connect(url, { WebSocket, fallback: true })
    t.after(() => client.close())
    const told = new Promise<ClientError>(resolve => client.listen('error', resolve))
    const response = await responses.take()
    const { code, message } = await within(told, 'the diagnosis')
    assert.equal(code, 'BUFFERED')
    assert.match(message, hasHeaders ? /was opened, but no message comes/ : /is not answered/)
    assert.match(message, /proxy_buffering off/)
    // It may come all the same, only late.
    if (!hasHeaders) response.writeHead(200, { 'content-type': 'text/event-stream' })
    const welcome = {
      connection: 'c',
      user: null,
      node: 'n',
      heartbeat: { interval: 25_000, timeout: 10_000 },
      topics: {},
    }
    response.write(`data: ${JSON.stringify({ type: 'welcome', payload: welcome })}\n\n`)
    await isOver(client, 'sse')
  })
}

const named = (count: number, bytes: number) =>
  Array.from({ length: count }, (_, i) => `channel:r${String(i).padStart(3, '0')}${'x'.repeat(bytes - 4)}`)

/** Ends the connections of the node as a network does. */
function cut({ app }: TestApp): void {
  for (const connection of app.push.connections.values()) (connection as unknown as { terminate(): void }).terminate()
}

for (const [count, bytes] of [
  [60, 100],
  [128, 200],
] as const) {
  test(`a stream with ${count} topics of ${bytes} bytes that breaks is opened again, and every topic goes on`, async t => {
    holdTime(t)
    const topics = named(count, bytes)
    const { node, client, messages, errors } = await setUp(t, {}, { topics })
    const gaps: unknown[] = []
    client.listen('gap', gap => void gaps.push(gap))
    await isOver(client, 'sse')
    await Promise.all(topics.map(topic => client.subscribe(topic)))
    const lost = lossOf(client)
    cut(node)
    await lost
    for (const topic of topics) await node.app.push.publish(topic, { type: 'n', payload: topic })
    const came = new Set<unknown>()
    while (came.size < count) came.add((await messages.take()).payload)
    assert.deepEqual([...came].sort(), topics)
    assert.equal(client.transport, 'sse')
    assert.deepEqual([gaps, errors, messages.size], [[], [], 0])
  })
}

test('a stream whose request is too long is refused once: the client says so and goes on with WebSockets', async t => {
  holdTime(t)
  const limits = { inbound: 2000, handlerTime: LOOK - 1 }
  const { node, network, client, errors } = await setUp(t, { limits }, { topics: named(60, 100) })
  await until(() => network.attempts >= 6, 'further attempts')
  assert.deepEqual(
    errors.map(({ code }) => code),
    ['TOO_LONG'],
  )
  assert.match(errors[0]!.message, /60 topics .*413: the body is larger than 2000 bytes \(limits\.inbound\)/)
  const { metrics } = await node.app.push.status()
  assert.equal(metrics['upgrades_refused_total{PUSH_ERR_TOO_LARGE}'], 1)
  for (const topic of named(60, 100).slice(1)) client.unsubscribe(topic)
  await isOver(client, 'sse')
  network.isBlocked = false
})

test('over a stream a topic that the client did not ask about comes with a gap, and nobody is told that he cannot send', async t => {
  holdTime(t)
  let join: string[] = []
  const authenticate: PushBridgeOptions['authenticate'] = () => ({ user: '7', join })
  const { node, client, network, messages, errors } = await setUp(t, { authenticate })
  const gaps = new Inbox<{ topics: string[] }>('a gap')
  client.listen('gap', gap => gaps.put(gap))
  network.isBlocked = false
  await isOver(client, 'websocket')
  // Given by the server on this connection, and again on the next one.
  await node.app.push.subscribe('user:7', 'channel:r1')
  await node.app.push.publish('channel:r1', { type: 'n', payload: 1 })
  assert.equal((await messages.take()).payload, 1)
  join = ['channel:r1']
  network.isBlocked = true
  // By an event: a client that comes back within milliseconds may not be found lost, and would miss nothing.
  const lost = lossOf(client)
  cut(node)
  await lost
  await node.app.push.publish('channel:r1', { type: 'n', payload: 2 })
  assert.deepEqual((await gaps.take()).topics, ['channel:r1'])
  assert.equal(client.transport, 'sse')
  await node.app.push.publish('channel:r1', { type: 'n', payload: 3 })
  assert.equal((await messages.take()).payload, 3)
  assert.deepEqual([errors, gaps.size], [[], 0])
})
