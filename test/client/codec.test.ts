import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { Type } from 'typebox'
import { WebSocket, WebSocketServer } from 'ws'
import { type ClientOptions, type Codec, connect as connectTo } from '../../src/client/index.ts'
import { msgpack } from '../../src/client/msgpack.ts'
import { protobuf } from '../../src/client/protobuf.ts'
import { clientHandler, type PushBridgeOptions } from '../../src/index.ts'
import { buildPush } from '../helpers/app.ts'
import { Inbox, once, PATIENCE } from '../helpers/waiting.ts'

function connect(t: TestContext, port: number, options: ClientOptions) {
  const client = connectTo(`http://127.0.0.1:${port}/ws?user=1`, { WebSocket, ...options })
  t.after(() => client.close())
  const messages = new Inbox<{ type: string; payload: unknown; topic?: string }>('a message')
  client.on('*', (_payload, message) => messages.put(message))
  const binary = new Inbox<ArrayBuffer>('bytes')
  client.listen('binary', bytes => binary.put(bytes))
  return { client, messages, binary }
}

for (const codec of [msgpack, protobuf]) {
  const build = (t: TestContext, options: Partial<PushBridgeOptions> = {}) =>
    buildPush(t, {
      codecs: ['json', codec.name],
      history: { 'channel:kept': { size: 9, ttl: 60 } },
      publishTimeout: PATIENCE,
      ...options,
    })

  test(`${codec.name}: a client does all that it does in JSON`, async t => {
    const asked: unknown[] = []
    const { app, port } = await build(t, {
      handlers: {
        echo: clientHandler(Type.Unknown(), payload => ({ echoed: payload })),
        file: clientHandler(Type.Unknown(), payload => asked.push(payload)),
      },
      onBinary: (bytes, connection) => connection.sendBinary(Buffer.from([...bytes].reverse())),
    })
    const { client, messages, binary } = connect(t, port, { codec, topics: ['channel:kept'] })
    const { topic, seq } = await client.subscribe('channel:kept')
    assert.deepEqual([topic, seq, client.state, client.welcome?.user], ['channel:kept', 0, 'open', '1'])
    await app.push.publish('channel:kept', { type: 'file', payload: { is: Uint8Array.of(1, 2) } })
    const { payload } = await messages.take()
    assert.deepEqual([...(payload as { is: Uint8Array }).is], [1, 2])
    assert.equal(typeof client.positions['channel:kept'], 'string')
    assert.deepEqual(await client.request('echo', { n: 1, at: new Date(0) }), {
      echoed: { n: 1, at: '1970-01-01T00:00:00.000Z' },
    })
    await client.request('file', Uint8Array.of(255))
    assert.deepEqual(asked, [{ $binary: '/w==' }])
    await assert.rejects(client.request('nobody'), { code: 'PUSH_ERR_UNKNOWN_TYPE' })
    for (const bytes of [
      Uint8Array.of(1, 2, 3),
      Uint8Array.of(0, 1, 2, 3, 4).subarray(1, 4),
      Uint8Array.of(1, 2, 3).buffer,
    ]) {
      assert.equal(client.send(bytes), true)
      assert.deepEqual([...new Uint8Array(await binary.take())], [3, 2, 1])
    }
    assert.throws(() => client.send(new Blob(['x'])), /takes no Blob/)
    const acknowledged = app.push.publish('user:1', { type: 'asked', ack: true })
    assert.equal((await messages.take()).type, 'asked')
    assert.equal((await acknowledged).acknowledged, 1)
    client.unsubscribe('channel:kept')
    await client.request('echo')
    assert.ok(![...app.push.connections.values()][0]!.topics.has('channel:kept'))
  })

  test(`${codec.name}: a client comes back and gets what it missed`, async t => {
    const { app, port } = await build(t)
    const { client, messages } = connect(t, port, { codec, topics: ['channel:kept'] })
    await client.subscribe('channel:kept')
    await app.push.publish('channel:kept', { type: 'n', payload: 1 })
    assert.equal((await messages.take()).payload, 1)
    const { positions } = client
    client.close()
    await app.push.publish('channel:kept', { type: 'n', payload: 2 })
    const again = connect(t, port, { codec, topics: ['channel:kept'], since: positions })
    assert.equal((await again.messages.take()).payload, 2)
  })

  test(`${codec.name}: the first message says who it is, and a node without the codec speaks JSON`, async t => {
    const message: Partial<PushBridgeOptions> = {
      authenticate: 'message',
      onAuthenticate: payload => ({ user: (payload as { name: string }).name }),
    }
    const [able, unable] = [await build(t, message), await buildPush(t, message)]
    for (const { app, port } of [able, unable]) {
      const { client, messages } = connect(t, port, { codec, authenticate: () => ({ name: '5' }) })
      const opened = new Inbox<string | null>('the welcome')
      client.listen('welcome', ({ user }) => opened.put(user))
      assert.equal(await opened.take(), '5')
      await app.push.publish('user:5', { type: 'hi', payload: { is: Buffer.from('hi') } })
      const { is } = (await messages.take()).payload as { is: Uint8Array | { $binary: string } }
      if (app === able.app) assert.deepEqual([...(is as Uint8Array)], [104, 105])
      else assert.deepEqual(is, { $binary: 'aGk=' })
    }
  })

  test(`${codec.name}: bytes that are no message are told as invalid`, async t => {
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1', handleProtocols: ([first]) => first ?? false })
    t.after(() => server.close())
    await once(server, 'listening')
    const { port } = server.address() as { port: number }
    server.on('connection', socket => {
      t.after(() => socket.terminate())
      socket.send(Buffer.from([0xc1, 0xff]))
      socket.send('text')
      socket.send(
        codec.encodeMessage({ type: 'welcome', payload: { connection: 'c', user: null, topics: {}, heartbeat: {} } }),
      )
    })
    const invalid = new Inbox<{ data: unknown }>('what is invalid')
    const { client } = connect(t, port, { codec: codec as Codec })
    client.listen('invalid', detail => invalid.put(detail))
    assert.deepEqual([...new Uint8Array((await invalid.take()).data as ArrayBuffer)], [0xc1, 0xff])
    assert.equal((await invalid.take()).data, 'text')
  })
}
