import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import websocket from '@fastify/websocket'
import { type ClientOptions, WebSocket } from 'ws'
import pushBridge, { type PushBridgeOptions } from '../../src/index.ts'
import { buildApp, buildPush, OPEN } from '../helpers/app.ts'
import { once, until } from '../helpers/waiting.ts'

const DEFLATE = { serverNoContextTakeover: true, clientNoContextTakeover: true }
const LARGE = { text: 'compress me, '.repeat(1000) }

interface Reader {
  socket: WebSocket
  tcp: Socket
  extensions: string
  messages: { type: string; payload: unknown }[]
}

/** `Sec-WebSocket-Extensions` of the answer, and all messages. */
async function open(t: TestContext, port: number, path = '/ws/room', options: ClientOptions = {}): Promise<Reader> {
  const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`, options)
  t.after(() => socket.terminate())
  const reader: Reader = { socket, tcp: undefined as never, extensions: '', messages: [] }
  socket.on('message', data => reader.messages.push(JSON.parse(String(data))))
  socket.once('upgrade', (response: IncomingMessage) => {
    reader.tcp = response.socket
    reader.extensions = response.headers['sec-websocket-extensions'] ?? ''
  })
  await once(socket, 'open')
  await until(() => reader.messages.some(({ type }) => type === 'welcome'), 'the welcome')
  return reader
}

const got = (reader: Reader, type: string) => reader.messages.filter(message => message.type === type)

test('large messages are compressed for who offers it, and only for them', async t => {
  const { app, port } = await buildPush(t, { compression: true })
  const [offering, plain] = [await open(t, port), await open(t, port, '/ws/room', { perMessageDeflate: false })]
  assert.match(offering.extensions, /permessage-deflate/)
  assert.match(offering.extensions, /server_no_context_takeover/)
  assert.match(offering.extensions, /client_no_context_takeover/)
  assert.equal(plain.extensions, '')
  const before = [offering, plain].map(({ tcp }) => tcp.bytesRead)
  await app.push.publish('channel:room', { type: 'large', payload: LARGE })
  await app.push.publish('channel:room', { type: 'small', payload: 1 })
  for (const reader of [offering, plain]) await until(() => got(reader, 'small').length === 1, 'both messages')
  for (const reader of [offering, plain]) assert.deepEqual(got(reader, 'large')[0]!.payload, LARGE)
  const [compressed, whole] = [offering, plain].map(({ tcp }, i) => tcp.bytesRead - before[i]!)
  assert.ok(compressed! < whole! / 20, `${compressed} of ${whole} bytes`)
})

test('nothing is compressed because nobody set an option', async t => {
  const { port } = await buildPush(t)
  assert.equal((await open(t, port)).extensions, '')
})

test('a client with a smaller window than others gets what fits into it', async t => {
  const { app, port } = await buildPush(t, { compression: true })
  const reader = await open(t, port, '/ws/room', { perMessageDeflate: { serverMaxWindowBits: 9 } })
  assert.match(reader.extensions, /server_max_window_bits=9/)
  await app.push.publish('channel:room', { type: 'large', payload: LARGE })
  await until(() => got(reader, 'large').length === 1, 'the message')
})

test('what clients send compressed is read, up to the limit of what it becomes', async t => {
  const seen: number[] = []
  const { port } = await buildPush(t, { compression: true, onBinary: bytes => void seen.push(bytes.length) })
  const reader = await open(t, port)
  reader.socket.send(Buffer.alloc(60_000))
  await until(() => seen.length === 1, 'the message')
  const closed = once(reader.socket, 'close')
  // Some 50 kB on the wire.
  reader.socket.send(Buffer.alloc(50 * 2 ** 20))
  const [code] = await closed
  assert.equal(code, 1009)
  assert.deepEqual(seen, [60_000])
})

test('a client that pauses gets every message, in order', async t => {
  const compression = { threshold: 64, level: 1 }
  const { app, port } = await buildPush(t, { compression, limits: { bufferTime: 600_000 } })
  const reader = await open(t, port)
  reader.socket.pause()
  // Half of it compresses badly: the socket is full after some of them.
  const noise = randomBytes(15_000).toString('base64')
  for (let n = 0; n < 400; n++)
    await app.push.publish('channel:room', { type: 'n', payload: { n, noise: noise.slice(n), same: 'a'.repeat(3000) } })
  await until(async () => (await app.push.status()).heldBytes > 0, 'messages wait')
  reader.socket.resume()
  await until(() => got(reader, 'n').length === 400, 'all of them')
  assert.deepEqual(
    got(reader, 'n').map(({ payload }) => (payload as { n: number }).n),
    Array.from({ length: 400 }, (_, n) => n),
  )
})

test('a server of the host must allow it', async t => {
  const build = (perMessageDeflate: object | boolean) =>
    buildApp(t, async app => {
      await app.register(websocket, { options: { maxPayload: 65_536, perMessageDeflate } })
      await app.register(pushBridge, { ...OPEN, compression: true })
    })
  for (const other of [false, { ...DEFLATE, serverMaxWindowBits: 10 }]) {
    await assert.rejects(build(other), /option compression needs \{ options: \{ perMessageDeflate/)
  }
  const { app, port } = await build(DEFLATE)
  const reader = await open(t, port)
  await app.push.publish('channel:room', { type: 'large', payload: LARGE })
  await until(() => got(reader, 'large').length === 1, 'the message')
  assert.deepEqual(got(reader, 'large')[0]!.payload, LARGE)
})

test('a server that the host registers later decides, and the log says so', async t => {
  const { app, port, log } = await buildApp(t, async app => {
    await app.register(pushBridge, { ...OPEN, compression: true })
    await app.register(websocket, { options: { maxPayload: 65_536, perMessageDeflate: true } })
  })
  assert.ok(log.some(({ msg }) => msg.includes('compression is as it says')))
  const reader = await open(t, port)
  await app.push.publish('channel:room', { type: 'large', payload: LARGE })
  await until(() => got(reader, 'large').length === 1, 'the message')
})

const WRONG: [PushBridgeOptions['compression'] | string, RegExp][] = [
  ['yes', /option compression must be true, false or \{ threshold, level \}/],
  [{ threshold: 1 }, /option compression\.threshold must be >= 64/],
  [{ level: 10 }, /option compression\.level must be <= 9/],
  [{ treshold: 100 } as never, /compression\.?: ?unknown key "treshold": did you mean "threshold"/],
]

for (const [compression, message] of WRONG) {
  test(`the option cannot be ${JSON.stringify(compression)}`, async t => {
    await assert.rejects(buildPush(t, { compression: compression as never }), message)
  })
}
