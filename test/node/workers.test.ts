import assert from 'node:assert/strict'
import { getPriority, platform } from 'node:os'
import { type TestContext, test } from 'node:test'
import { Type } from 'typebox'
import type { PushBridgeOptions } from '../../src/index.ts'
import { buildPush, openConnection } from '../helpers/app.ts'
import { until } from '../helpers/waiting.ts'

const FILE = new URL('../helpers/slow-work.mjs', import.meta.url)
const SCHEMA = Type.Object({ work: Type.String() })

function build(t: TestContext, options: Partial<PushBridgeOptions> = {}) {
  return buildPush(t, { handlers: { work: { schema: SCHEMA, worker: FILE } }, ...options })
}

type Connection = Awaited<ReturnType<typeof openConnection>>

/** Asks a worker; what it answers, or the error that the client gets. */
async function ask(connection: Connection, work: string, ref = 1): Promise<unknown> {
  connection.send('work', { work }, ref)
  const { type, payload, ref: answered } = await connection.next()
  assert.equal(answered, ref)
  return type === 'error' ? (payload as { code: string }).code : payload
}

test('a worker gets the payload and whose it is, in another thread, and its answer is the reply', async t => {
  const { app } = await build(t)
  const connection = await openConnection(app, '/ws?user=ann')
  const answer = (await ask(connection, 'echo')) as { threadId: number }
  assert.deepEqual(answer, {
    payload: { work: 'echo' },
    connection: { id: connection.welcome.connection, user: 'ann' },
    threadId: answer.threadId,
  })
  assert.ok(answer.threadId > 0)
  connection.send('work', { work: 7 }, 2)
  assert.equal(((await connection.next()).payload as { code: string }).code, 'PUSH_ERR_SCHEMA')
})

test('while all workers are busy pushes go on, and who finds the queue full is told', async t => {
  const { app } = await build(t, { workers: { threads: 1, queue: 1 } })
  const [first, second, third] = await Promise.all([1, 2, 3].map(() => openConnection(app, '/ws/room')))
  // The thread has to be there: until then a message waits for it.
  await ask(first!, 'echo')
  for (const connection of [first!, second!]) {
    connection.send('work', { work: 'hang' }, 1)
    // Answered once the message before it was given to a worker, or waits for one.
    connection.send('ping', {}, 2)
    await connection.next('pong')
  }
  assert.equal(await ask(third!, 'echo'), 'PUSH_ERR_BUSY')
  await app.push.publish('channel:room', { type: 'news', payload: 1 })
  for (const connection of [first!, second!, third!]) assert.equal((await connection.next('news')).payload, 1)
  const { metrics } = await app.push.status()
  assert.ok(metrics['messages_refused_total{PUSH_ERR_BUSY}']! > 0)
})

test('a thread that computes is nicer than the node', { skip: platform() !== 'linux' }, async t => {
  const { app } = await build(t)
  assert.equal(await ask(await openConnection(app, '/ws'), 'priority'), Math.min(19, getPriority(0) + 10))
})

test('a worker that takes too long is ended, and another takes its place', async t => {
  const { app } = await build(t, { workers: { threads: 1 }, limits: { handlerTime: 3000 } })
  const connection = await openConnection(app, '/ws')
  await ask(connection, 'echo')
  assert.equal(await ask(connection, 'hang'), 'PUSH_ERR_TIMEOUT')
  await until(async () => typeof (await ask(connection, 'echo')) === 'object', 'the next one is answered')
})

test('what a worker throws is told as what a handler throws', async t => {
  const { app, log } = await build(t)
  const connection = await openConnection(app, '/ws')
  assert.equal(await ask(connection, 'refuse'), 'SOLD_OUT')
  for (const work of ['fail', 'exit', 'unclonable', 'nothing of that name']) {
    assert.equal(await ask(connection, work), 'PUSH_ERR_HANDLER', work)
  }
  const failures = log.filter(({ msg }) => msg === 'push: a handler failed')
  assert.equal(failures.length, 4)
  assert.match(JSON.stringify(failures[0]), /the database is away/)
  assert.equal(typeof (await ask(connection, 'echo')), 'object')
})

test('what a worker throws when nobody waits for it is logged, and the node goes on', async t => {
  const { app, log } = await build(t, { workers: { threads: 1 } })
  const connection = await openConnection(app, '/ws')
  assert.equal(await ask(connection, 'later'), 'done')
  await until(() => log.some(({ msg }) => msg === 'push: a worker failed'), 'the log says so')
  await until(async () => typeof (await ask(connection, 'echo')) === 'object', 'the next one is answered')
})

test('an application ends although a worker does not', async t => {
  const { app } = await build(t, { workers: { threads: 1 }, drain: { window: 0, timeout: 100 } })
  const connection = await openConnection(app, '/ws')
  await ask(connection, 'echo')
  connection.send('work', { work: 'hang' }, 1)
  connection.send('ping', {}, 2)
  await connection.next('pong')
  await app.close()
})

const WRONG: [handler: object, problem: RegExp][] = [
  [{ schema: SCHEMA }, /must be \{ schema, handler\(payload, connection\) \}, or \{ schema, worker \}/],
  [{ schema: SCHEMA, worker: FILE, handler: () => 1 }, /must be \{ schema, handler/],
  [{ schema: SCHEMA, worker: './work.js' }, /worker must be new URL\('\.\/file\.js', import\.meta\.url\)/],
  [{ schema: SCHEMA, worker: new URL('https://example.com/work.js') }, /worker must be new URL/],
  [{ schema: SCHEMA, worker: '/nowhere/work.js' }, /worker is not there: \/nowhere\/work\.js/],
]

for (const [handler, problem] of WRONG) {
  test(`a handler cannot be ${JSON.stringify(Object.keys(handler))} with ${String((handler as { worker?: unknown }).worker)}`, async t => {
    await assert.rejects(buildPush(t, { handlers: { work: handler as never } }), problem)
  })
}
