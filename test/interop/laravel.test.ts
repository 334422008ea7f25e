import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, type TestContext, test } from 'node:test'
import { build } from 'esbuild'
import { chromium } from 'playwright-core'
import { WebSocket } from 'ws'
import { PushConnector } from '../../src/client/echo/index.ts'
import { type Echo, EchoClass, errorsOf, heard } from '../helpers/echo.ts'
import { type Laravel, type Session, startLaravel } from '../helpers/laravel.ts'
import { listenTo } from '../helpers/listener.ts'
import { API_KEY, cleanups, Program, path, run, temporaryFolder } from '../helpers/processes.ts'
import { findProgram } from '../helpers/programs.ts'
import { freePort, type RedisServer, startRedis } from '../helpers/redis.ts'
import { Inbox, START, until } from '../helpers/waiting.ts'

/**
 * Laravel, two nodes without a line of Node, and Echo: what a page of a shop does with Reverb or Pusher, over the bridge.
 */

const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--no-first-run', '--disable-quic']

/** What whispers take, as docs/laravel.md says. */
const WHISPERS = { clientPublications: { whisper: { schema: { type: 'object', required: ['event'] } } } }

/** A page that says what it hears; `Echo` and `PushConnector` come in one bundle. */
const PAGE = `
  import Echo from 'laravel-echo'
  import { PushConnector } from '${path('src/client/echo/index.ts')}'
  const said = window.said = []
  const echo = window.echo = new Echo({ broadcaster: PushConnector, url: window.nodeUrl })
  echo.private('orders.42').listen('OrderShipped', ({ order }) => said.push('shipped ' + order))
    .subscribed(() => said.push('subscribed')).error(({ status }) => said.push('error ' + status))
  echo.join('room.1').here(users => said.push('here ' + users.map(({ name }) => name).sort()))
    .joining(({ name }) => said.push('joining ' + name)).leaving(({ name }) => said.push('leaving ' + name))
    .listenForWhisper('typing', data => said.push('whisper ' + data.text))`

const all = cleanups()
let redis: RedisServer
let shop: Laravel
const nodes: { url: string; program: Program }[] = []

before(async () => {
  redis = await startRedis(all)
  const [ports, page] = [[await freePort(), await freePort()], await bundle()]
  const urls = ports.map(port => `ws://127.0.0.1:${port}/ws`)
  shop = await startLaravel(all, {
    redis,
    page: `window.nodeUrl = ${JSON.stringify(urls[0])};${page}`,
    env: { PUSH_WHISPERS: 'true' },
  })
  const config = join(temporaryFolder(all), 'push.json')
  writeFileSync(config, JSON.stringify(WHISPERS))
  const presence = JSON.stringify({ 'channel:presence-*': { info: true, grace: 0 } })
  for (const [index, port] of ports.entries()) {
    const env = {
      REDIS_URL: redis.url,
      PORT: `${port}`,
      PRESENCE: presence,
      ORIGINS: shop.origin,
      PUSH_API_KEY: API_KEY,
    }
    const args = ['--import', 'tsx', path('src/cli.ts'), 'serve', '--config', config]
    nodes.push({ url: urls[index]!, program: new Program(all, process.execPath, args, { env }) })
  }
  await Promise.all(nodes.map(({ program }) => program.line(/listening/i, START)))
})
after(() => all.end())

async function bundle(): Promise<string> {
  const { outputFiles } = await build({
    stdin: { contents: PAGE, resolveDir: path('.') },
    bundle: true,
    format: 'esm',
    platform: 'browser',
    write: false,
    logLevel: 'silent',
  })
  return outputFiles[0]!.text
}

/** Echo of a page of this user on one of the nodes. */
function open(t: TestContext, { cookie, csrf }: Session, node = 0, application = shop): Echo {
  const echo = new EchoClass({
    broadcaster: PushConnector,
    url: nodes[node]!.url,
    WebSocket,
    authEndpoint: `${application.origin}/broadcasting/auth`,
    csrfToken: csrf,
    auth: { headers: { cookie } },
  })
  t.after(() => echo.disconnect())
  return echo
}

const inbox = <Item>(what: string) => new Inbox<Item>(what)

