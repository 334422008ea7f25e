import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { type TestContext, test } from 'node:test'
import pushBridge, { type PushBridgeOptions } from '../../src/index.ts'
import { buildApp, OPEN, openConnection, type Refusal, refusalOf, type TestApp } from '../helpers/app.ts'
import { Inbox, once, until, within } from '../helpers/waiting.ts'

/** Behind a proxy that says for whom it asks. */
function buildBehindProxy(t: TestContext, options: Partial<PushBridgeOptions>): Promise<TestApp> {
  return buildApp(t, app => app.register(pushBridge, { ...OPEN, ...options }), { trustProxy: true })
}

const from = (address: string) => ({ headers: { 'x-forwarded-for': address } })

const refusedIn = async ({ app }: TestApp) => {
  const { metrics } = await app.push.status()
  const refused = Object.entries(metrics).filter(([name]) => name.startsWith('upgrades_refused_total'))
  return Object.fromEntries(refused.map(([name, count]) => [/\{(.*)\}/.exec(name)![1], count]))
}

/** What becomes of an upgrade: `open`, or why not. */
function outcome(port: number, path = '/ws'): Promise<Refusal | 'open'> {
  return refusalOf(`ws://127.0.0.1:${port}${path}`).catch((error: Error) => {
    if (!error.message.startsWith('not refused')) throw error
    return 'open' as const
  })
}

test('limits.addressConnections: each address has its own, a page is told over HTTP too, and who leaves makes room', async t => {
  const made = await buildBehindProxy(t, { limits: { addressConnections: 2 } })
  const { app, port, log } = made
  const url = `ws://127.0.0.1:${port}/ws`
  const [first] = await Promise.all([1, 2].map(() => openConnection(app, '/ws', from('192.0.2.1'))))
  for (const origin of [undefined, `http://127.0.0.1:${port}`]) {
    const options = { ...from('192.0.2.1'), ...(origin && { origin }) }
    const { status, body } = await refusalOf(url, options)
    assert.deepEqual([status, body?.code], [429, 'PUSH_ERR_ADDRESS_CONNECTIONS'])
    assert.match(body!.message, /2 connections \(limits\.addressConnections\)/)
  }
  await openConnection(app, '/ws', from('192.0.2.2'))
  await first!.close()
  await until(() => app.push.connections.size === 2, 'the node has noticed')
  await openConnection(app, '/ws', from('192.0.2.1'))
  assert.deepEqual(await refusedIn(made), { PUSH_ERR_ADDRESS_CONNECTIONS: 2 })
  const lines = log.filter(({ msg }) => msg.startsWith('push: an address has too many'))
  assert.deepEqual(
    lines.map(line => (line as { address?: string }).address),
    ['192.0.2.1'],
  )
})

test('an IPv6 address is its /64, and a mapped one the IPv4 address', async t => {
  const { app, port } = await buildBehindProxy(t, { limits: { addressConnections: 1 } })
  const url = `ws://127.0.0.1:${port}/ws`
  await openConnection(app, '/ws', from('2001:db8:1:2::1'))
  assert.equal((await refusalOf(url, from('2001:db8:1:2:ffff::9'))).status, 429)
  await openConnection(app, '/ws', from('2001:db8:1:3::1'))
  await openConnection(app, '/ws', from('192.0.2.1'))
  assert.equal((await refusalOf(url, from('::ffff:192.0.2.1'))).status, 429)
})

test('without trustProxy everybody behind a proxy on this machine would be one address: none is limited', async t => {
  const { app } = await buildApp(t, it => it.register(pushBridge, { ...OPEN, limits: { addressConnections: 1 } }))
  for (let i = 0; i < 3; i++) await openConnection(app, '/ws', from('192.0.2.1'))
  assert.deepEqual((await app.push.status()).addresses, 0)
})

