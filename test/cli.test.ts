import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer as createTcpServer } from 'node:net'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { WebSocket } from 'ws'
import { createServer } from '../src/cli.ts'
import { readSettings, type ServeSettings } from '../src/node/serve-settings.ts'
import { refusalOf } from './helpers/app.ts'
import { temporaryFolder } from './helpers/processes.ts'
import { startRedis } from './helpers/redis.ts'
import { NAME, startSentinel } from './helpers/redis-sentinel.ts'
import { once, PATIENCE, START, until, within } from './helpers/waiting.ts'

const CLI = fileURLToPath(new URL('../src/cli.ts', import.meta.url))

const OF_REDIS = [
  'REDIS_SENTINELS',
  'REDIS_SENTINEL_NAME',
  'REDIS_SENTINEL_USERNAME',
  'REDIS_SENTINEL_PASSWORD',
  'REDIS_USERNAME',
  'REDIS_PASSWORD',
  'REDIS_TLS',
  'REDIS_TLS_CA',
  'REDIS_TLS_CERT',
  'REDIS_TLS_KEY',
  'REDIS_TLS_SERVERNAME',
]

function run(t: TestContext, args: string[], env: Record<string, string> = {}): ChildProcess {
  const kept = ['PATH', 'HOME', 'NODE_V8_COVERAGE'].filter(key => process.env[key] !== undefined)
  const clean = Object.fromEntries(kept.map(key => [key, process.env[key]]))
  const child = spawn(process.execPath, ['--import', 'tsx', CLI, ...args], { env: { ...clean, ...env } })
  t.after(() => child.kill('SIGKILL'))
  return child
}

async function output(child: ChildProcess): Promise<{ stdout: string; stderr: string; code: number }> {
  let stdout = ''
  let stderr = ''
  child.stdout!.on('data', chunk => {
    stdout += chunk
  })
  child.stderr!.on('data', chunk => {
    stderr += chunk
  })
  const [code] = await once(child, 'close', START)
  return { stdout, stderr, code }
}

/** The port, from the structured log line. */
function listening(child: ChildProcess): Promise<number> {
  return within(portOf(child), 'the line that says where the server listens', START)
}

async function portOf(child: ChildProcess): Promise<number> {
  for await (const line of createInterface(child.stdout!)) {
    const port = /listening at http:\/\/127\.0\.0\.1:(\d+)/.exec(JSON.parse(line).msg)?.[1]
    if (port) {
      child.stdout!.resume()
      return Number(port)
    }
  }
  throw new Error('it ended without listening')
}

test('serve: a ticket from Redis, a PUBLISH, an HTTP push and SIGTERM', async t => {
  const redis = await startRedis(t)
  const child = run(t, ['serve'], {
    REDIS_URL: redis.url,
    PORT: '0',
    PUSH_API_KEY: 'a key for the test',
    WS_PATH: '/live',
  })
  const port = await listening(child)
  const ticket = 'ab'.repeat(24)
  await redis.admin.set(`push:ticket:${ticket}`, '{"user":"42","allow":["channel:orders"]}', 'EX', 30, 'NX')
  const socket = new WebSocket(`ws://127.0.0.1:${port}/live/orders?ticket=${ticket}`)
  const [welcome] = await once(socket, 'message')
  assert.equal(JSON.parse(String(welcome)).payload.user, '42')
  // Listening before publishing: the message may be here before the answer of Redis is.
  const message = once(socket, 'message')
  assert.equal(await redis.admin.publish('push:channel:orders', '{"type":"order.created","payload":{"id":7}}'), 1)
  assert.equal(String((await message)[0]), '{"type":"order.created","payload":{"id":7},"topic":"channel:orders"}')
  const response = await fetch(`http://127.0.0.1:${port}/push`, {
    method: 'POST',
    headers: { 'x-push-key': 'a key for the test', 'content-type': 'application/json' },
    body: '{"to":"user:42","type":"notice"}',
  })
  assert.deepEqual(await response.json(), { topic: 'user:42', nodes: 1 })
  const health = await fetch(`http://127.0.0.1:${port}/readyz?strict`)
  assert.deepEqual([health.status, (await health.json()).connected], [200, true])
  child.kill('SIGTERM')
  const [[closeCode], [exitCode]] = await Promise.all([once(socket, 'close'), once(child, 'exit')])
  assert.deepEqual([closeCode, exitCode], [1012, 0])
})

