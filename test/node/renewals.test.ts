import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Type } from 'typebox'
import { type Authentication, clientHandler, type PushBridgeOptions } from '../../src/index.ts'
import type { TestMessage } from '../../src/testing.ts'
import { buildPush, openConnection } from '../helpers/app.ts'
import { until, within } from '../helpers/waiting.ts'

const HOUR = 3600_000

/** At the end of its life: what `expiry.warn` asks for is due at once. */
const ending = (identity: Authentication = {}): Authentication => ({
  ...identity,
  issuedAt: Date.now() - 10 * HOUR,
  expires: Date.now() + HOUR,
})

const QUICK = { heartbeat: { interval: 1000, timeout: 1000 }, expiry: { warn: 2 * HOUR } }

interface Authenticated {
  user: string | null
  expires?: number
  topics: string[]
  unseen?: string[]
}

const authenticated = ({ payload }: TestMessage) => payload as Authenticated

/** Gives what `onAuthenticate` says next; the first identity is `first`. */
async function setUp(
  t: Parameters<typeof buildPush>[0],
  first: Authentication,
  options: Partial<PushBridgeOptions> = {},
) {
  const given = { next: null as Authentication | null, payloads: [] as unknown[] }
  const { app, log } = await buildPush(t, {
    ...QUICK,
    authenticate: () => first,
    onAuthenticate(payload, connection) {
      given.payloads.push([payload, connection?.user])
      return given.next
    },
    ...options,
  })
  const connection = await openConnection(app, '/ws')
  const ask = async (next: Authentication | null, payload: unknown = {}) => {
    given.next = next
    connection.send('authenticate', payload, 1)
    for (;;) {
      const message = await connection.next()
      if (message.ref === 1) return message
    }
  }
  return { app, log, given, connection, ask }
}

test('a client is asked once for a new identity, before the one that it has ends', async t => {
  const first = ending({ user: '42' })
  const { connection } = await setUp(t, first)
  assert.deepEqual((await connection.next('push.expiring')).payload, { expires: first.expires })
  assert.ok(connection.welcome.features.includes('authenticate'))
  // Some more ticks pass: whatever would come again has come by then.
  connection.send('ping', {}, 'first')
  await connection.next('pong')
  await until(() => Date.now() > (first.expires as number) - HOUR + 500, 'five ticks')
  connection.send('ping', {}, 'then')
  assert.equal((await connection.next()).ref, 'then')
})

test('nobody is asked who has no way to answer, nor with warn: 0', async t => {
  for (const options of [{ onAuthenticate: undefined as never }, { expiry: { warn: 0 } }]) {
    const first = ending()
    const { connection } = await setUp(t, first, options)
    assert.equal(connection.welcome.features.includes('authenticate'), 'expiry' in options)
    await until(() => Date.now() > (first.expires as number) - HOUR + 500, 'five ticks')
    connection.send('ping')
    assert.equal((await connection.next()).type, 'pong')
  }
})

test('a fresh ticket takes the place of the identity, which would have ended the connection', async t => {
  // The test moves the clock: a slow machine has no time in which it must be done.
  t.mock.timers.enable({ apis: ['Date'], now: Date.now() })
  const expires = Date.now() + HOUR
  const { app, connection, given } = await setUp(t, { user: '42', expires }, { tickets: true })
  const other = await openConnection(app, '/ws')
  const later = expires + HOUR
  const ticket = await app.push.ticket({ user: 42, join: ['channel:a'], expires: later })
  connection.send('authenticate', { ticket }, 7)
  const answer = await connection.next('authenticated')
  assert.equal(answer.ref, 7)
  const { connection: id } = connection.welcome
  const topics = ['all', `connection:${id}`, 'user:42', 'channel:a']
  assert.deepEqual(answer.payload, { user: '42', expires: later, topics })
  assert.equal(((await connection.next('subscribed')).payload as { topic: string }).topic, 'channel:a')
  assert.deepEqual(given.payloads, [], 'a ticket needs no function')
  t.mock.timers.setTime(expires)
  assert.equal((await other.closed).code, 4502, 'the end of the first identity, for all who have no other')
  await app.push.publish('channel:a', { type: 'said' })
  assert.equal((await connection.next('said')).type, 'said')
})

