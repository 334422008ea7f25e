import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Type } from 'typebox'
import { WebSocket } from 'ws'
import { clientHandler, type PushBridgeOptions } from '../../src/index.ts'
import type { Codec } from '../../src/protocol/codecs/codec.ts'
import { msgpack } from '../../src/protocol/codecs/msgpack.ts'
import { protobuf } from '../../src/protocol/codecs/protobuf.ts'
import { buildApp, buildPush, OPEN, openConnection } from '../helpers/app.ts'
import { Inbox, once, within } from '../helpers/waiting.ts'

const ALL: Partial<PushBridgeOptions> = { codecs: ['json', 'msgpack', 'protobuf'] }
const CODECS = [msgpack, protobuf] as const

test('a client gets the first subprotocol of its list that the registration has', async t => {
  const { port } = await buildApp(t, async app => {
    const { default: pushBridge } = await import('../../src/index.ts')
    await app.register(pushBridge, { ...OPEN, ...ALL })
    await app.register(pushBridge, { ...OPEN, path: '/packed', name: 'packed', codecs: ['json', 'msgpack'] })
    await app.register(pushBridge, { ...OPEN, path: '/plain', name: 'plain' })
  })
  const select = async (path: string, ...offered: string[]) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`, offered)
    t.after(() => socket.terminate())
    const selected = new Promise<string>(resolve => {
      socket.on('error', error => resolve(error.message)).on('open', () => resolve(socket.protocol))
    })
    return within(selected, `an answer to ${offered}`)
  }
  assert.equal(await select('/ws', 'push.msgpack'), 'push.msgpack')
  assert.equal(await select('/ws', 'push.protobuf', 'push.json'), 'push.protobuf')
  assert.equal(await select('/ws', 'push.json', 'push.protobuf'), 'push.json')
  assert.equal(await select('/ws', 'graphql-ws', 'push.cbor', 'push.msgpack'), 'push.msgpack')
  assert.equal(await select('/ws'), '')
  const NONE = 'Server sent no subprotocol'
  assert.equal(await select('/ws', 'push.cbor'), NONE)
  assert.equal(await select('/packed', 'push.protobuf'), NONE)
  assert.equal(await select('/packed', 'push.protobuf', 'push.msgpack'), 'push.msgpack')
  assert.equal(await select('/plain', 'push.msgpack'), NONE)
  assert.equal(await select('/plain', 'push.msgpack', 'push.json'), 'push.json')
})

test('the option names only codecs that there are, and JSON is always one', async t => {
  for (const [codecs, problem] of [
    [['json', 'cbor'], /option codecs/],
    [['msgpack'], /option codecs/],
    [[], /option codecs/],
    [['json', 'json'], /option codecs/],
    ['msgpack', /option codecs/],
  ] as const) {
    await assert.rejects(buildPush(t, { codecs: codecs as never }), problem)
  }
})

for (const codec of CODECS) {
  const open = async (
    t: Parameters<typeof buildPush>[0],
    options: Partial<PushBridgeOptions> = {},
    path = '/ws/room?user=1',
  ) => {
    const { app, port, log } = await buildPush(t, { ...ALL, ...options })
    return { app, port, log, connection: await openConnection(app, path, { codec }) }
  }

  test(`${codec.name}: everything that a client and a node say to each other`, async t => {
    const { app, connection } = await open(t, {
      presence: { 'channel:*': { info: true } },
      authenticate: request => ({
        user: (request.query as { user: string }).user,
        info: { name: 'Ann' },
        allow: [{ topics: 'channel:*', actions: ['subscribe', 'presence', 'publish'] }],
      }),
      clientPublications: { said: { schema: Type.Object({ text: Type.String() }) } },
      handlers: {
        echo: clientHandler(Type.Unknown(), payload => payload),
        refuse: clientHandler(Type.Object({ n: Type.Integer() }), () => {
          throw Object.assign(new Error('no'), { statusCode: 409, code: 'TAKEN' })
        }),
      },
    })
    assert.deepEqual([connection.welcome.user, connection.welcome.protocol], ['1', 1])
    assert.ok('channel:room' in connection.welcome.topics)
    connection.send('ping', { at: 1.5 }, 'r')
    assert.deepEqual(await connection.next(), { type: 'pong', payload: { at: 1.5 }, ref: 'r' })
    connection.send('ping')
    assert.deepEqual(await connection.next(), { type: 'pong', payload: {} })
    connection.send('subscribe', { topic: 'channel:b', presence: true }, 1)
    const { payload, ref } = (await connection.next('subscribed')) as { payload: Record<string, unknown>; ref: number }
    assert.deepEqual([payload.topic, ref], ['channel:b', 1])
    type Roster = { members?: object[]; joined?: { user: string; info: unknown }[] }
    let roster = payload.presence as Roster
    // Its own coming is told with the list or after it.
    const known = () => [...(roster.members ?? []), ...(roster.joined ?? [])] as { user: string; info: unknown }[]
    while (known().length === 0) roster = (await connection.next('push.presence')).payload as Roster
    assert.deepEqual([known()[0]!.user, known()[0]!.info], ['1', { name: 'Ann' }])
    connection.send('push.publish', { topic: 'channel:b', type: 'said', payload: { text: 'hé' } }, 2)
    const said = { type: 'said', payload: { text: 'hé' }, topic: 'channel:b', from: { user: '1' } }
    assert.deepEqual(await connection.next('said'), said)
    assert.deepEqual(await connection.next('push.published'), {
      type: 'push.published',
      payload: { topic: 'channel:b' },
      ref: 2,
    })
    connection.send('echo', [null, true, -1, 2 ** 40, 0.25, 'x', { deep: [{}] }], 3)
    const echoed = { type: 'reply', payload: [null, true, -1, 2 ** 40, 0.25, 'x', { deep: [{}] }], ref: 3 }
    assert.deepEqual(await connection.next('reply'), echoed)
    connection.send('refuse', { n: 1 }, 4)
    assert.deepEqual(await connection.next('error'), {
      type: 'error',
      payload: { code: 'TAKEN', message: 'no' },
      ref: 4,
    })
    connection.send('refuse', { n: 'one' }, 5)
    assert.equal(((await connection.next('error')).payload as { code: string }).code, 'PUSH_ERR_SCHEMA')
    connection.send('unsubscribe', { topic: 'channel:b' }, 6)
    assert.deepEqual(await connection.next('unsubscribed'), {
      type: 'unsubscribed',
      payload: { topic: 'channel:b' },
      ref: 6,
    })
    await app.push.close('user:1', 4000, 'bye')
    assert.deepEqual(await connection.closed, { code: 4000, reason: 'bye' })
  })

  test(`${codec.name}: an acknowledgement counts`, async t => {
    const { app, connection } = await open(t, { publishTimeout: 60_000 })
    const published = app.push.publish('user:1', { type: 'asked', ack: true })
    const { ack } = (await connection.next('asked')) as unknown as { ack: string }
    connection.send('ack', { token: ack })
    assert.equal((await published).acknowledged, 1)
  })

  test(`${codec.name}: what is wrong is an error that says what`, async t => {
    const { connection, port } = await open(t)
    connection.send('ping', {}, 'x'.repeat(65))
    const problem = async () => ((await connection.next('error')).payload as { message: string }).message
    assert.match(await problem(), /^ref is neither/)
    connection.send('a b', {}, 1)
    assert.match(await problem(), /^type is not 1 to 128/)
    const raw = new WebSocket(`ws://127.0.0.1:${port}/ws?user=2`, [codec.protocol])
    t.after(() => raw.terminate())
    const inbox = new Inbox<{ type: string; payload: { code: string; message: string }; ref?: unknown }>()
    raw.on('message', data => inbox.put(codec.decodeMessage(data as Buffer) as never))
    const closed = once(raw, 'close')
    assert.equal((await within(inbox.take(), 'the welcome')).type, 'welcome')
    const send = async (data: string | Uint8Array) => {
      raw.send(data)
      const { payload } = await inbox.take()
      return `${payload.code} ${payload.message}`
    }
    assert.equal(
      await send('{"type":"ping"}'),
      `PUSH_ERR_BAD_MESSAGE a text frame: this connection speaks ${codec.protocol}`,
    )
    assert.match(await send(Buffer.alloc(0)), /^PUSH_ERR_BAD_MESSAGE /)
    assert.match(await send(Uint8Array.of(0xff, 0xff, 0xff)), /^PUSH_ERR_BAD_MESSAGE /)
    const unknown =
      codec === msgpack
        ? codec.encodeMessage({ type: 'ask', paylaod: 1 })
        : Buffer.concat([codec.encodeMessage({ type: 'ask' }), Buffer.from([0x78, 1])])
    assert.match(await send(unknown), /^PUSH_ERR_BAD_MESSAGE unknown key "(paylaod|field 15)"/)
    assert.match(await send(codec.encodeMessage({ type: 'ask', topic: 'all' })), /unknown key "topic"/)
    assert.match(await send(codec.encodeMessage({ type: 'push.binary', payload: 'text' })), /push\.binary is not bytes/)
    assert.match(
      await send(codec.encodeMessage({ type: 'push.binary', payload: Buffer.from('x') })),
      /^PUSH_ERR_NO_BINARY/,
    )
    // Ten in a row end it, whatever they are.
    for (let i = 0; i < 10; i++) raw.send('x')
    assert.equal((await closed)[0], 4400)
  })

  test(`${codec.name}: bytes go through, and handlers see them as JSON clients would send them`, async t => {
    const seen: unknown[] = []
    const BYTES = Type.Object({ file: Type.Object({ $binary: Type.String() }) })
    const { app, connection } = await open(t, {
      schemas: { file: BYTES },
      clientPublications: { file: { schema: BYTES } },
      handlers: { keep: clientHandler(BYTES, payload => seen.push(payload) && { kept: Buffer.from([9, 8]) }) },
      onBinary: bytes => seen.push([...bytes]),
      authenticate: () => ({ user: '1', allow: [{ topics: 'channel:*', actions: ['subscribe', 'publish'] }] }),
    })
    const json = await openConnection(app, '/ws/room')
    const file = Uint8Array.of(0, 1, 255)
    const form = { $binary: 'AAH/' }
    const bytesIn = ({ payload }: { payload: unknown }) => Uint8Array.from((payload as { file: Uint8Array }).file)
    await app.push.publish('channel:room', { type: 'file', payload: { file } })
    assert.deepEqual(bytesIn(await connection.next('file')), file)
    assert.deepEqual((await json.next('file')).payload, { file: form })
    await app.push.publish('channel:room', { type: 'file', payload: { file: form } })
    assert.deepEqual(bytesIn(await connection.next('file')), file)
    await json.next('file')
    await assert.rejects(app.push.publish('channel:room', { type: 'file', payload: { file: 'text' } }), {
      code: 'PUSH_ERR_SCHEMA',
    })
    connection.send('push.publish', { topic: 'channel:room', type: 'file', payload: { file } })
    assert.deepEqual((await json.next('file')).payload, { file: form })
    assert.deepEqual(bytesIn(await connection.next('file')), file)
    connection.send('keep', { file }, 1)
    const { payload } = (await connection.next('reply')) as { payload: { kept: Uint8Array } }
    assert.deepEqual([...payload.kept], [9, 8])
    connection.sendBinary(file)
    connection.send('ping')
    await connection.next('pong')
    assert.deepEqual(seen, [{ file: form }, [0, 1, 255]])
    for (const open of app.push.connections.values()) open.sendBinary(Uint8Array.of(7))
    assert.deepEqual([...((await connection.next('binary')).payload as Uint8Array)], [7])
    assert.deepEqual([...((await json.next('binary')).payload as Uint8Array)], [7])
  })

  test(`${codec.name}: the first message may say who it is`, async t => {
    const { app, port } = await buildPush(t, {
      ...ALL,
      authenticate: 'message',
      onAuthenticate: payload => ((payload as { token?: string }).token === 'good' ? { user: '7' } : null),
    })
    const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`, [codec.protocol])
    t.after(() => socket.terminate())
    const inbox = new Inbox<{ type: string; payload: Record<string, unknown>; ref?: unknown }>()
    socket.on('message', data => inbox.put(codec.decodeMessage(data as Buffer) as never))
    await once(socket, 'open')
    socket.send(codec.encodeMessage({ type: 'ping', ref: 3 }))
    const { type, payload, ref } = await inbox.take()
    assert.deepEqual([type, payload.code, ref], ['error', 'PUSH_ERR_UNAUTHENTICATED', 3])
    socket.send(codec.encodeMessage({ type: 'authenticate', payload: { token: 'good' }, ref: 4 }))
    socket.send(codec.encodeMessage({ type: 'ping', ref: 5 }))
    assert.equal((await inbox.take()).payload.user, '7')
    assert.deepEqual((await inbox.take()).type, 'authenticated')
    assert.deepEqual((await inbox.take()).ref, 5)
    assert.equal([...app.push.connections.values()].length, 1)
  })

  test(`${codec.name}: a client message has no more than limits.inbound`, async t => {
    const { connection } = await open(t, { limits: { inbound: 1000 } })
    connection.send('x', Buffer.alloc(1000))
    assert.equal((await connection.closed).code, 1009)
  })

  test(`${codec.name}: large messages are compressed as well`, async t => {
    const { app, port } = await buildPush(t, { ...ALL, compression: true })
    const socket = new WebSocket(`ws://127.0.0.1:${port}/ws/room`, [codec.protocol], { perMessageDeflate: true })
    t.after(() => socket.terminate())
    const inbox = new Inbox<{ type: string; payload: string }>()
    socket.on('message', data => inbox.put(codec.decodeMessage(data as Buffer) as never))
    await inbox.take()
    assert.match(socket.extensions, /permessage-deflate/)
    const before = (socket as unknown as { _socket: { bytesRead: number } })._socket.bytesRead
    await app.push.publish('channel:room', { type: 'long', payload: 'x'.repeat(50_000) })
    assert.equal((await inbox.take()).payload.length, 50_000)
    const after = (socket as unknown as { _socket: { bytesRead: number } })._socket.bytesRead
    assert.ok(after - before < 5000, `${after - before} bytes`)
  })
}

