import assert from 'node:assert/strict'
import { createServer as createHttpServer } from 'node:http'
import { type AddressInfo, connect, createServer } from 'node:net'
import { after, before, type TestContext, test } from 'node:test'
import { LIBRARY_VERSION } from '../../src/broker/redis/functions.ts'
import type { PushBridgeOptions } from '../../src/index.ts'
import { descriptorsFor, nodeVersion, portsFor } from '../../src/terminal/doctor-machine.ts'
import { redisFindings } from '../../src/terminal/doctor-redis.ts'
import { judge } from '../../src/terminal/doctor-server.ts'
import { streamFindings } from '../../src/terminal/doctor-stream.ts'
import type { Finding } from '../../src/terminal/findings.ts'
import { EXIT } from '../../src/terminal/run.ts'
import { buildPush } from '../helpers/app.ts'
import { cleanups } from '../helpers/processes.ts'
import { freePort, type RedisServer, startRedis } from '../helpers/redis.ts'
import { startCluster } from '../helpers/redis-cluster.ts'
import { rightsOfNode } from '../helpers/rights.ts'
import { commands } from '../helpers/terminal.ts'
import { once, until, within } from '../helpers/waiting.ts'

const all = cleanups()
let redis: RedisServer

before(async () => {
  redis = await startRedis(all)
})

after(() => all.end())

const of = (findings: Finding[], about: string) => findings.filter(it => it.about === about)
const one = (findings: Finding[], about: string) => {
  const [first, ...more] = of(findings, about)
  assert.ok(first && more.length === 0, `one finding about ${about}: ${JSON.stringify(findings)}`)
  return first
}

async function diagnose(url: string, rest = '') {
  const { run } = commands({ redis: url, redisPrefix: 'push:' })
  const { code, out, err } = await within(run(`doctor --json${rest}`), 'the end of doctor')
  return { code, findings: JSON.parse(out || 'null') as Finding[], out, err }
}

test('doctor: a Redis with the rights that the documents give, and nothing is left there', async () => {
  await redis.admin.call('ACL', 'SETUSER', 'node', 'on', '>secret-of-node', ...rightsOfNode().slice(2))
  const { findings, out } = await diagnose(`redis://node:secret-of-node@127.0.0.1:${redis.port}`)
  assert.match(one(findings, 'redis').found, /^(Redis|Valkey) \d+\.\d+\.\d+ at 127\.0\.0\.1:/)
  assert.deepEqual(one(findings, 'rights'), {
    level: 'ok',
    about: 'rights',
    found: 'the user node has every right that a node needs',
  })
  // Nobody but an administrator may read the configuration.
  assert.equal(one(findings, 'buffers').level, 'hint')
  assert.doesNotMatch(out, /secret-of-node/)
  assert.deepEqual(await redis.admin.keys('*doctor*'), [])
})

test('doctor: each right that is missing, with what fails and the line that mends it', async () => {
  const lacking = ['-publish', '-xadd', '-pubsub|numsub', '-getdel']
  const rights = [...rightsOfNode().slice(2), ...lacking]
  await redis.admin.call('ACL', 'SETUSER', 'poor', 'on', '>pw', ...rights)
  const { code, findings } = await diagnose(`redis://poor:pw@127.0.0.1:${redis.port}`)
  assert.equal(code, EXIT.failed)
  const missing = of(findings, 'rights')
  assert.deepEqual(missing.map(({ mend }) => mend).toSorted(), [
    "redis-cli ACL SETUSER poor '+getdel'",
    "redis-cli ACL SETUSER poor '+publish'",
    "redis-cli ACL SETUSER poor '+pubsub|numsub'",
    "redis-cli ACL SETUSER poor '+xadd'",
  ])
  for (const { mend } of missing) await redis.admin.call('ACL', ...mend!.replaceAll("'", '').split(' ').slice(2))
  const mended = await diagnose(`redis://poor:pw@127.0.0.1:${redis.port}`)
  assert.equal(one(mended.findings, 'rights').level, 'ok')
})

