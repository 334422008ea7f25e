import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { after, before, type TestContext, test } from 'node:test'
import { type Browser, chromium, type Page } from 'playwright-core'
import { WebSocket } from 'ws'
import { connect } from '../../src/client/index.ts'
import { createPublisher, type ScriptPublisher } from '../../src/publisher.ts'
import { buildPush } from '../helpers/app.ts'
import { startHaProxy } from '../helpers/haproxy.ts'
import { startNginx } from '../helpers/nginx.ts'
import { API_KEY, cleanups, Program, path, startInteropNode } from '../helpers/processes.ts'
import { findProgram } from '../helpers/programs.ts'
import { type RedisServer, startRedis } from '../helpers/redis.ts'
import { Inbox, PATIENCE, START, until } from '../helpers/waiting.ts'

const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--no-first-run', '--disable-quic']
const KEPT = 'channel:kept'

/** Of the client library: what it shows is in `seen`. */
const LIBRARY = `
  import { connect } from '/ws/client.js'
  window.seen = { messages: [], errors: [] }
  window.client = connect('/ws?user=alice', { fallback: true, topics: ['${KEPT}'] })
  client.on('*', payload => seen.messages.push(payload))
  client.listen('error', ({ code, message }) => seen.errors.push({ code, message }))`

/** Without a library. */
const EVENT_SOURCE = `
  window.seen = { messages: [], closed: [] }
  const source = new EventSource('/ws/-/events?user=bob&topics=${KEPT}')
  source.onmessage = ({ data }) => {
    const { type, payload } = JSON.parse(data)
    seen.messages.push(type === 'n' ? payload : type)
  }
  source.addEventListener('close', ({ data }) => seen.closed.push(JSON.parse(data).code))`

/** As many topics as a client may have, with names as long as they may be: far more than a URL has room for. */
const MANY = Array.from({ length: 128 }, (_, i) => `channel:kept${String(i).padStart(3, '0')}${'x'.repeat(193)}`)

/** The client library where no WebSocket gets through, whatever the network is; `url` may be of another origin. */
const withMany = (url: string) => `
  import { connect } from '/ws/client.js'
  class Blocked {
    constructor() { setTimeout(() => this.onclose({ code: 1006, reason: '' })) }
    close() {}
  }
  window.seen = { messages: [], problems: [] }
  window.client = connect('${url}', { WebSocket: Blocked, fallback: true, topics: ${JSON.stringify(MANY)} })
  client.on('*', payload => seen.messages.push(payload))
  for (const event of ['error', 'gap']) client.listen(event, detail => seen.problems.push(detail.message ?? detail))`

const all = cleanups()
let redis: RedisServer
let browser: Browser
let publisher: ScriptPublisher

before(async () => {
  redis = await startRedis(all)
  publisher = createPublisher({ redis: redis.url, publishTimeout: PATIENCE })
  all.after(() => publisher.end())
  browser = await chromium.launch({
    executablePath: findProgram('chromium')!,
    args: [...FLAGS, '--disable-sync'],
    timeout: START,
  })
  all.after(() => browser.close())
})
after(() => all.end())

const record = (payload: unknown) => publisher.publish(KEPT, { type: 'n', payload, history: { size: 100, ttl: 60 } })

async function openPage(t: TestContext, origin: string): Promise<Page> {
  const page = await browser.newPage()
  page.setDefaultTimeout(START)
  t.after(() => page.close())
  await page.goto(`${origin}/page`)
  return page
}

const sees = (page: Page, condition: string) => page.waitForFunction(condition)

