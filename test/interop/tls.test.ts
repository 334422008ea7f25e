import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { after, before, test } from 'node:test'
import { createServer } from 'node:tls'
import Fastify from 'fastify'
import pushBridge, { type PushBridgeOptions } from '../../src/index.ts'
import { createPublisher } from '../../src/publisher.ts'
import { openConnection } from '../helpers/app.ts'
import { type Cleanup, cleanups, Program, path } from '../helpers/processes.ts'
import { freePort, type RedisServer } from '../helpers/redis.ts'
import { NAME, startSentinel } from '../helpers/redis-sentinel.ts'
import { rightsAtSentinel, rightsOfNode } from '../helpers/rights.ts'
import { type Authority, createAuthority, startTlsRedis } from '../helpers/tls.ts'
import { Inbox, once, START, until } from '../helpers/waiting.ts'

const all = cleanups()
let authority: Authority
let server: RedisServer
/** Lets clients in without a certificate, and only with one. */
let open: number
let closed: number
/** Its certificate is that of another host. */
let elsewhere: number

before(async () => {
  authority = await createAuthority(all)
  await authority.certify('here', 'IP:127.0.0.1,DNS:localhost')
  await authority.certify('elsewhere', 'DNS:redis.example')
  await authority.certify('client', 'DNS:client')
  const first = await startTlsRedis(all, authority)
  server = first.server
  open = first.tlsPort
  closed = (await startTlsRedis(all, authority, { clients: 'yes' })).tlsPort
  elsewhere = (await startTlsRedis(all, authority, { name: 'elsewhere' })).tlsPort
})

after(() => all.end())

const trusting = () => ({ ca: authority.read('ca.crt') })
const certified = () => ({ ...trusting(), cert: authority.read('client.crt'), key: authority.read('client.key') })

async function nodeOn(t: Cleanup, redis: NonNullable<PushBridgeOptions['redis']>) {
  const app = Fastify()
  t.after(() => app.close())
  await app.register(pushBridge, { path: '/ws', redis })
  await app.listen({ port: 0, host: '127.0.0.1' })
  return app
}

type App = Awaited<ReturnType<typeof nodeOn>>

async function isConnected(app: App): Promise<void> {
  let last: string | undefined
  await until(
    async () => {
      const { connected, problem } = await app.push.status()
      last = problem
      return connected
    },
    () => `the node is connected; ${last}`,
  )
}

async function hasProblem(app: App, problem: RegExp): Promise<void> {
  let last = ''
  await until(
    async () => {
      last = String((await app.push.status()).problem)
      return problem.test(last)
    },
    () => `${problem}; ${last}`,
  )
  assert.equal((await app.push.status()).connected, false)
}

test('TLS: an authority of our own is an option, and so is the certificate of a client', async t => {
  for (const redis of [
    { host: '127.0.0.1', port: open, tls: trusting() },
    { url: `rediss://127.0.0.1:${open}`, tls: trusting() },
    { host: 'localhost', port: closed, tls: certified() },
  ]) {
    const app = await nodeOn(t, redis)
    await isConnected(app)
    const connection = await openConnection(app, '/ws')
    const publisher = createPublisher({ redis })
    t.after(() => publisher.end())
    const sent = await publisher.publish('all', { type: 'a', receipt: true, history: { size: 1, ttl: 60 } })
    assert.deepEqual([sent.delivered, sent.complete], [1, true])
    assert.equal((await connection.next()).type, 'a')
    await app.close()
  }
})

