import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { WebSocket } from 'ws'
import { type Client, ClientError, type ClientOptions, connect } from '../../src/client/index.ts'
import { type ScriptedServer, startScriptedServer, type Visit } from '../helpers/scripted-server.ts'
import { within } from '../helpers/waiting.ts'

const LIMIT = { timeout: 120_000 }

/** A client that comes back at once, of a server that has not welcomed it yet. */
async function start(t: TestContext, options: ClientOptions = {}): Promise<{ server: ScriptedServer; client: Client }> {
  t.mock.method(Math, 'random', () => 0)
  const server = await startScriptedServer(t)
  const client = connect(`ws://127.0.0.1:${server.port}/ws`, { WebSocket, ...options })
  t.after(() => client.close())
  return { server, client }
}

const rejectsWith = (promise: Promise<unknown>, code: string) =>
  assert.rejects(within(promise, `the error ${code}`), (error: unknown) => {
    assert.ok(error instanceof ClientError)
    assert.equal(error.code, code)
    return true
  })

async function answer(visit: Visit, type: string, reply: unknown): Promise<unknown> {
  const { ref, payload, ...message } = await visit.messages.take()
  assert.equal(message.type, type)
  visit.say('reply', reply, { ref })
  return payload
}

const isOpen = (client: Client) =>
  within(new Promise(resolve => client.listen('welcome', resolve)), 'a welcome of the client')

test(
  'what was asked before there was a connection is sent in order, each when the one before is answered',
  LIMIT,
  async t => {
    const { server, client } = await start(t)
    const note = { text: 'one' }
    const replies = [
      client.request('save', note, { queue: true }),
      client.request('save', { text: 'two' }, { queue: {} }),
    ]
    note.text = 'changed by the page meanwhile'
    const visit = await server.next()
    visit.welcome()
    const first = await visit.messages.take()
    assert.deepEqual(first.payload, { text: 'one' })
    // Whatever is sent now comes behind a second one that did not wait for its turn.
    client.send('marker')
    assert.equal((await visit.messages.take()).type, 'marker')
    visit.say('reply', 1, { ref: first.ref })
    assert.deepEqual(await answer(visit, 'save', 2), { text: 'two' })
    assert.deepEqual(await within(Promise.all(replies), 'both replies'), [1, 2])
  },
)

test('without queue nothing waits, with it an open client sends at once', LIMIT, async t => {
  const { server, client } = await start(t)
  await rejectsWith(client.request('save'), 'CLOSED')
  const visit = await server.next()
  const open = isOpen(client)
  visit.welcome()
  await open
  const replies = [client.request('a', 1, { queue: true }), client.request('b', 2, { queue: true })]
  const messages = [await visit.messages.take(), await visit.messages.take()]
  assert.deepEqual(
    messages.map(({ type }) => type),
    ['a', 'b'],
  )
  for (const { ref, type } of messages.reverse()) visit.say('reply', type, { ref })
  assert.deepEqual(await within(Promise.all(replies), 'both replies'), ['a', 'b'])
})

test('a request that was sent is not sent twice, and one that had waited for it is', LIMIT, async t => {
  const { server, client } = await start(t)
  const sent = client.request('pay', { id: 1 }, { queue: true })
  const waiting = client.request('pay', { id: 2 }, { queue: true })
  const visit = await server.next()
  visit.welcome()
  await visit.messages.take()
  visit.cut()
  await rejectsWith(sent, 'UNCONFIRMED')
  const next = await server.next()
  next.welcome()
  assert.deepEqual(await answer(next, 'pay', 'done'), { id: 2 })
  assert.equal(await waiting, 'done')
})

test('with repeat a request is sent again until it is answered, before those that came later', LIMIT, async t => {
  const { server, client } = await start(t)
  const queue = { repeat: true }
  const replies = [client.request('pay', { id: 1 }, { queue }), client.request('pay', { id: 2 }, { queue })]
  for (let losses = 0; losses < 3; losses++) {
    const visit = await server.next()
    visit.welcome()
    assert.deepEqual((await visit.messages.take()).payload, { id: 1 })
    visit.cut()
  }
  const visit = await server.next()
  visit.welcome()
  for (const id of [1, 2]) assert.deepEqual(await answer(visit, 'pay', id), { id })
  assert.deepEqual(await within(Promise.all(replies), 'both replies'), [1, 2])
})

