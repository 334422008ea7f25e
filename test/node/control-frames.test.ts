import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { WebSocket } from 'ws'
import { buildPush } from '../helpers/app.ts'
import { FrameClient, frame, PING } from '../helpers/frame-client.ts'
import { once, until, within } from '../helpers/waiting.ts'

/** Frames that are sent before the answer to them is awaited: `ws` itself ends a connection with more pings in one turn. */
const TURN = 40

async function build(t: TestContext, messages: number) {
  const { app, port } = await buildPush(t, { limits: { messages }, onBinary: () => {} })
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws`)
  t.after(() => socket.terminate())
  await once(socket, 'message')
  const closed = new Promise<number>(resolve => socket.once('close', code => resolve(code)))
  const counted = async (name: string) => (await app.push.status()).metrics[name] ?? 0
  /** Sends turns of frames until `most` were sent or the connection ends, and resolves with how many there were. */
  const send = async (frame: 'ping' | 'pong', most: number): Promise<number> => {
    let sent = 0
    while (sent < most && socket.readyState === WebSocket.OPEN) {
      for (let i = 0; i < TURN; i++) socket[frame]()
      sent += TURN
      let isBack = false
      // A pong is not answered: a ping behind it tells that they were read.
      socket.once('pong', () => (isBack = true))
      if (frame === 'pong') socket.ping()
      await until(() => isBack || socket.readyState !== WebSocket.OPEN, 'the answer to a turn of frames')
    }
    return sent
  }
  return { socket, closed, counted, send }
}

for (const frame of ['ping', 'pong'] as const) {
  test(`a flood of ${frame} frames ends with 4429, and is counted once`, async t => {
    const { closed, counted, send } = await build(t, 10)
    const sent = await send(frame, 1_000_000)
    assert.equal(await within(closed, 'the end of a flood'), 4429)
    // Ten of them are one message, of which there may be twice ten at once.
    assert.ok(sent >= 200, `${sent} frames`)
    assert.equal(await counted('messages_refused_total{rate}'), 1)
    // The node sees the answer of the client to its close frame a moment later.
    await until(async () => (await counted('connections_closed_total{4429}')) === 1, 'the count of the close code')
  })
}

test('a client may ping as much as it may send messages, and both count together', async t => {
  const { socket, closed, counted, send } = await build(t, 1_000_000)
  assert.equal(await send('ping', 4000), 4000)
  assert.equal(await send('pong', 4000), 4000)
  assert.equal(socket.readyState, WebSocket.OPEN)
  assert.equal(await counted('messages_refused_total{rate}'), 0)
  socket.close(1000)
  assert.equal(await within(closed, 'the end of a connection'), 1000)
})

for (const authenticate of [undefined, 'message'] as const) {
  test(`more ping frames at once than \`ws\` answers ${authenticate ? 'a stranger' : 'a client'}: counted once`, async t => {
    const { app, port } = await buildPush(t, authenticate ? { authenticate, tickets: true } : {})
    const client = await FrameClient.open(port, '/ws')
    t.after(() => client.destroy())
    client.write(Buffer.concat(Array.from({ length: 500 }, () => frame(0x80 | PING))))
    await within(client.ended, 'the end of a flood')
    const refused = async () => (await app.push.status()).metrics['messages_refused_total{rate}'] ?? 0
    await until(async () => (await refused()) > 0, 'the refusal')
    assert.equal(await refused(), 1)
  })
}

test('before a client has said who it is, a flood of ping frames ends it as well', async t => {
  const { app, port } = await buildPush(t, { authenticate: 'message', tickets: true })
  const client = await FrameClient.open(port, '/ws')
  t.after(() => client.destroy())
  let sent = 0
  while (client.closeCode === undefined && client.isOpen) {
    const before = client.frames
    client.write(Buffer.concat(Array.from({ length: TURN }, () => frame(0x80 | PING))))
    sent += TURN
    await until(() => client.frames >= before + TURN || client.closeCode !== undefined, 'the pongs')
  }
  assert.equal(client.closeCode, 4429)
  assert.ok(sent > 1000, `${sent} frames`)
  assert.equal((await app.push.status()).metrics['messages_refused_total{rate}'], 1)
  // It answers no close frame, and the node would wait for it when it stops.
  client.destroy()
})

const VIOLATIONS: [name: string, bytes: Buffer, code: number, reason: string][] = [
  ['a message that is too large', frame(0x82, Buffer.alloc(70_000)), 1009, 'too_large'],
  ['a frame that says it has 2^53 bytes', Buffer.from('82ff00200000000000000000', 'hex'), 1009, 'too_large'],
  ['a frame that is not masked', frame(0x82, Buffer.alloc(1), { mask: 'none' }), 1002, 'protocol'],
  ['a text that is no UTF-8', frame(0x81, Buffer.from([0xff])), 1007, 'protocol'],
]

for (const authenticate of [undefined, 'message'] as const) {
  for (const [name, bytes, code, reason] of VIOLATIONS) {
    const when = authenticate ? 'before the client is known' : 'of a connection'
    test(`${name}, ${when}: closed, and counted under one reason`, async t => {
      const { app, port } = await buildPush(t, authenticate ? { authenticate, tickets: true } : {})
      const client = await FrameClient.open(port, '/ws')
      t.after(() => client.destroy())
      client.write(bytes)
      await within(client.ended, 'the end of a connection')
      assert.equal(client.closeCode, code)
      const { metrics } = await app.push.status()
      const refused = Object.entries(metrics).filter(([key, n]) => key.startsWith('messages_refused_total') && n > 0)
      assert.deepEqual(refused, [[`messages_refused_total{${reason}}`, 1]])
    })
  }
}
