import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { type TestContext, test } from 'node:test'
import { WebSocket } from 'ws'
import type { PushBridgeOptions } from '../../../src/index.ts'
import pushBridge from '../../../src/index.ts'
import { type CallFailure, Poster } from '../../../src/node/events/post.ts'
import type { EventsInput } from '../../../src/options/events.ts'
import { buildApp, openConnection, refusalOf } from '../../helpers/app.ts'
import { type Called, SECRET, startBackend, type TestBackend } from '../../helpers/backend.ts'
import { once, until, within } from '../../helpers/waiting.ts'

type Http = Partial<NonNullable<EventsInput['http']>>

/** A node that asks the backend. Deadlines are long unless a test is about them. */
function nodeOf(t: TestContext, backend: TestBackend, http: Http, options: Partial<PushBridgeOptions> = {}) {
  const events = { http: { url: backend.url, secret: SECRET, timeout: 60_000, ...http } }
  return buildApp(t, app => app.register(pushBridge, { path: '/ws', events, ...options }))
}

const metricsOf = async ({ app }: Awaited<ReturnType<typeof nodeOf>>) => (await app.push.status()).metrics

test('connect: the answer is the identity; only the named headers are passed on, and no ticket', async t => {
  const backend = await startBackend(t)
  backend.react = () => ({ body: { user: 42, join: ['channel:news'], allow: ['channel:a'], data: { name: 'Ann' } } })
  const node = await nodeOf(t, backend, { connect: true, headers: ['Cookie'] })
  const headers = { cookie: 'session=7', authorization: 'Bearer TOP-SECRET' }
  const connection = await openConnection(node.app, '/ws/a?room=1&ticket=TICKET&since={}', { headers })
  assert.equal(connection.welcome.user, '42')
  const topics = Object.keys(connection.welcome.topics).filter(topic => !topic.startsWith('connection:'))
  assert.deepEqual(topics.toSorted(), ['all', 'channel:a', 'channel:news', 'user:42'])
  const { id, time, ...call } = await backend.calls.take()
  const { node: name } = await node.app.push.status()
  assert.deepEqual(call, {
    kind: 'connect',
    node: name,
    path: '/ws/a',
    query: 'room=1',
    headers: { cookie: 'session=7' },
  })
  assert.ok(id.startsWith(`${name}.`) && !Number.isNaN(Date.parse(time)))
})

test('connect: 401 and 403 refuse, with the words of the backend, and a page gets the close codes', async t => {
  const backend = await startBackend(t)
  const node = await nodeOf(t, backend, { connect: true })
  const url = `ws://127.0.0.1:${node.port}/ws`
  const page = { origin: `http://127.0.0.1:${node.port}` }
  backend.react = () => ({ status: 401, body: { message: 'log in first' } })
  const { status, body } = await refusalOf(url)
  assert.deepEqual([status, body?.code, body?.message], [401, 'PUSH_ERR_UNAUTHENTICATED', 'log in first'])
  assert.deepEqual(await refusalOf(url, page), { code: 4401, reason: 'log in first' })
  backend.react = () => ({ status: 403, body: '<html>no</html>' })
  assert.equal((await refusalOf(url)).body?.code, 'PUSH_ERR_FORBIDDEN')
  assert.equal((await refusalOf(url, page)).code, 4403)
  backend.react = () => ({ body: null })
  assert.equal((await refusalOf(url)).body?.message, 'the backend did not accept the request')
})