test('a request that waits for too long expires, one that is on its way does not', LIMIT, async t => {
  const { server, client } = await start(t)
  await rejectsWith(client.request('save', {}, { queue: { ttl: 1 } }), 'EXPIRED')
  const visit = await server.next()
  const open = isOpen(client)
  visit.welcome()
  await open
  const reply = client.request('save', {}, { queue: { ttl: 1 } })
  const { ref } = await visit.messages.take()
  // Timers of one process fire in the order of their times.
  await new Promise(resolve => setTimeout(resolve, 2))
  visit.say('reply', 'saved', { ref })
  assert.equal(await within(reply, 'the reply'), 'saved')
  assert.equal(visit.messages.size, 0, 'what has expired is not sent')
})

test(
  'errors of the server, and one without an answer, reject the request and do not hold up the next',
  LIMIT,
  async t => {
    const { server, client } = await start(t)
    const requests = [
      client.request('a', {}, { queue: true }),
      client.request('b', {}, { queue: true, timeout: 1 }),
      client.request('c', {}, { queue: true }),
    ]
    // It may be late before it is seen to be sent.
    const isLate = rejectsWith(requests[1]!, 'TIMEOUT')
    const visit = await server.next()
    visit.welcome()
    const { ref } = await visit.messages.take()
    visit.say('error', { code: 'PUSH_ERR_FORBIDDEN', message: 'no' }, { ref })
    await rejectsWith(requests[0]!, 'PUSH_ERR_FORBIDDEN')
    assert.equal((await visit.messages.take()).type, 'b')
    await isLate
    await answer(visit, 'c', 3)
    assert.equal(await requests[2], 3)
  },
)

test('the queue is bounded by number and by bytes, and what is settled makes room', LIMIT, async t => {
  const { server, client } = await start(t, { queue: { limit: 2, bytes: 100 } })
  await rejectsWith(client.request('save', 'x'.repeat(100), { queue: true }), 'BUSY')
  const first = client.request('save', 'x'.repeat(60), { queue: true })
  await rejectsWith(client.request('save', 'ü'.repeat(20), { queue: true }), 'BUSY')
  const second = client.request('save', undefined, { queue: true })
  await rejectsWith(client.request('save', 1, { queue: true }), 'BUSY')
  await rejectsWith(client.request('save', 1n, { queue: true }).catch(failed), 'PLAIN')
  const visit = await server.next()
  visit.welcome()
  await answer(visit, 'save', 1)
  await first
  const third = client.request('save', 3, { queue: true })
  await answer(visit, 'save', 2)
  await answer(visit, 'save', 3)
  assert.deepEqual(await within(Promise.all([second, third]), 'both replies'), [2, 3])
})

/** JSON cannot write it: the error of the runtime, for `rejectsWith`. */
function failed(error: unknown): never {
  assert.ok(error instanceof TypeError)
  throw new ClientError('PLAIN', error.message)
}

test('what one user asked for is not sent for another', LIMIT, async t => {
  const { server, client } = await start(t)
  const visit = await server.next()
  const open = isOpen(client)
  visit.welcome({}, { user: 'ann' })
  await open
  const sent = client.request('pay', {}, { queue: { repeat: true } })
  await visit.messages.take()
  visit.cut()
  const next = await server.next()
  const waiting = client.request('pay', {}, { queue: true })
  next.welcome({}, { user: 'bob' })
  await rejectsWith(sent, 'UNCONFIRMED')
  await rejectsWith(waiting, 'OTHER_USER')
  const own = client.request('hello', {}, { queue: true })
  await answer(next, 'hello', 'bob')
  assert.equal(await own, 'bob')
})

test('a client that is closed settles all, and takes no more', LIMIT, async t => {
  const { server, client } = await start(t)
  const sent = client.request('a', {}, { queue: { repeat: true } })
  const waiting = client.request('b', {}, { queue: true })
  const visit = await server.next()
  visit.welcome()
  await visit.messages.take()
  client.close()
  await rejectsWith(sent, 'UNCONFIRMED')
  await rejectsWith(waiting, 'CLOSED')
  await rejectsWith(client.request('c', {}, { queue: true }), 'CLOSED')
})

test('a publication may wait too, and with a key be sent again', LIMIT, async t => {
  const { server, client } = await start(t)
  const published = client.publish('channel:room', 'chat', { n: 1 }, { key: 'k', queue: { repeat: true } })
  const visit = await server.next()
  visit.welcome()
  await visit.messages.take()
  visit.cut()
  const next = await server.next()
  next.welcome()
  const { payload, ref } = await next.messages.take()
  assert.deepEqual(payload, { topic: 'channel:room', type: 'chat', payload: { n: 1 }, key: 'k' })
  next.say('push.published', { topic: 'channel:room', id: 'i', seq: 1 }, { ref })
  assert.equal((await within(published, 'the answer')).seq, 1)
})
