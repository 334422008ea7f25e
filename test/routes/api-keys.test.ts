import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { ApiKey, KeyAction } from '../../src/index.ts'
import { KEY_ACTIONS } from '../../src/protocol/rights.ts'
import { API_ROUTES } from '../../src/routes/api-routes.ts'
import { type Answer, type ApiRequest, callApi } from '../helpers/api.ts'
import { buildPush, KEY, openConnection } from '../helpers/app.ts'

const key = (name: string, topics: string | string[], actions: KeyAction[]): ApiKey => ({
  key: name.padEnd(20, '-'),
  topics,
  actions,
})

/** An application with these keys and one for everything, and calls with one of them. */
async function buildWith(t: TestContext, ...keys: ApiKey[]) {
  const presence = { users: true, 'channel:*': true }
  const made = await buildPush(t, { tickets: true, presence, api: { keys: [KEY, ...keys] } })
  const call = (name: string, path: string, body?: unknown, request: ApiRequest = {}): Promise<Answer> =>
    callApi(made.port, path, { ...request, body, headers: { authorization: `Bearer ${name.padEnd(20, '-')}` } })
  const isAllowed = async (...args: Parameters<typeof call>): Promise<boolean> => {
    const { status, body } = await call(...args)
    assert.ok(status === 200 || (status === 403 && body.code === 'PUSH_ERR_FORBIDDEN'), `${status} ${body.message}`)
    return status === 200
  }
  return { ...made, call, isAllowed }
}

const BODIES: Record<string, unknown> = {
  '': { to: 'user:1', type: 'x' },
  '/close': { target: 'user:1' },
  '/revoke': { target: 'user:1' },
  '/subscribe': { target: 'user:1', topic: 'channel:a' },
  '/unsubscribe': { target: 'user:1', topic: 'channel:a' },
  '/tickets': { user: '1' },
}

const NEEDED: Record<string, KeyAction> = {
  '': 'publish',
  '/close': 'close',
  '/revoke': 'revoke',
  '/subscribe': 'subscribe',
  '/unsubscribe': 'subscribe',
  '/tickets': 'ticket',
  '/presence': 'presence',
  '/users': 'presence',
  '/user': 'presence',
  '/history': 'history',
  '/status': 'status',
  '/nodes': 'status',
  '/explain': 'explain',
}

const QUERIES: Record<string, string> = {
  '/presence': '?topic=channel:a',
  '/user': '?user=1',
  '/history': '?topic=channel:a',
  '/explain': '?topic=channel:a',
}

test('every route needs its own action, and no other opens it', async t => {
  const actions: readonly KeyAction[] = KEY_ACTIONS
  const { isAllowed } = await buildWith(t, ...actions.map(action => key(action, '*', [action])))
  for (const { path } of API_ROUTES) {
    assert.ok(NEEDED[path], `${path} is not tested`)
    for (const action of actions) {
      assert.equal(
        await isAllowed(action, `/push${path}${QUERIES[path] ?? ''}`, BODIES[path]),
        action === NEEDED[path],
        `${action} ${path}`,
      )
    }
  }
})

test('close: only whom the key covers', async t => {
  const { app, isAllowed, call } = await buildWith(t, key('shop', ['user:shop.*', 'channel:*'], ['close', 'publish']))
  const mine = await openConnection(app, '/ws?user=shop.7')
  const other = await openConnection(app, '/ws?user=8')
  assert.equal(await isAllowed('shop', '/push/close', { target: 'user:shop.7' }), true)
  await mine.closed
  for (const target of ['user:8', `connection:${other.welcome.connection}`]) {
    const { status, body } = await call('shop', '/push/close', { target })
    assert.deepEqual([status, body.message], [403, `this key lacks the action close on ${target}`])
  }
  const wrong = await call('shop', '/push/close', { target: 'nobody' })
  assert.deepEqual([wrong.status, wrong.body.code], [400, 'PUSH_ERR_TOPIC'])
  other.send('ping', 1)
  assert.equal((await other.next()).type, 'pong')
})

