import assert from 'node:assert/strict'
import { request as makeRequest, type OutgoingHttpHeaders } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { type TestContext, test } from 'node:test'
import Fastify from 'fastify'
import { Registry } from 'prom-client'
import pushBridge, { type PushBridgeOptions, type PushConnection } from '../../src/index.ts'
import { buildApp, buildPush, OPEN, openConnection, refusalOf, type TestApp } from '../helpers/app.ts'
import { openStream, postStream, topicsOf } from '../helpers/event-stream.ts'
import { once, until, within } from '../helpers/waiting.ts'

const build = (t: TestContext, options: Partial<PushBridgeOptions> = {}) => buildPush(t, { sse: true, ...options })

const refused = async ({ app }: TestApp, code: string) =>
  (await app.push.status()).metrics[`upgrades_refused_total{${code}}`] ?? 0

/** The status and headers of any request to the stream. */
async function ask(port: number, method: string, headers: OutgoingHttpHeaders = {}) {
  const request = makeRequest({ host: '127.0.0.1', port, path: '/ws/-/events', method, headers, agent: false }).end()
  const [response] = await once(request, 'response')
  response.resume()
  return { status: response.statusCode as number, headers: response.headers as Record<string, string> }
}

test('without the option there is no event stream', async t => {
  const { port } = await buildPush(t)
  assert.equal((await openStream(t, port)).status, 404)
})

test('the stream begins with its headers, when to come back, and the welcome of the WebSocket', async t => {
  const { app, port } = await build(t, { sse: { retry: 500 } })
  const reader = await openStream(t, port, '?user=7&topics=channel:a,channel:b')
  assert.equal(reader.status, 200)
  assert.equal(reader.headers['content-type'], 'text/event-stream')
  assert.equal(reader.headers['cache-control'], 'no-store, no-transform')
  assert.equal(reader.headers['x-accel-buffering'], 'no')
  const welcome = await reader.welcomed()
  assert.ok(reader.retry! >= 500 && reader.retry! <= 1000, `${reader.retry}`)
  const socket = await openConnection(app, '/ws?user=7')
  const { connection, topics, ...rest } = welcome
  assert.deepEqual(Object.keys(topics), ['all', `connection:${connection}`, 'user:7', 'channel:a', 'channel:b'])
  const { connection: _id, topics: _topics, features, ...others } = socket.welcome
  assert.deepEqual(rest, { ...others, features: ['recovery'] })
  assert.ok(features.includes('history'))
})

test('a connection that carried a stream carries nothing else', async t => {
  const { app, port } = await build(t)
  const fetchStream = async (signal?: AbortSignal) => {
    const response = await fetch(`http://127.0.0.1:${port}/ws/-/events?user=7`, { signal: signal ?? null })
    const reader = response.body!.getReader()
    await reader.read()
    return reader
  }
  const connections = () => new Promise<number>(resolve => app.server.getConnections((_error, count) => resolve(count)))
  const isOver = () => until(async () => (await connections()) === 0, 'no connection is left')

  const read = await fetchStream()
  await app.push.close('user:7', 1012, 'restart')
  while (!(await read.read()).done);
  await isOver()
  // The fetch of Node then opens another one, in case that it is needed soon.
  const leaving = new AbortController()
  const left = await fetchStream(leaving.signal)
  leaving.abort()
  await assert.rejects(left.read(), { name: 'AbortError' })
  await isOver()
})

test('a publication comes as the same text as over the WebSocket, on all its topics', async t => {
  const { app, port } = await build(t)
  const reader = await openStream(t, port, `?user=7&${topicsOf('channel:a,b', 'channel:ünï').slice(1)}`)
  const { connection } = await reader.welcomed()
  const socket = await openConnection(app, '/ws/ünï?user=7')
  for (const topic of ['channel:ünï', 'user:7', 'all']) {
    await app.push.publish(topic, { type: 'n', payload: { text: 'a\nb "ü"' } })
    assert.deepEqual(await reader.message(), await socket.next('n'))
  }
  await app.push.publish('channel:a,b', { type: 'n' })
  assert.equal((await reader.message()).topic, 'channel:a,b')
  await app.push.publish(`connection:${connection}`, { type: 'n' })
  assert.equal((await reader.message()).topic, `connection:${connection}`)
})

