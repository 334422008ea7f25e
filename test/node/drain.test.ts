import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { test } from 'node:test'
import { buildPush, openConnection, refusalOf } from '../helpers/app.ts'
import { once, within } from '../helpers/waiting.ts'

test('app.close(): what is queued arrives, then reconnect, then 1012', async t => {
  const { app } = await buildPush(t)
  const connections = await Promise.all([1, 2, 3].map(user => openConnection(app, `/ws?user=${user}`)))
  await app.push.publish('all', { type: 'last', receipt: true })
  const closing = app.close()
  for (const connection of connections) {
    assert.equal((await connection.next()).type, 'last')
    const { type, payload } = await connection.next()
    assert.equal(type, 'reconnect')
    assert.ok((payload as { after: number }).after <= 3)
    assert.deepEqual(await connection.closed, { code: 1012, reason: 'restart' })
  }
  await closing
  assert.equal(app.push.connections.size, 0)
})

test('many clients are spread over the window', async t => {
  const { app } = await buildPush(t, { drain: { window: 40 } })
  const connections = await Promise.all(Array.from({ length: 80 }, () => openConnection(app, '/ws')))
  const closing = app.close()
  const delays = await Promise.all(
    connections.map(async connection => ((await connection.next('reconnect')).payload as { after: number }).after),
  )
  await closing
  assert.ok(Math.max(...delays) < 40)
  assert.ok(new Set(delays).size > 10)
})

test('a client that ignores the close frame does not hold the application up', async t => {
  const { app, port } = await buildPush(t, { drain: { timeout: 300 } })
  const socket = connect(port, '127.0.0.1')
  t.after(() => socket.destroy())
  socket.write(
    'GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
      'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
  )
  await once(socket, 'data')
  socket.on('error', () => {})
  const since = performance.now()
  await within(Promise.all([app.close(), once(socket, 'close')]), 'the end after a drain timeout of 300 ms', 4000)
  const took = performance.now() - since
  assert.ok(took > 250, `closing took ${took} ms`)
})

test('during drain.delay the node refuses upgrades and serves those it has', async t => {
  const { app, port } = await buildPush(t, { drain: { delay: 5000 } })
  const connection = await openConnection(app, '/ws?user=1')
  const closing = app.close()
  const refusal = await refusalOf(`ws://127.0.0.1:${port}/ws`)
  assert.equal(refusal.status, 503, JSON.stringify(refusal))
  assert.equal((await app.push.status()).draining, true)
  await app.push.publish('user:1', { type: 'still' })
  assert.equal((await connection.next()).type, 'still')
  assert.equal((await connection.closed).code, 1012)
  await closing
})
