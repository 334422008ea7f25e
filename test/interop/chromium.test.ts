import assert from 'node:assert/strict'
import { after, before, type TestContext, test } from 'node:test'
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core'
import { createPublisher, type ScriptPublisher } from '../../src/publisher.ts'
import { listenTo } from '../helpers/listener.ts'
import { startNginx } from '../helpers/nginx.ts'
import { cleanups, Program, path, run, startInteropNode } from '../helpers/processes.ts'
import { findProgram } from '../helpers/programs.ts'
import { freePort, type RedisServer, startRedis } from '../helpers/redis.ts'
import { PATIENCE, START, within } from '../helpers/waiting.ts'

const BURST = 5000
const BATCH = 1000
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--no-first-run', '--disable-quic']

/** A page without a library: these ten lines are a complete client. */
const TEN_LINES = `
  function listen() {
    const socket = new WebSocket(location.origin.replace('http', 'ws') + '/ws/orders')
    socket.onmessage = ({ data }) => {
      const { type, payload } = JSON.parse(data)
      if (type === 'order.created') document.body.append(payload.note)
    }
    socket.onclose = ({ code }) => {
      if (![1000, 1008, 1009].includes(code) && !(code >= 4400 && code < 4500)) setTimeout(listen, 3000 * Math.random())
    }
  }
  listen()`

const all = cleanups()
let redis: RedisServer
let browser: Browser
let publisher: ScriptPublisher

before(async () => {
  redis = await startRedis(all)
  publisher = createPublisher({ redis: redis.url, publishTimeout: PATIENCE })
  all.after(() => publisher.end())
  const executablePath = findProgram('chromium')!
  browser = await chromium.launch({ executablePath, args: [...FLAGS, '--disable-sync'], timeout: START })
  all.after(() => browser.close())
})
after(() => all.end())

async function openContext(t: TestContext): Promise<BrowserContext> {
  const context = await browser.newContext({ ignoreHTTPSErrors: true })
  context.setDefaultTimeout(START)
  t.after(() => context.close())
  return context
}

/** A page of a node that was given SCRIPT. Not `page.route`: Chromium keeps pages from nowhere off the loopback. */
async function openScript(t: TestContext, origin: string): Promise<Page> {
  const page = await (await openContext(t)).newPage()
  await page.goto(`${origin}/page`)
  return page
}

function startExample(t: TestContext, port: number): Program {
  const env = { REDIS_URL: redis.url, PORT: String(port) }
  return new Program(t, process.execPath, ['--import', 'tsx', path('example/server.ts')], { env })
}

const isIn = (page: Page, state: string) => page.locator(`#state[data-state="${state}"]`).waitFor()
const shows = (page: Page, text: string) => page.locator('#log', { hasText: text }).waitFor()

async function order(customer: string, note: string, nodes = 1): Promise<void> {
  const env = { REDIS_HOST: '127.0.0.1', REDIS_PORT: String(redis.port) }
  const { stdout, stderr } = await run('php', [path('example/php/order.php'), customer, '1001', note], { env })
  assert.match(stdout, new RegExp(`${nodes} node\\(s\\) have customer ${customer} online`), stderr)
}

test('two tabs show the order of a PHP script, and come back by themselves when the node restarts', async t => {
  const port = await freePort()
  const program = startExample(t, port)
  await program.line(/\?user=alice/, START)
  const context = await openContext(t)
  const tabs = [await context.newPage(), await context.newPage()]
  for (const tab of tabs) {
    await tab.goto(`http://127.0.0.1:${port}/?user=alice`)
    await isIn(tab, 'open')
  }
  await order('alice', 'two pizzas')
  for (const tab of tabs) await shows(tab, 'two pizzas')

  await program.stop('SIGKILL')
  for (const tab of tabs) await isIn(tab, 'waiting')
  startExample(t, port)
  for (const tab of tabs) await isIn(tab, 'open')
  await order('alice', 'and a salad')
  for (const tab of tabs) await shows(tab, 'and a salad')
})

