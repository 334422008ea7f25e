import assert from 'node:assert/strict'
import { get } from 'node:http'
import { after, before, type TestContext, test } from 'node:test'
import { type ClientOptions, WebSocket } from 'ws'
import { connect } from '../../src/client/index.ts'
import { createPublisher, type ScriptPublisher } from '../../src/publisher.ts'
import type { Finding } from '../../src/terminal/findings.ts'
import { refusalOf } from '../helpers/app.ts'
import { type Listener, listenTo } from '../helpers/listener.ts'
import { type NginxOptions, startNginx } from '../helpers/nginx.ts'
import { API_KEY, cleanups, type InteropNode, startInteropNode } from '../helpers/processes.ts'
import { type RedisServer, startRedis } from '../helpers/redis.ts'
import { commands } from '../helpers/terminal.ts'
import { PATIENCE, until, within } from '../helpers/waiting.ts'

const all = cleanups()
let redis: RedisServer
let nodes: InteropNode[]
let publisher: ScriptPublisher

const startNode = (t: Parameters<typeof startInteropNode>[0], env = {}) =>
  startInteropNode(t, redis.url, { TRUST_PROXY: '127.0.0.1', ...env })

before(async () => {
  redis = await startRedis(all)
  nodes = await Promise.all([startNode(all), startNode(all)])
  publisher = createPublisher({ redis: redis.url, publishTimeout: PATIENCE })
  all.after(() => publisher.end())
})
after(() => all.end())

/** A browser behind nginx: its page comes from there, and it says so. */
const browser = (origin: string, options: ClientOptions = {}): ClientOptions => ({ origin, ...options })

const proxy = (t: TestContext, options?: NginxOptions, behind = nodes) =>
  startNginx(
    t,
    behind.map(({ port }) => port),
    options,
  )

async function connectMany(t: TestContext, url: string, count: number, options: ClientOptions): Promise<Listener[]> {
  const listeners: Listener[] = []
  for (let n = 0; n < count; n++) listeners.push(await listenTo(t, url, options))
  return listeners
}

const nodesOf = (listeners: Listener[]) => listeners.map(({ welcome }) => welcome.node)

test('clients go to the nodes in turn, and a publication reaches them on both', async t => {
  const nginx = await proxy(t)
  const listeners = await connectMany(t, `${nginx.url}/lobby`, 8, browser(nginx.origin))
  const [a, b] = new Set(nodesOf(listeners))
  assert.ok(a && b)
  assert.equal(nodesOf(listeners).filter(node => node === a).length, 4)
  const result = await publisher.publish('channel:lobby', { type: 'news', payload: 1, receipt: true })
  assert.deepEqual([result.nodes, result.delivered, result.complete], [2, 8, true])
  for (const listener of listeners) assert.equal((await listener.next('news')).payload, 1)
})

test('the push API goes through', async t => {
  const nginx = await proxy(t)
  const listener = await listenTo(t, `${nginx.url}?user=http`, browser(nginx.origin))
  const response = await fetch(`${nginx.origin}/push`, {
    method: 'POST',
    headers: { authorization: `Bearer ${API_KEY}`, 'content-type': 'application/json' },
    body: JSON.stringify({ to: 'user:http', type: 'notice', payload: { text: 'hi' } }),
  })
  assert.deepEqual(await response.json(), { topic: 'user:http', nodes: 1 })
  assert.deepEqual((await listener.next('notice')).payload, { text: 'hi' })
})

test("the node sees the client's address, and no client can claim another one", async t => {
  const nginx = await proxy(t)
  const headers = { 'x-forwarded-for': '6.6.6.6', 'x-forwarded-host': 'evil.example', 'x-forwarded-proto': 'ftp' }
  const listener = await listenTo(t, nginx.url, browser(nginx.origin, { localAddress: '127.0.0.7', headers }))
  const { ip, protocol, host } = await listener.whoami()
  assert.deepEqual([ip, protocol, host], ['127.0.0.7', 'http', `127.0.0.1:${nginx.port}`])
})

test('a killed node is taken out, and used again when it is back', async t => {
  const [keep, lose] = [await startNode(t), await startNode(t)]
  const { program, ...nginx } = await proxy(
    t,
    { edit: conf => conf.replaceAll('fail_timeout=5s', 'fail_timeout=1s') },
    [keep, lose],
  )
  await lose.program.stop('SIGKILL')
  const began = performance.now()
  const listeners = await connectMany(t, nginx.url, 10, browser(nginx.origin))
  assert.equal(new Set(nodesOf(listeners)).size, 1)
  await program.line(/connect\(\) failed .*Connection refused/)
  // Twice, and again when a second is over.
  const most = 4 + (2 * (performance.now() - began)) / 1000
  const refusals = program.lines.filter(line => /Connection refused/.test(line)).length
  assert.ok(refusals <= most, `tried ${refusals} times, wanted at most ${most}`)

  const back = await startNode(t, { PORT: String(lose.port) })
  const { node } = await back.status()
  const isUsed = async () => {
    const listener = await listenTo(t, nginx.url, browser(nginx.origin))
    listener.socket.terminate()
    await listener.closed
    return listener.welcome.node === node
  }
  await until(isUsed, 'a client of the node that came back')
})