test('connect: what cannot be used, and a backend that is down, are 503 or 500: clients come back', async t => {
  const backend = await startBackend(t)
  const node = await nodeOf(t, backend, { connect: true, maxAnswer: 1000 })
  const elsewhere = await startBackend(t)
  const url = `ws://127.0.0.1:${node.port}/ws`
  const answers = [
    { body: 'no JSON' },
    { body: { user: 'x'.repeat(2000) } },
    { status: 404, body: {} },
    { status: 302, headers: { location: elsewhere.url }, body: '' },
    { status: 500, body: {} },
    'die' as const,
  ]
  for (const answer of answers) {
    backend.react = () => answer
    const { status, body } = await refusalOf(url)
    assert.deepEqual([status, body?.code], [503, 'PUSH_ERR_BACKEND_UNCONFIRMED'], JSON.stringify(answer))
  }
  backend.react = () => ({ body: { user: { id: 1 } } })
  assert.deepEqual((await refusalOf(url)).body?.code, 'PUSH_ERR_INTERNAL')
  assert.ok(node.log.some(line => JSON.stringify(line).includes('the backend gave a user that')))
  await backend.stop()
  assert.deepEqual((await refusalOf(url)).body?.code, 'PUSH_ERR_BACKEND_AWAY')
  assert.equal(elsewhere.connections, 0)
  const metrics = await metricsOf(node)
  assert.deepEqual([metrics['backend_failures_total{answer}'], metrics['backend_failures_total{status}']], [2, 3])
})

test('connect: a backend that hangs is given up in time', async t => {
  const backend = await startBackend(t)
  const node = await nodeOf(t, backend, { connect: true, timeout: 500 })
  backend.react = () => ({ body: {} })
  const isIn = () =>
    openConnection(node.app, '/ws').then(
      () => true,
      () => false,
    )
  // A connection to the backend that is open already: a call on it has been sent, however long this machine sleeps then.
  await until(isIn, 'a client is in')
  const given = (await metricsOf(node))['backend_failures_total{timeout}'] ?? 0
  backend.react = () => 'hang'
  const started = performance.now()
  const { status, body } = await refusalOf(`ws://127.0.0.1:${node.port}/ws`)
  assert.ok(performance.now() - started >= 495)
  assert.deepEqual([status, body?.code], [503, 'PUSH_ERR_BACKEND_UNCONFIRMED'])
  assert.equal((await metricsOf(node))['backend_failures_total{timeout}'], given + 1)
})

test('subscribe: the answer grants or refuses, and data of the identity comes with the question', async t => {
  const backend = await startBackend(t)
  const answers: Record<string, unknown> = {
    'channel:yes': { body: { actions: ['subscribe'] } },
    'channel:no': { status: 403, body: {} },
    'channel:none': { body: { actions: [] } },
    'channel:other': { body: { actions: ['publish'] } },
    'channel:wrong': { body: { actions: ['fly'] } },
    'channel:true': { body: true },
    'channel:broken': { status: 500, body: {} },
  }
  backend.react = ({ kind, topic }) =>
    kind === 'connect' ? { body: { user: '42', data: { role: 'x' } } } : (answers[String(topic)] as never)
  const node = await nodeOf(t, backend, { connect: true, subscribe: true })
  const connection = await openConnection(node.app, '/ws')
  await backend.calls.take()
  const ask = async (topic: string) => {
    connection.send('subscribe', { topic }, 1)
    const { type, payload } = await connection.next()
    return type === 'error' ? (payload as { code: string }).code : type
  }
  assert.equal(await ask('channel:yes'), 'subscribed')
  const { id, time, node: _node, ...call } = await backend.calls.take()
  assert.ok(id && time)
  assert.deepEqual(call, {
    kind: 'subscribe',
    connection: connection.welcome.connection,
    user: '42',
    topic: 'channel:yes',
    action: 'subscribe',
    data: { role: 'x' },
  })
  for (const topic of ['channel:no', 'channel:none', 'channel:other'])
    assert.equal(await ask(topic), 'PUSH_ERR_FORBIDDEN', topic)
  for (const topic of ['channel:wrong', 'channel:true', 'channel:broken'])
    assert.equal(await ask(topic), 'PUSH_ERR_BACKEND_UNCONFIRMED', topic)
  await backend.stop()
  assert.equal(await ask('channel:yes'), 'subscribed', 'what it has already is not asked for')
  assert.equal(await ask('channel:new'), 'PUSH_ERR_BACKEND_AWAY')
})