test('two tabs behind nginx, each on a node of its own: nothing changes, also when one node is killed', async t => {
  const ports = [await freePort(), await freePort()]
  const programs = ports.map(port => startExample(t, port))
  for (const program of programs) await program.line(/\?user=alice/, START)
  const nginx = await startNginx(t, ports)
  const context = await openContext(t)
  const tabs: Page[] = []
  const nodeOf = (tab: Page) => tab.locator('#node').textContent()
  // Round robin counts the requests for the page and its scripts as well; the further one shifts an even number of them.
  for (const nodes = new Set<string | null>(); nodes.size < 2; ) {
    assert.ok(tabs.length < 10, 'all tabs are on one node')
    if (tabs.length % 2 === 1) await fetch(nginx.origin)
    const tab = await context.newPage()
    await tab.goto(`${nginx.origin}/?user=bob`)
    await isIn(tab, 'open')
    nodes.add(await nodeOf(tab))
    tabs.push(tab)
  }
  await order('bob', 'two pizzas', 2)
  for (const tab of tabs) await shows(tab, 'two pizzas')

  await programs[0]!.stop('SIGKILL')
  const newcomer = await context.newPage()
  await newcomer.goto(`${nginx.origin}/?user=bob`)
  await isIn(newcomer, 'open')
  const survivor = (await nodeOf(newcomer))!
  for (const tab of tabs) await tab.locator('#node', { hasText: survivor }).waitFor()
  await order('bob', 'and a salad')
  for (const tab of tabs) await shows(tab, 'and a salad')
})

test('a page that is not let in stays closed, while another that cannot connect keeps trying', async t => {
  const SCRIPT = `
    import { connect } from '/ws/client.js'
    window.states = []
    connect('/ws?user=nobody').listen('state', state => states.push(state))
    window.failures = 0
    const lost = connect('/nowhere')
    lost.listen('state', ({ state }) => { if (state === 'waiting' && ++failures === 4) lost.close() })`
  const node = await startInteropNode(t, redis.url, { SCRIPT })
  const page = await openScript(t, node.origin)
  await page.waitForFunction('failures === 4')
  assert.deepEqual(
    (await page.evaluate<{ state: string }[]>('states')).map(({ state }) => state),
    ['closed'],
  )
  const { upgrades } = await node.status()
  assert.equal(upgrades['/ws?user=nobody'], 1)
  assert.equal(upgrades['/nowhere'], 4)
})

test('a plain WebSocket is told by close code what a browser hides of HTTP', async t => {
  const SCRIPT = `
    new WebSocket(location.origin.replace('http', 'ws') + '/ws?user=nobody').onclose = ({ code, reason }) => {
      window.verdict = { code, reason }
    }`
  const page = await openScript(t, (await startInteropNode(t, redis.url, { SCRIPT })).origin)
  await page.waitForFunction('window.verdict')
  assert.deepEqual(await page.evaluate('verdict'), {
    code: 4401,
    reason: 'authenticate() did not accept the request',
  })
})

test('the example page says why it stays closed', async t => {
  const port = await freePort()
  await startExample(t, port).line(/\?user=alice/, START)
  const page = await (await openContext(t)).newPage()
  await page.goto(`http://127.0.0.1:${port}/?user=no%20name`)
  await isIn(page, 'closed')
  await page.locator('#notice', { hasText: '4401' }).waitFor()
  assert.ok(await page.getByRole('button', { name: 'Publish' }).isDisabled())
  const user = page.getByRole('textbox', { name: 'User' })
  await user.fill('name')
  await user.press('Enter')
  await isIn(page, 'open')
})

const SCREENS = { 'a screen of 1280 x 844': [1280, 844], 'a phone': [390, 844] } as const

for (const [screen, [width, height]] of Object.entries(SCREENS)) {
  test(`the example page shows messages first, and every line in full: ${screen}`, async t => {
    const port = await freePort()
    await startExample(t, port).line(/\?user=alice/, START)
    const page = await (await openContext(t)).newPage()
    await page.setViewportSize({ width, height })
    await page.goto(`http://127.0.0.1:${port}/?user=alice`)
    await isIn(page, 'open')
    const empty = await page.locator('#first').boundingBox()
    assert.ok(empty && empty.y + empty.height < height, 'what to do first is in sight')
    await publisher.publish(Array.from({ length: 500 }, (_, n) => ({ to: 'user:alice', type: 'tick', payload: { n } })))
    await shows(page, '{"n":499}')
    const newest = await page.locator('.entry').first().boundingBox()
    assert.ok(newest && newest.y + newest.height < height / 2, `the newest message is at ${newest?.y}`)
    assert.equal(await page.locator('.entry').count(), 200)
    assert.ok((await page.evaluate<number>('document.documentElement.scrollWidth')) <= width)
    for (const language of ['curl', 'PHP', 'redis-cli', 'JavaScript']) {
      await page.getByText(language, { exact: true }).click()
      const line = page.locator('#line')
      assert.match((await line.textContent())!, /user:alice/)
      const isCut = await line.evaluate(
        code => code.scrollWidth > code.clientWidth || code.scrollHeight > code.clientHeight,
      )
      assert.equal(isCut, false, language)
    }
  })
}