test('a node that is shutting down hands its clients over to the other at their first attempt, and ends soon', async t => {
  const [stay, leave] = [await startNode(t), await startNode(t)]
  const nginx = await proxy(t, {}, [stay, leave])
  const clients = Array.from({ length: 100 }, (_, n) => connect(`${nginx.url}?user=${n}`, { WebSocket }))
  t.after(() => clients.forEach(client => void client.close()))
  const welcomes = () => clients.map(client => new Promise(resolve => client.listen('welcome', resolve)))
  await within(Promise.all(welcomes()), '100 clients')
  const { node } = await leave.status()
  const back = welcomes().filter((_, n) => clients[n]!.welcome!.node === node)
  const attempts: string[] = []
  for (const client of clients) client.listen('state', ({ state }) => void attempts.push(state))
  assert.equal(back.length, 50)

  leave.program.process.kill('SIGTERM')
  await within(Promise.all(back), 'the clients of the node that went are back')
  assert.equal((await stay.status()).connections, 100)
  assert.equal(attempts.filter(state => state === 'connecting').length, 50)
  assert.equal(await within(leave.program.exited, 'the end of the node', 20_000), 0)
})

test('a node that is shutting down leaves no upgrade without an answer, and ends soon', async t => {
  const node = await startNode(t)
  for (let n = 0; n < 50; n++) await listenTo(t, node.url)
  let isOver = false
  const arrive = () =>
    new Promise<void>(resolve => {
      const socket = new WebSocket(node.url).on('error', () => {})
      socket.on('open', () => socket.terminate()).on('close', () => resolve())
    })
  const keepArriving = async () => {
    while (!isOver) await within(arrive(), 'an answer to an upgrade')
  }
  const newcomers = Promise.all(Array.from({ length: 20 }, keepArriving))
  node.program.process.kill('SIGTERM')
  const code = await within(node.program.exited, 'the end of the node', 20_000).finally(() => {
    isOver = true
  })
  assert.equal(code, 0)
  await newcomers
})

test('pings carry a quiet connection past proxy_read_timeout', async t => {
  const quick = await startNode(t, { HEARTBEAT: '200,30000' })
  const edit = (conf: string) => conf.replace('proxy_connect_timeout', 'proxy_read_timeout 5s; proxy_connect_timeout')
  const lively = await proxy(t, { edit }, [quick, quick])
  const listener = await listenTo(t, lively.url, browser(lively.origin))
  // Of these 6 s at least, the client says nothing.
  await listener.until(() => listener.pings >= 30, '30 pings')
  listener.send('ping', 'still here', 1)
  assert.equal((await listener.next('pong')).payload, 'still here')

  // The same nginx would have cut it: nodes that ping after 25 s are too late for 5 s.
  const slow = await proxy(t, { edit })
  const cut = await listenTo(t, slow.url, browser(slow.origin))
  assert.equal((await cut.closed).code, 1006)
})

test('with TLS', async t => {
  const nginx = await proxy(t, { tls: true })
  const listeners = await connectMany(t, `${nginx.url}/secret`, 4, browser(nginx.origin, { ca: nginx.ca! }))
  assert.equal(new Set(nodesOf(listeners)).size, 2)
  assert.equal((await publisher.publish('channel:secret', { type: 'news', receipt: true })).delivered, 4)
  for (const listener of listeners) await listener.next('news')
  assert.deepEqual(await listeners[0]!.whoami(), {
    ip: '127.0.0.1',
    protocol: 'https',
    host: `127.0.0.1:${nginx.port}`,
  })
  const stranger = await refusalOf(nginx.url, { ca: nginx.ca!, origin: 'https://evil.example' })
  assert.deepEqual([stranger.code, stranger.reason], [4403, 'origin https://evil.example may not connect'])
})

test('TLS: http:// is sent to https://', async t => {
  const nginx = await proxy(t, { tls: true })
  const status = await new Promise(resolve => {
    get(`http://127.0.0.1:${nginx.plainPort}/page?x=1`, { headers: { host: 'localhost' } }, response => {
      resolve([response.statusCode, response.headers.location])
      response.resume()
    })
  })
  assert.deepEqual(status, [301, 'https://localhost/page?x=1'])
})

test('doctor: whether an upgrade comes through nginx, with which Host, and the lines that mend it', async t => {
  const diagnose = async (url: string) => {
    const { run } = commands({ redis: redis.url, redisPrefix: 'push:' })
    const { out } = await within(run(`doctor --json --quick --url ${url}`), 'the end of doctor')
    return JSON.parse(out) as Finding[]
  }
  const about = (findings: Finding[], what: string) => findings.find(it => it.about === what)!
  const whole = await diagnose((await proxy(t)).url)
  for (const what of ['upgrade', 'host', 'buffering'])
    assert.equal(about(whole, what).level, 'ok', JSON.stringify(whole))
  const without = (line: RegExp) => (conf: string) => {
    assert.match(conf, line)
    return conf.replaceAll(line, '')
  }
  const noUpgrade = await proxy(t, { edit: without(/^ *proxy_set_header Upgrade .*$/gm) })
  assert.match(about(await diagnose(noUpgrade.url), 'upgrade').mend!, /proxy_set_header Upgrade \$http_upgrade;/)
  const noHost = await proxy(t, { edit: without(/^ *proxy_set_header (?:Host|X-Forwarded-Host) .*$/gm) })
  const findings = await diagnose(noHost.url)
  assert.equal(about(findings, 'upgrade').level, 'ok')
  assert.match(about(findings, 'host').mend!, /^proxy_set_header Host \$http_host;/)
})
