import assert from 'node:assert/strict'
import { test } from 'node:test'
import { buildPush, openConnection, refusalOf } from '../helpers/app.ts'
import { startRedis } from '../helpers/redis.ts'

/** Refusals reach a program by status and body, and a page, which is shown neither, by close code and reason. */
async function bothWays(
  port: number,
  path: string,
  expected: { status: number; code: string; close: number; text: RegExp },
) {
  const url = `ws://127.0.0.1:${port}${path}`
  const program = await refusalOf(url)
  assert.equal(program.status, expected.status)
  assert.equal(program.body?.code, expected.code)
  assert.match(program.body?.message ?? '', expected.text)
  const page = await refusalOf(url, { origin: `http://127.0.0.1:${port}` })
  assert.equal(page.code, expected.close)
  assert.match(page.reason ?? '', expected.text)
}

test('authenticate: null, and errors that say 401 or 403', async t => {
  const { port } = await buildPush(t, {
    authenticate(request) {
      const { as } = request.query as { as: string }
      if (as === 'nobody') return null
      throw Object.assign(new Error(`go away, ${as}`), { statusCode: Number(as) })
    },
  })
  const unauthenticated = { status: 401, code: 'PUSH_ERR_UNAUTHENTICATED', close: 4401 }
  await bothWays(port, '/ws?as=nobody', { ...unauthenticated, text: /authenticate\(\) did not accept the request/ })
  await bothWays(port, '/ws?as=401', { ...unauthenticated, text: /go away, 401/ })
  await bothWays(port, '/ws?as=403', { status: 403, code: 'PUSH_ERR_FORBIDDEN', close: 4403, text: /go away, 403/ })
})

test('authenticate that breaks or answers nonsense: 500 and 4500, the reason in the log alone', async t => {
  const answers: Record<string, unknown> = {
    breaks: undefined,
    user: { user: 'a b' },
    large: { user: 2 ** 53 },
    fraction: { user: 0.1 },
    nan: { user: Number.NaN },
    infinite: { user: Number.POSITIVE_INFINITY },
    seconds: { user: 'x', expires: 1_700_000_000 },
    join: { join: ['orders'] },
    allow: { allow: ['orders.*'] },
  }
  const { port, log } = await buildPush(t, {
    authenticate(request) {
      const { as } = request.query as { as: string }
      if (as === 'breaks') throw new Error('database password is hunter2')
      return answers[as] as never
    },
  })
  for (const as of Object.keys(answers)) {
    await bothWays(port, `/ws?as=${as}`, {
      status: 500,
      code: 'PUSH_ERR_INTERNAL',
      close: 4500,
      text: /^the upgrade failed$/,
    })
  }
  const reasons = log.map(line => (line as { err?: { message: string } }).err?.message ?? '')
  const unsafe = reasons.filter(reason => reason.endsWith('a user that is not a safe integer: give it as a string'))
  assert.equal(unsafe.length, 8)
  assert.ok(reasons.some(reason => /in seconds: multiply it by 1000/.test(reason)))
  assert.ok(reasons.some(reason => /join: "orders" is no topic/.test(reason)))
  assert.ok(reasons.some(reason => /allow: "orders.\*" is no pattern/.test(reason)))
})

test('a channel in the path that nothing allows', async t => {
  const { port } = await buildPush(t, { authenticate: () => ({ user: 1, allow: ['channel:mine'] }) })
  const forbidden = { status: 403, code: 'PUSH_ERR_FORBIDDEN', close: 4403 }
  await bothWays(port, '/ws/yours', { ...forbidden, text: /channel:yours is not among the topics that authenticate/ })
  for (const name of ['a%20b', '*', 'mine*']) {
    await bothWays(port, `/ws/${name}`, {
      status: 400,
      code: 'PUSH_ERR_TOPIC',
      close: 4400,
      text: /white space.* star/,
    })
  }
})

test('what is below <path>/-/ is reserved: a wrong path for everybody, and no channel', async t => {
  const { app, port } = await buildPush(t)
  for (const path of ['/ws/-/', '/ws/-/sse', '/ws/%2D/sse', '/ws/-/a/b']) {
    assert.equal((await fetch(`http://127.0.0.1:${port}${path}`)).status, 404, path)
    for (const headers of [{}, { origin: `http://127.0.0.1:${port}` }]) {
      const { status } = await refusalOf(`ws://127.0.0.1:${port}${path}`, { headers })
      assert.equal(status, 404, path)
    }
  }
  for (const channel of ['-', '-x', '-x/-/y']) {
    const { welcome } = await openConnection(app, `/ws/${channel}`)
    assert.ok(`channel:${channel}` in welcome.topics, channel)
  }
})

test('by default nobody may hear a channel', async t => {
  const { port } = await buildPush(t, { authenticate: undefined as never })
  await bothWays(port, '/ws/any', { status: 403, code: 'PUSH_ERR_FORBIDDEN', close: 4403, text: /channel:any/ })
})

