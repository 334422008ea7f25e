import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { WebSocket } from 'ws'
import { type Client, type ClientError, type ClientOptions, connect } from '../../src/client/index.ts'
import type { Authentication, PushBridgeOptions } from '../../src/index.ts'
import { buildPush } from '../helpers/app.ts'
import { until, within } from '../helpers/waiting.ts'

const HOUR = 3600_000

/** A node that asks for a new identity at once, since the first is at its end. */
async function node(t: TestContext, options: Partial<PushBridgeOptions> = {}) {
  const { app, port } = await buildPush(t, {
    tickets: true,
    heartbeat: { interval: 1000, timeout: 1000 },
    expiry: { warn: 2 * HOUR },
    authenticate: () => ENDING(),
    ...options,
  })
  return { app, url: `ws://127.0.0.1:${port}/ws` }
}

const ENDING = (more: Authentication = {}): Authentication => ({
  user: '42',
  issuedAt: Date.now() - 10 * HOUR,
  expires: Date.now() + HOUR,
  ...more,
})
const LASTING: Authentication = { user: '42', expires: Date.now() + 100 * HOUR, data: 'new' }

function start(t: TestContext, url: string, options: ClientOptions = {}): Client {
  const client = connect(url, { WebSocket, ...options })
  t.after(() => client.close())
  return client
}

const opened = (client: Client) => until(() => client.state === 'open', 'the welcome')

test('with ticket() a client replaces its identity by itself, on the same connection', async t => {
  const { app, url } = await node(t)
  let asked = 0
  const client = start(t, url, {
    ticket: async () => app.push.ticket(++asked === 1 ? ENDING() : LASTING),
  })
  const expiring = new Promise<{ expires: number }>(resolve => client.listen('expiring', resolve))
  await opened(client)
  const { connection } = client.welcome!
  assert.ok((await within(expiring, 'the event')).expires < Date.now() + HOUR)
  const held = app.push.connections.get(connection)!
  await until(() => held.data === 'new', 'the new identity')
  assert.equal(asked, 2)
  assert.equal(client.welcome!.connection, connection)
  assert.ok(client.state === 'open')
})

test('without ticket() the application replaces it, and gets what it leaves', async t => {
  const { app, url } = await node(t, { authenticate: () => ENDING({ join: ['channel:a'] }) })
  const client = start(t, url)
  await within(new Promise(resolve => client.listen('expiring', resolve)), 'the event')
  const { expires, topics } = await client.authenticate({ ticket: await app.push.ticket(LASTING) })
  assert.equal(expires, LASTING.expires)
  assert.deepEqual(topics.slice(2), ['user:42'])
  await assert.rejects(client.authenticate({ ticket: 'x'.repeat(48) }), { code: 'PUSH_ERR_UNAUTHENTICATED' })
})

test('a ticket() that fails, or a ticket that is refused, is an error, and the client goes on', async t => {
  for (const [second, code] of [
    [() => Promise.reject(new Error('no network')), 'TICKET'],
    [async () => '', 'TICKET'],
    [async () => 'x'.repeat(48), 'PUSH_ERR_UNAUTHENTICATED'],
  ] as const) {
    const { app, url } = await node(t)
    let asked = 0
    const client = start(t, url, { ticket: () => (++asked === 1 ? app.push.ticket(ENDING()) : second()) })
    const failed = new Promise<ClientError>(resolve => client.listen('error', resolve))
    assert.equal((await within(failed, 'the error')).code, code)
    assert.equal(client.state, 'open')
  }
})

test('with authenticate() nothing is in the URL: the first message says who it is, and later ones replace that', async t => {
  const urls: string[] = []
  let asked = 0
  const { app, url } = await node(t, {
    authenticate: ({ url }) => {
      urls.push(url)
      return 'message'
    },
    onAuthenticate: ({ token }: { token: string }) =>
      token === '1' ? ENDING({ allow: ['channel:a'] }) : { ...LASTING, allow: [] },
  })
  const client = start(t, url, { authenticate: () => ({ token: String(++asked) }), topics: ['channel:a'] })
  await opened(client)
  assert.equal(client.welcome!.user, '42')
  const held = app.push.connections.get(client.welcome!.connection)!
  await until(() => held.data === 'new', 'the new identity')
  assert.deepEqual([...held.topics].slice(2), ['user:42'], 'channel:a was left')
  assert.deepEqual(urls, ['/ws'])
  // What the server has left, the client does not ask for again after a reconnect.
  await app.push.close('user:42', 1012)
  await until(() => asked >= 3 && client.state === 'open', 'the next connection')
})

test('an authenticate() that is refused closes the client for good, one that throws does not', async t => {
  const { url } = await node(t, { authenticate: 'message', onAuthenticate: () => null })
  const refused = start(t, url, { authenticate: () => ({ token: 'x' }) })
  const closed = new Promise<object>(resolve =>
    refused.listen('state', detail => detail.state === 'closed' && resolve(detail)),
  )
  assert.equal(((await within(closed, 'the end')) as { code: number }).code, 4401)
  const failing = start(t, url, {
    authenticate: () => {
      throw new Error('no network')
    },
  })
  const failed = new Promise<ClientError>(resolve => failing.listen('error', resolve))
  assert.equal((await within(failed, 'the error')).code, 'TICKET')
  assert.notEqual(failing.state, 'closed')
})

test('a client that was revoked stays closed, and asks for no ticket', async t => {
  const { app, url } = await node(t, { expiry: { warn: 0 } })
  let asked = 0
  const client = start(t, url, {
    ticket: () => {
      asked++
      return app.push.ticket(LASTING)
    },
  })
  await opened(client)
  const closed = new Promise<object>(resolve =>
    client.listen('state', detail => detail.state === 'closed' && resolve(detail)),
  )
  await app.push.revoke('user:42')
  assert.deepEqual(await within(closed, 'the end'), { state: 'closed', code: 4401, reason: 'revoked' })
  assert.equal(asked, 1)
})

test('who is there: a roster that the new identity may not see is given up', async t => {
  const may = (actions: ('subscribe' | 'presence')[]) => [{ topics: 'channel:a', actions }]
  const { app, url } = await node(t, {
    presence: { 'channel:*': true },
    authenticate: () => ({ user: '42', allow: may(['subscribe', 'presence']) }),
  })
  const client = start(t, url)
  await opened(client)
  const roster = client.presence('channel:a')
  await until(() => roster.isKnown, 'the list')
  const ticket = await app.push.ticket({ user: '42', allow: may(['subscribe']) })
  assert.deepEqual((await client.authenticate({ ticket })).unseen, ['channel:a'])
  assert.notEqual(client.presence('channel:a'), roster)
})
