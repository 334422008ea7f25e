import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import cookie from '@fastify/cookie'
import helmet from '@fastify/helmet'
import jwt from '@fastify/jwt'
import rateLimit from '@fastify/rate-limit'
import session from '@fastify/session'
import swagger from '@fastify/swagger'
import type { FastifyInstance } from 'fastify'
import { serializerCompiler, validatorCompiler } from 'fastify-type-provider-zod'
import { Type } from 'typebox'
import pushBridge from '../../src/index.ts'
import { callApi } from '../helpers/api.ts'
import { buildApp, buildPush, KEY, OPEN, openConnection } from '../helpers/app.ts'

const API = { api: { keys: ['another-key-of-sixteen', KEY] } }

const post = (port: number, body: unknown, headers: Record<string, string> = {}) =>
  callApi(port, '/push', { body, headers })

test('a key that can be guessed is refused when the plugin is registered', async t => {
  const short = { key: 'fifteen-letters', topics: '*', actions: ['publish'] as const }
  for (const keys of [
    [KEY, 'fifteen-letters'],
    [KEY, short],
  ]) {
    await assert.rejects(async () => buildPush(t, { api: { keys } }), {
      code: 'PUSH_ERR_OPTIONS',
      message: /option api\.keys\.1 has fewer than 16 characters and can be guessed: write a longer secret$/,
    })
  }
})

test('one call reaches the subscriber and says so', async t => {
  const { app, port } = await buildPush(t, API)
  const connection = await openConnection(app, '/ws?user=42')
  const { status, body } = await post(port, { to: 'user:42', type: 'notice', payload: { text: 'hi' }, receipt: true })
  assert.deepEqual([status, body], [200, { topic: 'user:42', nodes: 1, delivered: 1, skipped: 0, complete: true }])
  assert.deepEqual(await connection.next(), { type: 'notice', payload: { text: 'hi' }, topic: 'user:42' })
  assert.deepEqual((await post(port, { to: 'user:43', type: 'notice' })).body, { topic: 'user:43', nodes: 0 })
})

test('except is told with its reason', async t => {
  const { app, port } = await buildPush(t, API)
  const one = await openConnection(app, '/ws/room?user=1')
  const two = await openConnection(app, '/ws/room?user=2')
  const except = [`connection:${one.welcome.connection}`]
  const { body } = await post(port, { to: 'channel:room', type: 'x', except, receipt: true })
  assert.deepEqual(body, {
    topic: 'channel:room',
    nodes: 1,
    delivered: 1,
    skipped: 1,
    complete: true,
    reasons: { except: 1 },
  })
  assert.equal((await two.next()).type, 'x')
})

test('lists of topics and batches answer in order, and a bad item keeps nobody back', async t => {
  const { app, port } = await buildPush(t, API)
  const connection = await openConnection(app, '/ws/a')
  const several = await post(port, { to: ['channel:a', 'channel:b'], type: 'x' })
  assert.deepEqual(several.body, [
    { topic: 'channel:a', nodes: 1 },
    { topic: 'channel:b', nodes: 0 },
  ])
  const batch = await post(port, [
    { to: 'channel:a', type: 'one' },
    { to: 'nowhere', type: 'two' },
    { to: 'channel:a', type: 'three', excpet: [] },
    { to: 'channel:a', type: 'four' },
  ])
  assert.equal(batch.status, 200)
  const items = batch.body as unknown as { topic: string; nodes?: number; error?: { code: string; message: string } }[]
  assert.deepEqual(
    items.map(item => item.error?.code ?? item.nodes),
    [1, 'PUSH_ERR_TOPIC', 'PUSH_ERR_UNKNOWN_KEY', 1],
  )
  assert.match(items[2]!.error!.message, /unknown key "excpet": did you mean "except"\?/)
  for (const type of ['x', 'one', 'four']) assert.equal((await connection.next()).type, type)
  const tooMany = await post(
    port,
    Array.from({ length: 1001 }, () => ({ to: 'all', type: 'x' })),
  )
  assert.deepEqual([tooMany.status, tooMany.body.code], [413, 'PUSH_ERR_TOO_LARGE'])
})