test('data of an authenticate of the application is not told', async t => {
  const backend = await startBackend(t)
  backend.react = ({ kind }) => ({ body: kind === 'subscribe' ? { actions: ['subscribe'] } : 1 })
  const authenticate = () => ({ user: 'a', data: { password: 'SECRET' } })
  const node = await nodeOf(t, backend, { subscribe: true, message: ['ask'] }, { authenticate })
  const connection = await openConnection(node.app, '/ws')
  connection.send('subscribe', { topic: 'channel:a' }, 1)
  connection.send('ask', {}, 2)
  await connection.next('reply')
  for (let i = 0; i < 2; i++) assert.doesNotMatch(JSON.stringify(await backend.calls.take()), /SECRET|"data"/)
})

test('data of a new identity is told if it is that of a ticket, and not if the application gave it', async t => {
  const backend = await startBackend(t)
  backend.react = () => ({ body: 1 })
  const onAuthenticate = () => ({ user: 'a', data: { password: 'SECRET' } })
  for (const more of [{ onAuthenticate }, { tickets: true, authenticate: 'message' as const }]) {
    const node = await nodeOf(
      t,
      backend,
      { message: ['ask'] },
      { authenticate: undefined as never, tickets: true, ...more },
    )
    const data = { role: 'x' }
    const ticket = await node.app.push.ticket({ user: 'a', data })
    const connection = await openConnection(node.app, `/ws?ticket=${ticket}`)
    if ('onAuthenticate' in more) {
      connection.send('authenticate', {}, 1)
      await connection.next('authenticated')
    }
    connection.send('ask', {}, 2)
    await connection.next('reply')
    const told = JSON.stringify(await backend.calls.take())
    if ('onAuthenticate' in more) assert.doesNotMatch(told, /SECRET|"data"/)
    else assert.match(told, /"data":\{"role":"x"\}/)
  }
})

test('message: payload and reply are passed on as they were written', async t => {
  const backend = await startBackend(t)
  backend.react = () => ({ body: '\n {"big":12345678901234567890, "one":1.0, "list":[]} ' })
  const node = await nodeOf(t, backend, { message: ['chat.*'] })
  const socket = new WebSocket(`ws://127.0.0.1:${node.port}/ws`)
  t.after(() => socket.terminate())
  await once(socket, 'message')
  const reply = once(socket, 'message')
  socket.send('{"ref":"r1","type":"chat.say","payload":{"n":1.0,"x":"\\u00e9"}}')
  const [text] = await reply
  assert.equal(String(text), '{"type":"reply","payload":{"big":12345678901234567890, "one":1.0, "list":[]},"ref":"r1"}')
  const call = await backend.calls.take()
  assert.deepEqual([call.kind, call.type, call.payload], ['message', 'chat.say', { n: 1, x: 'é' }])
})

test('message: errors of the backend reach the client, its failures do not, and types that are not named are unknown', async t => {
  const backend = await startBackend(t)
  const node = await nodeOf(t, backend, { message: ['chat.*'] })
  const connection = await openConnection(node.app, '/ws')
  const ask = async (type: string, ref?: number) => {
    connection.send(type, {}, ref)
    const { payload } = await connection.next('error')
    return payload as { code: string; message: string }
  }
  backend.react = () => ({ status: 422, body: { code: 'CHAT_EMPTY', message: 'say something' } })
  assert.deepEqual(await ask('chat.say', 1), { code: 'CHAT_EMPTY', message: 'say something' })
  backend.react = () => ({ status: 404, body: '<h1>nginx</h1>' })
  assert.deepEqual(await ask('chat.say'), {
    code: 'PUSH_ERR_HANDLER',
    message: 'the backend refused the message with 404',
  })
  backend.react = () => ({ status: 400, body: { code: 'a b', message: 'x'.repeat(10_000) } })
  const long = await ask('chat.say', 2)
  assert.deepEqual([long.code, long.message.length], ['PUSH_ERR_HANDLER', 500])
  backend.react = () => ({ status: 500, body: { code: 'X', message: 'stack trace' } })
  assert.deepEqual(await ask('chat.say', 3), { code: 'PUSH_ERR_HANDLER', message: 'the handler failed' })
  for (const type of ['chat', 'push.chat', 'welcome']) assert.equal((await ask(type, 4)).code, 'PUSH_ERR_UNKNOWN_TYPE')
  backend.react = () => ({ status: 204, body: '' })
  connection.send('chat.say', {}, 5)
  assert.deepEqual(await connection.next('reply'), { type: 'reply', payload: null, ref: 5 })
})