test('doctor: channels and keys that the user may not name', async () => {
  const rights = rightsOfNode()
    .slice(2)
    .map(right => (right === '&push:*' ? '&other:*' : right === '~{push:*' ? '~{other:*' : right))
  await redis.admin.call('ACL', 'SETUSER', 'strange', 'on', '>pw', ...rights)
  const { findings } = await diagnose(`redis://strange:pw@127.0.0.1:${redis.port}`)
  const lines = of(findings, 'rights').map(({ found }) => /lacks (\S+);/.exec(found)?.[1])
  for (const pattern of ['&push:*', '&push:channel:*', '&push:node:*', '~{push:*'])
    assert.ok(lines.includes(pattern), `${pattern}: ${lines}`)
})

test('doctor: the configuration of Redis, as an administrator', async () => {
  const admin = redis.admin
  await admin.call('CONFIG', 'SET', 'maxmemory-policy', 'allkeys-lru', 'maxmemory', '200mb')
  await admin.call('CONFIG', 'SET', 'client-output-buffer-limit', 'pubsub 1mb 1mb 10', 'timeout', '3')
  const { code, findings, err } = await diagnose(redis.url)
  assert.equal(code, EXIT.failed, err)
  const [memory] = of(findings, 'memory')
  assert.deepEqual([memory!.level, memory!.mend], ['mend', 'redis-cli CONFIG SET maxmemory-policy noeviction'])
  const [limit, timeout] = of(findings, 'buffers')
  for (const { mend } of [memory!, limit!, timeout!]) {
    const [, parameter, setting] = /^redis-cli CONFIG SET (\S+) '?([^']+)'?$/.exec(mend!)!
    await admin.call('CONFIG', 'SET', parameter!, setting!)
  }
  const again = await diagnose(redis.url)
  assert.deepEqual([one(again.findings, 'memory').level, one(again.findings, 'buffers').level], ['ok', 'ok'])
  assert.equal(again.code, EXIT.done)
})

test('doctor: no Redis there, a wrong password, a replica, an old version', async () => {
  const away = await diagnose(`redis://127.0.0.1:${await freePort()}`)
  assert.equal(away.code, EXIT.failed)
  assert.match(one(away.findings, 'redis').found, /ECONNREFUSED/)
  const wrong = await diagnose(`redis://node:nonsense@127.0.0.1:${redis.port}`)
  assert.match(one(wrong.findings, 'redis').mend!, /REDIS_USERNAME and REDIS_PASSWORD/)
  assert.doesNotMatch(wrong.out + wrong.err, /nonsense/)
  const base = { server: 's', user: 'default', missing: [], ownLibrary: LIBRARY_VERSION }
  const replica = redisFindings({ ...base, info: { redis_version: '6.0.1', role: 'slave', master_host: 'm' } })
  assert.deepEqual([one(replica, 'redis').level, one(replica, 'role').level], ['mend', 'mend'])
})

test('doctor: each master of a Cluster, and what one of them lacks', async t => {
  const { masters, urls } = await startCluster(t)
  const way = { redis: { cluster: urls }, redisPrefix: 'push:' }
  const diagnosis = async () => {
    const { out } = await within(commands(way).run('doctor --json'), 'the end of doctor')
    return JSON.parse(out) as Finding[]
  }
  const findings = await diagnosis()
  const about = (wanted: string) => of(findings, wanted).map(({ level }) => level)
  assert.deepEqual(
    [about('redis'), about('rights')],
    [Array(3).fill('ok'), Array(3).fill('ok')],
    JSON.stringify(findings),
  )
  assert.ok(findings.every(({ level }) => level !== 'mend'))
  for (const { port } of masters) assert.ok(of(findings, 'redis').some(({ found }) => found.includes(`:${port}`)))
  await masters[1]!.admin.call('CONFIG', 'SET', 'client-output-buffer-limit', 'pubsub 1mb 1mb 5')
  const mends = (await diagnosis()).filter(({ level }) => level === 'mend')
  assert.deepEqual(
    mends.map(it => it.about),
    ['buffers'],
  )
})