test('limits.userConnections: of the user alone, and whoever listens to the user is somebody else', async t => {
  const made = await buildBehindProxy(t, {
    limits: { userConnections: 2 },
    authenticate: request => {
      const { user } = request.query as { user?: string }
      return { join: ['user:7'], ...(user !== undefined && { user }) }
    },
  })
  const { app, port } = made
  for (let i = 0; i < 3; i++) await openConnection(app, '/ws')
  await openConnection(app, '/ws?user=8')
  const [first] = await Promise.all([1, 2].map(() => openConnection(app, '/ws?user=7')))
  for (const origin of [undefined, `http://127.0.0.1:${port}`]) {
    const { status, body } = await refusalOf(`ws://127.0.0.1:${port}/ws?user=7`, origin ? { origin } : {})
    assert.deepEqual([status, body?.code], [429, 'PUSH_ERR_USER_CONNECTIONS'])
    assert.match(body!.message, /2 connections on this node \(limits\.userConnections\)/)
  }
  assert.deepEqual(await refusedIn(made), { PUSH_ERR_USER_CONNECTIONS: 2 })
  const { size } = app.push.connections
  await first!.close()
  await until(() => app.push.connections.size === size - 1, 'the node has noticed')
  await openConnection(app, '/ws?user=7')
})

test('the limits of a user and an address hold when many upgrades wait for authenticate() together', async t => {
  for (const limits of [{ userConnections: 2 }, { addressConnections: 2 }]) {
    const made = await buildBehindProxy(t, {
      limits,
      authenticate: () => new Promise(resolve => setImmediate(resolve, { user: 1 })),
    })
    const url = `ws://127.0.0.1:${made.port}/ws`
    const upgrades = Array.from({ length: 10 }, (_, i) =>
      refusalOf(url, { ...from('192.0.2.1'), ...(i % 2 && { origin: `http://127.0.0.1:${made.port}` }) }),
    )
    const results = await Promise.allSettled(upgrades)
    assert.equal(made.app.push.connections.size, 2)
    const refused = results.flatMap(result => (result.status === 'fulfilled' ? [result.value] : []))
    assert.equal(refused.length, 8)
    for (const { code, status } of refused) assert.ok(code === 1013 || status === 429, `${code} ${status}`)
    const name = 'userConnections' in limits ? 'PUSH_ERR_USER_CONNECTIONS' : 'PUSH_ERR_ADDRESS_CONNECTIONS'
    assert.deepEqual(await refusedIn(made), { [name]: 8 })
  }
})

test('limits.upgrades: what is too fast is refused before anybody is asked who it is', async t => {
  let asked = 0
  const began = performance.now()
  const made = await buildBehindProxy(t, {
    limits: { upgrades: 1 },
    authenticate: () => {
      asked++
      return {}
    },
  })
  const outcomes = await Promise.all(Array.from({ length: 40 }, () => outcome(made.port)))
  const refused = outcomes.filter(result => result !== 'open')
  // A burst of two, and one for each second that the machine took.
  const most = 2 + Math.ceil((performance.now() - began) / 1000)
  assert.ok(asked <= most && outcomes.length - refused.length === asked, `${asked} were asked, ${most} may be`)
  assert.ok(refused.length > 0)
  for (const { status, body } of refused) assert.deepEqual([status, body?.code], [503, 'PUSH_ERR_UPGRADES'])
  assert.deepEqual(await refusedIn(made), { PUSH_ERR_UPGRADES: refused.length })
})

test('limits.addressUpgrades: of one address, and another one gets in meanwhile', async t => {
  const made = await buildBehindProxy(t, { limits: { addressUpgrades: 1 } })
  const url = `ws://127.0.0.1:${made.port}/ws`
  const began = performance.now()
  const upgrades = Array.from({ length: 40 }, (_, i) => refusalOf(url, from(`2001:db8:1:2::${i + 1}`)))
  const results = await Promise.allSettled(upgrades)
  const refused = results.flatMap(result => (result.status === 'fulfilled' ? [result.value] : []))
  const most = 2 + Math.ceil((performance.now() - began) / 1000)
  assert.ok(refused.length >= 40 - most && refused.length > 0, `${refused.length} refused, ${most} may be`)
  for (const { status, body } of refused) assert.deepEqual([status, body?.code], [429, 'PUSH_ERR_ADDRESS_UPGRADES'])
  await openConnection(made.app, '/ws', from('192.0.2.1'))
  assert.deepEqual(await refusedIn(made), { PUSH_ERR_ADDRESS_UPGRADES: refused.length })
})