test('events of Laravel reach public and private channels on both nodes, and toOthers leaves the page out', async t => {
  const sessions = await Promise.all(['42', '7'].map(user => shop.login(user)))
  const [own, other] = sessions.map((session, node) => open(t, session, node)) as [Echo, Echo]
  const seen = inbox<string>('an event')
  const note = (who: string) => (data: unknown) => seen.put(`${who} ${JSON.stringify(data)}`)
  const orders = own.private('orders.42').listen('OrderShipped', note('own private'))
  const errors = errorsOf(other.private('orders.42').listen('OrderShipped', note('other private')))
  const news = [own, other].map((echo, i) => echo.channel('news').listen('OrderShipped', note(`news ${i}`)))
  await heard(orders, ...news)
  assert.equal((await errors.take()).status, 403)

  assert.equal((await shop.post('/ship/42', sessions[0]!)).status, 200)
  const three = [await seen.take(), await seen.take(), await seen.take()]
  assert.deepEqual(three.sort(), ['news 0 {"order":42}', 'news 1 {"order":42}', 'own private {"order":42}'])

  assert.equal((await shop.post('/ship/42', sessions[0]!, { 'x-socket-id': own.socketId()! })).status, 200)
  assert.equal(await seen.take(), 'news 1 {"order":42}')
  assert.equal((await shop.post('/ship/43', sessions[0]!)).status, 200)
  // What was left out would have come before.
  assert.deepEqual([await seen.take(), await seen.take()].sort(), ['news 0 {"order":43}', 'news 1 {"order":43}'])
  assert.equal(seen.size, 0)
})

test('a guest hears public channels and is told of no others', async t => {
  const echo = open(t, { cookie: '', csrf: '' })
  const errors = errorsOf(echo.private('orders.42'))
  await heard(echo.channel('news'))
  assert.equal((await errors.take()).status, 403)
  assert.equal(echo.connector.client.welcome!.user, null)
})

test('who is in a room, with what its callback returned, across nodes', async t => {
  const [ann, bob] = [open(t, await shop.login('1'), 0), open(t, await shop.login('2'), 1)]
  const user = (id: string) => ({ id, name: `user ${id}`, room: '5' })
  const told = inbox<unknown>('news of the room')
  const room = ann.join('room.5')
  const isAlone = new Promise<void>(resolve => {
    room.here((users: unknown[]) => users.length === 1 && resolve())
  })
  room.joining((it: unknown) => told.put(['+', it])).leaving((it: unknown) => told.put(['-', it]))
  await isAlone
  const list = inbox<unknown[]>('a list')
  bob.join('room.5').here((users: unknown[]) => users.length === 2 && list.put(users))
  assert.deepEqual(await told.take(), ['+', user('2')])
  assert.deepEqual(await list.take(), [user('1'), user('2')])
  bob.leave('room.5')
  assert.deepEqual(await told.take(), ['-', user('2')])
})

test('a notification reaches its user, and a whisper the others', async t => {
  const session = await shop.login('42')
  const [ann, bob] = [open(t, session, 0), open(t, session, 1)]
  const notes = inbox<{ text: string; type: string }>('a notification')
  const channel = ann.private('App.User.42').notification((it: never) => notes.put(it))
  const whispers = inbox<unknown>('a whisper')
  channel.listenForWhisper('typing', (data: unknown) => whispers.put(data))
  const other = bob.private('App.User.42')
  await heard(channel, other)
  assert.equal((await shop.post('/greet', session)).status, 200)
  const { text, type } = await notes.take()
  assert.deepEqual([text, type], ['hello user 42', 'App\\Notifications\\Greeting'])
  other.whisper('typing', { text: 'hi' })
  assert.deepEqual(await whispers.take(), { text: 'hi' })
})

test('a page whose connection is closed comes back, with its channels', async t => {
  const session = await shop.login('42')
  const echo = open(t, session, 1)
  const seen = inbox<number>('an event')
  const orders = echo.private('orders.42').listen('OrderShipped', ({ order }: { order: number }) => seen.put(order))
  await heard(orders)
  const id = echo.socketId()
  const again = heard(orders)
  const target = ['close', `connection:${id}`, '1012']
  const { code, stderr } = await run(process.execPath, ['--import', 'tsx', path('src/cli.ts'), ...target], {
    env: { REDIS_URL: redis.url },
  })
  assert.equal(code, 0, stderr)
  await again
  assert.notEqual(echo.socketId(), id)
  assert.equal((await shop.post('/ship/42', session)).status, 200)
  assert.equal(await seen.take(), 42)
})