test('without a new identity the connection ends with 4502, and not before', async t => {
  t.mock.timers.enable({ apis: ['Date'], now: Date.now() })
  const expires = Date.now() + HOUR
  const authenticate: PushBridgeOptions['authenticate'] = ({ url }) => ({
    user: '42',
    expires: url.endsWith('earlier') ? expires - 1 : expires,
  })
  const { app, connection, ask } = await setUp(t, {}, { authenticate })
  const earlier = await openConnection(app, '/ws?earlier')
  assert.equal(((await ask(null)).payload as { code: string }).code, 'PUSH_ERR_UNAUTHENTICATED')
  t.mock.timers.setTime(expires - 1)
  assert.equal((await earlier.closed).code, 4502)
  // It was looked at together with that one.
  connection.send('ping')
  await connection.next('pong')
  t.mock.timers.setTime(expires)
  assert.equal((await connection.closed).code, 4502)
})

test('another user is refused, and so is what has expired, and the old identity goes on', async t => {
  const { app, connection, ask, given } = await setUp(t, { user: '42', data: 'old' })
  for (const [next, code] of [
    [{ user: '43' }, 'PUSH_ERR_FORBIDDEN'],
    [{}, 'PUSH_ERR_FORBIDDEN'],
    [{ user: '42', expires: Date.now() - 1 }, 'PUSH_ERR_UNAUTHENTICATED'],
    [null, 'PUSH_ERR_UNAUTHENTICATED'],
    [{ user: '42', allow: ['nonsense'] }, 'PUSH_ERR_HANDLER'],
  ] as const) {
    const { type, payload } = await ask(next, { token: 'x' })
    assert.deepEqual([type, (payload as { code: string }).code], ['error', code])
  }
  assert.deepEqual(given.payloads[0], [{ token: 'x' }, '42'])
  const held = app.push.connections.get(connection.welcome.connection)
  assert.equal(held?.data, 'old')
})

test('the errors of onAuthenticate are those of authenticate: 401 and 403 are told, others are logged', async t => {
  const thrown: unknown[] = []
  const { connection, ask, log } = await setUp(
    t,
    {},
    {
      onAuthenticate: () => {
        throw thrown.shift()
      },
    },
  )
  for (const [error, code] of [
    [Object.assign(new Error('log in'), { statusCode: 401 }), 'PUSH_ERR_UNAUTHENTICATED'],
    [Object.assign(new Error('no'), { statusCode: 403 }), 'PUSH_ERR_FORBIDDEN'],
    [new Error('secret'), 'PUSH_ERR_HANDLER'],
  ] as const) {
    thrown.push(error)
    assert.equal(((await ask(null)).payload as { code: string }).code, code)
  }
  assert.equal(log.filter(({ msg }) => msg === 'push: a handler failed').length, 1)
  assert.equal(connection.welcome.user, null)
})

test('a server that takes no identities says so', async t => {
  const { app } = await buildPush(t)
  const connection = await openConnection(app, '/ws')
  connection.send('authenticate', { ticket: 'x'.repeat(48) }, 1)
  assert.equal(((await connection.next('error')).payload as { code: string }).code, 'PUSH_ERR_UNSUPPORTED')
})

test('a ticket that is missing, spent or unknown is refused', async t => {
  const { app } = await buildPush(t, { authenticate: () => ({}), tickets: true })
  const connection = await openConnection(app, '/ws')
  const ticket = await app.push.ticket({})
  const codes: unknown[] = []
  for (const payload of [{ ticket }, { ticket }, { ticket: 'f'.repeat(48) }, { ticket: 1 }, null, 'x', {}]) {
    connection.send('authenticate', payload, 1)
    const { type, payload: answer } = await connection.next()
    codes.push(type === 'error' ? (answer as { code: string }).code : type)
  }
  assert.deepEqual(codes, ['authenticated', ...Array(6).fill('PUSH_ERR_UNAUTHENTICATED')])
})

test('what the new identity may not hear is left at once, what it may stays, what it joins is joined', async t => {
  const allow = ['channel:a', 'channel:b', 'channel:c']
  const { app, connection, ask } = await setUp(t, { user: '42', allow, join: ['channel:d', 'channel:e'] })
  for (const topic of allow) {
    connection.send('subscribe', { topic })
    await connection.next('subscribed')
  }
  const next = { user: '42', allow: ['channel:a', 'channel:d'], join: ['channel:b', 'channel:f'], data: { n: 1 } }
  const { topics } = authenticated(await ask(next))
  const kept = ['channel:a', 'channel:b', 'channel:d', 'channel:f']
  assert.deepEqual(topics.filter(topic => topic.startsWith('channel:')).sort(), kept)
  assert.equal(((await connection.next('subscribed')).payload as { topic: string }).topic, 'channel:f')
  for (const name of ['a', 'b', 'c', 'd', 'e', 'f']) {
    const { delivered } = await app.push.publish(`channel:${name}`, { type: 'said', receipt: true })
    assert.equal(delivered, kept.includes(`channel:${name}`) ? 1 : 0, name)
  }
  assert.deepEqual(app.push.connections.get(connection.welcome.connection)?.data, { n: 1 })
  connection.send('subscribe', { topic: 'channel:c' }, 2)
  const refused = await connection.next('error')
  assert.equal((refused.payload as { code: string }).code, 'PUSH_ERR_FORBIDDEN')
})