test('a topic that is refused is told after the welcome, and the others come', async t => {
  const { app, port } = await build(t, {
    limits: { topics: 3 },
    authorize: (_connection, topic) => {
      if (topic === 'channel:broken') throw new Error('the database is away')
      return topic !== 'channel:secret'
    },
  })
  const reader = await openStream(t, port, topicsOf('channel:a', 'channel:secret', 'channel:broken', 'channel:d'))
  assert.deepEqual(Object.keys((await reader.welcomed()).topics).slice(2), ['channel:a'])
  const told = [await reader.message(), await reader.message(), await reader.message()]
  assert.deepEqual(
    told.map(({ type, payload }) => [type, (payload as { topic: string }).topic, (payload as { code: string }).code]),
    [
      ['error', 'channel:secret', 'PUSH_ERR_FORBIDDEN'],
      ['error', 'channel:broken', 'PUSH_ERR_HANDLER'],
      ['error', 'channel:d', 'PUSH_ERR_LIMIT'],
    ],
  )
  assert.doesNotMatch(reader.text, /database/)
  await app.push.publish('channel:a', { type: 'n' })
  assert.equal((await reader.message()).type, 'n')
})

test('what is no topic, no list of ids, or several topics in one is 400 and says so', async t => {
  const made = await build(t)
  const cases = [
    ['?topics=chanel:a', /"chanel:a" is no topic/],
    ['?topics=channel:a,b', /"b" is no topic/],
    ['?topics=%ff', /not percent-encoded/],
    ['?topics=channel%3Aa%2Cchannel%3Ab', /write the commas/],
    ['?since=7', /since in the URL must be/],
  ] as const
  for (const [query, message] of cases) {
    const refusal = await (await openStream(t, made.port, query)).refusal()
    assert.equal(refusal.status, 400, query)
    assert.match(refusal.message, message)
  }
  assert.equal(await refused(made, 'PUSH_ERR_TOPIC'), 3)
})

test('other methods are 405, and no upgrade gets through', async t => {
  const { port } = await build(t)
  for (const method of ['HEAD', 'PUT', 'PATCH', 'DELETE']) {
    const { status, headers } = await ask(port, method, {
      'content-type': 'application/nonsense',
      'content-length': '0',
    })
    assert.deepEqual([method, status, headers.allow], [method, 405, 'GET, POST'])
  }
  assert.equal((await refusalOf(`ws://127.0.0.1:${port}/ws/-/events`)).status, 404)
})

test('who is not authenticated is refused with 401, and nothing of the query is logged', async t => {
  const made = await build(t, {
    authenticate: request => ((request.query as { token?: string }).token === 'good' ? {} : null),
  })
  const reader = await openStream(t, made.port, '?token=bad-secret', { origin: `http://127.0.0.1:${made.port}` })
  const { status, code } = await reader.refusal()
  assert.deepEqual([status, code], [401, 'PUSH_ERR_UNAUTHENTICATED'])
  assert.equal((await openStream(t, made.port, '?token=good')).status, 200)
  assert.equal(await refused(made, 'PUSH_ERR_UNAUTHENTICATED'), 1)
  assert.doesNotMatch(JSON.stringify(made.log), /bad-secret/)
})