test('serve: nothing is open by default', async t => {
  const redis = await startRedis(t)
  const child = run(t, ['serve', '--port', '0'], { REDIS_URL: redis.url })
  const port = await listening(child)
  const { status, body } = await refusalOf(`ws://127.0.0.1:${port}/ws`)
  assert.deepEqual([status, body?.code], [401, 'PUSH_ERR_UNAUTHENTICATED'])
  assert.equal((await fetch(`http://127.0.0.1:${port}/push`, { method: 'POST' })).status, 404)
})

test('serve: who sends half a header, or nothing, is disconnected in time, and others notice nothing', async t => {
  const settings = readSettings(['serve', '--dev', '--handshake', '300', '--log-level', 'fatal'], {}) as ServeSettings
  const app = await createServer(settings, 'secret')
  t.after(() => within(app.close(), 'the end of serve'))
  await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  let canary!: WebSocket
  // It has as little time as the others.
  const isIn = async () => {
    canary = new WebSocket(`ws://127.0.0.1:${port}/ws?ticket=secret`)
    t.after(() => canary.terminate())
    return once(canary, 'message').then(
      () => true,
      () => false,
    )
  }
  await until(isIn, 'a client that is there in time')
  const refusals = async () => {
    const { metrics } = await app.push.status()
    return Object.fromEntries(Object.entries(metrics).filter(([key]) => key.startsWith('requests_refused_total')))
  }
  const { 'requests_refused_total{timeout}': before = 0 } = await refusals()
  const half = 'GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\n'
  const ends = Array.from({ length: 60 }, async (_, i) => {
    const socket = connect(port, '127.0.0.1').setEncoding('latin1')
    t.after(() => socket.destroy())
    let answer = ''
    socket
      .on('error', () => {})
      .on('data', text => {
        answer += text
      })
    if (i % 2) socket.write(half)
    await once(socket, 'close')
    assert.match(answer, /^HTTP\/1\.1 408 /)
  })
  await Promise.all(ends)
  assert.deepEqual(await refusals(), { 'requests_refused_total{timeout}': before + ends.length })
  const pong = once(canary, 'message')
  canary.send('{"type":"ping"}')
  assert.equal(JSON.parse(String((await pong)[0])).type, 'pong')
  assert.equal(await promisify(app.server.getConnections.bind(app.server))(), 1)
  assert.equal(app.server.requestTimeout, 30_000)
  assert.throws(
    () => readSettings(['serve', '--dev'], { HANDSHAKE: '10s' }),
    /^Error: HANDSHAKE \(--handshake\) is "10s"/,
  )
})

test('serve --dev: two pasted lines show a message without Redis, and nobody else gets in', async t => {
  const child = run(t, ['serve', '--dev', '--port', '0'], { PUSH_API_KEY: `it's a "$KEY" of the test` })
  let printed = ''
  child.stderr!.on('data', chunk => {
    printed += chunk
  })
  let logged = ''
  child.stdout!.on('data', chunk => {
    logged += chunk
  })
  await until(() => /A client of your own.*\n/.test(printed), 'the lines to paste', START)
  // Over another pipe: it may come later.
  await until(() => logged.includes('"msg":"--dev: without Redis, for this machine only'), 'the warning in the log')
  const [, address, ticket] = /^ +(http:\/\/127\.0\.0\.1:\d+)\/\?ticket=([0-9a-f]{48})$/m.exec(printed)!
  const page = await (await fetch(`${address}/?ticket=${ticket}`)).text()
  assert.match(page, /"\/ws\/demo" \+ location\.search/)
  assert.doesNotMatch(page, new RegExp(ticket!))

  const socket = new WebSocket(/ws:\S+/.exec(printed)![0])
  t.after(() => socket.terminate())
  const [welcome] = await once(socket, 'message')
  assert.equal(JSON.parse(String(welcome)).payload.user, 'dev')
  const message = once(socket, 'message')
  const curl = /^ +(curl .*)$/m.exec(printed)![1]!
  const { stdout } = await promisify(execFile)('sh', ['-c', `${curl} --silent`], { timeout: PATIENCE })
  assert.deepEqual(JSON.parse(stdout), { topic: 'channel:demo', nodes: 1 })
  assert.equal(String((await message)[0]), '{"type":"notice","payload":{"text":"hello"},"topic":"channel:demo"}')
  assert.equal((await refusalOf(`${address!.replace('http', 'ws')}/ws?ticket=${'0'.repeat(48)}`)).status, 401)
  assert.equal((await fetch(`${address}/push`, { method: 'POST' })).status, 401)
})

test('serve: a port that is taken ends it, whether or not Redis is there', async t => {
  const taken = createTcpServer().listen(0, '127.0.0.1')
  t.after(() => taken.close())
  await once(taken, 'listening')
  const { port } = taken.address() as AddressInfo
  const { stderr, code } = await output(run(t, ['serve'], { REDIS_URL: 'redis://127.0.0.1:1', PORT: String(port) }))
  assert.equal(code, 1)
  assert.match(stderr, /EADDRINUSE/)
})

