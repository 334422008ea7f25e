import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import type { PushBridgeOptions } from '../../src/index.ts'
import {
  ACTIONS,
  actionsOn,
  grantedActions,
  infoOn,
  isGranted,
  KEY_ACTIONS,
  keyGrantProblem,
  rightProblem,
} from '../../src/protocol/rights.ts'
import { callApi } from '../helpers/api.ts'
import { buildPush, KEY, openConnection, refusalOf } from '../helpers/app.ts'

test('a pattern by itself is for subscribing, and a grant for what it names', () => {
  const rights = [
    'channel:news',
    'channel:orders.*',
    { topics: 'channel:chat', actions: ['publish'] },
    { topics: ['channel:chat', 'channel:room.*'], actions: ['subscribe', 'history'] },
  ] as const
  assert.deepEqual(actionsOn(rights, 'channel:news'), ['subscribe'])
  assert.deepEqual(actionsOn(rights, 'channel:orders.7'), ['subscribe'])
  assert.deepEqual(actionsOn(rights, 'channel:chat'), ['publish', 'subscribe', 'history'])
  assert.deepEqual(actionsOn(rights, 'channel:room.1'), ['subscribe', 'history'])
  assert.deepEqual(actionsOn(rights, 'user:1'), [])
  assert.deepEqual(actionsOn([], 'all'), [])
})

test('a grant may show something else of the user on its topics, and the first that does decides', () => {
  const rights = [
    'channel:*',
    { topics: 'channel:room.*', actions: ['presence'] },
    { topics: ['channel:room.1', 'channel:room.2'], actions: [], info: { role: 'owner' } },
    { topics: 'channel:room.*', actions: [], info: false },
  ] as const
  assert.deepEqual(infoOn(rights, 'channel:room.2'), { role: 'owner' })
  assert.equal(infoOn(rights, 'channel:room.3'), false)
  assert.equal(infoOn(rights, 'channel:news'), undefined)
})

test('true grants subscribing and nothing else, a list what is in it', () => {
  assert.deepEqual(grantedActions(true), ['subscribe'])
  for (const answer of [false, undefined, null, []]) assert.deepEqual(grantedActions(answer), [])
  assert.deepEqual(grantedActions(['publish', 'presence']), ['publish', 'presence'])
  for (const [answer, problem] of [
    ['subscribe', /^the answer of authorize\(\) is neither true nor false nor a list of actions$/],
    [1, /neither true nor false/],
    [{}, /neither true nor false/],
    [['subcribe'], /has "subcribe", which is none of subscribe, publish, presence, history$/],
    [['subscribe', undefined], /has undefined, which is none of/],
  ] as const) {
    assert.throws(() => grantedActions(answer), { name: 'TypeError', message: problem })
  }
})

test('what is no right has a reason', () => {
  for (const right of [
    'all',
    'channel:x.*',
    { topics: '*', actions: ['publish'] },
    { topics: ['all'], actions: [] },
    { topics: 'all', actions: [], info: 1 },
  ])
    assert.equal(rightProblem(right), undefined)
  const table: [unknown, RegExp][] = [
    [7, /^a topic is a string/],
    [null, /^a topic is a string/],
    ['orders.*', /is no pattern of topics/],
    [{}, /^topics: a topic is a string/],
    [{ topics: [], actions: ['publish'] }, /^topics is an empty list$/],
    [{ topics: ['all', 'x'], actions: ['publish'] }, /^topics: "x" is no topic/],
    [{ topics: 'all' }, /^actions is no list: write for example \["subscribe"\]$/],
    [{ topics: 'all', actions: 'publish' }, /^actions is no list/],
    [
      { topics: 'all', actions: ['read'] },
      /^actions has "read", which is none of subscribe, publish, presence, history/,
    ],
    [{ topics: 'all', action: ['publish'] }, /^unknown key "action": did you mean "actions"\?$/],
    [{ key: 'k', topics: 'all', actions: [] }, /^unknown key "key"/],
    [{ topics: 'all', actions: [], inof: 1 }, /^unknown key "inof": did you mean "info"\?$/],
  ]
  for (const [right, problem] of table) assert.match(rightProblem(right) ?? '', problem)
})