test('a ticket is taken once; a client that says who it is with a message says it in a header', async t => {
  const { app, port } = await build(t, {
    tickets: true,
    authenticate: 'message',
    onAuthenticate: ({ token }: { token: string }) => (token === 'good' ? { user: 8 } : null),
  })
  const ticket = await app.push.ticket({ user: '7' })
  assert.equal((await (await openStream(t, port, `?ticket=${ticket}`)).welcomed()).user, '7')
  assert.equal((await openStream(t, port, `?ticket=${ticket}`)).status, 401)
  const say = (payload: unknown) => ({
    'push-authenticate': encodeURIComponent(JSON.stringify({ type: 'authenticate', payload })),
  })
  assert.equal((await (await openStream(t, port, '', say({ token: 'good' }))).welcomed()).user, '8')
  assert.equal((await openStream(t, port, '', say({ token: 'bad' }))).status, 401)
  for (const headers of [{}, { 'push-authenticate': '%ff' }, { 'push-authenticate': '{"type":"ping"}' }]) {
    const refusal = await (await openStream(t, port, '', headers)).refusal()
    assert.equal(refusal.status, 401)
    assert.match(refusal.message, /push-authenticate/)
  }
})

test('origins: a page of another one is refused, one that may is answered so that its browser lets it read', async t => {
  const { port } = await build(t, { origins: ['https://app.example.com'] })
  const refusal = await openStream(t, port, '', { origin: 'https://evil.example' })
  assert.equal((await refusal.refusal()).code, 'PUSH_ERR_ORIGIN')
  assert.equal(refusal.headers['access-control-allow-origin'], undefined)
  const reader = await openStream(t, port, '', { origin: 'https://app.example.com' })
  assert.equal(reader.status, 200)
  assert.equal(reader.headers['access-control-allow-origin'], 'https://app.example.com')
  assert.equal(reader.headers['access-control-allow-credentials'], 'true')
  assert.equal(reader.headers.vary, 'Origin')
  const preflight = await ask(port, 'OPTIONS', { origin: 'https://app.example.com' })
  assert.equal(preflight.status, 204)
  assert.match(preflight.headers['access-control-allow-headers']!, /content-type.*push-authenticate/)
  assert.equal(preflight.headers['access-control-allow-methods'], 'GET, POST')
  const stranger = await ask(port, 'OPTIONS', { origin: 'https://evil.example' })
  assert.equal(stranger.headers['access-control-allow-origin'], undefined)
})

test('an image or a script of another site holds no connection of its visitor', async t => {
  const { app, port } = await build(t)
  for (const site of ['cross-site', 'same-site']) {
    assert.equal((await openStream(t, port, '', { 'sec-fetch-site': site, 'sec-fetch-mode': 'no-cors' })).status, 403)
  }
  assert.equal(app.push.connections.size, 0)
  for (const site of ['same-origin', 'none']) {
    assert.equal((await openStream(t, port, '', { 'sec-fetch-site': site })).status, 200)
  }
})

test('hooks of the host run before, and headers that they set are sent', async t => {
  const { port } = await buildApp(t, async app => {
    app.decorateRequest('visitor', '')
    app.addHook('onRequest', async (request, reply) => {
      reply.header('x-host', 'yes')
      ;(request as unknown as { visitor: string }).visitor = '42'
    })
    await app.register(pushBridge, {
      path: '/ws',
      sse: true,
      authenticate: request => ({ user: (request as unknown as { visitor: string }).visitor }),
    })
  })
  const reader = await openStream(t, port)
  assert.equal(reader.headers['x-host'], 'yes')
  assert.equal((await reader.welcomed()).user, '42')
})

test('onConnect and onDisconnect are called, and the connection says what carries it', async t => {
  const seen: unknown[] = []
  const { app, port } = await build(t, {
    onConnect: ({ transport }, request) => void seen.push(['connect', transport, request.method]),
    onDisconnect: ({ transport }, code) => void seen.push(['disconnect', transport, code]),
  })
  const reader = await openStream(t, port)
  await reader.welcomed()
  const socket = await openConnection(app, '/ws')
  const [stream, websocket] = [...app.push.connections.values()] as [PushConnection, PushConnection]
  assert.deepEqual([stream.transport, websocket.transport], ['sse', 'websocket'])
  stream.send('hello', { to: 'you' })
  assert.deepEqual(await reader.message(), { type: 'hello', payload: { to: 'you' } })
  stream.sendBinary(Buffer.from([1, 2]))
  assert.deepEqual(await reader.events.take(), { event: 'binary', data: 'AQI=' })
  stream.close(4000, 'enough')
  assert.deepEqual(await reader.closed(), { code: 4000, reason: 'enough' })
  await until(() => app.push.connections.size === 1, 'the stream is gone')
  const other = await openStream(t, port)
  await other.welcomed()
  other.leave()
  await until(() => app.push.connections.size === 1, 'the other is gone')
  await socket.close()
  assert.deepEqual(
    seen.filter(entry => (entry as string[])[1] === 'sse'),
    [
      ['connect', 'sse', 'GET'],
      ['disconnect', 'sse', 4000],
      ['connect', 'sse', 'GET'],
      ['disconnect', 'sse', 1006],
    ],
  )
})