test('curl -N is a client, and comes back with the last event', async t => {
  const node = await startInteropNode(t, redis.url)
  const curl = (...more: string[]) =>
    new Program(t, 'curl', ['-sSN', ...more, `${node.origin}/ws/-/events?topics=${KEPT}`])
  const first = curl()
  await first.line(/^data: \{"type":"welcome"/)
  await record({ text: 'one' })
  await first.line(/^data: \{.*"text":"one"/)
  await first.stop()
  const id = first.lines.findLast(line => line.startsWith('id: '))!.slice('id: '.length)
  await record({ text: 'two' })
  const second = curl('-H', `Last-Event-ID: ${id}`)
  await second.line(/^data: .*"recovered":true/)
  await second.line(/^data: \{.*"text":"two"/)
  assert.ok(!second.lines.some(line => line.includes('"text":"one"')))
  await second.stop()
})

test('Chromium behind an nginx that lets no WebSocket through: the client takes the stream', async t => {
  const node = await startInteropNode(t, redis.url, { SCRIPT: LIBRARY, TRUST_PROXY: '127.0.0.1' })
  const blocking = await startNginx(t, [node.port, node.port], {
    edit: conf => conf.replace(/^.*proxy_set_header Upgrade .*$/m, '    proxy_set_header Upgrade "";'),
  })
  const page = await openPage(t, blocking.origin)
  await sees(page, "client.transport === 'sse'")
  for (let n = 1; n <= 20; n++) await record(n)
  await sees(page, 'seen.messages.length === 20')
  assert.deepEqual(
    await page.evaluate('seen.messages'),
    Array.from({ length: 20 }, (_, i) => i + 1),
  )
  assert.deepEqual(await page.evaluate('seen.errors'), [])
  const { connections } = await node.status()
  assert.equal(connections, 1)
})

test('a plain EventSource comes back by itself after a drain and misses nothing', async t => {
  const node = await startInteropNode(t, redis.url, { SCRIPT: EVENT_SOURCE })
  const page = await openPage(t, node.origin)
  await sees(page, "seen.messages.includes('welcome')")
  await record('first')
  await sees(page, "seen.messages.includes('first')")
  const answer = await fetch(`${node.origin}/push/close`, {
    method: 'POST',
    headers: { authorization: `Bearer ${API_KEY}`, 'content-type': 'application/json' },
    body: JSON.stringify({ target: 'user:bob', code: 1012, reason: 'restart' }),
  })
  assert.equal(answer.status, 200, await answer.text())
  await record('missed')
  await sees(page, "seen.messages.includes('missed')")
  assert.deepEqual(await page.evaluate('seen'), { messages: ['welcome', 'first', 'welcome', 'missed'], closed: [1012] })
})

const BUFFERING = `
    proxy_buffering on;
    proxy_ignore_headers X-Accel-Buffering;
    gzip on;
    gzip_types text/event-stream;
    proxy_set_header Upgrade "";`

test('an nginx that buffers and compresses the stream is named; with the lines of the documents it works', async t => {
  const node = await startInteropNode(t, redis.url, { SCRIPT: LIBRARY, TRUST_PROXY: '127.0.0.1' })
  const ports = [node.port, node.port]
  const buffering = (conf: string) => conf.replace(/^.*proxy_set_header Upgrade .*$/m, BUFFERING)
  const bad = await startNginx(t, ports, { edit: buffering })
  const page = await openPage(t, bad.origin)
  await sees(page, 'seen.errors.length > 0')
  const [{ code, message }] = (await page.evaluate('seen.errors')) as [{ code: string; message: string }]
  assert.equal(code, 'BUFFERED')
  assert.match(message, /proxy_buffering off/)

  const [section] = readFileSync(path('docs/operations.md'), 'utf8').split('### Event streams behind a proxy').slice(1)
  const [, lines] = /```nginx\n([\s\S]*?)```/.exec(section!)!
  const good = await startNginx(t, ports, {
    edit: conf => buffering(conf).replace(/^ {4}location \/ws /m, `${lines}\n$&`),
  })
  const other = await openPage(t, good.origin)
  await sees(other, "client.transport === 'sse'")
  await record('through')
  await sees(other, "seen.messages.includes('through')")
})

const recordOn = (topic: string) =>
  publisher.publish(topic, { type: 'n', payload: topic, history: { size: 9, ttl: 60 } })

/** Closes the connections of a user as a restart does, and resolves when that is done. */
async function restart(origin: string, user: string): Promise<void> {
  const headers = { authorization: `Bearer ${API_KEY}`, 'content-type': 'application/json' }
  const body = JSON.stringify({ target: `user:${user}`, code: 1012, reason: 'restart' })
  const answer = await fetch(`${origin}/push/close`, { method: 'POST', headers, body })
  assert.equal(answer.status, 200, await answer.text())
}

test('Chromium behind nginx has as many topics over a stream as over a WebSocket, and misses nothing on any', async t => {
  const node = await startInteropNode(t, redis.url, { SCRIPT: withMany('/ws?user=carol'), TRUST_PROXY: '127.0.0.1' })
  const nginx = await startNginx(t, [node.port, node.port])
  const page = await openPage(t, nginx.origin)
  await sees(page, "client.transport === 'sse'")
  await restart(node.origin, 'carol')
  for (const topic of MANY) await recordOn(topic)
  await sees(page, `seen.messages.length >= ${MANY.length}`)
  assert.deepEqual(((await page.evaluate('seen.messages')) as string[]).sort(), MANY)
  assert.deepEqual(await page.evaluate('seen.problems'), [])
})

test('the same through HAProxy, without a browser', async t => {
  const node = await startInteropNode(t, redis.url)
  const haproxy = await startHaProxy(t, [node.port, node.port])
  class Blocked extends WebSocket {
    constructor() {
      super('ws://127.0.0.1:9/blocked')
    }
  }
  const client = connect(`${haproxy.url}?user=dora`, { WebSocket: Blocked as never, fallback: true, topics: MANY })
  t.after(() => client.close())
  const problems: unknown[] = []
  client.listen('unreachable', () => {})
  for (const event of ['error', 'gap'] as const) client.listen(event, detail => void problems.push(detail))
  const messages = new Inbox<unknown>('a message')
  client.on('*', payload => messages.put(payload))
  await Promise.all(MANY.map(topic => client.subscribe(topic)))
  assert.equal(client.transport, 'sse')
  await restart(node.origin, 'dora')
  for (const topic of MANY) await recordOn(topic)
  await until(() => messages.size >= MANY.length, 'all of them')
  const came = []
  for (const _ of MANY) came.push(await messages.take())
  assert.deepEqual([came.sort(), messages.size, problems], [MANY, 0, []])
})

test('Chromium: a page of another origin asks first, and gets the stream if it may', async t => {
  const pages = await startInteropNode(t, redis.url)
  for (const [origins, transport] of [
    [[pages.origin], 'sse'],
    [['https://app.example.com'], undefined],
  ] as const) {
    const { app, port } = await buildPush(t, { sse: true, origins: [...origins] })
    const page = await browser.newPage()
    page.setDefaultTimeout(START)
    t.after(() => page.close())
    const methods: string[] = []
    page.on('request', request => request.url().includes('/-/events') && methods.push(request.method()))
    await page.goto(`${pages.origin}/page`)
    const failed = page.waitForEvent('requestfailed', request => request.url().includes('/-/events'))
    failed.catch(() => {})
    await page.addScriptTag({ type: 'module', content: withMany(`ws://127.0.0.1:${port}/ws?user=erna`) })
    if (transport) await sees(page, `window.client?.transport === '${transport}'`)
    else await failed
    assert.equal(methods[0], 'POST')
    assert.equal(app.push.connections.size, transport ? 1 : 0)
  }
})