test('what only keys may do can be granted to keys and to nobody else', () => {
  const only = KEY_ACTIONS.filter(action => !(ACTIONS as readonly string[]).includes(action))
  assert.deepEqual(only, ['close', 'ticket', 'status', 'revoke', 'explain'])
  for (const action of KEY_ACTIONS) {
    assert.equal(keyGrantProblem({ key: 'k', topics: 'all', actions: [action] }), undefined)
  }
  for (const action of only) {
    const problem = new RegExp(`has "${action}", which is none of subscribe, publish, presence, history`)
    assert.match(rightProblem({ topics: 'all', actions: [action] }) ?? '', problem)
    assert.throws(() => grantedActions([action]), { message: problem })
  }
  assert.match(
    keyGrantProblem({ key: 'k', topics: 'all', actions: ['tickets'] }) ?? '',
    /none of subscribe, publish, presence, history, close, ticket, status/,
  )
  assert.match(keyGrantProblem({ key: 'k', topics: 'all', actions: [], info: 1 }) ?? '', /^unknown key "info"/)
  assert.match(keyGrantProblem({ key: 'k', topic: 'all', actions: [] }) ?? '', /did you mean "topics"/)
})

test('a key covers a pattern only if it covers all that the pattern covers', () => {
  const covers = (mine: string | string[], theirs: string) =>
    isGranted([{ topics: mine, actions: ['subscribe'] }], 'subscribe', theirs)
  const table: [mine: string | string[], theirs: string, isCovered: boolean][] = [
    ['channel:shop.*', 'channel:shop.7', true],
    ['channel:shop.*', 'channel:shop.*', true],
    ['channel:shop.*', 'channel:shop.eu.*', true],
    ['channel:shop.*', 'channel:shop.*.eu', true],
    ['channel:*.eu', 'channel:*.shop.eu', true],
    ['*', '*', true],
    ['*', 'user:42', true],
    [['user:*', 'channel:*'], 'channel:*', true],
    ['channel:shop.*', 'channel:shop*', false],
    ['channel:shop.*', 'channel:*', false],
    ['channel:shop.*', '*', false],
    ['channel:shop.7', 'channel:shop.*', false],
    ['channel:*.eu', 'channel:*', false],
    ['channel:a*b', 'channel:a*', false],
    ['channel:a*b', 'channel:*b', false],
    ['channel:*', '*', false],
    // Together they cover it, but no one of them does.
    [['all', 'user:*', 'channel:*', 'connection:*'], '*', false],
  ]
  for (const [mine, theirs, isCovered] of table) assert.equal(covers(mine, theirs), isCovered, `${mine} ${theirs}`)
  assert.equal(isGranted([{ topics: '*', actions: ['subscribe'] }], 'publish', 'all'), false)
  assert.equal(isGranted([], 'publish', 'all'), false)
})

type Connection = Awaited<ReturnType<typeof openConnection>>

/** What a subscription was answered with: `subscribed`, or why not. */
async function subscribe(connection: Connection, topic: string): Promise<string> {
  connection.send('subscribe', { topic }, 1)
  const { type, payload } = await connection.next()
  const { code, message } = payload as { code?: string; message?: string }
  return code ? `${code} ${message}` : type
}

const connectTo = async (t: TestContext, options: Partial<PushBridgeOptions>) => {
  const made = await buildPush(t, options)
  return { ...made, connection: await openConnection(made.app, '/ws') }
}

test('authorize: asked for which action, and only what it grants is allowed', async t => {
  const asked: unknown[] = []
  const answers: Record<string, unknown> = {
    'channel:yes': true,
    'channel:listed': ['publish', 'subscribe'],
    'channel:other': ['publish', 'history'],
    'channel:no': false,
    'channel:nothing': undefined,
    'channel:mistyped': ['subcribe'],
    'channel:truthy': 'yes',
  }
  const { connection, port, log } = await connectTo(t, {
    authorize(_connection, topic, context) {
      asked.push(context)
      return answers[topic] as boolean
    },
  })
  const refused = 'PUSH_ERR_FORBIDDEN'
  assert.equal(await subscribe(connection, 'channel:yes'), 'subscribed')
  assert.deepEqual(asked, [{ action: 'subscribe', since: undefined }])
  assert.equal(await subscribe(connection, 'channel:listed'), 'subscribed')
  const other = `${refused} authorize() grants publish, history on channel:other, not subscribe`
  assert.equal(await subscribe(connection, 'channel:other'), other)
  for (const topic of ['channel:no', 'channel:nothing']) {
    assert.equal(await subscribe(connection, topic), `${refused} ${topic} was refused by authorize()`)
  }
  for (const topic of ['channel:mistyped', 'channel:truthy']) {
    assert.match(await subscribe(connection, topic), /^PUSH_ERR_HANDLER/)
  }
  const reasons = log.map(line => (line as { err?: { message: string } }).err?.message ?? '')
  assert.equal(reasons.filter(reason => reason.startsWith('the answer of authorize() ')).length, 2)
  assert.equal((await refusalOf(`ws://127.0.0.1:${port}/ws/other`)).body?.code, refused)
  assert.equal((await refusalOf(`ws://127.0.0.1:${port}/ws/truthy`)).status, 500)
})