test('help, and words that are not understood', async t => {
  const help = await output(run(t, ['--help']))
  assert.equal(help.code, 0)
  for (const name of ['REDIS_URL', 'PORT', 'HOST', 'WS_PATH', 'PUSH_API_KEY', 'ORIGINS', '--dev', ...OF_REDIS])
    assert.match(help.stdout, new RegExp(name))
  const refused: [string[], Record<string, string>, RegExp][] = [
    [['serve', '--prot', '1'], {}, /--prot/],
    [['serve', '--dev'], { PORT: 'http' }, /PORT \(--port\) is "http": it must be a number/],
    [['serve'], { REDIS_URL: '' }, /^REDIS_URL \(--redis\) is not set/],
    [['serve', '--dev'], { REDIS_URL: 'redis://127.0.0.1:1' }, /--dev runs without Redis: leave out/],
    [['serve', '--dev', '--host', '0.0.0.0'], {}, /HOST \(--host\) is "0\.0\.0\.0": --dev listens on 127\.0\.0\.1/],
    [
      ['serve', '--dev'],
      { PUSH_API_KEY: 'fifteen-letters' },
      /PUSH_API_KEY \(--api-key\) has 15 characters .*: use 16/,
    ],
    [['serve'], { REDIS_SENTINELS: 'a:1' }, /REDIS_SENTINEL_NAME \(--sentinel-name\) is not set: .* often mymaster/],
  ]
  for (const [args, env, message] of refused) assert.throws(() => readSettings(args, env), { message })
  const cases: [string[], Record<string, string>, RegExp][] = [
    [['listen'], {}, /unknown command "listen"/],
    [['serve'], {}, /^REDIS_URL \(--redis\) is not set: set it to .*, or try it without with --dev \(.*\)\n$/],
    [['serve'], { REDIS_URL: 'localhost' }, /option redis must be a URL/],
    [
      ['serve'],
      { REDIS_SENTINELS: 'http://a', REDIS_SENTINEL_NAME: 'm' },
      /option redis sentinels\.0 must be "host:port"/,
    ],
    [['serve', '--dev'], { ORIGINS: 'app.example.com' }, /option origins\.0 must match/],
  ]
  const outputs = await Promise.all(cases.map(([args, env]) => output(run(t, args, env))))
  for (const [i, { code, stderr }] of outputs.entries()) {
    assert.equal(code, 1)
    assert.match(stderr, cases[i]![2])
  }
})

test('a variable that is empty counts as not set: never another address, never an open door', () => {
  const names = ['PORT', 'HOST', 'WS_PATH', 'PUSH_API_KEY', 'ORIGINS', 'REDIS_PREFIX', 'TRUST_PROXY', 'LOG_LEVEL']
  const empty = Object.fromEntries([...names, ...OF_REDIS].map(name => [name, '']))
  const serve = ['serve', '--dev']
  const defaults = readSettings(serve, {})
  assert.deepEqual(readSettings(serve, { ...empty, REDIS_URL: '' }), defaults)
  const flags = ['--redis', '--port', '--host', '--path', '--api-key', '--origins', '--prefix', '--log-level']
  flags.push('--sentinels', '--sentinel-name', '--redis-tls-ca', '--redis-tls-cert', '--redis-tls-key')
  assert.deepEqual(readSettings([...serve, ...flags.map(flag => `${flag}=`)], {}), defaults)
  const { host, path, apiKey, origins } = defaults as ServeSettings
  assert.deepEqual([host, path, apiKey, origins], ['127.0.0.1', '/ws', undefined, undefined])
})

const settingsOf = (env: Record<string, string>, args: string[] = []) => {
  const settings = readSettings(['serve', ...args], env) as ServeSettings
  return settings.redis
}