test('a client that knows nothing of codecs gets the bytes that it always got', async t => {
  const { app, port } = await buildPush(t, ALL)
  const coded = await Promise.all(CODECS.map((codec: Codec) => openConnection(app, '/ws/room', { codec })))
  const texts = await Promise.all(
    [[], ['push.json']].map(async offered => {
      const socket = new WebSocket(`ws://127.0.0.1:${port}/ws/room`, offered)
      t.after(() => socket.terminate())
      const inbox = new Inbox<string>()
      socket.on('message', (data, isBinary) => inbox.put(`${isBinary} ${data}`))
      await inbox.take()
      return inbox
    }),
  )
  await app.push.publish('channel:room', { type: 'a', payload: { n: 1.5, list: [] }, seq: 3 })
  for (const inbox of texts) {
    assert.equal(await inbox.take(), 'false {"type":"a","payload":{"n":1.5,"list":[]},"topic":"channel:room","seq":3}')
  }
  for (const connection of coded) {
    const expected = { type: 'a', payload: { n: 1.5, list: [] }, topic: 'channel:room', seq: 3 }
    assert.deepEqual(await connection.next(), expected)
  }
  const { metrics } = await app.push.status()
  // Each got its welcome, and the publication was written once for each codec.
  assert.deepEqual([metrics['messages_recoded_total{msgpack}'], metrics['messages_recoded_total{protobuf}']], [2, 2])
})