test('a page without Echo connects with the ticket of a route, and has the rights that it names', async t => {
  const [route] = /^Route::middleware\('auth'\)->post\('\/ticket'[\s\S]*?^\]\)\);$/m.exec(
    readFileSync(path('docs/laravel.md'), 'utf8'),
  )!
  assert.ok(
    readFileSync(path('test/interop/laravel/routes/web.php'), 'utf8').includes(route),
    'the shop has this route',
  )
  const guest = await fetch(`${shop.origin}/page`)
  const cookie = guest.headers.getSetCookie().map(it => it.split(';')[0]!)
  const [, csrf] = /name="csrf-token" content="(.+?)"/.exec(await guest.text())!
  assert.equal((await shop.post('/ticket', { cookie: cookie.join('; '), csrf: csrf! })).status, 401)
  const session = await shop.login('42')
  const ticket = await (await shop.post('/ticket', session)).text()
  const page = await listenTo(t, `${nodes[1]!.url}?ticket=${ticket}`)
  assert.equal(page.welcome.user, '42')
  for (const topic of ['channel:news', 'channel:private-orders.42']) {
    page.send('subscribe', { topic })
    assert.equal(((await page.next('subscribed')).payload as { topic: string }).topic, topic)
  }
  page.send('subscribe', { topic: 'channel:private-orders.7' })
  assert.equal(((await page.next('error')).payload as { code: string }).code, 'PUSH_ERR_FORBIDDEN')
  assert.equal((await shop.post('/ship/42', session)).status, 200)
  const heard = [await page.next('App.Events.OrderShipped'), await page.next('App.Events.OrderShipped')]
  assert.deepEqual(heard.map(({ topic }) => topic).sort(), ['channel:news', 'channel:private-orders.42'])
})

test('over the push API, where PHP does not reach Redis', async t => {
  const origin = nodes[0]!.url.replace('ws:', 'http:').replace('/ws', '')
  const env = { PUSH_URL: `${origin}/push`, PUSH_API_KEY: API_KEY, REDIS_PORT: '1' }
  const away = await startLaravel(t, { redis, env })
  const session = await away.login('42')
  const echo = open(t, session, 1, away)
  const seen = inbox<number>('an event')
  const orders = echo.private('orders.42').listen('OrderShipped', ({ order }: { order: number }) => seen.put(order))
  await heard(orders, echo.join('room.9'))
  assert.equal((await away.post('/ship/42', session)).status, 200)
  assert.equal(await seen.take(), 42)
})

test('Chromium: a page of Laravel with two lines changed', async t => {
  const browser = await chromium.launch({ executablePath: findProgram('chromium')!, args: FLAGS, timeout: START })
  t.after(() => browser.close())
  const page = await (await browser.newContext()).newPage()
  page.setDefaultTimeout(START)
  await page.goto(`${shop.origin}/login/42`)
  await page.goto(`${shop.origin}/page`)
  const said = () => page.evaluate('said') as Promise<string[]>
  let last: string[] = []
  const says = (what: string) =>
    until(
      async () => {
        last = await said()
        return last.includes(what)
      },
      () => `${what}, only: ${last.join('; ')}`,
    )
  await says('subscribed')
  await says('here user 42')
  const session = await shop.login('7')
  const other = open(t, session, 1)
  const room = other.join('room.1')
  await heard(room)
  await says('joining user 7')
  room.whisper('typing', { text: 'hello' })
  await says('whisper hello')
  assert.equal((await shop.post('/ship/42', session)).status, 200)
  await says('shipped 42')
  other.leave('room.1')
  await says('leaving user 7')
})

test('the tests of the package with Laravel and Symfony, and for ThinkPHP', async () => {
  const { code, stdout, stderr } = await run('phpunit', ['-c', 'phpunit.frameworks.xml'], { cwd: path('php') })
  assert.deepEqual([code, stderr], [0, ''], stdout)
  assert.match(stdout, /OK \(\d+ tests/)
})
