import assert from 'node:assert/strict'
import { test } from 'node:test'
import pushBridge from '../../src/index.ts'
import { API_ROUTES } from '../../src/routes/api-routes.ts'
import { callApi } from '../helpers/api.ts'
import { buildApp, buildPush, KEY, manyRights, OPEN, openConnection, refusalOf } from '../helpers/app.ts'
import { freePort, startRedis } from '../helpers/redis.ts'
import { within } from '../helpers/waiting.ts'

const API = { api: { keys: [KEY] } }

test('close, subscribe and unsubscribe do and say what app.push does and says', async t => {
  const { app, port } = await buildPush(t, API)
  const [one, two] = await Promise.all([1, 2].map(() => openConnection(app, '/ws?user=7')))
  const target = 'user:7'
  const topic = 'channel:vip'
  const joined = await callApi(port, '/push/subscribe', { body: { target, topic } })
  const all = { topic: target, nodes: 1, delivered: 2, skipped: 0, complete: true }
  assert.deepEqual([joined.status, joined.body], [200, all])
  for (const connection of [one!, two!]) {
    assert.equal(((await connection.next('subscribed')).payload as { topic: string }).topic, topic)
  }
  const left = await callApi(port, '/push/unsubscribe', {
    body: { target: `connection:${one!.welcome.connection}`, topic },
  })
  assert.equal(left.body.delivered, 1)
  await one!.next('unsubscribed')
  assert.equal((await app.push.publish(topic, { type: 'x', receipt: true })).delivered, 1)
  const closed = await callApi(port, '/push/close', { body: { target, code: 4403, reason: 'locked' } })
  assert.deepEqual(closed.body, all)
  for (const connection of [one!, two!]) assert.deepEqual(await connection.closed, { code: 4403, reason: 'locked' })
  const nobody = await callApi(port, '/push/close', { body: { target } })
  assert.deepEqual([nobody.status, nobody.body.delivered, nobody.body.nodes], [200, 0, 0])
  assert.deepEqual(await app.push.close(target), nobody.body)
})

test('a close without code and reason is 1000', async t => {
  const { app, port } = await buildPush(t, API)
  const connection = await openConnection(app, '/ws?user=7')
  await callApi(port, '/push/close', { body: { target: 'user:7' } })
  assert.deepEqual(await connection.closed, { code: 1000, reason: '' })
})

test('a ticket lets a page in once, as who it is for', async t => {
  const { app, port } = await buildPush(t, { ...API, tickets: true })
  const { status, body } = await callApi(port, '/push/tickets', {
    body: {
      user: 42,
      join: ['channel:news'],
      allow: ['channel:orders.*', { topics: ['channel:chat'], actions: ['publish', 'subscribe'] }],
      data: { name: 'Ann' },
      expires: Date.now() + 3_600_000,
      ttl: 60,
    },
  })
  assert.deepEqual([status, body.ttl], [200, 60])
  const connection = await openConnection(app, `/ws/orders.7?ticket=${body.ticket}`)
  assert.equal(connection.welcome.user, '42')
  const topics = Object.keys(connection.welcome.topics)
  for (const topic of ['channel:news', 'channel:orders.7']) assert.ok(topics.includes(topic), topic)
  const [only] = app.push.connections.values()
  assert.deepEqual(only?.data, { name: 'Ann' })
  await assert.rejects(openConnection(app, `/ws?ticket=${body.ticket}`))
  const bare = await callApi(port, '/push/tickets', { body: {} })
  assert.deepEqual([bare.status, bare.body.ttl], [200, 30])
  assert.equal((await openConnection(app, `/ws?ticket=${bare.body.ticket}`)).welcome.user, null)
})

test('status is that of app.push', async t => {
  const { app, port } = await buildPush(t, API)
  await openConnection(app, '/ws/room?user=7')
  const { status, body } = await callApi(port, '/push/status')
  assert.equal(status, 200)
  assert.deepEqual(body, JSON.parse(JSON.stringify(await app.push.status())))
  assert.deepEqual([body.connections, body.connected, body.nodes], [1, true, 1])
  assert.equal((await callApi(port, '/push/status', { method: 'HEAD' })).status, 200)
})

test('status answers while Redis is away', async t => {
  const port = await freePort()
  const made = await buildPush(t, { ...API, redis: `redis://127.0.0.1:${port}`, publishTimeout: 100 })
  const { status, body } = await callApi(made.port, '/push/status')
  assert.deepEqual([status, body.connected, 'nodes' in body], [200, false, false])
  assert.match(String(body.problem), /ECONNREFUSED/)
  for (const [path, sent] of [
    ['/push/close', { target: 'user:1' }],
    ['/push/subscribe', { target: 'user:1', topic: 'channel:a' }],
    ['/push/tickets', { user: '1' }],
  ] as const) {
    const answer = await callApi(made.port, path, { body: sent })
    assert.deepEqual([answer.status, answer.body.code], [503, 'PUSH_ERR_BROKER_AWAY'], path)
  }
})