test('commands reach a stream: subscribed, unsubscribed, closed', async t => {
  const { app, port } = await build(t)
  const reader = await openStream(t, port, '?user=7')
  await reader.welcomed()
  assert.equal((await app.push.subscribe('user:7', 'channel:later')).delivered, 1)
  assert.equal(((await reader.next('subscribed')).payload as { topic: string }).topic, 'channel:later')
  await app.push.publish('channel:later', { type: 'n' })
  assert.equal((await reader.message()).type, 'n')
  await app.push.unsubscribe('user:7', 'channel:later')
  assert.equal(((await reader.next('unsubscribed')).payload as { topic: string }).topic, 'channel:later')
  await app.push.close('user:7', 4001, 'bye')
  assert.deepEqual(await reader.closed(), { code: 4001, reason: 'bye' })
})

test('an identity that ends closes the stream with 4502', async t => {
  t.mock.timers.enable({ apis: ['Date'], now: Date.now() })
  const { port } = await build(t, {
    heartbeat: { interval: 200, timeout: 200 },
    authenticate: () => ({ user: 1, expires: Date.now() + 1500 }),
  })
  const reader = await openStream(t, port)
  await reader.welcomed()
  t.mock.timers.tick(1500)
  assert.equal((await reader.closed()).code, 4502)
})

test('app.close(): what is queued arrives, then reconnect and when, then 1012', async t => {
  const { app, port } = await build(t)
  const readers = await Promise.all([1, 2, 3].map(user => openStream(t, port, `?user=${user}`)))
  for (const reader of readers) await reader.welcomed()
  await app.push.publish('all', { type: 'last', receipt: true })
  const closing = app.close()
  for (const reader of readers) {
    assert.equal((await reader.message()).type, 'last')
    const { after } = (await reader.next('reconnect')).payload as { after: number }
    assert.ok(after <= 3)
    assert.equal(reader.retry, after)
    assert.deepEqual(await reader.closed(), { code: 1012, reason: 'restart' })
  }
  await within(closing, 'the end of the application')
  assert.equal(app.push.connections.size, 0)
})

test('a quiet stream gets a comment in each interval, and is not silent for that', async t => {
  const { app, port } = await build(t, { heartbeat: { interval: 100, timeout: 50 } })
  const reader = await openStream(t, port)
  await reader.welcomed()
  await reader.commented(5)
  await app.push.publish('all', { type: 'n' })
  assert.equal((await reader.message()).type, 'n')
})

test('a client that does not read is a slow consumer: it is cut off, told why when it reads, and counted', async t => {
  const { app, port } = await build(t, { limits: { buffer: 200_000, bufferTime: 20 } })
  const reader = await openStream(t, port, '?topics=channel:a')
  await reader.welcomed()
  reader.response.pause()
  const dropped = async () => (await app.push.status()).metrics['messages_dropped_total{slow_consumer}'] ?? 0
  const payload = 'x'.repeat(100_000)
  await until(async () => {
    await app.push.publish('channel:a', { type: 'n', payload })
    return (await dropped()) > 0
  }, 'messages are dropped')
  reader.response.resume()
  assert.deepEqual(await reader.closed(), { code: 4503, reason: 'slow consumer' })
  assert.match(reader.text.slice(-500), /"type":"reconnect"/)
  await until(() => app.push.connections.size === 0, 'it is gone')
})

