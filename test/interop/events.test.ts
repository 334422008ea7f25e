import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { PushBridgeOptions } from '../../src/index.ts'
import pushBridge from '../../src/index.ts'
import { sign } from '../../src/node/events/signature.ts'
import { buildApp, openConnection, refusalOf } from '../helpers/app.ts'
import { SECRET, startBackend } from '../helpers/backend.ts'
import { listenTo } from '../helpers/listener.ts'
import { Program, path, temporaryFolder } from '../helpers/processes.ts'
import { freePort, type RedisServer, startRedis } from '../helpers/redis.ts'
import { createAuthority } from '../helpers/tls.ts'
import { once, START, until, within } from '../helpers/waiting.ts'

const nodeOf = (t: TestContext, options: Partial<PushBridgeOptions>) =>
  buildApp(t, app => app.register(pushBridge, { path: '/ws', ...options }))

// ── a worker that reads the stream ─────────────────────────────────────────────────────────────────────────────────

function startWorker(t: TestContext, redis: RedisServer, name: string, env = {}): Program {
  const variables = { REDIS_HOST: '127.0.0.1', REDIS_PORT: String(redis.port), ...env }
  return new Program(t, 'php', [path('example/php/events.php'), name], { env: variables })
}

const STREAM = { messages: ['chat.*'], stream: {} }
const authenticate = () => ({ user: 'ann', allow: ['channel:chat'] })

test('events.php: a worker in PHP answers what clients send', async t => {
  const redis = await startRedis(t)
  const { app } = await nodeOf(t, { redis: redis.url, events: STREAM, authenticate })
  const worker = startWorker(t, redis, 'worker-1')
  const connection = await openConnection(app, '/ws/chat')
  connection.send('chat.say', { text: 'Grüße, 辣' }, 1)
  assert.deepEqual((await connection.next('chat.said')).payload, { who: 'ann', text: 'Grüße, 辣' })
  await connection.close()
  await worker.line(/^disconnect of ann$/)
  assert.deepEqual(worker.lines, ['connect of ann', 'message of ann', 'disconnect of ann'])
  await until(
    async () => ((await redis.admin.xpending('push:events', 'workers')) as unknown[])[0] === 0,
    'all are done',
  )
})

test('events.php: what a dead worker left goes to another, and a repeat is handled once', async t => {
  const redis = await startRedis(t)
  const { app } = await nodeOf(t, { redis: redis.url, events: STREAM, authenticate })
  await redis.admin.xgroup('CREATE', 'push:events', 'workers', '0', 'MKSTREAM')
  const connection = await openConnection(app, '/ws/chat')
  connection.send('chat.say', { text: 'one' }, 1)
  await connection.next('reply')
  const taken = await redis.admin.xreadgroup('GROUP', 'workers', 'dead', 'COUNT', 10, 'STREAMS', 'push:events', '>')
  const [[, entries]] = taken as [[string, [string, string[]][]]]
  assert.equal(entries.length, 2)
  // As a node writes that got no answer.
  await redis.admin.xadd('push:events', '*', ...entries[1]![1])
  const worker = startWorker(t, redis, 'worker-2', { EVENTS_IDLE: '1' })
  assert.deepEqual((await connection.next('chat.said')).payload, { who: 'ann', text: 'one' })
  connection.send('chat.say', { text: 'two' }, 2)
  assert.deepEqual((await connection.next('chat.said')).payload, { who: 'ann', text: 'two' })
  await until(() => worker.lines.length >= 3, 'three lines')
  assert.deepEqual(worker.lines, ['connect of ann', 'message of ann', 'message of ann'])
})

test('events.php: what PHP cannot read does not keep it from the rest', async t => {
  const redis = await startRedis(t)
  const { app } = await nodeOf(t, { redis: redis.url, events: STREAM, authenticate })
  const worker = startWorker(t, redis, 'worker-1')
  const connection = await openConnection(app, '/ws/chat')
  connection.send('chat.say', { text: '\ud800' }, 1)
  connection.send('chat.say', { text: 'two' }, 2)
  assert.deepEqual((await connection.next('chat.said')).payload, { who: 'ann', text: 'two' })
  await worker.line(/^PHP cannot read event \S+\.\d+$/)
  await until(
    async () => ((await redis.admin.xpending('push:events', 'workers')) as unknown[])[0] === 0,
    'all are done',
  )
})