test('what serve is told of Redis: a URL, Sentinels, users, TLS', t => {
  const folder = temporaryFolder(t)
  for (const name of ['ca', 'cert', 'key']) writeFileSync(join(folder, name), name)
  const file = (name: string) => join(folder, name)
  const bytes = (name: string) => Buffer.from(name)
  const url = 'rediss://redis.internal:6380'
  assert.equal(settingsOf({ REDIS_URL: url }), url)
  assert.deepEqual(settingsOf({ REDIS_URL: url, REDIS_TLS_CA: file('ca') }), { url, tls: { ca: bytes('ca') } })
  const own = ['--redis-tls-cert', file('cert'), '--redis-tls-key', file('key'), '--redis-tls-servername', 'redis.name']
  assert.deepEqual(settingsOf({ REDIS_URL: url }, own), {
    url,
    tls: { cert: bytes('cert'), key: bytes('key'), servername: 'redis.name' },
  })
  const user = { REDIS_USERNAME: 'node', REDIS_PASSWORD: 'pw' }
  assert.deepEqual(settingsOf({ REDIS_URL: url, ...user }), { url, username: 'node', password: 'pw' })
  assert.equal(settingsOf({ REDIS_URL: 'redis://me:mine@a', ...user }), 'redis://me:mine@a')
  const sentinels = { REDIS_SENTINELS: 'a:1, b:2', REDIS_SENTINEL_NAME: 'main' }
  assert.deepEqual(settingsOf(sentinels), { sentinels: ['a:1', 'b:2'], name: 'main' })
  assert.deepEqual(settingsOf({}, ['--sentinels', 'a:1', '--sentinel-name', 'm']), { sentinels: ['a:1'], name: 'm' })
  const secrets = { REDIS_SENTINEL_USERNAME: 'su', REDIS_SENTINEL_PASSWORD: 'sp' }
  assert.deepEqual(settingsOf({ ...sentinels, ...user, ...secrets, REDIS_TLS: '1' }), {
    sentinels: ['a:1', 'b:2'],
    name: 'main',
    username: 'node',
    password: 'pw',
    sentinelUsername: 'su',
    sentinelPassword: 'sp',
    tls: {},
    sentinelTLS: {},
  })
  const wrong: [Record<string, string>, RegExp][] = [
    [{ REDIS_URL: url, ...sentinels }, /REDIS_URL .* and REDIS_SENTINELS .* are both set: keep one of them/],
    [{ REDIS_SENTINEL_NAME: 'm' }, /REDIS_SENTINEL_NAME .* is set, but not REDIS_SENTINELS/],
    [
      { REDIS_URL: 'redis://a', REDIS_TLS: '1' },
      /REDIS_URL \(--redis\) does not begin with rediss:\/\/: nothing would be/,
    ],
    [{ REDIS_URL: 'redis+cluster://a', REDIS_TLS_CA: file('ca') }, /does not begin with rediss:\/\//],
    [{ REDIS_URL: url, REDIS_TLS_CA: file('none') }, /REDIS_TLS_CA \(--redis-tls-ca\) is ".*none": ENOENT/],
    [{ REDIS_URL: url, REDIS_TLS_KEY: file('key') }, /REDIS_TLS_CERT .* and REDIS_TLS_KEY .* go together: set both/],
  ]
  for (const [env, message] of wrong) assert.throws(() => settingsOf(env), { message }, JSON.stringify(env))
  const cluster = 'rediss+cluster://a:1,b:2'
  assert.deepEqual(settingsOf({ REDIS_URL: cluster, REDIS_TLS: '1' }), { url: cluster, tls: {} })
})

test('serve: who is on which topics, as JSON', () => {
  const read = (presence: string, args: string[] = []) =>
    readSettings(['serve', '--redis', 'redis://x', ...args], { PRESENCE: presence }) as ServeSettings
  const rules = { users: true, 'channel:room.*': { info: true } }
  assert.deepEqual(read(JSON.stringify(rules)).presence, rules)
  assert.deepEqual(read('', ['--presence', '{"users":true}']).presence, { users: true })
  assert.deepEqual(read('').presence, {})
  for (const wrong of ['{', '[]', 'null', '"users"']) {
    assert.throws(() => read(wrong), { message: /^PRESENCE \(--presence\) is .*: it must be JSON such as/ }, wrong)
  }
})

test('serve: the master that Sentinels name, with passwords for both', async t => {
  const redis = await startRedis(t, { args: ['--requirepass', 'of-redis', '--masterauth', 'of-redis'] })
  const lines = () => ['requirepass of-sentinel', `sentinel auth-pass ${NAME} of-redis`]
  const client = { password: 'of-sentinel' }
  const sentinel = await startSentinel(t, redis.port, { sentinels: 1, lines, client })
  const child = run(t, ['serve', '--sentinels', `127.0.0.1:${sentinel.port}`, '--sentinel-name', NAME, '--port', '0'], {
    REDIS_PASSWORD: 'of-redis',
    REDIS_SENTINEL_PASSWORD: 'of-sentinel',
  })
  const port = await listening(child)
  let health: unknown
  await until(
    async () => {
      const response = await fetch(`http://127.0.0.1:${port}/readyz?strict`)
      health = await response.json()
      return response.status === 200
    },
    () => `serve is healthy: ${JSON.stringify(health)}`,
  )
})
