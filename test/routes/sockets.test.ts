import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { on } from 'node:events'
import { connect } from 'node:net'
import { test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import websocket from '@fastify/websocket'
import { Type } from 'typebox'
import { WebSocket } from 'ws'
import { clientHandler, pushBridge } from '../../src/index.ts'
import { buildApp, buildPush, OPEN, openConnection } from '../helpers/app.ts'
import { once, PATIENCE, until, within } from '../helpers/waiting.ts'

test('welcome is first and says who, where and what', async t => {
  const { app } = await buildPush(t)
  const connection = await openConnection(app, '/ws/orders?user=42')
  const { connection: id, user, node, heartbeat, topics } = connection.welcome
  assert.match(id, /^[\w-]{20}$/)
  assert.equal(user, '42')
  assert.equal(node, (await app.push.status()).node)
  assert.deepEqual(heartbeat, { interval: 25000, timeout: 10000 })
  assert.deepEqual(Object.keys(topics).sort(), ['all', 'channel:orders', `connection:${id}`, 'user:42'].sort())
})

test('<path>/ is <path>, and the channel in the path is percent-decoded once', async t => {
  const { app } = await buildPush(t)
  const plain = await openConnection(app, '/ws/')
  assert.equal(Object.keys(plain.welcome.topics).length, 2)
  const decoded = await openConnection(app, '/ws/caf%C3%A9%252F%2Fx')
  assert.ok('channel:café%2F/x' in decoded.welcome.topics)
})

test('the channel in the path is added to a list that authenticate() gives to everybody for one connection only', async t => {
  const everybody = ['channel:news' as const]
  const { app } = await buildPush(t, { authenticate: () => ({ join: everybody, allow: ['channel:*'] }) })
  const first = await openConnection(app, '/ws/secret')
  assert.ok('channel:secret' in first.welcome.topics)
  const second = await openConnection(app, '/ws')
  assert.deepEqual(Object.keys(second.welcome.topics).slice(2), ['channel:news'])
  assert.deepEqual(everybody, ['channel:news'])
})

test('messages sent in the same packet as the handshake are not lost', async t => {
  const { port } = await buildPush(t)
  const mask = (text: string) => Buffer.concat([Buffer.from([0x81, 0x80 | text.length, 0, 0, 0, 0]), Buffer.from(text)])
  const socket = connect(port, '127.0.0.1')
  t.after(() => socket.destroy())
  const handshake =
    'GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
    'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n'
  socket.write(
    Buffer.concat([Buffer.from(handshake), mask('{"type":"ping","ref":1}'), mask('{"type":"ping","ref":2}')]),
  )
  let received = ''
  socket.setTimeout(PATIENCE, () => socket.destroy(new Error(`nothing more came than ${received}`)))
  for await (const chunk of socket) {
    received += chunk
    if (received.includes('"ref":2')) break
  }
  assert.ok(received.indexOf('"welcome"') < received.indexOf('"ref":1'))
  assert.ok(received.indexOf('"ref":1') < received.indexOf('"ref":2'))
})

test('ping is answered with its payload and ref', async t => {
  const { app } = await buildPush(t)
  const connection = await openConnection(app, '/ws')
  connection.send('ping', { at: 12.5 }, 'a')
  assert.deepEqual(await connection.next(), { type: 'pong', payload: { at: 12.5 }, ref: 'a' })
  connection.send('ping')
  assert.deepEqual(await connection.next(), { type: 'pong', payload: {} })
})

test('subscribe, hear, unsubscribe, hear nothing', async t => {
  const { app } = await buildPush(t)
  const connection = await openConnection(app, '/ws')
  connection.send('subscribe', { topic: 'channel:a' }, 1)
  const subscribed = await connection.next()
  assert.deepEqual([subscribed.type, subscribed.ref], ['subscribed', 1])
  const { id } = subscribed.payload as { id: string }
  assert.deepEqual(subscribed.payload, { topic: 'channel:a', id, seq: 0 })
  assert.ok(id, 'a place to come back to, although nothing was recorded yet')
  await app.push.publish('channel:a', { type: 'x', payload: { n: 1 }, seq: 7 })
  assert.deepEqual(await connection.next(), { type: 'x', payload: { n: 1 }, topic: 'channel:a', seq: 7 })
  connection.send('unsubscribe', { topic: 'channel:a' }, 2)
  assert.deepEqual(await connection.next(), { type: 'unsubscribed', payload: { topic: 'channel:a' }, ref: 2 })
  assert.deepEqual(await app.push.publish('channel:a', { type: 'x', receipt: true }), {
    topic: 'channel:a',
    nodes: 0,
    delivered: 0,
    skipped: 0,
    complete: true,
  })
})

test('client messages go to typed handlers; their answer is the reply, when one was asked for', async t => {
  const { app } = await buildPush(t, {
    handlers: {
      add: clientHandler(Type.Object({ a: Type.Number(), b: Type.Number() }), ({ a, b }) => a + b),
      quiet: clientHandler(Type.Object({}), () => undefined),
      fails: clientHandler(Type.Object({}), () => {
        throw new Error('secret detail')
      }),
      refuses: clientHandler(Type.Object({}), () => {
        throw Object.assign(new Error('no such order'), { statusCode: 404, code: 'NO_ORDER' })
      }),
    },
  })
  const connection = await openConnection(app, '/ws')
  connection.send('add', { a: 1, b: 2 })
  connection.send('add', { a: 1, b: 2 }, 1)
  assert.deepEqual(await connection.next(), { type: 'reply', payload: 3, ref: 1 })
  connection.send('quiet', {}, 2)
  assert.deepEqual(await connection.next(), { type: 'reply', payload: null, ref: 2 })
  const errors = [
    ['add', { a: 1 }, 'PUSH_ERR_SCHEMA', /payload must have required properties b/],
    ['fails', {}, 'PUSH_ERR_HANDLER', /^the handler failed$/],
    ['refuses', {}, 'NO_ORDER', /^no such order$/],
    ['nobody', {}, 'PUSH_ERR_UNKNOWN_TYPE', /no handler is registered for the type "nobody"/],
    ['constructor', {}, 'PUSH_ERR_UNKNOWN_TYPE', /"constructor"/],
    ['subscribe', {}, 'PUSH_ERR_TOPIC', /payload\.topic: a topic is a string/],
    ['subscribe', { topic: 'orders' }, 'PUSH_ERR_TOPIC', /"orders" is no topic: write channel:NAME/],
    ['subscribe', { topic: 'user:7' }, 'PUSH_ERR_FORBIDDEN', /authenticate\(\) allowed, and there is no authorize/],
    ['subscribe', { topic: 'connection:x' }, 'PUSH_ERR_FORBIDDEN', /connection:x is not this connection/],
    ['unsubscribe', { topic: 'all' }, 'PUSH_ERR_TOPIC', /belongs to every connection/],
  ] as const
  for (const [type, payload, code, text] of errors) {
    connection.send(type, payload, 'r')
    const { type: answer, payload: error, ref } = await connection.next()
    assert.deepEqual([answer, (error as { code: string }).code, ref], ['error', code, 'r'])
    assert.match((error as { message: string }).message, text)
  }
})

test('authorize decides, and a refusal says that it did', async t => {
  const asked: unknown[] = []
  const { app } = await buildPush(t, {
    authorize(connection, topic, { since }) {
      asked.push([connection.user, topic, since])
      return topic === 'channel:yes'
    },
  })
  const connection = await openConnection(app, '/ws?user=9')
  connection.send('subscribe', { topic: 'channel:yes', since: 'x' }, 1)
  assert.equal((await connection.next()).type, 'subscribed')
  connection.send('subscribe', { topic: 'channel:no' }, 2)
  const { payload } = await connection.next('error')
  assert.deepEqual(payload, { code: 'PUSH_ERR_FORBIDDEN', message: 'channel:no was refused by authorize()' })
  assert.deepEqual(asked, [
    ['9', 'channel:yes', 'x'],
    ['9', 'channel:no', undefined],
  ])
})

test('unusable messages get an error each, and ten in a row the end', async t => {
  const { app, port } = await buildPush(t)
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`)
  const messages: { type: string; payload: { code: string; message: string } }[] = []
  socket.on('message', data => messages.push(JSON.parse(String(data))))
  await once(socket, 'open')
  const bad = [
    '{',
    '[]',
    '"x"',
    'null',
    '{}',
    '{"type":5}',
    '{"type":"a b"}',
    '{"type":"a","ref":{}}',
    '{"type":"a","ref":1.5}',
  ]
  for (const text of [...bad, '{"type":"ping"}', ...bad, '1']) socket.send(text)
  const [code, reason] = await once(socket, 'close')
  assert.deepEqual([code, String(reason)], [4400, '10 unusable messages in a row'])
  const errors = messages.filter(({ type }) => type === 'error').map(({ payload }) => payload)
  assert.equal(errors.length, 19)
  assert.ok(errors.every(error => error.code === 'PUSH_ERR_BAD_MESSAGE'))
  assert.equal(errors[0]!.message, 'the message is not JSON')
  assert.equal((await app.push.status()).metrics['messages_refused_total{PUSH_ERR_BAD_MESSAGE}'], 19)
})

test('a mistyped key is named, and what it stands in has no effect', async t => {
  const { app } = await buildPush(t)
  const connection = await openConnection(app, '/ws')
  const refused = async (type: string, payload: unknown) => {
    connection.send(type, payload, 1)
    const { type: answer, payload: error, ref } = await connection.next()
    assert.deepEqual([answer, ref], ['error', 1])
    const { code, message } = error as { code: string; message: string }
    assert.equal(code, 'PUSH_ERR_BAD_MESSAGE')
    return message
  }
  const topic = 'channel:x'
  assert.equal(await refused('subscribe', { topic, sicne: 'a' }), 'payload: unknown key "sicne": did you mean "since"?')
  assert.deepEqual([...app.push.connections.of(topic)], [])
  connection.send('subscribe', { topic }, 2)
  assert.equal((await connection.next()).type, 'subscribed')
  assert.equal(await refused('unsubscribe', { topic, since: 'a' }), 'payload: unknown key "since": known are topic')
  assert.equal(await refused('ack', { token: 'a', topic }), 'payload: unknown key "topic": known are token')
  assert.equal([...app.push.connections.of(topic)].length, 1)
})

test('welcome says the version of the protocol and what this node offers', async t => {
  const { app } = await buildPush(t)
  const { welcome } = await openConnection(app, '/ws')
  assert.deepEqual([welcome.protocol, welcome.features], [1, ['ack', 'recovery', 'history']])
  const { app: other } = await buildPush(t, { onBinary() {} })
  assert.deepEqual((await openConnection(other, '/ws')).welcome.features, ['ack', 'recovery', 'history', 'binary'])
})

test('too large closes with 1009, and a flood with 4429', async t => {
  const { app } = await buildPush(t, { limits: { inbound: 1000, messages: 5 } })
  const large = await openConnection(app, '/ws')
  large.send('x', 'y'.repeat(1000))
  assert.equal((await large.closed).code, 1009)
  const flood = await openConnection(app, '/ws')
  // Many more than fill up again while a slow machine takes them.
  for (let i = 0; i < 500; i++) flood.send('x', {})
  const { code, reason } = await flood.closed
  assert.deepEqual([code, reason], [4429, 'more than 5 messages a second'])
})

test('binary in and out; without a handler an error', async t => {
  const { app } = await buildPush(t, {
    onBinary: (bytes, connection) => connection.sendBinary(Buffer.from(bytes).reverse()),
  })
  const connection = await openConnection(app, '/ws')
  connection.sendBinary(Buffer.from([1, 2, 255]))
  assert.deepEqual(await connection.next(), { type: 'binary', payload: Buffer.from([255, 2, 1]) })
  const { app: deaf } = await buildPush(t)
  const other = await openConnection(deaf, '/ws')
  other.sendBinary(Buffer.from([1]))
  assert.equal(((await other.next()).payload as { code: string }).code, 'PUSH_ERR_NO_BINARY')
})

test('a silent connection is closed with 4504, one that answers pings is not', async t => {
  // Long enough for an answer, also where the network of the kernel has to wait for a processor.
  const { app, port } = await buildPush(t, { heartbeat: { interval: 200, timeout: 1000 } })
  const lively = await openConnection(app, '/ws')
  const mute = new WebSocket(`ws://127.0.0.1:${port}/ws`, { autoPong: false })
  const since = performance.now()
  const [code] = await once(mute, 'close')
  assert.equal(code, 4504)
  const silent = performance.now() - since
  assert.ok(silent > 200, `closed after ${silent} ms`)
  lively.send('ping')
  assert.equal((await lively.next('pong')).type, 'pong')
})

test('a connection ends when its identity expires', async t => {
  t.mock.timers.enable({ apis: ['Date'], now: Date.now() })
  const { app } = await buildPush(t, {
    heartbeat: { interval: 200, timeout: 200 },
    authenticate: () => ({ user: 1, expires: Date.now() + 1000 }),
  })
  const connection = await openConnection(app, '/ws')
  t.mock.timers.tick(1000)
  assert.deepEqual(await connection.closed, { code: 4502, reason: 'expired' })
})

test('hooks see the connection come and go, and one that throws harms nobody', async t => {
  const seen: unknown[] = []
  let gone = (_: unknown) => {}
  const left = new Promise(resolve => {
    gone = resolve
  })
  const { app, log } = await buildPush(t, {
    onConnect(connection, request) {
      seen.push([connection.user, request.url, connection.topics.has('all')])
      connection.send('hello', { from: 'onConnect' })
      throw new Error('onConnect broke')
    },
    onDisconnect(connection, code, reason) {
      gone([connection.user, code, reason])
      throw new Error('onDisconnect broke')
    },
  })
  const connection = await openConnection(app, '/ws?user=5')
  assert.deepEqual(await connection.next(), { type: 'hello', payload: { from: 'onConnect' } })
  await connection.close()
  assert.deepEqual(await within(left, 'onDisconnect'), ['5', 1000, ''])
  assert.deepEqual(seen, [['5', '/ws?user=5', true]])
  assert.ok(log.some(({ msg }) => msg === 'push: onConnect failed'))
  assert.equal(app.push.connections.size, 0)
})

test('a payload that cannot be written is refused, whatever the message, and ends nothing', async t => {
  const { app, port } = await buildPush(t)
  const deep = '['.repeat(30_000) + ']'.repeat(30_000)
  // What overflows the stack of Node 20 to 24 when it is written, Node 26 writes.
  const answer = (ref: number) => (canWrite(deep) ? ['pong', ref, undefined] : ['error', ref, 'PUSH_ERR_BAD_MESSAGE'])
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`)
  t.after(() => socket.terminate())
  const received: { type: string; ref?: number; payload: { code: string } }[] = []
  // With the handshake, before the welcome, and after it.
  socket.on('open', () => socket.send(`{"type":"ping","payload":${deep},"ref":1}`))
  for await (const [data] of on(socket, 'message', { signal: AbortSignal.timeout(PATIENCE) })) {
    received.push(JSON.parse(String(data)))
    if (received.length === 2) socket.send(`{"type":"ping","payload":${deep},"ref":2}`)
    if (received.length === 3) socket.send('{"type":"ping","payload":[],"ref":3}')
    if (received.length === 4) break
  }
  assert.deepEqual(received.map(({ type, ref, payload }) => [type, ref, payload.code]).slice(1), [
    answer(1),
    answer(2),
    ['pong', 3, undefined],
  ])
  assert.equal(app.push.connections.size, 1)
})

function canWrite(json: string): boolean {
  const value: unknown = JSON.parse(json)
  try {
    return JSON.stringify(value).length > 0
  } catch {
    return false
  }
}

test('over a compressed socket the buffer has its bound as well', async t => {
  // An eighth of the node's: no more than the budget itself waits at any time.
  const limits = { buffer: 512 * 1024, nodeBuffer: 8 * 512 * 1024 }
  const servers: WebSocket[] = []
  const { app, port } = await buildApp(t, async scope => {
    await scope.register(websocket, { options: { perMessageDeflate: { threshold: 0 } } })
    scope.websocketServer.on('connection', server => servers.push(server))
    await scope.register(pushBridge, { ...OPEN, limits, slowConsumer: 'drop' })
  })
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`)
  t.after(() => socket.terminate())
  const types: string[] = []
  const done = new Promise<void>(resolve => {
    socket.on('message', data => {
      const { type } = JSON.parse(String(data)) as { type: string }
      types.push(type)
      if (type === 'last') resolve()
    })
  })
  await once(socket, 'message')
  // Who reads may be as fast as the publisher.
  socket.pause()
  let most = 0
  for (let round = 0; round < 4; round++) {
    // Given to the connection in one turn: whatever compresses has no time to take more of it.
    const payload = randomBytes(60_000).toString('base64')
    await Promise.all(Array.from({ length: 25 }, () => app.push.publish('all', { type: 'n', payload, receipt: true })))
    most = Math.max(most, servers[0]!.bufferedAmount)
  }
  socket.resume()
  await until(() => servers[0]!.bufferedAmount === 0, 'everything is written')
  await app.push.publish('all', { type: 'last' })
  await within(done, () => `the last message; came: ${types.slice(-5).join(', ')}`)
  assert.ok(most <= limits.buffer, `${most} bytes waited in ws`)
  assert.ok(types.includes('gap') && types.filter(type => type === 'n').length < 100, 'what had no room was told')
})