test('a refusal that may pass says when to come back', async t => {
  const { port } = await buildBehindProxy(t, {
    limits: { pendingUpgrades: 1 },
    authenticate: () => new Promise(() => {}),
  })
  const sockets = [1, 2].map(() => upgradeBy(t, port, '/ws'))
  // One of the two waits for ever.
  const answer = await within(Promise.race(sockets.map(({ answer: it }) => it)), 'a refusal')
  assert.match(answer, /^HTTP\/1\.1 503 Service Unavailable\r\n/)
  assert.match(answer, /\r\nRetry-After: 1\r\n/i)
  assert.match(answer, /"code":"PUSH_ERR_PENDING_UPGRADES"/)
})

/** The bytes of an upgrade over a bare socket, and all that comes back until the end. */
function upgradeBy(t: TestContext, port: number, path: string, more = '') {
  const socket = connect(port, '127.0.0.1')
  t.after(() => socket.destroy())
  socket.on('error', () => {})
  let text = ''
  socket.setEncoding('latin1').on('data', data => {
    text += data
  })
  const answer = new Promise<string>(resolve => socket.once('end', () => resolve(text)))
  socket.write(
    `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
      `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n${more}\r\n`,
  )
  return { socket, answer }
}

test('limits.pendingUpgrades: however the path is written, and every upgrade that ends makes room', async t => {
  const waiting = new Inbox<(identity: object | null) => void>('an upgrade that waits')
  const made = await buildBehindProxy(t, {
    limits: { pendingUpgrades: 3 },
    authenticate: () => new Promise(resolve => waiting.put(resolve as (identity: object | null) => void)),
  })
  const { app, port } = made
  // The second is not one of ours before the router has decoded its path.
  const pending = ['/ws', '/%77s', '/ws/'].map(path => outcome(port, path))
  const first = [await waiting.take(), await waiting.take(), await waiting.take()]
  assert.equal((await app.push.status()).pendingUpgrades, 3)
  for (const path of ['/ws', '/%77s', '/ws/orders']) {
    const result = await outcome(port, path)
    assert.ok(result !== 'open' && result.status === 503, path)
    assert.equal(result.body?.code, 'PUSH_ERR_PENDING_UPGRADES', path)
  }
  for (const [i, answer] of first.entries()) answer(i === 0 ? null : {})
  const outcomes = await Promise.all(pending)
  assert.equal(outcomes.filter(result => result === 'open').length, 2)
  assert.deepEqual(await refusedIn(made), { PUSH_ERR_PENDING_UPGRADES: 3, PUSH_ERR_UNAUTHENTICATED: 1 })
  assert.equal((await app.push.status()).pendingUpgrades, 0)
  for (let i = 0; i < 6; i++) {
    const refused = outcome(port)
    ;(await waiting.take())(null)
    assert.equal(((await refused) as Refusal).status, 401)
  }
  assert.equal((await app.push.status()).pendingUpgrades, 0)
})

test('an upgrade whose client has gone gives its place back', async t => {
  const { app, port } = await buildBehindProxy(t, {
    limits: { pendingUpgrades: 5, handshake: 200 },
    authenticate: () => new Promise(() => {}),
  })
  const sockets = Array.from({ length: 5 }, () => upgradeBy(t, port, '/ws').socket)
  await Promise.all(sockets.map(socket => once(socket, 'connect')))
  await until(async () => (await app.push.status()).pendingUpgrades > 0, 'upgrades that wait')
  for (const socket of sockets) socket.destroy()
  await until(async () => (await app.push.status()).pendingUpgrades === 0, 'none waits any more')
})

test('a host that answers an upgrade which was refused already breaks nothing', async t => {
  const { app, port } = await buildApp(
    t,
    async it => {
      it.addHook('onRequest', async (_request, reply) => reply.code(418).send({ teapot: true }))
      await it.register(pushBridge, { ...OPEN, limits: { pendingUpgrades: 1 } })
    },
    {},
  )
  const results = await Promise.allSettled(Array.from({ length: 20 }, () => upgradeBy(t, port, '/ws').answer))
  assert.equal(results.length, 20)
  await until(async () => (await app.push.status()).pendingUpgrades === 0, 'none waits any more')
  assert.equal((await fetch(`http://127.0.0.1:${port}/`)).status, 418)
})

