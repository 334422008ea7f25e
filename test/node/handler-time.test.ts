import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { Type } from 'typebox'
import { clientHandler, type PushBridgeOptions } from '../../src/index.ts'
import { buildPush, openConnection } from '../helpers/app.ts'
import { Inbox, until } from '../helpers/waiting.ts'

interface Call {
  end(value?: unknown): void
  fail(error: Error): void
}

/** Handlers of which `hang` ends only when the test says so, and `quick` at once. */
async function build(t: TestContext, options: Partial<PushBridgeOptions> = {}) {
  const calls = new Inbox<Call>('a call that hangs')
  const hang = () => new Promise((end, fail) => calls.put({ end, fail }))
  const made = await buildPush(t, {
    handlers: { hang: clientHandler(Type.Object({}), hang), quick: clientHandler(Type.Object({}), () => 'done') },
    onBinary: hang,
    ...options,
    limits: { handlerTime: 40, pending: 1 },
  })
  const counted = async (name: string) => (await made.app.push.status()).metrics[name] ?? 0
  return { ...made, calls, hang, counted }
}

type Connection = Awaited<ReturnType<typeof openConnection>>

async function timedOut(connection: Connection, ref?: number): Promise<void> {
  const { type, payload, ref: answered } = await connection.next()
  assert.deepEqual([type, (payload as { code: string }).code, answered], ['error', 'PUSH_ERR_TIMEOUT', ref])
  assert.match((payload as { message: string }).message, /within 40 ms \(limits\.handlerTime\)/)
}

test('a handler that hangs is answered, gives its place back, and what it returns later reaches nobody', async t => {
  const { app, calls, counted } = await build(t)
  const connection = await openConnection(app, '/ws')
  connection.send('hang', {}, 1)
  const call = await calls.take()
  await timedOut(connection, 1)
  connection.send('quick', {}, 2)
  assert.deepEqual(await connection.next(), { type: 'reply', payload: 'done', ref: 2 })
  assert.equal(await counted('late_results_total'), 0)
  call.end('too late')
  await until(async () => (await counted('late_results_total')) === 1, 'the late result is counted')
  connection.send('ping', {}, 3)
  assert.equal((await connection.next()).type, 'pong')
  assert.equal(await counted('messages_refused_total{PUSH_ERR_TIMEOUT}'), 1)
})

test('a handler that fails too late is in the log, and the client hears nothing more', async t => {
  const { app, calls, counted, log } = await build(t)
  const connection = await openConnection(app, '/ws')
  connection.send('hang', {}, 1)
  const call = await calls.take()
  await timedOut(connection, 1)
  call.fail(new Error('the database was slow'))
  await until(async () => (await counted('late_results_total')) === 1, 'the late failure is counted')
  const failures = log.filter(({ msg }) => msg === 'push: a handler failed') as unknown as { err: Error }[]
  assert.deepEqual(
    failures.map(({ err }) => err.message),
    ['the database was slow'],
  )
  connection.send('ping', {}, 2)
  assert.equal((await connection.next()).type, 'pong')
})

test('onBinary has the same time', async t => {
  const { app, calls, counted } = await build(t)
  const connection = await openConnection(app, '/ws')
  connection.sendBinary(Buffer.from('x'))
  const call = await calls.take()
  await timedOut(connection)
  connection.send('quick', {}, 1)
  assert.equal((await connection.next()).type, 'reply')
  call.end()
  await until(async () => (await counted('late_results_total')) === 1, 'it is counted')
})

test('an authorize() that hangs holds up neither the topics after it nor joins anything when it is done', async t => {
  const made: Awaited<ReturnType<typeof build>> = await build(t, {
    authorize: (_connection, topic) => (topic === 'channel:slow' ? (made.hang() as Promise<boolean>) : true),
  })
  const { app, calls, counted } = made
  const connection = await openConnection(app, '/ws')
  connection.send('subscribe', { topic: 'channel:slow' }, 1)
  const call = await calls.take()
  await timedOut(connection, 1)
  connection.send('subscribe', { topic: 'channel:other' }, 2)
  assert.deepEqual([(await connection.next()).type], ['subscribed'])
  connection.send('unsubscribe', { topic: 'channel:other' }, 3)
  assert.deepEqual([(await connection.next()).type], ['unsubscribed'])
  call.end(true)
  await until(async () => (await counted('late_results_total')) === 1, 'it is counted')
  assert.equal((await app.push.publish('channel:slow', { type: 'x', receipt: true })).delivered, 0)
  connection.send('ping', {}, 4)
  assert.equal((await connection.next()).type, 'pong')
})

test('what a client wanted to publish is not published when it was told that it took too long', async t => {
  const made: Awaited<ReturnType<typeof build>> = await build(t, {
    authenticate: () => ({ user: 1, join: ['channel:room'] }),
    clientPublications: { said: { schema: Type.Object({}) } },
    authorize: () => made.hang() as Promise<boolean>,
  })
  const { app, calls, counted } = made
  const connection = await openConnection(app, '/ws')
  connection.send('push.publish', { topic: 'channel:room', type: 'said' }, 1)
  const call = await calls.take()
  await timedOut(connection, 1)
  call.end(['publish'])
  await until(async () => (await counted('late_results_total')) === 1, 'it is counted')
  await app.push.publish('channel:room', { type: 'last' })
  assert.equal((await connection.next()).type, 'last')
  assert.equal(await counted('client_publications_total'), 0)
})

test('a client that leaves while its handler hangs leaves nothing behind that fails', async t => {
  const { app, calls, counted } = await build(t)
  const connection = await openConnection(app, '/ws')
  connection.send('hang', {}, 1)
  const call = await calls.take()
  await connection.close()
  call.fail(new Error('nobody is there'))
  await until(
    async () => (await counted('messages_refused_total{PUSH_ERR_HANDLER}')) + (await counted('late_results_total')) > 0,
    'the end of the handler is counted',
  )
})