test('a circuit opens when the backend is down, lets one call through, and closes when it is back', async t => {
  const backend = await startBackend(t)
  const node = await nodeOf(t, backend, { connect: true, message: ['ask'] })
  const url = `ws://127.0.0.1:${node.port}/ws`
  backend.react = ({ kind }) => ({ body: kind === 'connect' ? { user: 'a' } : null })
  const connection = await openConnection(node.app, '/ws')
  backend.react = ({ kind }) => (kind === 'connect' ? { status: 502, body: '' } : { body: ['still'] })
  for (let i = 0; i < 5; i++) assert.equal((await refusalOf(url)).body?.code, 'PUSH_ERR_BACKEND_UNCONFIRMED')
  const sent = (await metricsOf(node))['backend_failures_total{status}']
  assert.equal(sent, 5)
  // Unless this machine has slept for so long that one is let through: then for twice as long none is.
  let code: string | undefined
  await until(async () => {
    backend.calls.clear()
    code = (await refusalOf(url)).body?.code
    return code !== 'PUSH_ERR_BACKEND_UNCONFIRMED' || backend.calls.size === 0
  }, 'a call that is not sent')
  assert.deepEqual([code, backend.calls.size], ['PUSH_ERR_BACKEND_AWAY', 0])
  // Each kind has a circuit of its own.
  connection.send('ask', {}, 1)
  assert.deepEqual((await connection.next('reply')).payload, ['still'])
  backend.react = () => ({ body: { user: 'b' } })
  await until(
    () =>
      openConnection(node.app, '/ws').then(
        () => true,
        () => false,
      ),
    'the circuit closes',
  )
  const lines = node.log.map(({ msg }) => msg)
  assert.equal(lines.filter(line => line === 'push: the backend does not answer; it is asked now and then').length, 1)
  assert.equal(lines.filter(line => line === 'push: the backend answers again').length, 1)
})

test('a mistake in one message does not keep others from connecting', async t => {
  const backend = await startBackend(t)
  const node = await nodeOf(t, backend, { connect: true, message: ['ask'] })
  backend.react = ({ kind }) => (kind === 'connect' ? { body: { user: 'a' } } : 'die')
  const connection = await openConnection(node.app, '/ws')
  for (let i = 0; i < 8; i++) {
    connection.send('ask', {}, i)
    assert.match(((await connection.next('error')).payload as { code: string }).code, /PUSH_ERR_BACKEND_/)
  }
  await openConnection(node.app, '/ws')
})

test('as many calls at once as are allowed, over connections that stay open', async t => {
  const backend = await startBackend(t)
  const node = await nodeOf(t, backend, { message: ['ask'], concurrency: 3 })
  backend.react = () => new Promise(resolve => setImmediate(() => resolve({ body: null })))
  const connection = await openConnection(node.app, '/ws')
  for (let i = 0; i < 30; i++) connection.send('ask', { i }, i)
  const refs = new Set()
  for (let i = 0; i < 30; i++) refs.add((await connection.next('reply')).ref)
  assert.equal(refs.size, 30)
  assert.ok(backend.mostBusy <= 3 && backend.connections <= 3, `${backend.mostBusy} ${backend.connections}`)
})