test('every refusal has its status, its code and a text that helps', async t => {
  const { port } = await buildPush(t, { ...API, schemas: { order: Type.Object({ id: Type.Integer() }) } })
  const to = 'user:1'
  const cases: [unknown, number, string, RegExp][] = [
    ['', 400, 'PUSH_ERR_JSON', /the body is empty/],
    ['{"to":', 400, 'PUSH_ERR_JSON', /broken JSON/],
    ['"x"', 400, 'PUSH_ERR_JSON', /not a JSON object/],
    [Buffer.from([0x7b, 0xff, 0x7d]), 400, 'PUSH_ERR_JSON', /not UTF-8/],
    [{ type: 'x' }, 400, 'PUSH_ERR_TOPIC', /to is missing/],
    [{ to: 5, type: 'x' }, 400, 'PUSH_ERR_TOPIC', /a topic is a string|no topic/],
    [{ to: 'orders', type: 'x' }, 400, 'PUSH_ERR_TOPIC', /"orders" is no topic: write channel:NAME/],
    [{ to: 'user:a b', type: 'x' }, 400, 'PUSH_ERR_TOPIC', /white space/],
    [{ to }, 400, 'PUSH_ERR_TYPE', /type is missing/],
    [{ to, type: 'a b' }, 400, 'PUSH_ERR_TYPE', /1 to 128 of/],
    [{ to, type: 'welcome' }, 400, 'PUSH_ERR_RESERVED_TYPE', /type "welcome" is reserved/],
    [{ to, type: 'push.x' }, 400, 'PUSH_ERR_RESERVED_TYPE', /reserved/],
    [{ to, type: 'x', data: 1 }, 400, 'PUSH_ERR_UNKNOWN_KEY', /unknown key "data"/],
    [{ to, type: 'x', control: 'close' }, 400, 'PUSH_ERR_UNKNOWN_KEY', /unknown key "control"/],
    [{ to, type: 'x', seq: -1 }, 400, 'PUSH_ERR_FIELD', /seq is not an integer/],
    [{ to, type: 'x', receipt: 'yes' }, 400, 'PUSH_ERR_FIELD', /receipt is neither true nor false/],
    [{ to, type: 'x', except: 'channel:a' }, 400, 'PUSH_ERR_FIELD', /neither user:ID nor connection:ID/],
    [{ to, type: 'order', payload: { id: 'x' } }, 400, 'PUSH_ERR_SCHEMA', /type "order": payload\.id must be integer/],
    [{ to, type: 'x', payload: 'y'.repeat(300_000) }, 413, 'PUSH_ERR_TOO_LARGE', /limits\.publication allows 262144/],
    [{ to, type: 'x', payload: 'y'.repeat(1_200_000) }, 413, 'PUSH_ERR_TOO_LARGE', /the body is larger than/],
  ]
  for (const [body, status, code, text] of cases) {
    const answer = await post(port, body)
    assert.deepEqual([answer.status, answer.body.code, answer.body.statusCode], [status, code, status])
    assert.match(String(answer.body.message), text)
    assert.equal(typeof answer.body.error, 'string')
  }
})

test('the body says that it is JSON, or is not looked at', async t => {
  const { port } = await buildPush(t, API)
  const message = { to: 'all', type: 'x' }
  for (const type of ['application/json', 'Application/JSON; charset=utf-8', 'application/vnd.acme.v1+json;v=2']) {
    assert.equal((await post(port, message, { 'content-type': type })).status, 200, type)
  }
  // What a form or `curl -d` sends; a page of another origin may send these without asking.
  for (const type of ['application/x-www-form-urlencoded', 'text/plain', 'text/json', 'application/jsonp', 'x+json']) {
    const { status, body } = await post(port, message, { 'content-type': type })
    assert.deepEqual([status, body.code, body.statusCode], [415, 'PUSH_ERR_CONTENT_TYPE', 415], type)
    assert.match(body.message ?? '', /send Content-Type: application\/json/)
  }
  const bare = await fetch(`http://127.0.0.1:${port}/push`, {
    method: 'POST',
    headers: { authorization: `Bearer ${KEY}` },
    body: Buffer.from(JSON.stringify(message)),
  })
  assert.equal(bare.status, 415)
  const unknown = await post(port, message, { 'content-type': 'text/plain', authorization: 'Bearer nope' })
  assert.equal(unknown.status, 401, 'nobody learns anything without a key')
})

test('no key, no push; without api no route', async t => {
  const { port } = await buildPush(t, API)
  for (const authorization of ['', 'Bearer', 'Bearer wrong', `Bearer ${KEY}x`, `Basic ${KEY}`]) {
    const { status, body } = await post(port, { to: 'all', type: 'x' }, { authorization })
    assert.deepEqual([status, body.code], [401, 'PUSH_ERR_UNAUTHENTICATED'])
  }
  assert.equal((await post(port, { to: 'all', type: 'x' }, { authorization: '', 'x-push-key': KEY })).status, 200)
  const { port: closed } = await buildPush(t)
  assert.equal((await fetch(`http://127.0.0.1:${closed}/push`, { method: 'POST' })).status, 404)
  assert.equal((await fetch(`http://127.0.0.1:${closed}/push/status`)).status, 404)
})

test('a hook of the host can guard the door instead of keys', async t => {
  const { port } = await buildPush(t, {
    api: {
      onRequest(request, reply) {
        if (request.headers['x-role'] !== 'backend') return reply.code(418).send({ mine: true })
        return undefined
      },
    },
  })
  const refused = await fetch(`http://127.0.0.1:${port}/push`, { method: 'POST' })
  assert.deepEqual([refused.status, await refused.json()], [418, { mine: true }])
  assert.equal((await post(port, { to: 'all', type: 'x' }, { 'x-role': 'backend' })).status, 200)
})