test('a client that reads nothing for too long is given up with its socket full', async t => {
  const { app, port } = await build(t, { heartbeat: { interval: 200, timeout: 200 }, limits: { bufferTime: 600_000 } })
  const reader = await openStream(t, port, '?topics=channel:a')
  await reader.welcomed()
  reader.response.pause()
  const payload = 'x'.repeat(200_000)
  const isStalled = async () => (await app.push.status()).stalledConnections > 0
  // A kernel that is slow may take more of what waited, and then the socket is not full any more.
  await until(async () => {
    if (!(await isStalled())) await app.push.publish('channel:a', { type: 'n', payload })
    return app.push.connections.size === 0
  }, 'it is gone')
  assert.equal((await app.push.status()).metrics['connections_closed_total{1006}'], 1)
})

test('limits: connections, those of a user and an address, and unfinished upgrades count streams', async t => {
  const full = await build(t, { limits: { connections: 1 } })
  await (await openStream(t, full.port)).welcomed()
  const refusal = await openStream(t, full.port)
  assert.deepEqual([refusal.status, refusal.headers['retry-after']], [503, '1'])
  assert.equal((await refusalOf(`ws://127.0.0.1:${full.port}/ws`)).status, 503)

  const users = await build(t, { limits: { userConnections: 1 } })
  await openConnection(users.app, '/ws?user=7')
  assert.equal((await (await openStream(t, users.port, '?user=7')).refusal()).code, 'PUSH_ERR_USER_CONNECTIONS')

  const behind = await buildApp(
    t,
    app => app.register(pushBridge, { ...OPEN, sse: true, limits: { addressConnections: 1 } }),
    {
      trustProxy: true,
    },
  )
  const from = { 'x-forwarded-for': '192.0.2.1' }
  const first = await openStream(t, behind.port, '', from)
  await first.welcomed()
  assert.equal((await openStream(t, behind.port, '', from)).status, 429)
  first.leave()
  await until(() => behind.app.push.connections.size === 0, 'it has left')
  assert.equal((await openStream(t, behind.port, '', from)).status, 200)

  const pending = await build(t, {
    limits: { pendingUpgrades: 1, handshake: 60_000 },
    authenticate: () => new Promise(() => {}),
  })
  const waiting = makeRequest({ host: '127.0.0.1', port: pending.port, path: '/ws/-/events', agent: false }).on(
    'error',
    () => {},
  )
  t.after(() => waiting.destroy())
  waiting.end()
  await until(async () => (await pending.app.push.status()).pendingUpgrades === 1, 'one is waiting')
  assert.equal((await (await openStream(t, pending.port)).refusal()).code, 'PUSH_ERR_PENDING_UPGRADES')
  assert.equal(await refused(pending, 'PUSH_ERR_PENDING_UPGRADES'), 1)
  waiting.destroy()
  await until(async () => (await pending.app.push.status()).pendingUpgrades === 0, 'it has left')
})

for (const [limit, code, status] of [
  ['upgrades', 'UPGRADES', 503],
  ['addressUpgrades', 'ADDRESS_UPGRADES', 429],
] as const) {
  test(`limits.${limit}: too many streams a second are refused, whatever way they are asked for`, async t => {
    const options = { ...OPEN, sse: true, limits: { [limit]: 1 } }
    const made = await buildApp(t, app => app.register(pushBridge, options), { trustProxy: true })
    // That of this machine is not limited.
    const from = { 'x-forwarded-for': '192.0.2.1', 'content-type': 'application/json' }
    const began = performance.now()
    const visit = (_: unknown, i: number) =>
      i % 2 ? openStream(t, made.port, '', from) : postStream(t, made.port, {}, from)
    const readers = await Promise.all(Array.from({ length: 40 }, visit))
    // A burst of two, and one for each second that the machine took.
    const most = 2 + Math.ceil((performance.now() - began) / 1000)
    const [open, closed] = [readers.filter(it => it.status === 200), readers.filter(it => it.status !== 200)]
    assert.ok(open.length <= most && closed.length > 0, `${open.length} are open, ${most} may be`)
    for (const reader of closed) {
      const refusal = await reader.refusal()
      assert.deepEqual([refusal.status, refusal.code, reader.headers['retry-after']], [status, `PUSH_ERR_${code}`, '1'])
    }
    assert.equal(await refused(made, `PUSH_ERR_${code}`), closed.length)
  })
}