test('events.php: the rights in events.md are enough for it', async t => {
  const redis = await startRedis(t)
  await redis.admin.call('ACL', 'SETUSER', 'root', 'on', '>pw', 'allkeys', 'allchannels', '+@all')
  const root = redis.admin.duplicate({ username: 'root', password: 'pw' })
  t.after(() => root.disconnect())
  const [, text] = /ACL SETUSER worker on '>a-third-secret' ((?:.*\\\n)*.*)\n/.exec(
    readFileSync(path('docs/events.md'), 'utf8'),
  )!
  const rights = text!
    .replaceAll(/['\\\n]/g, ' ')
    .trim()
    .split(/\s+/)
  await root.call('ACL', 'SETUSER', 'default', 'reset', 'on', 'nopass', ...rights)
  const url = redis.url.replace('//', '//root:pw@')
  const { app } = await nodeOf(t, { redis: url, events: STREAM, authenticate })
  const worker = startWorker(t, redis, 'worker-1')
  const connection = await openConnection(app, '/ws/chat')
  connection.send('chat.say', { text: 'hi' }, 1)
  await connection.next('chat.said')
  await worker.line(/^message of ann$/)
  assert.deepEqual(worker.lines, ['connect of ann', 'message of ann'])
})

// ── a web backend ──────────────────────────────────────────────────────────────────────────────────────────────────

async function startPhp(t: TestContext) {
  const port = await freePort()
  const file = join(temporaryFolder(t), 'events')
  writeFileSync(file, '')
  const program = new Program(t, 'php', ['-S', `127.0.0.1:${port}`, path('example/php/backend.php')], {
    env: { BACKEND_SECRET: SECRET, EVENTS_FILE: file },
    stopWith: 'SIGTERM',
  })
  await program.line(/Development Server .* started/, START)
  return { url: `http://127.0.0.1:${port}/`, events: () => readFileSync(file, 'utf8').trim().split('\n') }
}

const backendOptions = (url: string, secret: string | string[] = SECRET) => ({
  http: {
    url,
    secret,
    connect: true,
    headers: ['cookie'],
    subscribe: true,
    message: ['chat.*'],
    events: ['connect' as const, 'disconnect' as const],
    timeout: 30_000,
  },
})

test('backend.php: PHP decides who connects and subscribes, answers, and hears what happens', async t => {
  const php = await startPhp(t)
  // While it is changed there are two secrets.
  const { app, port } = await nodeOf(t, { events: backendOptions(php.url, ['another secret of the tests', SECRET]) })
  const refusal = await refusalOf(`ws://127.0.0.1:${port}/ws`)
  assert.deepEqual([refusal.status, refusal.body?.message], [401, 'log in first'])
  const connection = await openConnection(app, '/ws/room.1?theme=dark', { headers: { cookie: 'a=b; session=ann' } })
  assert.equal(connection.welcome.user, 'ann')
  assert.ok('channel:news' in connection.welcome.topics && 'channel:room.1' in connection.welcome.topics)
  connection.send('subscribe', { topic: 'channel:admin' }, 1)
  assert.equal(((await connection.next('error')).payload as { code: string }).code, 'PUSH_ERR_FORBIDDEN')
  connection.send('subscribe', { topic: 'channel:room.2' }, 2)
  await connection.next('subscribed')
  connection.send('chat.say', { text: ' Grüße, 辣 ' }, 3)
  assert.deepEqual((await connection.next('reply')).payload, { said: 'Grüße, 辣', by: 'ann' })
  connection.send('chat.say', {}, 4)
  assert.deepEqual((await connection.next('error')).payload, { code: 'CHAT_EMPTY', message: 'say something' })
  await connection.close()
  await until(() => php.events().length === 2, 'two events')
  assert.match(php.events().join('\n'), /^\S+ connect ann\n\S+ disconnect ann$/)
})

test('backend.php: a wrong secret, an old call and no signature get nowhere', async t => {
  const php = await startPhp(t)
  const { port } = await nodeOf(t, { events: backendOptions(php.url, 'a guess of somebody else') })
  const refusal = await refusalOf(`ws://127.0.0.1:${port}/ws`, { headers: { cookie: 'session=ann' } })
  assert.deepEqual([refusal.status, refusal.body?.code], [503, 'PUSH_ERR_BACKEND_UNCONFIRMED'])
  const body = '{"kind":"connect","headers":{"cookie":"session=ann"},"time":"now"}'
  const call = async (signature?: string) => {
    const headers = signature === undefined ? {} : { 'push-signature': signature }
    return (await fetch(php.url, { method: 'POST', body, headers })).status
  }
  const good = sign([SECRET], body, Date.now())
  assert.equal(await call(good), 200)
  assert.equal(await call(), 500)
  assert.equal(await call(sign([SECRET], body, Date.now() - 400_000)), 500)
  assert.equal(await call(sign([SECRET], `${body} `, Date.now())), 500)
  assert.equal(await call(good.replace(/t=\d+/, `t=${Math.floor(Date.now() / 1000) + 5}`)), 500)
  assert.equal(await call(good.replace(/v1=.*/, 'v1=')), 500)
})

test('backend.php: what PHP cannot read is refused for good, and does not come again and again', async t => {
  const php = await startPhp(t)
  const body = '{"kind":"events","events":[{"id":"a.1","kind":"message","payload":"\\ud800"}]}'
  const headers = { 'push-signature': sign([SECRET], body, Date.now()) }
  const answer = await fetch(php.url, { method: 'POST', body, headers })
  assert.equal(answer.status, 422)
})

// ── serve ──────────────────────────────────────────────────────────────────────────────────────────────────────────

test('serve with a worker and a web backend: nothing of it is JavaScript', async t => {
  const redis = await startRedis(t)
  const php = await startPhp(t)
  const port = await freePort()
  const server = new Program(t, process.execPath, ['--import', 'tsx', path('src/cli.ts'), 'serve'], {
    env: {
      REDIS_URL: redis.url,
      PORT: String(port),
      EVENTS_STREAM: 'events',
      BACKEND_URL: php.url,
      BACKEND_SECRET: SECRET,
      BACKEND_CALLS: 'connect,subscribe',
      BACKEND_HEADERS: 'cookie',
      BACKEND_MESSAGES: 'chat.*',
      BACKEND_EVENTS: 'disconnect',
      BACKEND_TIMEOUT: '30000',
    },
    stopWith: 'SIGTERM',
  })
  await server.line(/listening at/, START)
  const worker = startWorker(t, redis, 'worker-1')
  const headers = { cookie: 'session=bob' }
  const client = await listenTo(t, `ws://127.0.0.1:${port}/ws/room.7`, { headers })
  client.send('chat.say', { text: 'hi' }, 1)
  assert.deepEqual((await client.next('reply')).payload, { said: 'hi', by: 'bob' })
  await worker.line(/^connect of bob$/)
  // A ticket goes before the backend.
  await redis.admin.set('push:ticket:0123456789abcdef', '{"user":"eve"}', 'EX', 30)
  const eve = await listenTo(t, `ws://127.0.0.1:${port}/ws?ticket=0123456789abcdef`)
  assert.equal(eve.welcome.user, 'eve')
  const gone = once(server.process, 'exit')
  server.process.kill('SIGTERM')
  assert.deepEqual((await within(gone, 'the end of serve'))[0], 0)
  for (const who of ['bob', 'eve']) await worker.line(new RegExp(`^disconnect of ${who}$`))
  assert.equal(php.events().filter(line => / disconnect (bob|eve)$/.test(line)).length, 2)
})

test('https: a certificate of an unknown authority gets no call, and one of our own authority does', async t => {
  const authority = await createAuthority(t)
  await authority.certify('here', 'IP:127.0.0.1')
  const tls = { key: authority.read('here.key'), cert: authority.read('here.crt') }
  const backend = await startBackend(t, { tls })
  backend.react = () => ({ body: { user: 'ann' } })
  const { port } = await nodeOf(t, { events: { http: { url: backend.url, secret: SECRET, connect: true } } })
  assert.equal((await refusalOf(`ws://127.0.0.1:${port}/ws`)).body?.code, 'PUSH_ERR_BACKEND_AWAY')
  assert.equal(backend.calls.size, 0)

  const redis = await startRedis(t)
  const own = await freePort()
  const server = new Program(t, process.execPath, ['--import', 'tsx', path('src/cli.ts'), 'serve'], {
    env: {
      REDIS_URL: redis.url,
      PORT: String(own),
      BACKEND_URL: backend.url,
      BACKEND_SECRET: SECRET,
      BACKEND_CALLS: 'connect',
      NODE_EXTRA_CA_CERTS: authority.file('ca.crt'),
    },
    stopWith: 'SIGTERM',
  })
  await server.line(/listening at/, START)
  const client = await listenTo(t, `ws://127.0.0.1:${own}/ws`)
  assert.equal(client.welcome.user, 'ann')
})