test('allow: entries with actions, of authenticate() and of tickets', async t => {
  const allow = ['channel:news', { topics: ['channel:chat', 'channel:in.*'], actions: ['publish'] as const }]
  const { app, connection } = await connectTo(t, { tickets: true, authenticate: () => ({ allow }) })
  const ticket = await app.push.ticket({ allow: [...allow, { topics: 'channel:chat', actions: ['subscribe'] }] })
  const guest = await openConnection(app, `/ws?ticket=${ticket}`)
  assert.equal(await subscribe(connection, 'channel:news'), 'subscribed')
  assert.equal(
    await subscribe(connection, 'channel:in.1'),
    'PUSH_ERR_FORBIDDEN authenticate() grants publish on channel:in.1, not subscribe, and there is no authorize option',
  )
  assert.match(await subscribe(connection, 'channel:chat'), /^PUSH_ERR_FORBIDDEN/)
  assert.equal(await subscribe(guest, 'channel:chat'), 'subscribed')
  const wrong = { topics: 'channel:x', actions: ['read'] } as never
  await assert.rejects(app.push.ticket({ allow: [wrong] }), {
    code: 'PUSH_ERR_FIELD',
    message: /^ticket\(\) gave allow: actions has "read", which is none of/,
  })
})

test('a key of the push API does what it was given for, and a bare one everything', async t => {
  const keys = [
    KEY,
    { key: 'only-for-the-orders', topics: ['channel:orders.*', 'user:7'], actions: ['publish'] as const },
  ]
  const idle = { key: 'for-nothing-as-of-now', topics: '*', actions: ['presence'] as const }
  const { port } = await buildPush(t, { api: { keys: [...keys, idle] } })
  const post = (headers: Record<string, string>, body: unknown) =>
    callApi(port, '/push', { body, headers: { authorization: '', ...headers } })
  const [orders, all] = [{ 'x-push-key': 'only-for-the-orders' }, { authorization: `Bearer ${KEY}` }]
  const message = { type: 'x' }
  assert.equal((await post(orders, { ...message, to: 'channel:orders.7' })).status, 200)
  assert.equal((await post(orders, { ...message, to: 'user:7' })).status, 200)
  const { status, body } = await post(orders, { ...message, to: 'all' })
  assert.deepEqual([status, body.code, body.message], [403, 'PUSH_ERR_FORBIDDEN', 'this key may not publish on all'])
  assert.equal((await post(orders, { ...message, to: 'nowhere' })).body.code, 'PUSH_ERR_TOPIC')
  const several = await post(orders, [
    { ...message, to: ['channel:orders.1', 'channel:other'] },
    { ...message, to: 'user:7' },
  ])
  const items = several.body as unknown as { nodes?: number; error?: { code: string } }[]
  assert.deepEqual(
    items.map(item => item.error?.code ?? item.nodes),
    [0, 'PUSH_ERR_FORBIDDEN', 0],
  )
  assert.equal((await post(all, { ...message, to: 'all' })).status, 200)
  assert.equal((await post({ ...orders, ...all }, { ...message, to: 'all' })).status, 200, 'either of two keys opens')
  assert.equal((await post({ 'x-push-key': idle.key }, { ...message, to: 'user:7' })).status, 403)
  assert.equal((await post({ 'x-push-key': 'another' }, { ...message, to: 'user:7' })).status, 401)
})
