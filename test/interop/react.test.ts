import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, type TestContext, test } from 'node:test'
import { build } from 'esbuild'
import { type Browser, chromium, type Page } from 'playwright-core'
import { LINGER } from '../../src/client/react/shared-client.ts'
import { createPublisher, type ScriptPublisher } from '../../src/publisher.ts'
import { listenTo } from '../helpers/listener.ts'
import { cleanups, path, run, startInteropNode, temporaryFolder } from '../helpers/processes.ts'
import { findProgram } from '../helpers/programs.ts'
import { freePort, type RedisServer, startRedis } from '../helpers/redis.ts'
import { Inbox, PATIENCE, START, until, within } from '../helpers/waiting.ts'

const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--no-first-run', '--disable-sync']
const ROOM = 'channel:room'

const all = cleanups()
const script = join(temporaryFolder(all), 'page.js')
let redis: RedisServer
let browser: Browser
let publisher: ScriptPublisher

before(async () => {
  const alias = await reactOf(process.env.REACT_VERSION)
  // React for development: StrictMode runs every effect twice there.
  const { metafile } = await build({
    entryPoints: [path('test/interop/react-page.ts')],
    outfile: script,
    bundle: true,
    format: 'esm',
    platform: 'browser',
    define: { 'process.env.NODE_ENV': '"development"' },
    logLevel: 'silent',
    alias,
    metafile: true,
  })
  for (const place of Object.values(alias)) {
    assert.ok(
      Object.keys(metafile.inputs).some(input => path(input).startsWith(place)),
      `the page has ${place}`,
    )
  }
  redis = await startRedis(all)
  publisher = createPublisher({ redis: redis.url, publishTimeout: PATIENCE })
  all.after(() => publisher.end())
  browser = await chromium.launch({ executablePath: findProgram('chromium')!, args: FLAGS, timeout: START })
  all.after(() => browser.close())
})
after(() => all.end())

/** Another React than that of this project, from npm; without a version none. */
async function reactOf(version: string | undefined): Promise<Record<string, string>> {
  if (version === undefined) return {}
  const folder = temporaryFolder(all)
  const names = ['react', 'react-dom']
  const install = ['install', '--prefer-offline', '--no-audit', '--no-fund', ...names.map(name => `${name}@${version}`)]
  const { code, stderr } = await run('npm', install, { cwd: folder }, START)
  assert.equal(code, 0, stderr)
  const places = names.map(name => [name, join(folder, 'node_modules', name)] as const)
  for (const [, place] of places) {
    const made = JSON.parse(readFileSync(join(place, 'package.json'), 'utf8')) as { version: string }
    assert.equal(made.version.split('.')[0], version)
  }
  return Object.fromEntries(places)
}

interface Sent {
  type: string
  payload?: { topic?: string; presence?: boolean }
}

/** The page of a node, what it sends, its streams, and what it says on the console. */
async function openPage(t: TestContext, origin: string, query = '') {
  const context = await browser.newContext()
  context.setDefaultTimeout(START)
  t.after(() => context.close())
  const page = await context.newPage()
  const said: string[] = []
  const sent: Sent[] = []
  const sockets = new Inbox<string>('a WebSocket of the page')
  const streams: URL[] = []
  page.on('request', request => {
    const url = new URL(request.url())
    if (url.pathname === '/ws/-/events') streams.push(url)
  })
  const isExpected =
    /is no topic|no welcome from|WebSocket connection to|Download the React DevTools|Failed to load resource|a proxy hold/
  page.on('console', message => isExpected.test(message.text()) || said.push(message.text()))
  page.on('pageerror', error => said.push(String(error)))
  page.on('websocket', socket => {
    sockets.put(socket.url())
    socket.on('framesent', ({ payload }) => sent.push(JSON.parse(String(payload))))
  })
  await page.goto(`${origin}/page${query}`)
  /** What the page sent about the room, without pings. */
  const about = (type: string, hasPresence = false) =>
    sent.filter(it => it.type === type && it.payload?.topic === ROOM && !!it.payload.presence === hasPresence).length
  return { page, said, sent, sockets, streams, about }
}

const shows = (page: Page, selector: string, hasText: string | RegExp) => page.locator(selector, { hasText }).waitFor()

async function say(text: string, delivered?: number): Promise<void> {
  const receipt = delivered !== undefined
  const history = { size: 100, ttl: 600 }
  const result = await publisher.publish(ROOM, { type: 'note', payload: { text }, receipt, history })
  if (receipt) assert.equal(result.delivered, delivered)
}

const PRESENCE = JSON.stringify({ 'channel:*': { info: true } })

