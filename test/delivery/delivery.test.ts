import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { WebSocket } from 'ws'
import { buildPush, openConnection, type TestApp } from '../helpers/app.ts'
import { once } from '../helpers/waiting.ts'

test('a burst to many connections on many topics is complete and in order', async t => {
  const { app, port } = await buildPush(t)
  const sockets = await Promise.all(
    Array.from({ length: 50 }, async (_, i) => {
      const socket = new WebSocket(`ws://127.0.0.1:${port}/ws/room${i % 5}?user=${i}`)
      const received: string[] = []
      socket.on('message', data => {
        const { type, payload } = JSON.parse(String(data))
        if (type === 'n') received.push(payload)
        if (type === 'end') socket.emit('end')
      })
      await once(socket, 'message')
      return { i, socket, received }
    }),
  )
  const ended = Promise.all(sockets.map(({ socket }) => once(socket, 'end', 120_000)))
  const expected = sockets.map(() => [] as string[])
  const publishes: Promise<unknown>[] = []
  for (let n = 0; n < 2000; n++) {
    const to = n % 7 === 0 ? 'all' : n % 3 === 0 ? `user:${n % 50}` : `channel:room${n % 5}`
    publishes.push(app.push.publish(to, { type: 'n', payload: `${n}` }))
    for (const { i } of sockets) {
      if (to === 'all' || to === `user:${i}` || to === `channel:room${i % 5}`) expected[i]!.push(`${n}`)
    }
  }
  publishes.push(app.push.publish('all', { type: 'end' }))
  await Promise.all([...publishes, ended])
  for (const { i, socket, received } of sockets) {
    assert.deepEqual(received, expected[i])
    socket.terminate()
  }
})

/** A client that has upgraded and then reads nothing. */
async function stalledReader(t: TestContext, port: number, path: string): Promise<Socket> {
  const socket = connect(port, '127.0.0.1')
  t.after(() => socket.destroy())
  socket.on('error', () => {})
  socket.write(
    `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
  )
  await once(socket, 'data')
  socket.pause()
  return socket
}

/** An eighth of the node's memory is the budget itself: no time passes until a reader is too slow. */
const SMALL = { buffer: 500_000, nodeBuffer: 8 * 500_000 }

/** Publishes large messages until `isDone`, waiting for each to be dealt with, and to be read by whoever reads. */
async function flood(
  { app }: TestApp,
  to: string,
  isDone: () => Promise<boolean>,
  read: () => Promise<unknown> = async () => {},
): Promise<void> {
  const payload = 'x'.repeat(200_000)
  for (let i = 0; i < 300 && !(await isDone()); i++) {
    await app.push.publish(to, { type: 'big', payload, receipt: true })
    await read()
  }
  assert.ok(await isDone(), 'a reader that reads nothing was never too slow')
}

test('a slow consumer is closed, the others do not feel it, and nothing is held for it afterwards', async t => {
  const node = await buildPush(t, { limits: SMALL, drain: { timeout: 200 } })
  await stalledReader(t, node.port, '/ws/room')
  const healthy = await openConnection(node.app, '/ws/room')
  const metric = async (name: string) => (await node.app.push.status()).metrics[name] ?? 0
  const isOver = async () => (await metric('messages_dropped_total{slow_consumer}')) > 0
  // With no more than the last message on its way, it is not too slow whatever a socket takes at once.
  await flood(node, 'channel:room', isOver, () => healthy.next('big'))
  await node.app.push.publish('channel:room', { type: 'after' })
  assert.equal((await healthy.next('after')).type, 'after')
  const result = await node.app.push.publish('channel:room', { type: 'x', receipt: true })
  assert.equal(result.delivered, 1)
  assert.equal((await node.app.push.status()).heldBytes, 0)
})

test('with slowConsumer "drop" it stays, and is told a gap before the next message', async t => {
  const node = await buildPush(t, { limits: SMALL, slowConsumer: 'drop', drain: { timeout: 200 } })
  const socket = await stalledReader(t, node.port, '/ws/room')
  const gaps = async () => ((await node.app.push.status()).metrics['gaps_total{slow_consumer}'] ?? 0) > 0
  await flood(node, 'channel:room', gaps)
  const received: Buffer[] = []
  let tail = ''
  socket.on('data', chunk => {
    received.push(chunk)
    tail = (tail + chunk.toString('latin1')).slice(-200_000)
  })
  socket.resume()
  while (!tail.includes('"reason":"slow_consumer"')) await once(socket, 'data')
  await node.app.push.publish('channel:room', { type: 'after' })
  while (!tail.includes('"after"')) await once(socket, 'data')
  const text = Buffer.concat(received).toString('latin1')
  assert.ok(text.indexOf('"topics":["channel:room"],"reason":"slow_consumer"') < text.indexOf('"after"'))
})