test('a foreign origin is refused, with the remedy in the log', async t => {
  const { app, port, log } = await buildPush(t)
  const url = `ws://127.0.0.1:${port}/ws`
  const own = `http://127.0.0.1:${port}`
  await openConnection(app, '/ws', { headers: { origin: own } })
  assert.equal((await refusalOf(url, { origin: own, headers: { host: 'other.example' } })).code, 4403)
  const foreign = [
    'http://evil.example',
    'null',
    `http://127.0.0.1:${port + 1}`,
    `http://127.0.0.1.evil.example:${port}`,
    'http://127.0.0.1',
    'file://',
  ]
  for (const origin of foreign) {
    const { code, reason } = await refusalOf(url, { origin })
    assert.deepEqual([code, reason], [4403, `origin ${origin} may not connect`])
  }
  const line = log.find(({ msg }) => msg.startsWith('push: origin http://evil.example'))
  assert.match(line?.msg ?? '', /option origins/)
  assert.match(line?.msg ?? '', /proxy_set_header Host \$http_host;/)
})

test('listed origins connect, and no others', async t => {
  const { app, port } = await buildPush(t, { origins: ['https://app.example.com'] })
  await openConnection(app, '/ws', { headers: { origin: 'https://app.example.com' } })
  for (const origin of [
    'https://app.example.com:8443',
    'http://app.example.com',
    'https://APP.example.com.evil.example',
  ]) {
    assert.equal((await refusalOf(`ws://127.0.0.1:${port}/ws`, { origin })).code, 4403)
  }
  const mobile = await buildPush(t, { origins: ['capacitor://localhost'] })
  await openConnection(mobile.app, '/ws', { headers: { origin: 'capacitor://localhost' } })
  const everyone = await buildPush(t, { origins: ['*'] })
  await openConnection(everyone.app, '/ws', { headers: { origin: 'https://anything.example' } })
})

test('tickets: needed, single use, and checked', async t => {
  const redis = await startRedis(t)
  const options = { tickets: true, authenticate: undefined as never, redis: redis.url }
  const { app, port } = await buildPush(t, options)
  const unauthenticated = { status: 401, code: 'PUSH_ERR_UNAUTHENTICATED', close: 4401 }
  await bothWays(port, '/ws', { ...unauthenticated, text: /a ticket is needed: connect with \?ticket=/ })
  await bothWays(port, `/ws?ticket=${'a'.repeat(32)}`, { ...unauthenticated, text: /unknown, spent or too old/ })
  const ticket = await app.push.ticket({ user: 42, allow: ['channel:orders'], join: ['channel:news'] })
  const connection = await openConnection(app, `/ws/orders?ticket=${ticket}`)
  assert.equal(connection.welcome.user, '42')
  assert.ok('channel:orders' in connection.welcome.topics && 'channel:news' in connection.welcome.topics)
  await bothWays(port, `/ws?ticket=${ticket}`, { ...unauthenticated, text: /spent/ })
  const refused = async (identity: object, text: RegExp) => {
    await assert.rejects(app.push.ticket(identity), { code: 'PUSH_ERR_FIELD', message: text })
    // Another program may write what it likes.
    await redis.admin.set('push:ticket:0123456789abcdef', JSON.stringify(identity))
    const { status, body } = await refusalOf(`ws://127.0.0.1:${port}/ws?ticket=0123456789abcdef`)
    assert.equal(status, 401)
    assert.match(body?.message ?? '', text)
  }
  await refused({ allow: 'channel:a' }, /^(the ticket|ticket\(\)) gave allow that is not a list of topics/)
  await refused({ user: 'a b' }, /^(the ticket|ticket\(\)) gave a user that has white space/)
  // JSON.parse makes another user of it: 9007199254740992.
  await redis.admin.set('push:ticket:0123456789abcdef', '{"user":9007199254740993}')
  const rounded = await refusalOf(`ws://127.0.0.1:${port}/ws?ticket=0123456789abcdef`)
  assert.deepEqual([rounded.status, /not a safe integer: give it as a string/.test(rounded.body!.message)], [401, true])
  const largest = await app.push.ticket({ user: Number.MAX_SAFE_INTEGER })
  assert.equal((await openConnection(app, `/ws?ticket=${largest}`)).welcome.user, '9007199254740991')
  for (const ttl of [0, -1, 1.5, Number.NaN, 86_401]) {
    await assert.rejects(app.push.ticket({ user: 7 }, ttl), { code: 'PUSH_ERR_FIELD', message: /ttl of a ticket/ })
  }
  class Person {
    get user() {
      return '9'
    }
  }
  const person = await app.push.ticket(new Person())
  assert.equal((await openConnection(app, `/ws?ticket=${person}`)).welcome.user, '9')
  for (const identity of [{ expires: Date.now() - 1 }, { expires: Number.NEGATIVE_INFINITY }, { data: 1n }]) {
    await assert.rejects(app.push.ticket(identity), { code: 'PUSH_ERR_FIELD' })
  }
  const dated = await app.push.ticket({ user: 7, expires: new Date(Date.now() + 60_000) })
  assert.equal((await openConnection(app, `/ws?ticket=${dated}`)).welcome.user, '7')
})