test('each topic that is left is told with `unsubscribed` and no ref', async t => {
  const { connection, ask, given } = await setUp(t, { join: ['channel:a', 'channel:b'] })
  given.next = {}
  connection.send('authenticate', {}, 1)
  const [a, b, answer] = [await connection.next(), await connection.next(), await connection.next()]
  assert.deepEqual(
    [a, b].map(({ type, payload, ref }) => [type, payload, ref]),
    ['channel:a', 'channel:b'].map(topic => ['unsubscribed', { topic }, undefined]),
  )
  assert.deepEqual([answer.type, answer.ref], ['authenticated', 1])
  assert.equal(authenticated(await ask({})).topics.length, 2)
})

test('authorize() is asked as whom the connection becomes; if it fails, nothing changes', async t => {
  let isBroken = false
  const asked: unknown[] = []
  const { connection, ask } = await setUp(
    t,
    { user: '42', data: 'old' },
    {
      authorize({ id, user, data }, topic, { action }) {
        asked.push([id, user, data, topic, action])
        if (isBroken) throw new Error('broken')
        return data === 'old' || topic === 'channel:b'
      },
    },
  )
  for (const topic of ['channel:a', 'channel:b']) {
    connection.send('subscribe', { topic })
    await connection.next('subscribed')
  }
  asked.length = 0
  isBroken = true
  assert.equal(((await ask({ user: '42', data: 'new' })).payload as { code: string }).code, 'PUSH_ERR_HANDLER')
  isBroken = false
  asked.length = 0
  const { topics } = authenticated(await ask({ user: '42', data: 'new' }))
  assert.deepEqual(topics.slice(3), ['channel:b'])
  const { connection: id } = connection.welcome
  assert.deepEqual(asked, [
    [id, '42', 'new', 'channel:a', 'subscribe'],
    [id, '42', 'new', 'channel:b', 'subscribe'],
  ])
})

test('a `subscribe` before `authenticate` is looked at again, one after it is decided by the new identity', async t => {
  const { app, connection, given } = await setUp(t, { allow: ['channel:*'] })
  given.next = { allow: ['channel:b'] }
  connection.send('subscribe', { topic: 'channel:a' }, 1)
  connection.send('authenticate', {}, 2)
  connection.send('subscribe', { topic: 'channel:b' }, 3)
  connection.send('subscribe', { topic: 'channel:c' }, 4)
  const answers = new Map<unknown, string>()
  while (answers.size < 4) {
    const { ref, type } = await connection.next()
    if (ref !== undefined) answers.set(ref, type)
  }
  assert.deepEqual([answers.get(2), answers.get(3), answers.get(4)], ['authenticated', 'subscribed', 'error'])
  const held = app.push.connections.get(connection.welcome.connection)!
  assert.deepEqual([...held.topics].slice(2), ['channel:b'])
})

test('who is there is told no longer where the new identity does not grant it', async t => {
  const may = (topics: string[], actions: ('subscribe' | 'presence')[]) => ({ topics, actions })
  const { app, connection, ask } = await setUp(
    t,
    { user: '42', allow: [may(['channel:a', 'channel:b', 'channel:c'], ['subscribe', 'presence'])] },
    { presence: { 'channel:*': true } },
  )
  for (const topic of ['channel:a', 'channel:b', 'channel:c']) {
    connection.send('subscribe', { topic, presence: true })
    await connection.next('subscribed')
  }
  const allow = [may(['channel:a', 'channel:b'], ['subscribe']), may(['channel:a'], ['presence'])]
  const { topics, unseen } = authenticated(await ask({ user: '42', allow }))
  assert.deepEqual([topics.slice(3), unseen], [['channel:a', 'channel:b'], ['channel:b']])
  const other = await openConnection(app, '/ws')
  for (const topic of ['channel:b', 'channel:a']) {
    other.send('subscribe', { topic }, 1)
    await other.next('subscribed')
  }
  for (;;) {
    const { payload } = await connection.next('push.presence')
    const { topic, members } = payload as { topic: string; members?: object[] }
    assert.equal(topic, 'channel:a')
    if (!members) break
  }
})