test('an open connection keeps neither request nor reply in memory', async t => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const held: WeakRef<object>[] = []
  const { port } = await buildApp(t, async app => {
    app.addHook('onRequest', async (request, reply) => {
      held.push(new WeakRef(request.raw), new WeakRef(reply.raw))
    })
    await app.register(pushBridge, OPEN)
  })
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`)
  t.after(() => socket.terminate())
  await once(socket, 'message')
  // What the turn of the welcome still holds is free some turns later.
  for (let turn = 0; turn < 5; turn++) {
    await new Promise(setImmediate)
    collect()
  }
  assert.deepEqual(
    held.map(reference => reference.deref()),
    [undefined, undefined],
  )
})

test('who waits for the response of an upgrade to close is told when the socket is gone', async t => {
  let closed = () => {}
  const close = new Promise<void>(resolve => {
    closed = resolve
  })
  const { app } = await buildApp(t, async scope => {
    scope.addHook('onRequest', async (_request, reply) => void reply.raw.on('close', closed))
    await scope.register(pushBridge, OPEN)
  })
  const connection = await openConnection(app, '/ws')
  await connection.close()
  await within(close, 'the response is closed')
})

test('an unsubscribe does not overtake the subscribe before it', async t => {
  let decide = () => {}
  const { app } = await buildPush(t, {
    authorize: () =>
      new Promise(resolve => {
        decide = () => resolve(true)
      }),
  })
  const connection = await openConnection(app, '/ws')
  connection.send('subscribe', { topic: 'channel:a' }, 1)
  connection.send('unsubscribe', { topic: 'channel:a' }, 2)
  connection.send('ping', {}, 3)
  await connection.next('pong')
  decide()
  const answers = [await connection.next(), await connection.next()]
  assert.deepEqual(answers.map(({ ref }) => ref).sort(), [1, 2])
  assert.equal((await app.push.publish('channel:a', { type: 'x', receipt: true })).delivered, 0)
  assert.equal(app.push.connections.get(connection.welcome.connection)?.topics.has('channel:a'), false)
})

test('a handler that rejects with nothing is an error like any other', async t => {
  const { app } = await buildPush(t, {
    handlers: { nothing: clientHandler(Type.Object({}), () => Promise.reject()) },
  })
  const connection = await openConnection(app, '/ws')
  connection.send('nothing', {}, 1)
  assert.equal(((await connection.next('error')).payload as { code: string }).code, 'PUSH_ERR_HANDLER')
})

test('closing with what cannot be sent is an error, and the connection lives on', async t => {
  const { app } = await buildPush(t, {
    handlers: {
      leave: clientHandler(Type.Object({}), (_payload, connection) => connection.close(4403, 'no '.repeat(60))),
    },
  })
  const connection = await openConnection(app, '/ws')
  connection.send('leave', {}, 1)
  const { payload } = await connection.next('error')
  assert.match((payload as { message: string }).message, /reason is longer than 123 bytes/)
  connection.send('ping')
  assert.equal((await connection.next('pong')).type, 'pong')
})

test('a payload that cannot be checked is rejected, and keeps nothing else back', async t => {
  const tree = Type.Cyclic({ N: Type.Array(Type.Ref('N')) }, 'N')
  const { app } = await buildPush(t, { schemas: { tree } })
  const connection = await openConnection(app, '/ws?user=1')
  const deep = JSON.parse('['.repeat(5000) + ']'.repeat(5000))
  const results = await app.push.publish([
    { to: 'user:1', type: 'ok', payload: 1 },
    { to: 'user:1', type: 'tree', payload: deep },
    { to: 'user:1', type: 'ok', payload: 2 },
  ])
  assert.equal(results.length, 3)
  assert.deepEqual([(await connection.next('ok')).payload, (await connection.next('ok')).payload], [1, 2])
})
