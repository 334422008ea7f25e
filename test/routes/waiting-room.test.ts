import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import fc from 'fast-check'
import { WebSocket } from 'ws'
import type { Authentication, PushBridgeOptions } from '../../src/index.ts'
import { buildPush, OPEN, refusalOf } from '../helpers/app.ts'
import { Inbox, once, until, within } from '../helpers/waiting.ts'

const BY_MESSAGE: Partial<PushBridgeOptions> = { authenticate: 'message', tickets: true }

interface Message {
  type: string
  payload: { [key: string]: unknown; code?: string; topics?: Record<string, object> }
  ref?: unknown
}

/** A socket that keeps what comes, and says nothing by itself. */
async function visit(t: TestContext, port: number, path = '/ws', headers: Record<string, string> = {}) {
  const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`, { headers })
  t.after(() => socket.terminate())
  const inbox = new Inbox<Message>(`the next message of ${path}`)
  socket.on('message', data => inbox.put(JSON.parse(String(data))))
  const closed = new Promise<[number, string]>(resolve => {
    socket.on('close', (code, reason) => resolve([code, String(reason)]))
  })
  await once(socket, 'open')
  return {
    socket,
    inbox,
    closed: () => within(closed, 'the end of a visit'),
    say: (type: string, payload: unknown = {}, ref?: unknown) => socket.send(JSON.stringify({ type, payload, ref })),
    next: () => inbox.take(),
  }
}

test('the first message says who it is, and then the welcome comes with what the URL asked for', async t => {
  const { app, port } = await buildPush(t, { ...BY_MESSAGE, onConnect: (_connection, { url }) => seen.push(url) })
  const seen: string[] = []
  const ticket = await app.push.ticket({ user: '42', join: ['channel:b'], allow: ['channel:a'] })
  const { say, next } = await visit(t, port, '/ws/a')
  assert.equal((await app.push.status()).topics, 0, 'nothing is subscribed before')
  say('authenticate', { ticket }, 'first')
  const { type, payload } = await next()
  assert.deepEqual([type, payload.user], ['welcome', '42'])
  assert.deepEqual(Object.keys(payload.topics!).slice(2), ['user:42', 'channel:b', 'channel:a'])
  const answer = await next()
  assert.deepEqual([answer.type, answer.ref, answer.payload.user], ['authenticated', 'first', '42'])
  await until(() => seen.length > 0, 'onConnect')
  assert.deepEqual(seen, ['/ws/a'])
  assert.equal(await app.push.publish('user:42', { type: 'said' }).then(({ nodes }) => nodes), 1)
  assert.equal((await next()).type, 'said')
})

test('without a ref the welcome is the answer; what was sent at once is handled after it', async t => {
  const { app, port } = await buildPush(t, BY_MESSAGE)
  const ticket = await app.push.ticket({ allow: ['channel:a'] })
  const { say, next } = await visit(t, port)
  say('authenticate', { ticket })
  say('subscribe', { topic: 'channel:a' }, 1)
  say('ping', {}, 2)
  const types = [await next(), await next(), await next()].map(({ type }) => type)
  assert.equal(types[0], 'welcome')
  assert.deepEqual(types.slice(1).sort(), ['pong', 'subscribed'])
})

test('the application may decide for each request, and check the payload itself', async t => {
  const payloads: unknown[] = []
  const { port } = await buildPush(t, {
    authenticate: ({ query }) => ((query as { user?: string }).user ? { user: 'url' } : 'message'),
    async onAuthenticate(payload: { token?: string }, connection): Promise<Authentication | null> {
      payloads.push([payload, connection])
      return payload.token === 'good' ? { user: 'message' } : null
    },
  })
  const byUrl = await visit(t, port, '/ws?user=1')
  assert.equal((await byUrl.next()).payload.user, 'url')
  const byMessage = await visit(t, port)
  byMessage.say('authenticate', { token: 'good' })
  assert.equal((await byMessage.next()).payload.user, 'message')
  assert.deepEqual(payloads, [[{ token: 'good' }, undefined]])
  const refused = await visit(t, port)
  refused.say('authenticate', { token: 'bad' })
  assert.deepEqual(await refused.closed(), [4401, 'onAuthenticate() did not accept the request'])
})

test('a ticket in the URL still works', async t => {
  const { app, port } = await buildPush(t, BY_MESSAGE)
  const { next } = await visit(t, port, `/ws?ticket=${await app.push.ticket({ user: 1 })}`)
  assert.equal((await next()).payload.user, '1')
})

test('before it nothing is answered but that, nothing is delivered, and ten such messages are too many', async t => {
  const { app, port } = await buildPush(t, { ...BY_MESSAGE, onBinary: () => assert.fail('not for a stranger') })
  const { socket, say, next, closed } = await visit(t, port, '/ws/a')
  const { delivered } = await app.push.publish('all', { type: 'said', receipt: true })
  assert.equal(delivered, 0)
  const tries: (() => void)[] = [
    () => say('ping', {}, 1),
    () => say('subscribe', { topic: 'channel:a' }, 2),
    () => socket.send('no JSON'),
    () => socket.send(Buffer.from('bytes')),
    () => say('push.publish', { topic: 'channel:a', type: 'x' }),
  ]
  for (const attempt of [...tries, ...tries]) {
    attempt()
    const { type, payload } = await next()
    assert.deepEqual([type, payload.code], ['error', 'PUSH_ERR_UNAUTHENTICATED'])
  }
  assert.equal((await closed())[0], 4401)
  const { metrics, connections } = await app.push.status()
  assert.equal(connections, 0)
  assert.equal(metrics['messages_refused_total{PUSH_ERR_UNAUTHENTICATED}'], 10)
  assert.equal(metrics['upgrades_refused_total{PUSH_ERR_UNAUTHENTICATED}'], 1)
  assert.equal(metrics.connections_opened_total, undefined)
})

test('who says nothing is closed with 4401 at limits.handshake, and not before', async t => {
  const { port } = await buildPush(t, { ...BY_MESSAGE, limits: { handshake: 700 } })
  const began = performance.now()
  const { closed } = await visit(t, port)
  assert.equal((await closed())[0], 4401)
  assert.ok(performance.now() - began >= 700)
})

test('a check that never ends is closed at limits.handshake too, and its late answer opens nothing', async t => {
  let answer = (_: Authentication) => {}
  const { app, port } = await buildPush(t, {
    authenticate: 'message',
    onAuthenticate: () =>
      new Promise<Authentication>(resolve => {
        answer = resolve
      }),
    limits: { handshake: 300 },
  })
  const { say, closed } = await visit(t, port)
  say('authenticate')
  assert.equal((await closed())[0], 4401)
  answer({ user: '42' })
  await new Promise(resolve => setImmediate(() => setImmediate(resolve)))
  assert.equal(app.push.connections.size, 0)
  assert.equal((await app.push.status()).metrics['upgrades_refused_total{PUSH_ERR_UNAUTHENTICATED}'], 1)
})

test('what cannot be: an unknown ticket, a wrong channel, an error of the application', async t => {
  const errors: (string | undefined)[] = []
  const { app, port, log } = await buildPush(t, { ...BY_MESSAGE, authenticate: 'message' })
  const good = () => app.push.ticket({ user: 1 })
  for (const [path, ticket] of [
    ['/ws', 'f'.repeat(48)],
    ['/ws/forbidden', await good()],
    ['/ws/a*', await good()],
  ] as const) {
    const { say, closed } = await visit(t, port, path)
    say('authenticate', { ticket })
    errors.push(String((await closed())[0]))
  }
  assert.deepEqual(errors, ['4401', '4403', '4400'])
  assert.equal(log.filter(({ msg }) => msg.includes('authenticate message failed')).length, 0)
  const failing = await buildPush(t, {
    authenticate: 'message',
    onAuthenticate: () => {
      throw new Error('secret')
    },
  })
  const { say, closed } = await visit(t, failing.port)
  say('authenticate')
  assert.deepEqual(await closed(), [4500, 'the message could not be checked'])
  assert.equal(failing.log.filter(({ msg }) => msg.includes('authenticate message failed')).length, 1)
})

test('a message that is too large ends the visit, and so do too many during the check', async t => {
  const { port } = await buildPush(t, {
    authenticate: 'message',
    onAuthenticate: () => new Promise<null>(() => {}),
    limits: { inbound: 1000, pending: 3 },
  })
  const large = await visit(t, port)
  large.say('authenticate', { token: 'x'.repeat(1000) })
  assert.equal((await large.closed())[0], 1009)
  const many = await visit(t, port)
  many.say('authenticate')
  for (let i = 0; i < 4; i++) many.say('ping')
  assert.equal((await many.closed())[0], 4429)
  const heavy = await visit(t, port)
  heavy.say('authenticate')
  for (let i = 0; i < 2; i++) heavy.say('x', { text: 'x'.repeat(600) })
  assert.equal((await heavy.closed())[0], 4429)
})

test('visits count as connections, until they end', async t => {
  const { app, port } = await buildPush(t, { ...BY_MESSAGE, limits: { connections: 2 } })
  const ticket = await app.push.ticket({})
  const first = await visit(t, port)
  const second = await visit(t, port)
  assert.equal((await refusalOf(`ws://127.0.0.1:${port}/ws`)).status, 503)
  second.socket.close()
  await second.closed()
  // The place is free when the node has seen the end, too.
  await until(async () => {
    const third = new WebSocket(`ws://127.0.0.1:${port}/ws`)
    t.after(() => third.terminate())
    return new Promise<boolean>(resolve => third.on('open', () => resolve(true)).on('error', () => resolve(false)))
  }, 'a free place')
  first.say('authenticate', { ticket })
  assert.equal((await first.next()).type, 'welcome', 'a visit that becomes a connection keeps its place')
})