test('a question about who is there does not outlive the identity that might ask it', async t => {
  const may = (actions: ('subscribe' | 'presence')[]) => [{ topics: 'channel:a', actions }]
  const { app } = await buildPush(t, {
    presence: { 'channel:*': { grace: 0 } },
    authenticate: ({ query }) => ({ user: (query as { user: string }).user, allow: may(['subscribe', 'presence']) }),
    onAuthenticate: (_payload, connection) => ({ user: connection!.user, allow: may(['subscribe']) }),
  })
  for (let n = 0; n < 20; n++) {
    const connection = await openConnection(app, '/ws?user=asks')
    connection.send('subscribe', { topic: 'channel:a', presence: true }, 1)
    connection.send('authenticate', {}, 2)
    const answers: TestMessage[] = []
    while (answers.filter(({ ref }) => ref !== undefined).length < 2) answers.push(await connection.next())
    const other = await openConnection(app, `/ws?user=other${n}`)
    other.send('subscribe', { topic: 'channel:a', presence: true }, 1)
    await other.next('subscribed')
    await until(
      async () => (await app.push.presence('channel:a')).members.some(({ user }) => user === `other${n}`),
      'it',
    )
    connection.send('ping', {}, 3)
    assert.equal((await connection.next()).type, 'pong')
    await Promise.all([connection.close(), other.close()])
  }
})

test('a public info is replaced, and others see it', async t => {
  const { app, ask } = await setUp(t, { user: '42', info: { name: 'Ann' } }, { presence: { users: true } })
  await ask({ user: '42', info: { name: 'Bob' } })
  const infoOf42 = async () => JSON.stringify((await app.push.user('42')).info)
  await until(async () => (await infoOf42()) === '{"name":"Bob"}', 'the new info')
})

test('an identity that would join too many topics is refused, and nothing changes', async t => {
  const { app, connection, ask } = await setUp(t, { join: ['channel:a'] }, { limits: { topics: 2 } })
  const { payload } = await ask({ join: ['channel:b', 'channel:c', 'channel:d'] })
  assert.equal((payload as { code: string }).code, 'PUSH_ERR_LIMIT')
  assert.deepEqual([...app.push.connections.get(connection.welcome.connection)!.topics].slice(2), ['channel:a'])
  const { topics } = authenticated(await ask({ join: ['channel:b', 'channel:c'] }))
  assert.deepEqual(topics.slice(2), ['channel:b', 'channel:c'])
})

test('a function that never answers holds up nobody for longer than limits.handshake', async t => {
  const { connection } = await setUp(
    t,
    { allow: ['channel:*'] },
    {
      // The upgrade has as long, and must be done by then.
      limits: { handshake: 1000 },
      onAuthenticate: () => new Promise<null>(() => {}),
    },
  )
  connection.send('authenticate', {}, 1)
  connection.send('subscribe', { topic: 'channel:a' }, 2)
  const refused = await connection.next('error')
  assert.deepEqual([refused.ref, (refused.payload as { code: string }).code], [1, 'PUSH_ERR_UNAUTHENTICATED'])
  assert.equal((await connection.next('subscribed')).ref, 2)
})

test('a connection that closes meanwhile stays closed and has no topics', async t => {
  let asked = () => {}
  const isAsked = new Promise<void>(resolve => {
    asked = resolve
  })
  let answer = (_: Authentication) => {}
  const answered = new Promise<Authentication>(resolve => {
    answer = resolve
  })
  const { app, connection } = await setUp(
    t,
    { user: '42' },
    {
      onAuthenticate() {
        asked()
        return answered
      },
    },
  )
  connection.send('authenticate', {})
  await within(isAsked, 'the question')
  await connection.close()
  await until(() => app.push.connections.size === 0, 'the end of the connection')
  answer({ user: '42', join: ['channel:late'] })
  await new Promise(resolve => setImmediate(() => setImmediate(resolve)))
  assert.deepEqual([...app.push.connections.of('channel:late')], [])
  assert.equal((await app.push.status()).topics, 0)
})

test('handlers see the data of the new identity', async t => {
  const { connection, ask } = await setUp(
    t,
    { data: 1 },
    {
      handlers: { who: clientHandler(Type.Object({}), (_payload, { data }) => data) },
    },
  )
  await ask({ data: 2 })
  connection.send('who', {}, 2)
  assert.equal((await connection.next('reply')).payload, 2)
})