test('limits.nodeBuffer: what waits for all streams together has a bound, and who reads stays', async t => {
  // A connection may have an eighth of it, which nobody reaches here.
  const nodeBuffer = 3_200_000
  // Nobody is to be silent for too long, however long this takes.
  const heartbeat = { interval: 600_000, timeout: 600_000 }
  const limits = { buffer: 64 * 1024, bufferTime: 1_000_000, nodeBuffer }
  const { app, port } = await build(t, { heartbeat, limits })
  const living = await openStream(t, port, '?user=living')
  await living.welcomed()
  const publish = (user: string, bytes: number) =>
    app.push.publish(`user:${user}`, { type: 'n', payload: 'x'.repeat(bytes), receipt: true })
  const stalled = await Promise.all(Array.from({ length: 15 }, (_, user) => openStream(t, port, `?user=${user}`)))
  for (const [user, reader] of stalled.entries()) {
    await reader.welcomed()
    reader.response.pause()
    // The kernel takes some of it, how much is its own affair.
    await until(async () => {
      await publish(`${user}`, 50_000)
      return (await app.push.status()).stalledConnections > user
    }, 'the socket is full')
  }
  const counted = async (name: string) => (await app.push.status()).metrics[name] ?? 0
  assert.equal(await counted('messages_dropped_total{slow_consumer}'), 0)
  let most = 0
  for (let round = 0; round < 30; round++) {
    for (const user of [...stalled.keys(), 'living']) await publish(`${user}`, 10_000)
    most = Math.max(most, (await app.push.status()).heldBytes)
    assert.equal((await living.message()).type, 'n')
  }
  assert.ok(most > nodeBuffer / 2 && most <= nodeBuffer, `${most} bytes waited`)
  assert.ok((await counted('messages_dropped_total{slow_consumer}')) > 0)
  for (const reader of stalled) reader.response.resume()
  await until(async () => (await counted('connections_closed_total{4503}')) > 0, 'the slowest ones are closed')
  await publish('living', 10)
  assert.equal((await living.message()).type, 'n')
})

test('limits.handshake: nobody waits for ever for who this is', async t => {
  const made = await build(t, { limits: { handshake: 50 }, authenticate: () => new Promise(() => {}) })
  const { status, message } = await (await openStream(t, made.port)).refusal()
  assert.equal(status, 504)
  assert.match(message, /limits\.handshake/)
  assert.equal(await refused(made, 'PUSH_ERR_TIMEOUT'), 1)
  assert.equal((await made.app.push.status()).pendingUpgrades, 0)
})

test('a receipt counts a stream as reached; nobody waits for its acknowledgement', async t => {
  const { app, port } = await build(t, { publishTimeout: 60_000 })
  const reader = await openStream(t, port, '?topics=channel:a')
  await reader.welcomed()
  const socket = await openConnection(app, '/ws/a')
  const published = app.push.publish('channel:a', { type: 'n', ack: true })
  const { ack } = (await socket.next('n')) as unknown as { ack: string }
  socket.send('ack', { token: ack })
  const { delivered, acknowledged } = await within(published, 'the receipt')
  assert.deepEqual([delivered, acknowledged], [2, 1])
})

test('metrics and explain tell streams apart', async t => {
  const register = new Registry()
  const { app, port } = await build(t, { metrics: { register } })
  const reader = await openStream(t, port, '?topics=channel:a&user=7')
  await reader.welcomed()
  await openConnection(app, '/ws/a')
  const text = await register.metrics()
  assert.match(text, /^push_connections\{.*\} 2$/m)
  assert.match(text, /^push_sse_connections\{.*\} 1$/m)
  const { nodes } = await app.push.explain('channel:a')
  assert.deepEqual(
    nodes[0]!.members.map(({ user, transport }) => [user, transport]),
    [
      ['7', 'sse'],
      [null, undefined],
    ],
  )
})