test('status says which limits hold', async t => {
  const { app } = await buildBehindProxy(t, { limits: { topics: 7 } })
  await openConnection(app, '/ws', from('192.0.2.1'))
  const { limits, addresses, pendingUpgrades } = await app.push.status()
  assert.deepEqual([limits.topics, limits.userConnections, limits.upgrades], [7, 100, 2000])
  assert.deepEqual([addresses, pendingUpgrades], [1, 0])
})

test('a page that is refused and does not close is disconnected, and is no connection meanwhile', async t => {
  const made = await buildBehindProxy(t, {})
  const sockets = Array.from({ length: 20 }, () => upgradeBy(t, made.port, '/ws', 'Origin: https://evil.example\r\n'))
  await Promise.all(sockets.map(({ socket }) => once(socket, 'data')))
  assert.equal(made.app.push.connections.size, 0)
  for (const { answer } of sockets) assert.match(await within(answer, 'the end of a socket'), /^HTTP\/1\.1 101 /)
  assert.deepEqual(await refusedIn(made), { PUSH_ERR_ORIGIN: 20 })
  await until(async () => (await made.app.push.status()).pendingUpgrades === 0, 'none waits any more')
})

test('a handshake that is none is refused before anybody is asked, spends no ticket and is counted once', async t => {
  const made = await buildBehindProxy(t, { tickets: true, authenticate: undefined as never })
  const ticket = await made.app.push.ticket({ user: 1 })
  const good = {
    Upgrade: 'websocket',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': 'MDEyMzQ1Njc4OWFiY2RlZg==',
    'Sec-WebSocket-Protocol': 'push.json, chat',
  }
  const wrong: [object, RegExp][] = [
    [{ Upgrade: 'h2c' }, /Upgrade is not websocket/],
    [{ 'Sec-WebSocket-Key': 'short' }, /Sec-WebSocket-Key/],
    [{ 'Sec-WebSocket-Key': '' }, /Sec-WebSocket-Key/],
    [{ 'Sec-WebSocket-Version': '12' }, /Sec-WebSocket-Version is not 13/],
    [{ 'Sec-WebSocket-Protocol': 'a,,b' }, /Sec-WebSocket-Protocol/],
    [{ 'Sec-WebSocket-Protocol': 'a, a' }, /Sec-WebSocket-Protocol/],
  ]
  for (const [change, text] of wrong) {
    const headers = Object.entries({ ...good, ...change, Origin: `http://127.0.0.1:${made.port}` })
    const socket = connect(made.port, '127.0.0.1')
    t.after(() => socket.destroy())
    let answer = ''
    socket.setEncoding('latin1').on('data', data => {
      answer += data
    })
    const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`).join('')
    socket.write(
      `GET /ws?ticket=${ticket} HTTP/1.1\r\nHost: 127.0.0.1:${made.port}\r\nConnection: Upgrade\r\n${lines}\r\n`,
    )
    await once(socket, 'end')
    assert.match(answer, /^HTTP\/1\.1 400 /)
    assert.match(answer, text)
  }
  assert.deepEqual(await refusedIn(made), { PUSH_ERR_BAD_MESSAGE: wrong.length })
  assert.equal((await openConnection(made.app, `/ws?ticket=${ticket}`)).welcome.user, '1')
})