test('the example page is honest about a server that is killed, comes back, or does not answer', async t => {
  const port = await freePort()
  const program = startExample(t, port)
  await program.line(/\?user=alice/, START)
  const page = await (await openContext(t)).newPage()
  await page.goto(`http://127.0.0.1:${port}/?user=alice`)
  const says = (text: string) => page.locator('#state', { hasText: text }).waitFor()
  const publish = page.getByRole('button', { name: 'Publish' })
  const dependent = page.locator('fieldset.live :is(button, input, select, textarea)')
  const areOff = () => dependent.evaluateAll(all => all.map(it => it.matches(':disabled')))
  await says('Connected')
  await page.locator('#trip', { hasText: 'ms' }).waitFor()
  assert.ok((await areOff()).every(isOff => !isOff))
  await publish.click()
  await page.locator('#outcome', { hasText: 'Delivered to 1 connection on 1 node' }).waitFor()

  await program.stop('SIGKILL')
  await says('Disconnected')
  assert.ok(await publish.isDisabled())
  assert.ok((await areOff()).every(isOff => isOff))
  const shown = ['#node', '#broker', '#outcome'].map(id => page.locator(id).textContent())
  assert.deepEqual(await Promise.all(shown), ['–', '–', ''])
  await page.locator('#trip', { hasText: '–' }).waitFor()
  await page.locator('#away', { hasText: 'Disconnected since' }).waitFor()

  const next = startExample(t, port)
  await says('Connected')
  await page.locator('#away').waitFor({ state: 'hidden' })
  assert.ok((await areOff()).every(isOff => !isOff))
  await publish.click()
  await page.locator('#outcome', { hasText: 'Delivered to 1 connection on 1 node' }).waitFor()

  next.process.kill('SIGSTOP')
  await says('No answer')
  assert.ok(await publish.isDisabled())
  next.process.kill('SIGCONT')
  await says('Connected')
  assert.ok(await publish.isEnabled())
})

test('ten lines of plain JavaScript are a complete client', async t => {
  const port = await freePort()
  const env = { PORT: String(port), HEARTBEAT: '200,5000', SCRIPT: TEN_LINES }
  const node = await startInteropNode(t, redis.url, env)
  const page = await openScript(t, node.origin)
  const neighbour = await listenTo(t, `${node.url}/orders`)
  // The browser answers pings by itself: it outlives ten of them.
  await neighbour.until(() => neighbour.pings >= 10, '10 pings')
  const result = await publisher.publish('channel:orders', {
    type: 'order.created',
    payload: { note: 'first order' },
    receipt: true,
  })
  assert.equal(result.delivered, 2)
  await page.getByText('first order').waitFor()

  const welcomed = new Promise(resolve => page.on('websocket', socket => socket.once('framereceived', resolve)))
  await node.program.stop('SIGKILL')
  await startInteropNode(t, redis.url, env)
  await within(welcomed, 'the page is back')
  await publisher.publish('channel:orders', { type: 'order.created', payload: { note: 'second order' } })
  await page.getByText('second order').waitFor()
})

const READER = `
  window.numbers = []
  const socket = new WebSocket(location.origin.replace('http', 'ws') + '/ws/burst')
  socket.onmessage = ({ data }) => {
    const { type, payload } = JSON.parse(data)
    if (type === 'welcome') window.isWelcome = true
    else numbers.push(payload.n)
  }`

for (const name of ['straight from the node', 'through nginx with TLS'] as const) {
  test(`Chromium reads every frame of a burst of ${BURST}, in order: ${name}`, async t => {
    const node = await startInteropNode(t, redis.url, { SCRIPT: READER })
    const isDirect = name === 'straight from the node'
    const { origin } = isDirect ? node : await startNginx(t, [node.port, node.port], { tls: true })
    const page = await openScript(t, origin)
    await page.waitForFunction('window.isWelcome')
    const requests = Array.from({ length: BURST }, (_, n) => ({
      to: 'channel:burst',
      type: 'tick',
      // Lengths on both sides of 126, where the header of a frame changes.
      payload: { n, text: 'ä'.repeat(n % 60) },
    }))
    const batches = Array.from({ length: BURST / BATCH }, (_, n) => requests.slice(n * BATCH, (n + 1) * BATCH))
    await Promise.all(batches.map(batch => publisher.publish(batch)))
    await page.waitForFunction(`numbers.length >= ${BURST}`)
    assert.deepEqual(await page.evaluate('numbers'), [...requests.keys()])
  })
}