test('options: sse is true, false or { retry }', async () => {
  const { parseOptions } = await import('../../src/options/parse.ts')
  assert.equal(parseOptions({ path: '/ws' }).sse, undefined)
  assert.equal(parseOptions({ path: '/ws', sse: false }).sse, undefined)
  assert.deepEqual(parseOptions({ path: '/ws', sse: true }).sse, { retry: 2000 })
  assert.throws(() => parseOptions({ path: '/ws', sse: 'yes' }), /option sse must be true, false or \{ retry \}/)
  assert.throws(() => parseOptions({ path: '/ws', sse: { retry: 0 } }), /option sse\.retry/)
  assert.throws(() => parseOptions({ path: '/ws', sse: { retri: 1 } }), /sse.*retri/)
})

test('a request behind another one on its connection gets no stream, and leaves nothing behind', async t => {
  const app = Fastify()
  let release = () => {}
  await app.register(pushBridge, { path: '/ws', sse: true })
  app.get(
    '/slow',
    () =>
      new Promise<string>(resolve => {
        release = () => resolve('late')
      }),
  )
  await app.listen({ port: 0, host: '127.0.0.1' })
  t.after(() => app.close())
  const { port } = app.server.address() as AddressInfo
  const refusals = async () => (await app.push.status()).metrics['upgrades_refused_total{PUSH_ERR_UNSUPPORTED}']
  for (const [count, first] of ['/ws/-/events', '/slow'].entries()) {
    const socket = connect(port, '127.0.0.1').on('error', () => {})
    t.after(() => socket.destroy())
    let text = ''
    socket.setEncoding('utf8').on('data', chunk => {
      text += chunk
    })
    const get = (path: string) => `GET ${path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n`
    socket.write(`${get(first)}${get('/ws/-/events')}`)
    await until(async () => (await refusals()) === count + 1, 'the second request is refused')
    release()
    await until(() => text.includes(first === '/slow' ? 'PUSH_ERR_UNSUPPORTED' : '"type":"welcome"'), 'an answer')
    socket.destroy()
  }
  await until(() => app.push.connections.size === 0, 'nobody is left')
  await within(app.close(), 'the end of the server')
})

/** As many topics as a connection may have, with names as long as they may be. */
const most = Array.from({ length: 128 }, (_, i) => `channel:${String(i).padStart(3, '0')}${'x'.repeat(197)}`)

test('a POST names as many topics and positions as a connection may have, and all recover', async t => {
  const { app, port } = await build(t, { history: { 'channel:*': { size: 10, ttl: 60 } } })
  const first = await postStream(t, port, { topics: most })
  assert.equal(first.headers['content-type'], 'text/event-stream')
  const { topics } = await first.welcomed()
  const since = Object.fromEntries(most.map(topic => [topic, topics[topic]!.id]))
  first.leave()
  await until(() => app.push.connections.size === 0, 'it has left')
  for (const topic of most) await app.push.publish(topic, { type: 'n', payload: topic })
  const second = await postStream(t, port, { topics: most, since })
  const welcome = await second.welcomed()
  assert.deepEqual(
    most.filter(topic => !welcome.topics[topic]!.recovered),
    [],
  )
  const came = new Set<unknown>()
  while (came.size < most.length) came.add((await second.next('n')).payload)
  assert.deepEqual([...came].sort(), most)
})