test('hooks under StrictMode and Suspense, on two nodes of which one is killed', async t => {
  const port = await freePort()
  const env = { PORT: String(port), SCRIPT_FILE: script, PRESENCE }
  const first = await startInteropNode(t, redis.url, env)
  const other = await startInteropNode(t, redis.url, { PRESENCE })
  await listenTo(t, `${other.url}/room?user=bob`)
  const { page, said, sockets, about } = await openPage(t, first.origin)

  // One client, although every effect ran twice, and nothing for what is suspended.
  await page.locator('#state[data-state="open"]').waitFor()
  await page.locator('#fallback').waitFor()
  assert.match(await sockets.take(), /\/ws\?user=ann$/)
  assert.equal(about('subscribe'), 0)

  await page.evaluate('arrive()')
  await page.locator('#messages[data-state="subscribed"]').waitFor()
  await shows(page, '#people', 'ann,bob')
  await shows(page, '#refused', 'failed PUSH_ERR_TOPIC')
  assert.deepEqual([about('subscribe'), about('subscribe', true)], [1, 1], 'one subscription for all components')

  await say('one', 2)
  await shows(page, '#messages', 'one')
  await page.locator('#label').click()
  await shows(page, '#label', 'new')
  await say('two', 2)
  await shows(page, '#messages', 'one,two')
  assert.deepEqual(await page.evaluate('heard'), ['old one', 'new two'], 'the handler of the last render')

  // All components go and come back in one commit: nothing is sent.
  await page.locator('#again').click()
  await shows(page, '#again', 'visit 2')
  await page.locator('#messages[data-state="subscribed"]').waitFor()
  await say('three', 2)
  await shows(page, '#messages', /: three/)
  assert.deepEqual([about('subscribe'), about('unsubscribe')], [1, 0])

  await first.program.stop('SIGKILL')
  await page.locator('#state[data-state="waiting"]').waitFor()
  await page.locator('#people[data-known="false"]').waitFor()
  await say('four', 1)
  await page.locator('#ask').click()
  await startInteropNode(t, redis.url, env)
  await page.locator('#state[data-state="open"]').waitFor()
  await shows(page, '#messages', 'three,four')
  await page.locator('#people[data-known="true"]').waitFor()
  await shows(page, '#people', 'ann,bob')
  await shows(page, '#state', '127.0.0.1')
  await say('five', 2)
  await say('six', 2)
  await shows(page, '#messages', 'four,five,six')
  assert.deepEqual(await page.evaluate('heard'), [
    'old one',
    'new two',
    ...['three', 'four', 'five', 'six'].map(it => `old ${it}`),
  ])

  // The last component is gone: so is the topic, after a moment, on the node too.
  await page.locator('#hide').click()
  await until(() => about('unsubscribe') === 1, 'the page leaves the room')
  assert.deepEqual(said, [])
})

test('a page that is loaded again goes on where it was', async t => {
  const node = await startInteropNode(t, redis.url, { SCRIPT_FILE: script, PRESENCE })
  const { page } = await openPage(t, node.origin)
  const arrive = async () => {
    await page.evaluate('arrive()')
    await page.locator('#messages[data-state="subscribed"]').waitFor()
  }
  await arrive()
  await say('before', 1)
  await shows(page, '#messages', 'before')
  await page.goto('about:blank')
  await say('meanwhile')
  await page.goto(`${node.origin}/page`)
  await arrive()
  await shows(page, '#messages', /: meanwhile/)
})

test('hooks in a network without WebSocket, on a node that is killed', async t => {
  const port = await freePort()
  const env = { PORT: String(port), SCRIPT_FILE: script, PRESENCE }
  const node = await startInteropNode(t, redis.url, env)
  const { page, said, streams } = await openPage(t, node.origin, '?blocked')
  const opened = async () => (await node.status()).metrics.connections_opened_total!
  await page.locator('#state[data-state="open"]').waitFor()
  await page.evaluate('arrive()')
  const subscribed = () => page.locator('#messages[data-state="subscribed"]').waitFor()
  await subscribed()
  await shows(page, '#refused', 'failed PUSH_ERR_TOPIC')
  await page.locator('#people[data-known="false"]').waitFor()
  assert.deepEqual(
    streams.map(({ searchParams }) => searchParams.getAll('topics')),
    [[], [ROOM]],
    'all components of one commit come with one stream',
  )
  await say('one', 1)
  await shows(page, '#messages', 'one')
  const before = await opened()

  // One of two components goes, for longer than a topic is kept without any.
  await page.locator('#mute').click()
  await page.locator('#label').waitFor({ state: 'detached' })
  await page.evaluate(`new Promise(resolve => setTimeout(resolve, ${LINGER + 1}))`)
  await say('two', 1)
  await shows(page, '#messages', 'one,two')
  assert.deepEqual(await page.evaluate('heard'), ['old one'])

  // All go and come back within that time, which begins only when they are back: the browser may need longer.
  const hidden = page.evaluate(`(async () => {
    const { setTimeout: start, clearTimeout: stop } = window
    const [held, started] = [new Map(), new Map()]
    window.setTimeout = (run, ms, ...args) => {
      if (ms !== ${LINGER}) return start(run, ms, ...args)
      const timer = {}
      held.set(timer, () => started.set(timer, start(run, ms, ...args)))
      return timer
    }
    window.clearTimeout = timer => held.delete(timer) || stop(started.get(timer) ?? timer)
    const button = document.querySelector('#hide')
    const seen = isThere => new Promise(resolve => {
      const look = () => (document.querySelector('#messages') !== null) === isThere && resolve()
      new MutationObserver(look).observe(document.body, { childList: true, subtree: true })
    })
    for (const isThere of [false, true]) {
      const isDone = seen(isThere)
      button.click()
      await isDone
    }
    window.setTimeout = start
    for (const begin of held.values()) begin()
    held.clear()
  })()`)
  await within(hidden, 'the components are gone, and back')
  await subscribed()
  await say('three', 1)
  await shows(page, '#messages', /: three/)
  assert.equal(await opened(), before, 'no other stream')

  await node.program.stop('SIGKILL')
  await page.locator('#state[data-state="waiting"]').waitFor()
  await say('four')
  await startInteropNode(t, redis.url, env)
  await shows(page, '#messages', /: three,four/)
  await subscribed()
  await say('five', 1)
  await shows(page, '#messages', /: three,four,five/)

  // The last component goes, and a stream without the room takes the place of this one.
  await page.locator('#hide').click()
  await until(() => streams.at(-1)!.searchParams.getAll('topics').length === 0, 'a stream without the room')
  assert.deepEqual(said, [])
})
