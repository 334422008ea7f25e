import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { connect } from 'node:net'
import { type TestContext, test } from 'node:test'
import { promisify } from 'node:util'
import redisPlugin from '@fastify/redis'
import websocket from '@fastify/websocket'
import Fastify, { type FastifyInstance } from 'fastify'
import { WebSocket } from 'ws'
import { acquireBroker } from '../src/broker/redis/pool.ts'
import pushBridge, { type PublishResult, type PushBridge, type PushBridgeOptions } from '../src/index.ts'
import { buildApp, buildPush, OPEN, openConnection } from './helpers/app.ts'
import { startRedis } from './helpers/redis.ts'
import { once, PATIENCE, until, within } from './helpers/waiting.ts'

async function registrationError(options: unknown): Promise<string> {
  const app = Fastify()
  try {
    await app.register(pushBridge, options as PushBridgeOptions)
    return 'registered'
  } catch (error) {
    assert.equal((error as { code: string }).code, 'PUSH_ERR_OPTIONS')
    return (error as Error).message
  } finally {
    await app.close()
  }
}

test('wrong options fail the registration with the path and the remedy', async () => {
  assert.match(await registrationError({}), /option path is missing: write for example path: "\/ws"/)
  assert.match(await registrationError({ path: '/ws', prefix: '/v1' }), /option prefix .* path: "\/v1\/ws"/)
  assert.match(await registrationError({ path: '/ws', redis: undefined }), /REDIS_URL not set\? Pass false/)
  assert.match(await registrationError({ path: '/ws', redis: true }), /@fastify\/redis is not registered/)
  assert.match(await registrationError({ path: '/ws', heartbeat: { intervall: 1 } }), /did you mean "interval"/)
  assert.match(await registrationError({ path: '/ws', limits: { buffer: '1mb' } }), /limits\.buffer must be integer/)
  assert.match(await registrationError({ path: '/ws', api: {} }), /keys or onRequest/)
  const both = { keys: ['a-key-of-16-chars'], onRequest: () => {} }
  assert.match(await registrationError({ path: '/ws', api: both }), /has keys and onRequest: give one of them/)
  assert.match(await registrationError({ path: '/ws', schemas: { x: { type: 5 } } }), /schemas\["x"\]|registered/)
})

test('a second registration needs another name, and then both work', async t => {
  const taken = Fastify()
  await taken.register(pushBridge, OPEN)
  await assert.rejects(
    async () => taken.register(pushBridge, { ...OPEN, path: '/b' }),
    /give this registration another name/,
  )
  await taken.close()
  const { app } = await buildApp(t, async host => {
    await host.register(pushBridge, OPEN)
    await host.register(pushBridge, { ...OPEN, path: '/admin/ws', name: 'adminPush' })
  })
  const one = await openConnection(app, '/ws?user=1')
  const two = await openConnection(app, '/admin/ws?user=1')
  const adminPush = (app as FastifyInstance & { adminPush: PushBridge }).adminPush
  assert.deepEqual([app.push.connections.size, adminPush.connections.size], [1, 1])
  const result = await adminPush.publish('user:1', { type: 'x', receipt: true })
  assert.deepEqual([result.nodes, result.delivered, result.complete], [1, 2, true])
  for (const connection of [one, two]) assert.equal((await connection.next()).type, 'x')
})

test('inside a context with a prefix the path has that prefix', async t => {
  const { app } = await buildApp(t, host =>
    host.register(async scope => void (await scope.register(pushBridge, OPEN)), { prefix: '/v1' }),
  )
  assert.equal((await openConnection(app, '/v1/ws/orders')).welcome.user, null)
})

const echo = async (app: FastifyInstance) => {
  app.get('/echo', { websocket: true }, socket => {
    socket.on('message', data => socket.send(`echo ${data}`))
  })
}