test('a connection that the backend closed while it was idle costs no call', async t => {
  const backend = await startBackend(t)
  const node = await nodeOf(t, backend, { message: ['ask'] })
  const connection = await openConnection(node.app, '/ws')
  connection.send('ask', {}, 1)
  await connection.next('reply')
  let times = 0
  backend.react = () => (++times === 1 ? 'die' : { body: times })
  connection.send('ask', {}, 2)
  assert.equal((await connection.next('reply')).payload, 2)
  assert.equal(backend.calls.size, 3)
  const [, first, second] = [await backend.calls.take(), await backend.calls.take(), await backend.calls.take()]
  assert.equal(first.id, second.id)
})

test('events come in batches, in order, again until they are taken, and the rest when the application closes', async t => {
  const backend = await startBackend(t, { isDown: true })
  const node = await nodeOf(
    t,
    backend,
    { events: ['connect', 'disconnect', 'subscribe', 'unsubscribe'] },
    {
      authenticate: () => ({ user: '7', join: ['channel:b'], allow: ['channel:a'] }),
    },
  )
  const connection = await openConnection(node.app, '/ws')
  const id = connection.welcome.connection
  connection.send('subscribe', { topic: 'channel:a' }, 1)
  await connection.next('subscribed')
  connection.send('subscribe', { topic: 'channel:a' }, 2)
  await connection.next('subscribed')
  connection.send('unsubscribe', { topic: 'channel:a' }, 3)
  await connection.next('unsubscribed')
  connection.send('unsubscribe', { topic: 'channel:a' }, 4)
  await connection.next('unsubscribed')
  await backend.start()
  let refusals = 0
  backend.react = () => (++refusals <= 2 ? { status: 500, body: '' } : { body: null })
  const events: Called[] = []
  const ids = new Set<string>()
  const collect = async () => {
    const call = await backend.calls.take()
    for (const event of call.events!) if (!ids.has(event.id)) events.push(event)
    for (const event of call.events!) ids.add(event.id)
  }
  while (events.length < 3) await collect()
  await until(async () => (await metricsOf(node))['events_sent_total{http}'] === 3, 'all are taken')
  await within(node.app.close(), 'the end of the application')
  while (events.length < 4) await collect()
  const told = events.map(({ id: _id, time, node: _node, ...event }) => event)
  const who = { connection: id, user: '7' }
  assert.deepEqual(told, [
    { kind: 'connect', ...who, topics: ['all', `connection:${id}`, 'user:7', 'channel:b'] },
    { kind: 'subscribe', ...who, topic: 'channel:a' },
    { kind: 'unsubscribe', ...who, topic: 'channel:a' },
    { kind: 'disconnect', ...who, code: 1012, reason: 'restart' },
  ])
})

test('a batch that the backend refuses is lost and said; closing does not wait for a backend that hangs', async t => {
  const backend = await startBackend(t)
  backend.react = ({ events }) => (events!.some(({ kind }) => kind === 'connect') ? { status: 400, body: '' } : 'hang')
  const node = await nodeOf(t, backend, { events: ['connect', 'disconnect'] }, { drain: { timeout: 200 } })
  await openConnection(node.app, '/ws')
  const [first, second] = [await backend.calls.take(), await backend.calls.take()]
  assert.equal(first.events![0]!.kind, 'connect')
  assert.deepEqual([second.events![0]!.kind, second.events![0]!.reasons], ['lost', { refused: 1 }])
  await within(node.app.close(), 'the end of the application')
  const metrics = await metricsOf(node)
  assert.deepEqual([metrics['events_lost_total{refused}'], metrics['events_lost_total{closed}']], [1, 1])
  assert.ok(node.log.some(({ msg }) => msg === 'push: events were lost'))
})