test('subscribe: the key covers whom and where', async t => {
  const { isAllowed } = await buildWith(
    t,
    key('both', ['user:shop.*', 'channel:shop.*'], ['subscribe']),
    key('channels', 'channel:shop.*', ['subscribe']),
    key('users', 'user:shop.*', ['subscribe']),
  )
  const allowed = async (name: string, target: string, topic: string) => {
    const [to, from] = [
      await isAllowed(name, '/push/subscribe', { target, topic }),
      await isAllowed(name, '/push/unsubscribe', { target, topic }),
    ]
    assert.equal(to, from)
    return to
  }
  assert.equal(await allowed('both', 'user:shop.1', 'channel:shop.a'), true)
  assert.equal(await allowed('both', 'user:1', 'channel:shop.a'), false)
  assert.equal(await allowed('both', 'user:shop.1', 'channel:a'), false)
  assert.equal(await allowed('both', 'connection:x', 'channel:shop.a'), false)
  assert.equal(await allowed('channels', 'user:shop.1', 'channel:shop.a'), false)
  assert.equal(await allowed('users', 'user:shop.1', 'channel:shop.a'), false)
})

test('a ticket gives no more than its key has', async t => {
  const topics = ['user:shop.*', 'channel:shop.*']
  const { app, call, isAllowed } = await buildWith(
    t,
    key('shop', topics, ['ticket', 'subscribe', 'publish']),
    key('identity', 'user:shop.*', ['ticket']),
    key('channels', 'channel:shop.*', ['ticket', 'subscribe']),
    key('trusted', '*', ['ticket']),
  )
  const user = 'shop.7'
  const table: [name: string, identity: object, isAllowed: boolean][] = [
    ['shop', { user }, true],
    ['shop', {}, true],
    ['shop', { user, join: ['channel:shop.a', 'user:shop.8'], allow: ['channel:shop.*', 'channel:shop.x*'] }, true],
    ['shop', { user, allow: [{ topics: ['channel:shop.*'], actions: ['publish', 'subscribe'] }] }, true],
    ['shop', { user: 'admin' }, false],
    ['shop', { user: 42 }, false],
    ['shop', { user, join: ['channel:a'] }, false],
    ['shop', { user, join: ['channel:shop.a', 'user:admin'] }, false],
    ['shop', { join: ['user:admin'] }, false],
    ['shop', { user, allow: ['channel:*'] }, false],
    ['shop', { user, allow: ['*'] }, false],
    ['shop', { user, allow: ['channel:shop.a', 'channel:shop*'] }, false],
    ['shop', { user, allow: [{ topics: ['channel:shop.a', 'channel:b'], actions: ['publish'] }] }, false],
    ['shop', { user, allow: [{ topics: 'channel:shop.a', actions: ['publish', 'history'] }] }, false],
    ['shop', { user, allow: [{ topics: 'channel:shop.a', actions: ['presence'] }] }, false],
    ['shop', { user, data: { role: 'admin' } }, false],
    ['shop', { user, data: false }, false],
    ['shop', { user, data: null, join: null, allow: null, expires: null }, true],
    ['identity', { user }, true],
    ['identity', { user, join: ['user:shop.8'] }, false],
    ['identity', { user, allow: ['user:shop.8'] }, false],
    ['channels', { user }, false],
    ['channels', { allow: ['channel:shop.a'] }, true],
    ['trusted', { user: 'admin', data: { role: 'admin' } }, true],
    ['trusted', { user: 'admin', join: ['channel:a'] }, false],
  ]
  for (const [name, identity, expected] of table) {
    assert.equal(await isAllowed(name, '/push/tickets', identity), expected, `${name} ${JSON.stringify(identity)}`)
  }
  const ofData = await call('shop', '/push/tickets', { user, data: 1 })
  assert.match(ofData.body.message!, /may not give data: for that it needs the action ticket on \*/)
  const wrong = await call('shop', '/push/tickets', { user, allow: [{ topics: '*', actions: ['close'] }] })
  assert.deepEqual([wrong.status, wrong.body.code], [400, 'PUSH_ERR_FIELD'])
  const { body } = await call('shop', '/push/tickets', { user, join: ['channel:shop.a'] })
  const { welcome } = await openConnection(app, `/ws?ticket=${body.ticket}`)
  assert.deepEqual([welcome.user, 'channel:shop.a' in welcome.topics], [user, true])
})

test('two keys in one request have the rights of both, and no more', async t => {
  const { port } = await buildWith(
    t,
    key('users', 'user:*', ['subscribe']),
    key('channels', 'channel:*', ['subscribe']),
  )
  const headers = { authorization: `Bearer ${'users'.padEnd(20, '-')}`, 'x-push-key': 'channels'.padEnd(20, '-') }
  const body = { target: 'user:1', topic: 'channel:a' }
  assert.equal((await callApi(port, '/push/subscribe', { body, headers })).status, 200)
  assert.equal((await callApi(port, '/push/close', { body: { target: 'user:1' }, headers })).status, 403)
})