for (const order of ['before', 'after'] as const) {
  test(`shares the server with the host's @fastify/websocket registered ${order} us`, async t => {
    const { app, port, log } = await buildApp(t, async host => {
      if (order === 'before') await host.register(websocket)
      await host.register(pushBridge, OPEN)
      if (order === 'after') await host.register(websocket)
      await host.register(echo)
    })
    assert.equal(app.server.listenerCount('upgrade'), 2, 'one of @fastify/websocket and our watch')
    const socket = new WebSocket(`ws://127.0.0.1:${port}/echo`)
    t.after(() => socket.terminate())
    await once(socket, 'open')
    socket.send('hi')
    assert.equal(String((await once(socket, 'message'))[0]), 'echo hi')
    const connection = await openConnection(app, '/ws?user=1')
    await app.push.publish('user:1', { type: 'x' })
    assert.equal((await connection.next()).type, 'x')
    const warned = log.some(({ msg }) => msg.includes('register it with { options: { maxPayload: 65536 } }'))
    assert.equal(warned, order === 'before')
    assert.ok(!log.some(({ msg }) => /already assigned|upgrade failed/.test(msg)))
    const closing = app.close()
    assert.deepEqual((await connection.closed).code, 1012)
    await closing
  })
}

for (const [name, handleProtocols, forHost] of [
  ['its own server', undefined, undefined],
  ["the host's server", undefined, 'graphql-ws'],
  ["a server of the host's that selects", () => 'mine', 'mine'],
] as const) {
  test(`on ${name} only a subprotocol that is known is selected`, async t => {
    const { port } = await buildApp(t, async host => {
      if (forHost) await host.register(websocket, { options: handleProtocols ? { handleProtocols } : {} })
      // Each of them asks for the same server.
      await host.register(pushBridge, OPEN)
      await host.register(pushBridge, { ...OPEN, path: '/other', name: 'other' })
      if (forHost) host.get('/echo', { websocket: true }, () => {})
    })
    const select = async (path: string, offered: string[]) => {
      const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`, offered)
      t.after(() => socket.terminate())
      return once(socket, 'open').then(
        () => socket.protocol,
        (error: Error) => error.message,
      )
    }
    for (const path of ['/ws', '/other']) {
      assert.equal(await select(path, []), '')
      assert.equal(await select(path, ['push.json']), 'push.json')
      assert.equal(await select(path, ['graphql-ws', 'mine', 'push.json']), 'push.json')
      assert.equal(await select(path, ['graphql-ws', 'push.msgpack']), 'Server sent no subprotocol')
    }
    if (forHost) assert.equal(await select('/echo', ['graphql-ws', 'mine', 'push.json']), forHost)
  })
}

test('limits hold on a shared server that has none', async t => {
  const { app } = await buildApp(t, async host => {
    await host.register(websocket)
    await host.register(pushBridge, OPEN)
  })
  const connection = await openConnection(app, '/ws')
  connection.send('x', 'y'.repeat(70_000))
  assert.equal((await connection.closed).code, 1009)
})

test('the own server collects no more than limits.inbound', async t => {
  const { app } = await buildPush(t)
  const connection = await openConnection(app, '/ws')
  connection.send('x', 'y'.repeat(70_000))
  assert.equal((await connection.closed).code, 1009)
})

/** Half-closes like a client that got its answer, and waits until the server has closed as well. */
async function refusedAndClosed(port: number, path: string): Promise<void> {
  const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true })
  socket.on('error', () => {})
  socket.write(
    `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
  )
  await once(socket, 'data')
  socket.end()
  if (!socket.closed) await once(socket, 'close')
}

test('refused upgrades leave no socket behind, wherever they were refused', async t => {
  const { app, port } = await buildApp(t, async host => {
    host.addHook('onRequest', async (request, reply) => {
      if (request.url.startsWith('/early')) return reply.code(401).send('no')
      return undefined
    })
    await host.register(async scope => void (await scope.register(pushBridge, { ...OPEN, authenticate: () => null })))
    host.get('/plain', async () => 'http only')
  })
  const paths = ['/ws', '/early', '/missing', '/ws/a%20b', '/plain', '/ws/-/x']
  await Promise.all(Array.from({ length: 100 }, (_, i) => refusedAndClosed(port, paths[i % paths.length]!)))
  const open = promisify(app.server.getConnections.bind(app.server))
  // A client may know of the end before the server has taken notice.
  await until(async () => (await open()) === 0, 'no socket is open')
})

test('a handshake that a hook never answers is ended', async t => {
  const { app, port } = await buildPush(t, {
    limits: { handshake: 200 },
    authenticate: () => new Promise(() => {}),
  })
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`)
  const [error] = await once(socket, 'error')
  assert.match(error.message, /504/)
  assert.equal(app.push.connections.size, 0)
})

test('an upgrade that a hook never answers does not hold app.close() up', async t => {
  let asked = () => {}
  const isAsked = new Promise<void>(resolve => {
    asked = resolve
  })
  const { app, port } = await buildPush(t, {
    authenticate() {
      asked()
      return new Promise(() => {})
    },
  })
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`)
  const refused = once(socket, 'error')
  await within(isAsked, 'an upgrade that waits')
  await within(app.close(), 'the end, which does not wait for limits.handshake', 8000)
  assert.match((await refused)[0].message, /503/)
  assert.equal((await app.push.status()).metrics['upgrades_refused_total{PUSH_ERR_DRAINING}'], 1)
})

/** Asks for an upgrade of a target that no URL of a client would have; the answer, when the server has closed. */
async function upgradeRaw(port: number, target: string): Promise<string> {
  const socket = connect(port, '127.0.0.1').setEncoding('utf8')
  socket.on('error', () => {})
  socket.write(
    `GET ${target} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
  )
  let answer = ''
  socket.on('data', chunk => {
    answer += chunk
  })
  if (!socket.closed) await once(socket, 'close')
  return answer
}

/** Every way to write `/t/7/ws` that the router understands and a comparison of text does not. */
const DISGUISES = ['/t/7/ws', '/t/7/%77s', 'http://host.example/t/7/ws', 'http://host.example/t/7/%77s/orders?user=1']

function behindParameter(t: TestContext, options: Partial<PushBridgeOptions>) {
  const scope = async (inner: FastifyInstance) => void (await inner.register(pushBridge, { ...OPEN, ...options }))
  return buildApp(t, host => host.register(scope, { prefix: '/t/:tenant' }))
}

test('the handshake has its deadline however the URL is written: 504, counted once, whatever comes of it later', async t => {
  const waiting: ((identity: null) => void)[] = []
  let push: PushBridge | undefined
  const options: PushBridgeOptions = {
    path: '/ws',
    limits: { handshake: 200 },
    authenticate: ({ url }) => (url.includes('nobody') ? null : new Promise<null>(resolve => waiting.push(resolve))),
  }
  const scope = async (inner: FastifyInstance) => {
    await inner.register(pushBridge, options)
    push = inner.push
  }
  const { port } = await buildApp(t, host => host.register(scope, { prefix: '/t/:tenant' }))
  for (const answer of await Promise.all(DISGUISES.map(target => upgradeRaw(port, target)))) {
    assert.match(answer, /^HTTP\/1\.1 504 [\s\S]*"code":"PUSH_ERR_TIMEOUT"[\s\S]*limits\.handshake/)
  }
  for (const refuse of waiting) refuse(null)
  assert.match(await upgradeRaw(port, '/t/7/ws?user=nobody'), /^HTTP\/1\.1 401 /)
  const { metrics } = await push!.status()
  const refused = Object.entries(metrics).filter(([key]) => key.startsWith('upgrades_refused_total'))
  assert.deepEqual(refused, [
    ['upgrades_refused_total{PUSH_ERR_TIMEOUT}', DISGUISES.length],
    ['upgrades_refused_total{PUSH_ERR_UNAUTHENTICATED}', 1],
  ])
})

test('an upgrade that waits does not hold app.close() up, however the URL is written', async t => {
  let asked = 0
  let allAsked = () => {}
  const areAsked = new Promise<void>(resolve => {
    allAsked = resolve
  })
  const { app, port } = await behindParameter(t, {
    authenticate() {
      if (++asked === DISGUISES.length) allAsked()
      return new Promise(() => {})
    },
  })
  const answers = Promise.all(DISGUISES.map(target => upgradeRaw(port, target)))
  await within(areAsked, 'the upgrades that wait')
  await within(app.close(), 'the end, which does not wait for limits.handshake', 8000)
  for (const answer of await answers) assert.match(answer, /^HTTP\/1\.1 503 /)
})

test('app.close() ends upgrades that wait for hooks of the host, and answers each once', async t => {
  let asked = () => {}
  const isAsked = new Promise<void>(resolve => {
    asked = resolve
  })
  let answered = () => {}
  const isAnswered = new Promise<void>(resolve => {
    answered = resolve
  })
  const { app, port } = await buildApp(t, async host => {
    host.addHook('onRequest', async (request, reply) => {
      if (request.url === '/early') return reply.code(401).send('no')
      return undefined
    })
    host.addHook('onResponse', async request => {
      if (request.url === '/early') answered()
    })
    await host.register(pushBridge, OPEN)
    host.addHook('onRequest', async request => {
      if (request.url !== '/slow') return
      asked()
      await new Promise(() => {})
    })
    host.get('/slow', async () => 'never')
  })
  const early = upgradeRaw(port, '/early')
  const slow = upgradeRaw(port, '/slow')
  await within(Promise.all([isAsked, isAnswered]), 'an upgrade that waits, and one that was answered')
  await app.close()
  assert.deepEqual((await early).match(/HTTP\/1\.1 \d+/g), ['HTTP/1.1 401'])
  assert.deepEqual((await slow).match(/HTTP\/1\.1 \d+/g), ['HTTP/1.1 503'])
})

test('an upgrade that comes when nobody routes any more does not hold app.close() up', async t => {
  let late: Promise<string> | undefined
  const { app, port } = await buildApp(t, async host => {
    await host.register(pushBridge, OPEN)
    // In a later context, so that @fastify/websocket has stopped listening by then.
    await host.register(async scope => {
      scope.addHook('preClose', async () => {
        const isThere = once(app.server, 'upgrade')
        late = upgradeRaw(port, '/%77s')
        await isThere
      })
    })
  })
  await app.close()
  assert.equal(await late, '')
})

test('injectWS, which has no socket, is refused with what to use instead', async t => {
  const { app } = await buildApp(t, async host => {
    await host.register(websocket)
    await host.register(pushBridge, OPEN)
    await host.register(echo)
  })
  await assert.rejects(app.injectWS('/ws'), /Unexpected server response: 426/)
  const headers = { origin: 'http://127.0.0.1' }
  const page = await app.injectWS('/ws', { headers: { ...headers, host: '127.0.0.1' } })
  const [code, reason] = await once(page, 'close')
  assert.deepEqual(
    [code, String(reason)],
    [4400, 'injectWS has no socket: use openConnection of fastify-push-bridge/testing'],
  )
  assert.equal(app.push.connections.size, 0)
  // Routes of the host can be tested with it as before, while the watch looks on.
  const other = await app.injectWS('/echo')
  other.send('hi')
  assert.equal(String((await once(other, 'message'))[0]), 'echo hi')
  other.terminate()
})

test('registrations on one Redis agree on the largest publication, which Redis keeps for all, or are refused', async t => {
  const { url } = await startRedis(t)
  await buildPush(t, { redis: url })
  const options = { ...OPEN, redis: url, limits: { publication: 1000 } }
  assert.equal(
    await registrationError(options),
    'fastify-push-bridge: option limits.publication is 1000 here and 262144 in another registration with the same Redis and redisPrefix: ' +
      'it must be the same for the whole prefix, so use one value or another redisPrefix',
  )
  assert.equal(await registrationError({ ...options, redisPrefix: 'other:' }), 'registered')
  assert.equal(await registrationError({ ...OPEN, redis: url, publishTimeout: 10, noteRejected: false }), 'registered')
})

/** Two registrations in one application, on `/ws` and on `/other`, and what they publish with. */
async function buildTwo(t: TestContext, one: Partial<PushBridgeOptions>, other: Partial<PushBridgeOptions>) {
  const { app } = await buildApp(t, async host => {
    await host.register(pushBridge, { ...OPEN, ...one })
    await host.register(pushBridge, { ...OPEN, path: '/other', name: 'other', ...other })
  })
  return { app, other: (app as unknown as { other: PushBridge }).other }
}

/** A busy Redis may not answer within a short `publishTimeout`; then it is asked again. */
async function confirmed(publish: () => Promise<PublishResult>): Promise<PublishResult> {
  let result: PublishResult | undefined
  const isConfirmed = async () => {
    result = await publish().catch((error: Error & { code?: string }) => {
      if (!/UNCONFIRMED|BROKER_AWAY/.test(error.code ?? '')) throw error
      return undefined
    })
    return result !== undefined
  }
  await until(isConfirmed, 'an answer of Redis within the time of the registration')
  return result!
}

for (const [name, redis] of [
  ['Redis', startRedis],
  ['one process', () => undefined],
] as const) {
  test(`${name}: a publisher waits for receipts as long as its own registration says`, async t => {
    const url = (await redis(t))?.url ?? false
    const { app, other } = await buildTwo(
      t,
      { redis: url, publishTimeout: 60_000 },
      { redis: url, publishTimeout: 200 },
    )
    const [mute, alsoMute] = [await openConnection(app, '/ws?user=1'), await openConnection(app, '/other?user=2')]
    // Whoever holds the connection waits for it to acknowledge, three quarters of its own time.
    const late = await confirmed(() => other.publish('user:1', { type: 'x', ack: true }))
    assert.deepEqual([late.delivered, late.complete], [0, false])
    const inTime = await app.push.publish('user:2', { type: 'x', ack: true })
    assert.deepEqual([inTime.delivered, inTime.acknowledged, inTime.complete], [1, 0, true])
    for (const connection of [mute, alsoMute]) await connection.next('x')
  })
}

test('a publish ends by the time of its own registration, and one that may wait longer still gets its answer', async t => {
  const redis = await startRedis(t)
  const { app, other } = await buildTwo(
    t,
    { redis: redis.url, publishTimeout: PATIENCE },
    { redis: redis.url, publishTimeout: 100 },
  )
  redis.freeze()
  t.after(() => redis.thaw())
  const patient = app.push.publish('channel:x', { type: 'x' })
  await assert.rejects(other.publish('channel:x', { type: 'x' }), { code: 'PUSH_ERR_UNCONFIRMED' })
  await assert.rejects(other.ticket({ user: 1 }), { code: 'PUSH_ERR_BROKER_AWAY' })
  redis.thaw()
  assert.deepEqual(await patient, { topic: 'channel:x', nodes: 0 })
  // The link is the one that it was, and of use to both.
  assert.equal((await confirmed(() => other.publish('channel:x', { type: 'x' }))).nodes, 0)
})

test('noteRejected: each registration says what of its own topics may be kept', async t => {
  const redis = await startRedis(t)
  const { app } = await buildTwo(t, { redis: redis.url }, { redis: redis.url, noteRejected: false })
  const [open, secret] = [await openConnection(app, '/ws/open'), await openConnection(app, '/other/secret')]
  for (const topic of ['channel:open', 'channel:secret']) {
    await redis.admin.publish(`push:${topic}`, 'junk')
    await redis.admin.publish(`push:${topic}`, '{"type":"done"}')
  }
  for (const connection of [open, secret]) assert.equal((await connection.next()).type, 'done')
  // Behind the notes, over the same link.
  await app.push.ticket({ user: 1 })
  const notes = (await redis.admin.lrange('push:rejected', 0, -1)).map(text => JSON.parse(text))
  assert.deepEqual(notes.map(({ topic, sample }) => [topic, sample]).toSorted(), [
    ['channel:open', 'junk'],
    ['channel:secret', undefined],
  ])
})

test('each registration on a link hears what becomes of it, until it is released', async t => {
  const redis = await startRedis(t)
  const heard: string[] = []
  const options = { node: 'n', prefix: 'push:', publishTimeout: 1000, noteRejected: true, maxBytes: 1000 }
  const news = new EventEmitter()
  const acquire = (name: string) =>
    acquireBroker(redis.url, options, {
      change(isUp) {
        heard.push(`${name} ${isUp ? 'up' : 'down'}`)
        news.emit(heard.at(-1)!)
      },
      lagging() {},
      refused() {},
      blind() {},
      lacks() {},
    })
  const one = acquire('one')
  const two = acquire('two')
  t.after(() => Promise.all([one.release(), two.release()]))
  await Promise.all([once(news, 'one up'), once(news, 'two up')])
  assert.deepEqual(heard.splice(0).toSorted(), ['one up', 'two up'])
  await one.release()
  await Promise.all([once(news, 'two down'), redis.admin.call('CLIENT', 'KILL', 'TYPE', 'pubsub')])
  assert.ok(!heard.some(line => line.startsWith('one')))
})

test('redis: URL, options, a client, and true for @fastify/redis share one link each', async t => {
  const redis = await startRedis(t)
  const { app } = await buildApp(t, async host => {
    await host.register(redisPlugin, { url: redis.url })
    const sources = [redis.url, { host: '127.0.0.1', port: redis.port }, redis.admin, true]
    for (const [i, source] of sources.entries()) {
      await host.register(pushBridge, {
        ...OPEN,
        path: `/ws${i}`,
        name: `push${i}`,
        redis: source,
      } as PushBridgeOptions)
    }
  })
  const nodes = async () => ((await redis.admin.pubsub('NUMSUB', 'push:nodes')) as [string, number])[1]
  // An application that is ready need not have reached Redis yet.
  await until(async () => (await nodes()) > 0, 'Redis sees the node')
  const connections = await Promise.all([0, 1, 2, 3].map(i => openConnection(app, `/ws${i}?user=1`)))
  const { push0 } = app as unknown as { push0: PushBridge }
  const result = await push0.publish('user:1', { type: 'x', receipt: true })
  assert.deepEqual([result.nodes, result.delivered, result.complete], [1, 4, true])
  for (const connection of connections) assert.equal((await connection.next()).type, 'x')
  await connections[0]!.close()
  // A client may know of the end before the node has taken notice.
  const delivered = async () => (await push0.publish('user:1', { type: 'y', receipt: true })).delivered
  await until(async () => (await delivered()) === 3, 'three connections')
  assert.equal(await nodes(), 1)
  await app.close()
  await until(async () => (await nodes()) === 0, 'Redis sees the node go')
})

test('the client module: ETag, 304, and CORS for allowed origins alone', async t => {
  const { port } = await buildPush(t, { origins: ['https://app.example.com'] })
  const url = `http://127.0.0.1:${port}/ws/client.js`
  const first = await fetch(url, { headers: { origin: 'https://app.example.com' } })
  assert.equal(first.status, 200)
  assert.match(first.headers.get('content-type') ?? '', /^text\/javascript/)
  assert.equal(first.headers.get('access-control-allow-origin'), 'https://app.example.com')
  assert.equal(first.headers.get('cross-origin-resource-policy'), 'cross-origin')
  assert.match(await first.text(), /export/)
  const again = await fetch(url, { headers: { 'if-none-match': first.headers.get('etag') ?? '' } })
  assert.equal(again.status, 304)
  const foreign = await fetch(url, { headers: { origin: 'https://evil.example' } })
  assert.equal(foreign.headers.get('access-control-allow-origin'), null)
})