test('neither the secret nor a header nor the address is in the log', async t => {
  const backend = await startBackend(t)
  const node = await nodeOf(t, backend, { connect: true, headers: ['cookie'], message: ['ask'], events: ['connect'] })
  const headers = { cookie: 'session=COOKIE' }
  const url = `ws://127.0.0.1:${node.port}/ws?token=QUERY`
  const answers = ['die', { status: 500, body: 'BODY' }, { body: 'BODY' }, { status: 302, body: 'BODY' }] as const
  for (const answer of [...answers, ...answers]) {
    backend.react = () => answer
    await refusalOf(url, { headers })
  }
  await backend.stop()
  await refusalOf(url, { headers })
  const text = JSON.stringify(node.log.filter(({ msg }) => msg !== 'incoming request'))
  assert.match(text, /a call to the backend failed/)
  assert.doesNotMatch(text, /COOKIE|BODY|of=operator|the secret of the tests|v1=/)
})

test('an answer that comes in drops is given up in time, and one that is too long is not read to its end', async t => {
  const server = createServer((request, response) => {
    request.resume()
    response.writeHead(200)
    if (request.url === '/drops') {
      const timer = setInterval(() => response.write(' '), 5)
      response.on('close', () => clearInterval(timer))
    } else {
      const fill = () => {
        while (response.write('x'.repeat(65_536)));
      }
      response.on('drain', fill)
      fill()
    }
  }).listen(0, '127.0.0.1')
  t.after(() => server.close())
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const poster = (path: string) => new Poster(new URL(`http://127.0.0.1:${port}${path}`), 1000, 1)
  const post = (path: string, milliseconds: number) =>
    within(
      poster(path)
        .post({ body: Buffer.from('{}'), headers: {}, milliseconds })
        .then(
          () => assert.fail('answered'),
          (error: CallFailure) => `${error.reason} ${error.wasSent}`,
        ),
      'the end of the call',
    )
  // Connected by then.
  assert.equal(await post('/drops', 1000), 'timeout true')
  assert.equal(await post('/much', 600_000), 'answer true')
})

test('the query is passed on whole, without what is ours', async t => {
  const backend = await startBackend(t)
  backend.react = () => ({ body: {} })
  const node = await nodeOf(t, backend, { connect: true })
  await openConnection(node.app, '/ws?a=1?2&ticket=x&b=%C3%A9&ticket=y')
  assert.equal((await backend.calls.take()).query, 'a=1%3F2&b=%C3%A9')
})

test('clients that leave and an application that closes while calls are on their way: nothing waits for the backend', async t => {
  const backend = await startBackend(t)
  backend.react = ({ kind }) => (kind === 'connect' ? { body: { user: 'a' } } : 'hang')
  const node = await nodeOf(
    t,
    backend,
    { connect: true, subscribe: true, message: ['ask'], events: ['connect'] },
    {
      drain: { timeout: 300 },
    },
  )
  const [leaving, staying] = [await openConnection(node.app, '/ws'), await openConnection(node.app, '/ws')]
  for (const connection of [leaving, staying]) {
    connection.send('ask', {}, 1)
    connection.send('subscribe', { topic: 'channel:x' }, 2)
  }
  const kinds: string[] = []
  while (kinds.length < 7) kinds.push((await backend.calls.take()).kind)
  assert.deepEqual(kinds.toSorted(), ['connect', 'connect', 'events', 'message', 'message', 'subscribe', 'subscribe'])
  await leaving.close()
  backend.react = () => 'hang'
  const upgrading = new WebSocket(`ws://127.0.0.1:${node.port}/ws`)
  const refused = once(
    upgrading.on('error', () => {}),
    'unexpected-response',
  )
  assert.equal((await backend.calls.take()).kind, 'connect')
  await within(node.app.close(), 'the end of the application', 20_000)
  assert.equal((await refused)[1].statusCode, 503)
  upgrading.terminate()
  assert.equal((await staying.closed).code, 1012)
  await until(() => backend.busy === 0, 'all calls are given up')
  assert.deepEqual(
    node.log.filter(({ level }) => level >= 50).map(({ msg }) => msg),
    [],
  )
})