test('what is wrong has its status, its code and a text that helps', async t => {
  const { port } = await buildPush(t, API)
  const target = 'user:1'
  const [close, subscribe, tickets] = ['/push/close', '/push/subscribe', '/push/tickets']
  const cases: [string, unknown, number, string, RegExp][] = [
    [close, '', 400, 'PUSH_ERR_JSON', /the body is empty/],
    [close, '{', 400, 'PUSH_ERR_JSON', /broken JSON/],
    [close, '[]', 400, 'PUSH_ERR_JSON', /not a JSON object such as \{"target":"user:42"/],
    [close, 'null', 400, 'PUSH_ERR_JSON', /not a JSON object/],
    [close, {}, 400, 'PUSH_ERR_TOPIC', /a topic is a string/],
    [close, { target: ['user:1'] }, 400, 'PUSH_ERR_TOPIC', /not an array/],
    [close, { target: 'all' }, 400, 'PUSH_ERR_TOPIC', /"all" is neither user:ID nor connection:ID/],
    [close, { target: 'channel:a' }, 400, 'PUSH_ERR_TOPIC', /neither user:ID nor/],
    [close, { target, code: 1006 }, 400, 'PUSH_ERR_FIELD', /code is none of 1000/],
    [close, { target, code: null }, 400, 'PUSH_ERR_FIELD', /code is none of 1000/],
    [close, { target, code: '1000' }, 400, 'PUSH_ERR_FIELD', /code is none of/],
    [close, { target, reason: 7 }, 400, 'PUSH_ERR_FIELD', /reason is not a string/],
    [close, { target, reason: 'é'.repeat(62) }, 400, 'PUSH_ERR_FIELD', /longer than 123 bytes/],
    [close, { target, taget: 'x' }, 400, 'PUSH_ERR_UNKNOWN_KEY', /unknown key "taget": did you mean "target"\?/],
    [close, '{"target":"user:1","__proto__":{}}', 400, 'PUSH_ERR_UNKNOWN_KEY', /unknown key "__proto__"/],
    [subscribe, { target }, 400, 'PUSH_ERR_TOPIC', /a topic is a string/],
    [subscribe, { target, topic: 'all' }, 400, 'PUSH_ERR_TOPIC', /all is not a channel/],
    [subscribe, { target, topic: 'user:2' }, 400, 'PUSH_ERR_TOPIC', /user:2 is not a channel/],
    [subscribe, { target, topic: 'vip' }, 400, 'PUSH_ERR_TOPIC', /"vip" is no topic/],
    [tickets, '', 400, 'PUSH_ERR_JSON', /the body is empty/],
    [tickets, [], 400, 'PUSH_ERR_JSON', /not a JSON object such as \{"user":"42"/],
    [tickets, { user: 'a b' }, 400, 'PUSH_ERR_FIELD', /gave a user that has white space/],
    [tickets, { user: 2 ** 53 }, 400, 'PUSH_ERR_FIELD', /safe integer: give it as a string/],
    [tickets, { join: ['all'] }, 400, 'PUSH_ERR_FIELD', /all cannot be joined/],
    [tickets, { join: 'channel:a' }, 400, 'PUSH_ERR_FIELD', /join that is not a list/],
    [tickets, { allow: ['orders'] }, 400, 'PUSH_ERR_FIELD', /"orders" is no topic/],
    [tickets, { allow: [{ topics: '*', actions: ['close'] }] }, 400, 'PUSH_ERR_FIELD', /has "close", which is none of/],
    [tickets, { expires: 1_700_000_000 }, 400, 'PUSH_ERR_FIELD', /in seconds: multiply it by 1000/],
    [tickets, { expires: Date.now() - 1 }, 400, 'PUSH_ERR_FIELD', /in the past/],
    [tickets, { ttl: 0 }, 400, 'PUSH_ERR_FIELD', /from 1 to 86400/],
    [tickets, { ttl: 86_401 }, 400, 'PUSH_ERR_FIELD', /from 1 to 86400/],
    [tickets, { ttl: null }, 400, 'PUSH_ERR_FIELD', /from 1 to 86400/],
    [tickets, { usr: '1' }, 400, 'PUSH_ERR_UNKNOWN_KEY', /did you mean "user"\?/],
    [tickets, { allow: manyRights() }, 413, 'PUSH_ERR_TOO_LARGE', /at most 65536 are kept: allow patterns/],
    [tickets, { data: 'x'.repeat(1_200_000) }, 413, 'PUSH_ERR_TOO_LARGE', /the body is larger than/],
  ]
  for (const [path, body, status, code, text] of cases) {
    const answer = await callApi(port, path, { body })
    assert.deepEqual([answer.status, answer.body.code, answer.body.statusCode], [status, code, status], `${body}`)
    assert.match(String(answer.body.message), text)
  }
  const query = await callApi(port, '/push/status?verbose=1')
  assert.deepEqual([query.status, query.body.code], [400, 'PUSH_ERR_UNKNOWN_KEY'])
  assert.equal(query.body.message, 'this route takes no parameters in the URL')
  const form = await callApi(port, '/push/close', { body: 'target=user:1', headers: { 'content-type': 'text/plain' } })
  assert.deepEqual([form.status, form.body.code], [415, 'PUSH_ERR_CONTENT_TYPE'])
})

test('nothing is there, or not with this method: and nobody learns it without a key', async t => {
  const { port } = await buildPush(t, API)
  for (const path of ['/push/', '/push/none', '/push/close/', '/push/status/x', '/push/CLOSE']) {
    const { status, body } = await callApi(port, path)
    assert.deepEqual([status, body.code], [404, 'PUSH_ERR_NOT_FOUND'], path)
  }
  for (const [method, path, allow] of [
    ['GET', '/push', 'POST'],
    ['DELETE', '/push/close', 'POST'],
    ['GET', '/push/tickets?x=1', 'POST'],
    ['PUT', '/push/status', 'GET, HEAD'],
  ] as const) {
    // A body that no parser takes: whoever asks wrongly need not send a right one.
    const body = method === 'PUT' ? 'a' : undefined
    const answer = await callApi(port, path, { method, body, headers: { 'content-type': 'text/plain' } })
    assert.deepEqual([answer.status, answer.body.code], [405, 'PUSH_ERR_METHOD'], path)
    assert.equal(answer.headers.get('allow'), allow)
    assert.match(answer.body.message!, new RegExp(`${method} is not possible at /push\\S*: use ${allow}`))
  }
  const long = await callApi(port, `/push/${'x'.repeat(3000)}`)
  assert.ok(long.body.message!.length < 300)
  for (const { method, path } of [...API_ROUTES, { method: 'GET', path: '/none' }, { method: 'GET', path: '' }]) {
    const headers = { authorization: 'Bearer wrong' }
    const answer = await callApi(port, `/push${path}`, { method, headers })
    assert.deepEqual([answer.status, answer.body.code], [401, 'PUSH_ERR_UNAUTHENTICATED'], `${method} ${path}`)
    assert.equal(answer.headers.get('allow'), null)
  }
})

test('routes of the host stay its own, also below the path of the API, and so does what it answers elsewhere', async t => {
  const { port } = await buildApp(t, async host => {
    host.setNotFoundHandler((_request, reply) => reply.code(404).send({ mine: true }))
    await host.register(pushBridge, { ...OPEN, ...API })
    host.get('/push/vapid-key', async () => ({ key: 'of the host' }))
    host.get('/push', async () => ({ page: 'of the host' }))
    host.get('/push/close', async () => ({ close: 'of the host' }))
  })
  const get = async (path: string) => (await within(fetch(`http://127.0.0.1:${port}${path}`), path)).json()
  assert.deepEqual(await get('/push/vapid-key'), { key: 'of the host' })
  assert.deepEqual(await get('/push'), { page: 'of the host' })
  assert.deepEqual(await get('/push/close'), { close: 'of the host' })
  for (const path of ['/pushy', '/elsewhere']) assert.deepEqual(await get(path), { mine: true })
  assert.equal((await callApi(port, '/push/none')).body.code, 'PUSH_ERR_NOT_FOUND')
  assert.equal((await callApi(port, '/push/close', { body: { target: 'user:1' } })).status, 200)
})

test('the path of the API may have a prefix, a slash at its end, and the same name as no other', async t => {
  const { port } = await buildApp(t, async host => {
    await host.register(async v1 => v1.register(pushBridge, { ...OPEN, api: { path: '/inner/api', keys: [KEY] } }), {
      prefix: '/v1',
    })
    await host.register(pushBridge, { ...OPEN, path: '/ws2', name: 'other', api: { path: '/slash/', keys: [KEY] } })
  })
  const call = async (path: string, init: RequestInit = {}) => {
    const headers = { 'x-push-key': KEY, 'content-type': 'application/json' }
    const answer = await within(fetch(`http://127.0.0.1:${port}${path}`, { headers, ...init }), path)
    return [answer.status, ((await answer.json()) as { code?: string }).code, answer.headers.get('allow')]
  }
  const post = { method: 'POST', body: '{"to":"all","type":"x"}' }
  const close = { method: 'POST', body: '{"target":"user:1"}' }
  for (const [base, whole] of [
    ['/v1/inner/api', '/v1/inner/api'],
    ['/slash', '/slash/'],
  ] as const) {
    assert.deepEqual(await call(whole, post), [200, undefined, null])
    assert.deepEqual(await call(`${base}/close`, close), [200, undefined, null])
    assert.deepEqual(await call(`${base}/status`), [200, undefined, null])
    assert.deepEqual(await call(whole), [405, 'PUSH_ERR_METHOD', 'POST'])
    assert.deepEqual(await call(`${base}/close`), [405, 'PUSH_ERR_METHOD', 'POST'])
    assert.deepEqual(await call(`${base}/none`), [404, 'PUSH_ERR_NOT_FOUND', null])
  }
  for (const path of ['/ws', '/ws/']) {
    await assert.rejects(async () => buildPush(t, { api: { path, keys: [KEY] } }), {
      code: 'PUSH_ERR_OPTIONS',
      message: /option api\.path is the path of the WebSocket route: choose another$/,
    })
  }
})

test('a guard of the host stands before every route, and its own answer is left alone', async t => {
  const { port } = await buildPush(t, {
    tickets: true,
    api: {
      onRequest(request, reply) {
        if (request.headers['x-role'] === 'backend') return
        if (request.headers['x-role'] === 'nobody') throw Object.assign(new Error('not you'), { statusCode: 403 })
        return reply.code(418).send({ mine: true })
      },
    },
  })
  for (const { method, path } of [...API_ROUTES, { method: 'GET', path: '/none' }, { method: 'GET', path: '' }]) {
    const asking = fetch(`http://127.0.0.1:${port}/push${path}`, { method })
    const answer = await within(asking, path)
    assert.deepEqual([answer.status, await answer.json()], [418, { mine: true }])
  }
  for (const { method, path } of API_ROUTES) {
    const { status, body } = await callApi(port, `/push${path}`, { method, headers: { 'x-role': 'nobody' } })
    assert.deepEqual([status, body.code, body.message], [403, 'PUSH_ERR_FORBIDDEN', 'not you'])
  }
  const headers = { 'x-role': 'backend', authorization: '' }
  assert.equal((await callApi(port, '/push/tickets', { body: { user: '1', data: 1 }, headers })).status, 200)
  assert.equal((await callApi(port, '/push/status?token=for-the-guard', { headers })).status, 200)
  assert.equal((await callApi(port, '/push/none', { headers })).status, 404)
})

test('an upgrade to a route of the API is answered as any request', async t => {
  const { port } = await buildPush(t, API)
  const headers = { authorization: `Bearer ${KEY}` }
  for (const [path, status, withKey] of [
    ['/push', 401, 405],
    ['/push/status', 401, 200],
    ['/push/none', 401, 404],
  ] as const) {
    assert.equal((await refusalOf(`ws://127.0.0.1:${port}${path}`)).status, status)
    assert.equal((await refusalOf(`ws://127.0.0.1:${port}${path}`, { headers })).status, withKey)
  }
})

test('a route that fails says so, and the reason is in the log alone', async t => {
  const { app, port, log } = await buildPush(t, API)
  app.push.status = async () => {
    throw new Error('the secret reason')
  }
  const { status, body } = await callApi(port, '/push/status')
  assert.deepEqual([status, body.code], [500, 'PUSH_ERR_INTERNAL'])
  assert.ok(!JSON.stringify(body).includes('secret'))
  assert.ok(log.some(({ msg }) => msg === 'push: the push API failed'))
})

test('no key and no ticket is in the log', async t => {
  const redis = await startRedis(t)
  const { port, log } = await buildPush(t, { ...API, redis: redis.url, tickets: true })
  const { body } = await callApi(port, '/push/tickets', { body: { user: 'someone', data: 'the secret data' } })
  assert.equal(await redis.admin.ttl(`push:ticket:${body.ticket}`), 30)
  await callApi(port, '/push/tickets', { body: { user: 'a b', data: 'the secret data' } })
  const text = JSON.stringify(log)
  for (const secret of [KEY, String(body.ticket), 'the secret data']) assert.ok(!text.includes(secret), secret)
  assert.ok(text.includes('/push/tickets'))
})