/** Whatever the host has: the door keeps its own key, checks, body parsing and errors. */
const hosts: Record<string, (app: FastifyInstance) => Promise<unknown>> = {
  async '@fastify/jwt in a global onRequest hook'(app) {
    await app.register(jwt, { secret: 'a secret of the host' })
    app.addHook('onRequest', async request => {
      if (request.url.startsWith('/push')) await request.jwtVerify()
    })
  },
  async '@fastify/session and cookie'(app) {
    await app.register(cookie)
    await app.register(session, { secret: 'x'.repeat(32), cookie: { secure: false } })
  },
  async '@fastify/rate-limit'(app) {
    await app.register(rateLimit, { max: 100 })
  },
  async '@fastify/helmet'(app) {
    await app.register(helmet)
  },
  async '@fastify/swagger'(app) {
    await app.register(swagger, { openapi: {} })
  },
  async 'a zod compiler'(app) {
    app.setValidatorCompiler(validatorCompiler)
    app.setSerializerCompiler(serializerCompiler)
  },
  async 'an error handler, body parser and hooks of its own'(app) {
    app.setErrorHandler((_error, _request, reply) => reply.code(200).send('all is well'))
    app.removeAllContentTypeParsers()
    app.addContentTypeParser('application/json', (_request, _payload, done) => done(null, 'not what was sent'))
    app.addHook('preSerialization', async () => ({ wrapped: true }))
    app.addHook('preValidation', async () => {
      throw new Error('not today')
    })
  },
}

for (const [name, set] of Object.entries(hosts)) {
  for (const order of ['before', 'after'] as const) {
    test(`works with ${name}, registered ${order} us`, t => withHost(t, set, order))
  }
}

async function withHost(t: TestContext, set: (app: FastifyInstance) => Promise<unknown>, order: 'before' | 'after') {
  const { app, port } = await buildApp(t, async host => {
    if (order === 'before') await set(host)
    await host.register(pushBridge, { ...OPEN, ...API })
    if (order === 'after') await set(host)
  })
  const { status, body } = await post(port, { to: 'user:42', type: 'notice', payload: {}, receipt: true })
  assert.deepEqual([status, body.topic, body.delivered], [200, 'user:42', 0])
  const unknown = await post(port, { to: 'user:42', type: 'notice', extra: 1 })
  assert.deepEqual([unknown.status, unknown.body.code], [400, 'PUSH_ERR_UNKNOWN_KEY'])
  const refused = await post(port, { to: 'user:42', type: 'notice' }, { authorization: 'Bearer nope' })
  assert.deepEqual([refused.status, refused.body.code], [401, 'PUSH_ERR_UNAUTHENTICATED'])
  await callEach(port)
  if (name(set).includes('hooks of its own')) return
  const connection = await openConnection(app, '/ws?user=42')
  await post(port, { to: 'user:42', type: 'notice' })
  assert.equal((await connection.next()).type, 'notice')
}

/** The other routes: each works, and each refuses in our form. */
async function callEach(port: number): Promise<void> {
  const bodies: Record<string, object | undefined> = {
    '/push/close': { target: 'user:none' },
    '/push/subscribe': { target: 'user:none', topic: 'channel:a' },
    '/push/unsubscribe': { target: 'user:none', topic: 'channel:a' },
    '/push/tickets': { user: 42, data: { name: 'Ann' } },
    '/push/status': undefined,
  }
  for (const [path, body] of Object.entries(bodies)) {
    assert.equal((await callApi(port, path, { body })).status, 200, path)
    const unknown = body ? { body: { ...body, extra: 1 } } : {}
    const wrong = await callApi(port, body ? path : `${path}?extra=1`, unknown)
    assert.deepEqual([wrong.status, wrong.body.code], [400, 'PUSH_ERR_UNKNOWN_KEY'], path)
    const refused = await callApi(port, path, { body, headers: { authorization: 'Bearer nope' } })
    assert.deepEqual([refused.status, refused.body.code], [401, 'PUSH_ERR_UNAUTHENTICATED'], path)
  }
  assert.equal((await callApi(port, '/push/none')).body.code, 'PUSH_ERR_NOT_FOUND')
  assert.equal((await callApi(port, '/push/close')).body.code, 'PUSH_ERR_METHOD')
}

function name(set: (app: FastifyInstance) => Promise<unknown>): string {
  return Object.keys(hosts).find(key => hosts[key] === set)!
}

test('a rate limit of the host answers 429 in our form', async t => {
  const { port } = await buildApp(t, async host => {
    await host.register(rateLimit, { max: 2 })
    await host.register(pushBridge, { ...OPEN, ...API })
  })
  const answers = []
  for (let i = 0; i < 3; i++) answers.push(await post(port, { to: 'all', type: 'x' }))
  assert.deepEqual(
    answers.map(({ status }) => status),
    [200, 200, 429],
  )
  const { statusCode, code, message } = answers[2]!.body
  assert.deepEqual([statusCode, code], [429, 'PUSH_ERR_LIMIT'])
  assert.match(message!, /Rate limit exceeded/)
})