test('a full node answers 503 over HTTP, to a page as well', async t => {
  const { app, port } = await buildPush(t, { limits: { connections: 1 } })
  await openConnection(app, '/ws')
  for (const options of [{}, { origin: `http://127.0.0.1:${port}` }]) {
    const { status, body } = await refusalOf(`ws://127.0.0.1:${port}/ws`, options)
    assert.deepEqual([status, body?.code], [503, 'PUSH_ERR_FULL'])
    assert.match(body?.message ?? '', /limits\.connections/)
  }
})

test('a plain GET is told what is missing', async t => {
  const { port } = await buildPush(t)
  for (const path of ['/ws', '/ws/', '/ws/orders']) {
    const response = await fetch(`http://127.0.0.1:${port}${path}`)
    const body = (await response.json()) as { code: string; message: string }
    assert.deepEqual([response.status, body.code], [426, 'PUSH_ERR_UPGRADE_REQUIRED'])
    assert.match(body.message, /Upgrade: \(missing\)/)
    assert.match(body.message, /proxy_http_version 1\.1; proxy_set_header Upgrade \$http_upgrade;/)
  }
  assert.equal((await refusalOfStatus(port, '/nowhere')).status, 404)
})

async function refusalOfStatus(port: number, path: string) {
  return refusalOf(`ws://127.0.0.1:${port}${path}`)
}

test('no secret of the URL stands in the log', async t => {
  const { app, log } = await buildPush(t, { tickets: true, authenticate: undefined as never })
  const ticket = await app.push.ticket({ user: 1 })
  await openConnection(app, `/ws?ticket=${ticket}`)
  await refusalOf(`ws://127.0.0.1:${(app.server.address() as { port: number }).port}/ws?ticket=${ticket}`)
  assert.ok(log.length > 0)
  assert.ok(!JSON.stringify(log).includes(ticket))
})

test('topics of one connection have a bound', async t => {
  const { app } = await buildPush(t, { limits: { topics: 2 } })
  const connection = await openConnection(app, '/ws')
  for (const [topic, type] of [
    ['channel:a', 'subscribed'],
    ['channel:b', 'subscribed'],
    ['channel:c', 'error'],
  ] as const) {
    connection.send('subscribe', { topic }, 1)
    const answer = await connection.next()
    assert.equal(answer.type, type)
    if (type === 'error') assert.match((answer.payload as { message: string }).message, /2 topics \(limits\.topics\)/)
  }
})

test('refusals are counted by reason', async t => {
  const { app, port } = await buildPush(t, { authenticate: () => null })
  await refusalOf(`ws://127.0.0.1:${port}/ws`)
  await refusalOf(`ws://127.0.0.1:${port}/ws`, { origin: 'http://evil.example' })
  await fetch(`http://127.0.0.1:${port}/ws`)
  const { metrics } = await app.push.status()
  assert.equal(metrics['upgrades_refused_total{PUSH_ERR_UNAUTHENTICATED}'], 1)
  assert.equal(metrics['upgrades_refused_total{PUSH_ERR_ORIGIN}'], 1)
  assert.equal(metrics['upgrades_refused_total{PUSH_ERR_UPGRADE_REQUIRED}'], 1)
})

test('an identity that has expired is refused before it hears anything', async t => {
  const { port } = await buildPush(t, { authenticate: () => ({ user: 1, expires: Date.now() - 1000 }) })
  const text = /the identity has expired/
  await bothWays(port, '/ws', { status: 401, code: 'PUSH_ERR_UNAUTHENTICATED', close: 4401, text })
})

test('limits.connections holds when many upgrades wait for authenticate() together', async t => {
  const { app, port } = await buildPush(t, {
    limits: { connections: 1 },
    authenticate: () => new Promise(resolve => setImmediate(resolve, { user: 1 })),
  })
  const url = `ws://127.0.0.1:${port}/ws`
  const results = await Promise.allSettled([1, 2, 3].map(() => refusalOf(url)))
  assert.equal(app.push.connections.size, 1)
  const refused = results.flatMap(result => (result.status === 'fulfilled' ? [result.value] : []))
  assert.equal(refused.length, 2)
  for (const { code, status } of refused) assert.ok(code === 1013 || status === 503)
})

test('an upgrade that is refused after it was completed is counted like any other', async t => {
  // All three are let in before the first of them is a connection.
  let asked = 0
  let answer = () => {}
  const all = new Promise<void>(resolve => {
    answer = resolve
  })
  const authenticate = async () => {
    if (++asked === 3) answer()
    await all
    return { user: 1 }
  }
  const { app, port } = await buildPush(t, { limits: { connections: 1 }, authenticate })
  const results = await Promise.allSettled([1, 2, 3].map(() => refusalOf(`ws://127.0.0.1:${port}/ws`)))
  const codes = results.flatMap(result => (result.status === 'fulfilled' ? [result.value.code] : []))
  assert.deepEqual(codes, [1013, 1013])
  assert.equal((await app.push.status()).metrics['upgrades_refused_total{PUSH_ERR_FULL}'], 2)
})
