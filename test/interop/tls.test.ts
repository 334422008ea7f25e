import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import Fastify from 'fastify'
import pushBridge, { type PushBridgeOptions } from '../../src/index.ts'
import { createPublisher } from '../../src/publisher.ts'
import { openConnection } from '../helpers/app.ts'
import { type Cleanup, cleanups, Program, path, run, temporaryFolder } from '../helpers/processes.ts'
import { freePort, startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/waiting.ts'

const all = cleanups()
let folder: string
/** Lets clients in without a certificate, and only with one. */
let open: number
let closed: number
/** Its certificate is that of another host. */
let elsewhere: number

const file = (name: string) => join(folder, name)
const read = (name: string) => readFileSync(file(name))

/** A certificate of our own authority for a host, or for a client. */
async function certify(name: string, subjects: string): Promise<void> {
  const options = (text: string) => text.split(' ')
  const openssl = async (text: string) => {
    const { code, stderr } = await run('openssl', options(text), { cwd: folder })
    assert.equal(code, 0, stderr)
  }
  writeFileSync(file(`${name}.ext`), `subjectAltName=${subjects}\n`)
  await openssl(`req -newkey rsa:2048 -nodes -keyout ${name}.key -out ${name}.csr -subj /CN=${name}`)
  await openssl(
    `x509 -req -in ${name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile ${name}.ext -out ${name}.crt`,
  )
}

async function startTls(name: string, clients: 'yes' | 'no'): Promise<number> {
  const port = await freePort()
  const args = ['--tls-port', `${port}`, '--tls-ca-cert-file', file('ca.crt'), '--tls-auth-clients', clients]
  await startRedis(all, {
    args: [...args, '--tls-cert-file', file(`${name}.crt`), '--tls-key-file', file(`${name}.key`)],
  })
  return port
}

before(async () => {
  folder = temporaryFolder(all)
  const ca = 'req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=authority'
  assert.equal((await run('openssl', ca.split(' '), { cwd: folder })).code, 0)
  await certify('here', 'IP:127.0.0.1,DNS:localhost')
  await certify('elsewhere', 'DNS:redis.example')
  await certify('client', 'DNS:client')
  open = await startTls('here', 'no')
  closed = await startTls('here', 'yes')
  elsewhere = await startTls('elsewhere', 'no')
})

after(() => all.end())

async function nodeOn(t: Cleanup, redis: NonNullable<PushBridgeOptions['redis']>) {
  const app = Fastify()
  t.after(() => app.close())
  await app.register(pushBridge, { path: '/ws', redis })
  await app.listen({ port: 0, host: '127.0.0.1' })
  return app
}

test('TLS: an authority of our own is an option, and so is the certificate of a client', async t => {
  const tls = { ca: read('ca.crt') }
  const own = { ...tls, cert: read('client.crt'), key: read('client.key') }
  for (const redis of [
    { host: '127.0.0.1', port: open, tls },
    { host: 'localhost', port: closed, tls: own },
  ]) {
    const app = await nodeOn(t, redis)
    await until(async () => (await app.push.status()).connected, 'the node is connected')
    const connection = await openConnection(app, '/ws')
    const publisher = createPublisher({ redis })
    t.after(() => publisher.close())
    const sent = await publisher.publish('all', { type: 'a', receipt: true, history: { size: 1, ttl: 60 } })
    assert.deepEqual([sent.delivered, sent.complete, sent.seq], [1, true, 1])
    assert.equal((await connection.next()).type, 'a')
  }
})

test('TLS: what is wrong is said, with the name that does not fit', async t => {
  const tls = { ca: read('ca.crt') }
  for (const [redis, problem] of [
    [{ host: 'localhost', family: 4, port: elsewhere, tls }, /does not match certificate's altnames.*redis\.example/],
    [{ host: '127.0.0.1', port: open, tls: {} }, /self-signed certificate|unable to verify/],
    [{ host: '127.0.0.1', port: closed, tls }, /certificate required|alert|ECONNRESET|Connection is closed/],
  ] as const) {
    const app = await nodeOn(t, redis)
    let last = ''
    await until(
      async () => {
        last = String((await app.push.status()).problem)
        return problem.test(last)
      },
      () => `${problem} for port ${redis.port}; ${last}`,
    )
    assert.equal((await app.push.status()).connected, false)
  }
  // The same certificate for one who asks for the host that it names.
  const app = await nodeOn(t, { host: '127.0.0.1', port: elsewhere, tls: { ...tls, servername: 'redis.example' } })
  await until(async () => (await app.push.status()).connected, 'the node is connected')
})

test('TLS: serve takes rediss://, and the authority by NODE_EXTRA_CA_CERTS', async t => {
  const port = await freePort()
  const env = {
    REDIS_URL: `rediss://127.0.0.1:${open}`,
    PORT: `${port}`,
    NODE_EXTRA_CA_CERTS: file('ca.crt'),
    LOG_LEVEL: 'info',
  }
  const args = ['--import', 'tsx', path('src/cli.ts'), 'serve']
  const server = new Program(t, process.execPath, args, { env })
  await server.line(/Server listening/)
  await until(async () => (await fetch(`http://127.0.0.1:${port}/health`)).status === 200, 'serve is healthy')
})
