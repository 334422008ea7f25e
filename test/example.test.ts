import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { WebSocket } from 'ws'
import { publishLines } from '../example/lines.ts'
import { type Client, connect, type PublishedMessage } from '../src/client/index.ts'
import { findProgram } from './helpers/programs.ts'
import { freePort, startRedis } from './helpers/redis.ts'
import { Inbox, once, PATIENCE, START, within } from './helpers/waiting.ts'

const run = promisify(execFile)
const KEY = 'a-key-of-the-tests-0123456789'
const SETTINGS = ['PORT', 'HOST', 'REDIS_URL', 'PUSH_API_KEY', 'DEMO', 'QUIET', 'WORKERS', 'NODE_TEST_CONTEXT']
const clean = Object.fromEntries(Object.entries(process.env).filter(([name]) => !SETTINGS.includes(name)))

interface Program {
  pid: number
  output(): string
  /** The next output that matches, from the beginning or from where the last match ended. */
  says(pattern: RegExp): Promise<string[]>
  /** Exit code, or the signal. */
  ended: Promise<number | string>
  stop(): Promise<number | string>
}

function start(t: TestContext, file: string, env: Record<string, string>, args: string[] = []): Program {
  const path = fileURLToPath(new URL(`../example/${file}`, import.meta.url))
  const child = spawn(process.execPath, ['--import', 'tsx', path, ...args], { env: { ...clean, ...env } })
  let output = ''
  let read = 0
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', chunk => {
      output += chunk
      child.emit('said')
    })
  }
  const ended = new Promise<number | string>(resolve => {
    child.on('close', (code, signal) => resolve(code ?? signal!))
  })
  const end = () => within(ended, () => `the end of ${file}: ${output}`, START)
  const stop = () => {
    child.kill('SIGTERM')
    return end()
  }
  const said = async (pattern: RegExp): Promise<string[]> => {
    for (;;) {
      const match = pattern.exec(output.slice(read))
      if (match) {
        read += match.index + match[0].length
        return match
      }
      const more = new Promise<void>(resolve => child.once('said', resolve))
      const exit = await Promise.race([more, ended])
      if (exit !== undefined) throw new Error(`ended with ${exit} and did not say ${pattern}: ${output}`)
    }
  }
  t.after(() => {
    // Whoever does not obey is ended by the system, so that no test leaves a process behind.
    const timer = setTimeout(() => child.kill('SIGKILL'), 20_000)
    return stop().finally(() => clearTimeout(timer))
  })
  return {
    pid: child.pid!,
    output: () => output,
    says: pattern => within(said(pattern), () => `${pattern} in the output: ${output}`, START),
    get ended() {
      return end()
    },
    stop,
  }
}