test('a POST whose body cannot be used is refused, and says why', async t => {
  const made = await build(t, { limits: { inbound: 1000 } })
  const json = { 'content-type': 'application/json' }
  const cases = [
    ['{"topics":["channel:a"]}', { 'content-type': 'text/plain' }, 415, 'CONTENT_TYPE', /comes as text\/plain/],
    ['topics=channel:a', { 'content-type': 'application/x-www-form-urlencoded' }, 415, 'CONTENT_TYPE', /x-www-form/],
    ['', {}, 400, 'BAD_MESSAGE', /must be a JSON object such as/],
    ['', json, 400, 'JSON', /is empty: send JSON such as \{"topics"/],
    ['{"topics":', json, 400, 'JSON', /broken JSON/],
    ['[]', json, 400, 'BAD_MESSAGE', /must be a JSON object/],
    ['{"topic":["channel:a"]}', json, 400, 'BAD_MESSAGE', /did you mean "topics"/],
    ['{"topics":"channel:a"}', json, 400, 'BAD_MESSAGE', /must be an array/],
    ['{"topics":["chanel:a"]}', json, 400, 'TOPIC', /"chanel:a" is no topic/],
    ['{"topics":[7]}', json, 400, 'TOPIC', /not a value of type number/],
    ['{"since":["channel:a"]}', json, 400, 'BAD_MESSAGE', /since in the body/],
    ['{"since":{"channel:a":7}}', json, 400, 'BAD_MESSAGE', /since in the body/],
    [JSON.stringify({ topics: most }), json, 413, 'TOO_LARGE', /larger than 1000 bytes \(limits\.inbound\)/],
  ] as const
  for (const [body, headers, status, code, message] of cases) {
    const refusal = await (await postStream(t, made.port, body, headers)).refusal()
    assert.deepEqual([refusal.status, refusal.code], [status, `PUSH_ERR_${code}`], body.slice(0, 40))
    assert.match(refusal.message, message)
  }
  assert.equal(await refused(made, 'PUSH_ERR_BAD_MESSAGE'), 6)
  const { pendingUpgrades } = await made.app.push.status()
  assert.deepEqual([pendingUpgrades, made.app.push.connections.size], [0, 0])
})

test('a POST is read by us, whatever the host does with bodies, and its hooks run', async t => {
  const { port } = await buildApp(t, async app => {
    app.removeAllContentTypeParsers()
    app.addContentTypeParser('application/json', { parseAs: 'string' }, async () => ({ topics: ['channel:host'] }))
    app.setErrorHandler((error, _request, reply) => reply.code(418).send(`the host says ${(error as Error).message}`))
    app.addHook('onRequest', async request => {
      if (request.headers['x-stop']) throw new Error('stop')
    })
    await app.register(pushBridge, { ...OPEN, sse: true })
  })
  const reader = await postStream(t, port, { topics: ['channel:a'] })
  assert.ok('channel:a' in (await reader.welcomed()).topics)
  const stopped = await postStream(t, port, {}, { 'content-type': 'application/json', 'x-stop': '1' })
  await stopped.ended
  assert.deepEqual([stopped.status, stopped.text], [418, 'the host says stop'])
  const other = await postStream(t, port, 'nonsense')
  assert.equal((await other.refusal()).code, 'PUSH_ERR_JSON')
})

test('origins: a page of another one is refused with a POST too', async t => {
  const { port } = await build(t)
  const headers = { 'content-type': 'application/json', origin: 'https://evil.example' }
  assert.equal((await (await postStream(t, port, {}, headers)).refusal()).code, 'PUSH_ERR_ORIGIN')
})

test('limits.handshake: a body that does not end is not waited for', async t => {
  const made = await build(t, { limits: { handshake: 100, connections: 100 } })
  const headers = { 'content-type': 'application/json', 'content-length': '100' }
  const { port } = made
  const request = makeRequest({ host: '127.0.0.1', port, path: '/ws/-/events', method: 'POST', headers, agent: false })
  request.on('error', () => {}).write('{"topics":')
  t.after(() => request.destroy())
  const [response] = await once(request, 'response')
  response.resume()
  assert.equal(response.statusCode, 504)
  await once(request, 'close')
  assert.equal(await refused(made, 'PUSH_ERR_TIMEOUT'), 1)
  assert.equal((await made.app.push.status()).pendingUpgrades, 0)
  const { log } = made
  assert.deepEqual(
    log.filter(({ level }) => level >= 40).map(({ msg }) => msg),
    [],
  )
})