test('TLS: what is wrong is said, with the name that does not fit', async t => {
  const cases: [NonNullable<PushBridgeOptions['redis']>, RegExp][] = [
    [
      { host: 'localhost', family: 4, port: elsewhere, tls: trusting() },
      /Host: localhost\. is not in the cert's altnames: DNS:redis\.example/,
    ],
    [{ cluster: [`rediss://localhost:${elsewhere}`], tls: trusting() }, /Host: localhost\. is not in the cert's/],
    [{ host: '127.0.0.1', port: open, tls: {} }, /self-signed certificate|unable to verify/],
    [
      { host: '127.0.0.1', port: closed, tls: trusting() },
      /certificate required|alert|ECONNRESET|Connection is closed/,
    ],
  ]
  for (const [redis, problem] of cases) await hasProblem(await nodeOn(t, redis), problem)
  // The same certificate for one who asks for the host that it names.
  const tls = { ...trusting(), servername: 'redis.example' }
  await isConnected(await nodeOn(t, { host: '127.0.0.1', port: elsewhere, tls }))
})

test('TLS: the server is told which host is meant, so that it can choose its certificate', async t => {
  const asked = new Inbox<string | false>('a name that a client asks for')
  const front = createServer({ cert: authority.read('here.crt'), key: authority.read('here.key') }, socket => {
    asked.put(socket.servername ?? false)
    const behind = connect(server.port, '127.0.0.1')
    socket.pipe(behind).pipe(socket)
    for (const end of [socket, behind]) end.on('error', () => socket.destroy())
    t.after(() => behind.destroy())
  }).listen(0, '127.0.0.1')
  t.after(() => front.close())
  await once(front, 'listening')
  const { port } = front.address() as { port: number }
  const tls = trusting()
  const cases: [NonNullable<PushBridgeOptions['redis']>, string | false][] = [
    [{ host: 'localhost', family: 4, port, tls }, 'localhost'],
    [{ url: `rediss://localhost:${port}`, family: 4, tls }, 'localhost'],
    [{ host: '127.0.0.1', port, tls: { ...tls, servername: 'localhost' } }, 'localhost'],
    // An address is no name.
    [{ host: '127.0.0.1', port, tls }, false],
  ]
  for (const [redis, name] of cases) {
    const app = await nodeOn(t, redis)
    await isConnected(app)
    assert.deepEqual([await asked.take(), await asked.take()], [name, name])
    await app.close()
    asked.clear()
  }
})

test('TLS: Sentinels and what they lead to, with users of least rights and passwords for both', async t => {
  const { server: own, tlsPort } = await startTlsRedis(t, authority)
  await own.admin.call('ACL', 'SETUSER', ...['node', ...rightsOfNode()].map(it => it.replace('another-secret', 'pw')))
  const lines = (port: number) => [
    'port 0',
    'tls-replication yes',
    `tls-port ${port}`,
    `tls-ca-cert-file ${authority.file('ca.crt')}`,
    `tls-cert-file ${authority.file('here.crt')}`,
    `tls-key-file ${authority.file('here.key')}`,
    'tls-auth-clients no',
    'user default on >admin allchannels +@all',
    `user bridge on >asks ${rightsAtSentinel().join(' ')}`,
  ]
  const client = { password: 'admin', tls: trusting() }
  const sentinel = await startSentinel(t, tlsPort, { sentinels: 1, lines, client })
  const redis = {
    sentinels: [`localhost:${sentinel.port}`],
    name: NAME,
    username: 'node',
    password: 'pw',
    tls: trusting(),
    sentinelUsername: 'bridge',
    sentinelPassword: 'asks',
    sentinelTLS: trusting(),
  }
  const app = await nodeOn(t, redis)
  await isConnected(app)
  const connection = await openConnection(app, '/ws')
  await app.push.publish('all', { type: 'a', receipt: true })
  assert.equal((await connection.next()).type, 'a')
  const refused = (await sentinel.admin.call('ACL', 'LOG').catch(() => [])) as unknown[]
  assert.deepEqual(refused, [])
  await hasProblem(
    await nodeOn(t, { ...redis, sentinelTLS: {} }),
    /no Sentinel leads .* self-signed certificate|unable to/,
  )
  await hasProblem(await nodeOn(t, { ...redis, tls: {} }), /self-signed certificate|unable to verify/)
})

async function serve(t: Cleanup, env: Record<string, string>) {
  const port = await freePort()
  const args = ['--import', 'tsx', path('src/cli.ts'), 'serve']
  const server = new Program(t, process.execPath, args, { env: { PORT: `${port}`, LOG_LEVEL: 'info', ...env } })
  await server.line(/Server listening/, START)
  const health = async () => {
    const response = await fetch(`http://127.0.0.1:${port}/readyz?strict`)
    return { ...((await response.json()) as { problem?: string }), status: response.status }
  }
  return { server, health }
}

test('TLS: serve takes rediss://, and the authority by NODE_EXTRA_CA_CERTS or a variable', async t => {
  const REDIS_URL = `rediss://127.0.0.1:${open}`
  const own = { REDIS_TLS_CERT: authority.file('client.crt'), REDIS_TLS_KEY: authority.file('client.key') }
  const REDIS_TLS_CA = authority.file('ca.crt')
  for (const env of [
    { REDIS_URL, NODE_EXTRA_CA_CERTS: authority.file('ca.crt') },
    { REDIS_URL, REDIS_TLS_CA },
    { REDIS_URL: `rediss://127.0.0.1:${closed}`, REDIS_TLS_CA, ...own },
    { REDIS_URL: `rediss://127.0.0.1:${elsewhere}`, REDIS_TLS_CA, REDIS_TLS_SERVERNAME: 'redis.example' },
  ]) {
    const { server, health } = await serve(t, env)
    await until(
      async () => (await health()).status === 200,
      () => `serve is healthy: ${server.lines.join('\n')}`,
    )
    await server.stop()
  }
})

test('TLS: the log and the health of serve say which name does not fit', async t => {
  const env = { REDIS_URL: `rediss://127.0.0.1:${elsewhere}`, REDIS_TLS_CA: authority.file('ca.crt') }
  const { server, health } = await serve(t, env)
  const problem = /IP: 127\.0\.0\.1 is not in the cert's list/
  await server.line(problem)
  const { status, problem: said } = await health()
  assert.equal(status, 503)
  assert.match(String(said), problem)
})