test('doctor: the version of the nodes that run, and a user who may not load the functions that are missing', async t => {
  const own = await startRedis(t)
  const { app } = await buildPush(t, { redis: own.url })
  const { version } = (await app.push.nodes()).nodes[0]!
  let running = await diagnose(own.url)
  // The node of a busy machine may need more than the second that it has.
  await until(async () => {
    if (of(running.findings, 'versions').length === 0) running = await diagnose(own.url)
    return of(running.findings, 'versions').length > 0
  }, 'an answer of the node')
  assert.equal(one(running.findings, 'versions').found, `every node that answers has version ${version}`)
  await within(app.close(), 'the end of the node')
  await own.admin.call('FUNCTION', 'FLUSH')
  await own.admin.call('ACL', 'SETUSER', 'poor', 'on', '>pw', ...rightsOfNode().slice(2), '-function|load')
  const { code, findings } = await diagnose(`redis://poor:pw@127.0.0.1:${own.port}`)
  assert.equal(code, EXIT.failed)
  assert.deepEqual(of(findings, 'versions'), [])
  const { level, mend } = one(findings, 'functions')
  assert.deepEqual([level, mend], ['mend', "redis-cli ACL SETUSER poor '+function|load'"])
  await own.admin.call('ACL', ...mend!.replaceAll("'", '').split(' ').slice(2))
  const mended = await diagnose(`redis://poor:pw@127.0.0.1:${own.port}`)
  assert.equal(one(mended.findings, 'functions').level, 'ok')
})

test('doctor: limits of the machine', () => {
  assert.equal(nodeVersion('20.19.0').level, 'ok')
  assert.equal(nodeVersion('20.18.9').level, 'mend')
  assert.deepEqual([descriptorsFor(undefined, 1024).level, descriptorsFor(5000, 1024).level], ['hint', 'mend'])
  assert.match(descriptorsFor(5000, 1024).mend!, /LimitNOFILE=5100/)
  assert.deepEqual([descriptorsFor(900, 1024).level, descriptorsFor(900, undefined).level], ['ok', 'ok'])
  assert.equal(portsFor(50_000, '32768\t60999\n')[0]!.level, 'mend')
  assert.equal(portsFor(undefined, '32768\t60999\n')[0]!.level, 'ok')
  assert.deepEqual(portsFor(1, undefined), [])
})

async function build(t: TestContext, options: Partial<PushBridgeOptions> = {}) {
  const { app, port } = await buildPush(t, { redis: redis.url, tickets: true, health: true, ...options })
  return { app, port }
}

/** A proxy that passes bytes on, and cuts a WebSocket that says nothing for so many milliseconds. */
async function impatientProxy(t: TestContext, to: number, idle: number): Promise<number> {
  const server = createServer(client => {
    const node = connect(to, '127.0.0.1')
    for (const [from, other] of [
      [client, node],
      [node, client],
    ] as const) {
      from.on('error', () => {}).on('close', () => other.destroy())
      from.pipe(other)
    }
    // Not before it is open: a busy node may take longer than that to answer.
    node.once('data', data => {
      if (String(data).startsWith('HTTP/1.1 101')) client.setTimeout(idle, () => client.destroy())
    })
  })
  t.after(() => server.close())
  await once(server.listen(0, '127.0.0.1'), 'listening')
  return (server.address() as AddressInfo).port
}

test('doctor --url: a node as a page sees it, with a ticket of its own', async t => {
  const { port } = await build(t, { heartbeat: { interval: 300, timeout: 10_000 } })
  const { findings } = await diagnose(redis.url, ` --url ws://127.0.0.1:${port}/ws`)
  const levels = ['readyz', 'upgrade', 'host', 'compression', 'buffering', 'timeout'].map(it => one(findings, it).level)
  assert.deepEqual(levels, ['ok', 'ok', 'ok', 'ok', 'ok', 'ok'], JSON.stringify(findings))
})

test('doctor --url: an event stream, with a ticket of its own, and a proxy that holds it back', async t => {
  const { port } = await build(t, { sse: true })
  const { findings } = await diagnose(redis.url, ` --quick --url ws://127.0.0.1:${port}/ws`)
  const { level, found } = one(findings, 'events')
  assert.deepEqual([level, /begins in \d+ ms/.test(found)], ['ok', true], found)
  const proxy = createHttpServer((_request, response) => {
    response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders()
  })
  proxy.on('upgrade', (_request, socket) => void socket.end('HTTP/1.1 400 No\r\ncontent-length: 0\r\n\r\n'))
  t.after(() => {
    proxy.closeAllConnections()
    proxy.close()
  })
  await once(proxy.listen(0, '127.0.0.1'), 'listening')
  const { port: held } = proxy.address() as AddressInfo
  const ended = new AbortController().signal
  const visit = {
    url: new URL(`ws://127.0.0.1:${held}/ws`),
    origin: `http://127.0.0.1:${held}`,
    ticket: undefined,
    ended,
  }
  const [finding] = await within(streamFindings(visit), 'the finding')
  assert.equal(finding!.level, 'mend')
  assert.match(finding!.mend!, /^proxy_buffering off;/)
})