test('property: whatever a stranger says, it gets in with a ticket alone, and leaves nothing behind', async t => {
  const { app, port } = await buildPush(t, { ...BY_MESSAGE, limits: { inbound: 500, pending: 2, connections: 20 } })
  const payload = fc.oneof(
    fc.jsonValue(),
    fc.record({ ticket: fc.oneof(fc.jsonValue(), fc.stringMatching(/^[a-f0-9]{48}$/)) }),
  )
  const message = fc.oneof(
    fc.record({ type: fc.constant('authenticate'), payload, ref: fc.jsonValue() }, { requiredKeys: ['type'] }),
    fc.record({ type: fc.constantFrom('ping', 'subscribe', 'ack', 'push.publish', 'welcome'), payload }),
  )
  const said = fc.oneof(
    message.map(it => JSON.stringify(it)),
    fc.string(),
    fc.uint8Array({ maxLength: 600 }),
  )
  const property = fc.asyncProperty(fc.array(said, { maxLength: 14 }), async everything => {
    const { socket, inbox, closed } = await visit(t, port)
    for (const it of everything) socket.send(it)
    socket.close()
    await closed()
    while (inbox.size > 0) assert.equal((await inbox.take()).type, 'error')
  })
  await fc.assert(property, { numRuns: 100 })
  await until(async () => (await app.push.status()).connections === 0, 'the end of all')
  const ticket = await app.push.ticket({ user: 1 })
  const { say, next } = await visit(t, port)
  say('authenticate', { ticket })
  assert.equal((await next()).type, 'welcome')
  assert.equal((await app.push.status()).metrics.connections_opened_total, 1)
})

test('an origin that may not connect is refused before', async t => {
  const { port } = await buildPush(t, BY_MESSAGE)
  const refusal = await refusalOf(`ws://127.0.0.1:${port}/ws`, { origin: 'https://evil.example' })
  assert.equal(refusal.code, 4403)
})

test('a node that closes sends visits to another one', async t => {
  const { app, port } = await buildPush(t, { ...BY_MESSAGE, drain: { timeout: 500 } })
  const { closed } = await visit(t, port)
  await within(app.close(), 'the end of the application')
  assert.equal((await closed())[0], 1012)
})

test('the options: a message needs somebody who takes it', async t => {
  await assert.rejects(
    buildPush(t, { ...OPEN, authenticate: 'message' }),
    /option authenticate is "message", but nothing can take the message: set tickets: true, or give onAuthenticate/,
  )
  const { port, log } = await buildPush(t, { authenticate: () => 'message' as const })
  assert.equal((await refusalOf(`ws://127.0.0.1:${port}/ws`)).status, 500)
  assert.ok(log.some(({ msg }) => msg === 'push: the upgrade failed'))
})