async function startServer(t: TestContext, env: Record<string, string> = {}) {
  const server = start(t, 'server.ts', { PORT: '0', PUSH_API_KEY: KEY, ...env })
  const [, origin] = await server.says(/The page +(http:\/\/127\.0\.0\.1:\d+)\//)
  await server.says(env.REDIS_URL ? /a second node.*\n/ : /npm start\n/)
  return { ...server, origin: origin! }
}

type Listener = Client<Record<string, never>> & { next(): Promise<PublishedMessage>; node(): Promise<string> }

/** A page's own client, subscribed; `origin` is what a page would send. */
async function listen(t: TestContext, url: string, topics: string[], origin?: string): Promise<Listener> {
  class Socket extends WebSocket {
    constructor(address: string) {
      super(address, origin === undefined ? {} : { origin })
    }
  }
  const client = connect<Record<string, never>>(url, { WebSocket: Socket })
  t.after(() => client.close())
  const messages = new Inbox<PublishedMessage>('a message')
  client.on('*', (_payload, message) => messages.put(message))
  const welcomed = () => {
    const node = new Promise<string>(resolve => client.listen('welcome', welcome => resolve(welcome.node)))
    return within(node, () => `a welcome; the client is ${client.state}`)
  }
  const first = welcomed()
  await Promise.all([first, ...topics.map(topic => client.subscribe(topic))])
  return Object.assign(client, {
    node: welcomed,
    next: () => messages.take(),
  })
}

const shell = (line: string) => run('sh', ['-c', line], { env: clean, timeout: PATIENCE })

function printed(server: Program, program: string): string {
  const line = new RegExp(`^ +(${program} .*)$`, 'm').exec(server.output())?.[1]
  assert.ok(line, `no line for ${program} in: ${server.output()}`)
  return line
}

test('the demo alone: its page is there, its curl works, it stops when asked', { timeout: 400_000 }, async t => {
  const server = await startServer(t)
  assert.match(server.output(), /demo/)
  assert.doesNotMatch(server.output(), /PUBLISH|php -r/)

  const page = await fetch(`${server.origin}/`)
  assert.match(page.headers.get('content-type') ?? '', /text\/html/)
  const html = await page.text()
  const elsewhere = [...html.matchAll(/https?:\/\/[^\s'">]+/g)].map(([url]) => url)
  assert.deepEqual(elsewhere, ['http://www.w3.org/2000/svg'])
  for (const path of ['/page.js', '/ws/client.js']) {
    const script = await fetch(server.origin + path)
    assert.match(script.headers.get('content-type') ?? '', /javascript/)
    assert.ok((await script.text()).length > 1000)
  }

  const client = await listen(t, `${server.origin}/ws?user=alice`, ['channel:demo'])
  assert.equal(client.welcome?.user, 'alice')
  const { stdout } = await shell(printed(server, 'curl'))
  assert.deepEqual(JSON.parse(stdout), { topic: 'channel:demo', nodes: 1, delivered: 1, skipped: 0, complete: true })
  assert.deepEqual(await client.next(), { type: 'notice', payload: { text: 'hello' }, topic: 'channel:demo' })

  assert.equal(await server.stop(), 0)
})

test('what the page asks of the demo', { timeout: 400_000 }, async t => {
  const server = await startServer(t)
  const client = await listen(t, `${server.origin}/ws`, ['channel:demo'], server.origin)

  assert.ok(client.send('probe', { sent: 12.5 }))
  const probe = await client.next()
  assert.deepEqual(probe.payload, { sent: 12.5 })
  assert.equal(probe.topic, `connection:${client.welcome?.connection}`)

  const message = { topic: 'channel:demo', type: 'note', payload: [1] }
  assert.equal((await client.request<{ delivered: number }>('publish', message)).delivered, 1)
  assert.deepEqual((await client.next()).payload, [1])
  await assert.rejects(client.request('publish', { ...message, topic: 'all' }), { code: 'PUSH_ERR_SCHEMA' })
  await assert.rejects(client.request('publish', { ...message, type: 'welcome' }), { code: 'PUSH_ERR_RESERVED_TYPE' })

  const topic = `channel:it's"$HOME"\\n`
  await client.subscribe(topic)
  const { broker, isLocal, lines } = await client.request<Description>('broker', { topic })
  assert.deepEqual(
    { broker, isLocal, redisCli: lines.redisCli },
    { broker: 'in-process', isLocal: true, redisCli: undefined },
  )
  for (const line of [lines.curl, ...(findProgram('php') ? [lines.php] : [])]) {
    await shell(line)
    assert.equal((await client.next()).topic, topic)
  }
})

interface Description {
  broker: string
  isLocal: boolean
  lines: ReturnType<typeof publishLines>
}

test('secrets are told to pages of this machine alone', { timeout: 400_000 }, async t => {
  const server = await startServer(t)
  const client = await listen(t, `${server.origin}/ws`, [])
  const { isLocal, lines } = await client.request<Description>('broker', { topic: 'all' })
  assert.equal(isLocal, false)
  assert.match(lines.curl, /"Authorization: Bearer \$PUSH_API_KEY"/)
  assert.doesNotMatch(JSON.stringify(lines), new RegExp(KEY))
})

test('a user that cannot be one is refused for good', { timeout: 400_000 }, async t => {
  const server = await startServer(t)
  const socket = new WebSocket(`${server.origin.replace('http', 'ws')}/ws?user=a%20b`, { origin: server.origin })
  const [code] = await once(socket, 'close')
  assert.equal(code, 4401)
})

test('the demo with Redis: every printed line reaches the page, on a second node too', {
  timeout: 240_000,
}, async t => {
  const redis = await startRedis(t)
  const server = await startServer(t, { REDIS_URL: redis.url })
  const other = await startServer(t, { REDIS_URL: redis.url })
  const clients = await Promise.all([server, other].map(({ origin }) => listen(t, `${origin}/ws`, ['channel:demo'])))
  const programs = ['curl', 'redis-cli', 'php'].filter(name => name === 'curl' || findProgram(name))
  for (const program of programs) {
    const line = printed(server, program)
    const { stdout } = await shell(line)
    assert.match(stdout, program === 'curl' ? /"nodes":2,"delivered":2/ : /^2$/m)
    for (const client of clients) {
      assert.deepEqual(await client.next(), { type: 'notice', payload: { text: 'hello' }, topic: 'channel:demo' })
    }
  }
})

test('the lines for a Redis with a password, and for pages that must not know it', () => {
  const source = { origin: 'http://127.0.0.1:3000', key: KEY, hasRedis: true, redisPrefix: 'push:' }
  const { redisCli, php } = publishLines({ ...source, redis: 'rediss://me:p%24@cache:6380' }, 'all')
  assert.match(redisCli ?? '', /^redis-cli -u rediss:\/\/me:p%24@cache:6380 PUBLISH push:all '\{"type":/)
  assert.match(php, /connect\("tls:\/\/cache", 6380\); \$r->auth\(\["me","p\\\$"\]\)/)
  assert.match(publishLines({ ...source, redis: undefined }, 'all').redisCli ?? '', /^redis-cli -u "\$REDIS_URL" /)
})

test('the demo does not listen beyond this machine unless it is told to', { timeout: 400_000 }, async t => {
  const server = start(t, 'server.ts', { PORT: '0', HOST: '0.0.0.0' })
  assert.equal(await server.ended, 1)
  assert.match(server.output(), /HOST=0\.0\.0\.0 .*\n.*DEMO=1/)
})

test('a port that is taken is said in one line', { timeout: 400_000 }, async t => {
  const { origin } = await startServer(t)
  const second = start(t, 'server.ts', { PORT: new URL(origin).port })
  assert.equal(await second.ended, 1)
  assert.match(second.output(), /^cannot listen: .*EADDRINUSE.*PORT=3001 npm start\n$/)
})

test('publish.ts reaches a page', { timeout: 400_000 }, async t => {
  const redis = await startRedis(t)
  const { origin } = await startServer(t, { REDIS_URL: redis.url })
  const client = await listen(t, `${origin}/ws`, ['channel:demo'])
  const script = start(t, 'publish.ts', { REDIS_URL: redis.url }, ['channel:demo', 'order.created', '{"id":7}'])
  assert.equal(await script.ended, 0)
  assert.match(script.output(), /delivered to 1 connections on 1 nodes/)
  assert.deepEqual(await client.next(), { type: 'order.created', payload: { id: 7 }, topic: 'channel:demo' })

  const alone = start(t, 'publish.ts', {})
  assert.equal(await alone.ended, 1)
  assert.match(alone.output(), /REDIS_URL is not set/)
})

test('cluster.ts: two workers share a port, and the death of one is mended', { timeout: 400_000 }, async t => {
  const redis = await startRedis(t)
  const port = await freePort()
  const cluster = start(t, 'cluster.ts', { REDIS_URL: redis.url, PORT: `${port}`, WORKERS: '2', PUSH_API_KEY: KEY })
  const [, victim] = await cluster.says(/worker (\d+) listens/)
  const [, survivor] = await cluster.says(/worker (\d+) listens/)
  const listeners = []
  for (let n = 0; n < 2; n++) listeners.push(await listen(t, `http://127.0.0.1:${port}/ws`, ['channel:demo']))
  assert.equal(new Set(listeners.map(({ welcome }) => welcome?.node)).size, 2)
  const { stdout } = await shell(printed(cluster, 'curl'))
  assert.match(stdout, /"nodes":2,"delivered":2/)
  for (const listener of listeners) assert.equal((await listener.next()).type, 'notice')

  const moved = Promise.race(listeners.map(listener => listener.node()))
  process.kill(Number(victim), 'SIGKILL')
  await cluster.says(new RegExp(`worker ${victim} died`))
  // To the survivor, or to the replacement where that was quicker than the client.
  await moved
  await Promise.all(listeners.map(listener => listener.subscribe('channel:demo')))
  await shell(printed(cluster, 'curl'))
  for (const listener of listeners) assert.equal((await listener.next()).type, 'notice')

  const [, replacement] = await cluster.says(/worker (\d+) listens/)
  assert.ok(replacement !== victim && replacement !== survivor)
  assert.equal(await cluster.stop(), 0)
})

test('cluster.ts says what it needs, and ends when no worker can start', { timeout: 400_000 }, async t => {
  const alone = start(t, 'cluster.ts', {})
  assert.equal(await alone.ended, 1)
  assert.match(alone.output(), /REDIS_URL is not set/)
  const open = start(t, 'cluster.ts', { REDIS_URL: 'redis://127.0.0.1:1', HOST: '0.0.0.0', WORKERS: '2' })
  assert.equal(await open.ended, 1)
  assert.match(open.output(), /DEMO=1/)
})

test("the example of an application's own test passes", { timeout: 400_000 }, async () => {
  const file = fileURLToPath(new URL('../example/testing.test.ts', import.meta.url))
  const { stdout } = await run(process.execPath, ['--import', 'tsx', '--test', file], {
    env: clean,
    timeout: 2 * PATIENCE,
  })
  assert.match(stdout, /pass 3\n/)
  assert.match(stdout, /fail 0\n/)
})