test('doctor --url: a proxy that is less patient than the heartbeat', async t => {
  const { port } = await build(t, { heartbeat: { interval: 20_000, timeout: 10_000 } })
  const proxy = await impatientProxy(t, port, 1000)
  const { code, findings } = await diagnose(redis.url, ` --url ws://127.0.0.1:${proxy}/ws`)
  assert.equal(code, EXIT.failed)
  const { level, mend } = one(findings, 'timeout')
  assert.equal(level, 'mend')
  assert.match(mend!, /^proxy_read_timeout 120s;/)
})

test('doctor --url: the wrong host behind a proxy, and a proxy that takes the upgrade out', async t => {
  const { port } = await build(t)
  const strange = await diagnose(redis.url, ` --quick --url ws://127.0.0.1:${port}/ws --origin https://shop.example`)
  const { level, mend } = one(strange.findings, 'host')
  assert.equal(level, 'mend')
  assert.match(mend!, /^proxy_set_header Host \$http_host;\nor ORIGINS=https:\/\/shop\.example,/)
  assert.equal(one(strange.findings, 'upgrade').level, 'ok')
  // What a proxy without the lines does: it asks the node for a page.
  const proxy = createHttpServer((_request, response) => void response.end()).on(
    'upgrade',
    async (_request, socket) => {
      socket.on('error', () => {})
      const answer = await fetch(`http://127.0.0.1:${port}/ws`)
      const body = await answer.text()
      socket.end(`HTTP/1.1 ${answer.status} x\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`)
    },
  )
  t.after(() => proxy.close())
  await once(proxy.listen(0, '127.0.0.1'), 'listening')
  const { findings } = await diagnose(
    redis.url,
    ` --quick --url ws://127.0.0.1:${(proxy.address() as AddressInfo).port}/ws`,
  )
  assert.match(one(findings, 'upgrade').mend!, /proxy_set_header Upgrade \$http_upgrade;/)
})

test('doctor --url: what else can come of an upgrade', () => {
  const visit = { url: new URL('wss://push.example/ws?ticket=sesame'), origin: 'https://push.example' }
  const refused = (status: number, body = '', location?: string) =>
    judge({ kind: 'refused', status, body, location }, visit)
  const cases: [Finding[], level: string, found: RegExp][] = [
    [refused(404), 'mend', /^404 for \/ws: no node listens/],
    [refused(502), 'mend', /^502: the proxy does not reach a node/],
    [refused(301, '', 'https://www.push.example/ws?x=1'), 'mend', /^301: redirected/],
    [refused(429, '{"code":"PUSH_ERR_UPGRADES"}'), 'mend', /^429 PUSH_ERR_UPGRADES/],
    [refused(401, '{"code":"PUSH_ERR_UNAUTHENTICATED"}'), 'ok', /comes through/],
    [judge({ kind: 'closed', code: 4401, reason: 'no' }, visit), 'ok', /comes through/],
    [judge({ kind: 'closed', code: 1006, reason: '' }, visit), 'mend', /^closed at once: 1006/],
    [judge({ kind: 'failed', message: 'ECONNREFUSED' }, visit), 'mend', /ECONNREFUSED/],
  ]
  for (const [findings, level, found] of cases) {
    const first = findings.find(({ about }) => about === 'upgrade')!
    assert.equal(first.level, level, JSON.stringify(findings))
    assert.match(first.found, found)
    assert.doesNotMatch(JSON.stringify(findings), /sesame/)
  }
})

test('doctor: for people each finding is a line, with the line that mends it below', async () => {
  const { run } = commands(undefined)
  const { code, out } = await within(run('doctor'), 'the end of doctor')
  assert.equal(code, EXIT.done)
  assert.match(out, /^ok {4}node +Node \d+/)
  assert.match(
    out,
    /\nhint {2}redis +not named, so not looked at\n +> set REDIS_URL \(--redis\)\nNothing must be mended\.\n$/,
  )
})
