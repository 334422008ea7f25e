import assert from 'node:assert/strict'
import { after, before, type TestContext, test } from 'node:test'
import { type Browser, chromium, type Page } from 'playwright-core'
import type { PushBridgeOptions } from '../../src/index.ts'
import { buildPush, KEY, openConnection } from '../helpers/app.ts'
import { listenTo } from '../helpers/listener.ts'
import { cleanups, startInteropNode } from '../helpers/processes.ts'
import { findProgram } from '../helpers/programs.ts'
import { type RedisServer, startRedis } from '../helpers/redis.ts'
import { START } from '../helpers/waiting.ts'

const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--no-first-run', '--disable-sync']
const LIMITED = 'a-key-that-may-only-publish'
/** What a browser would run, if anything that comes from outside were read as HTML. */
const EVIL = 'channel:<img/src=x/onerror=document.title=1>'

const api: PushBridgeOptions['api'] = {
  keys: [KEY, { key: LIMITED, topics: 'channel:*', actions: ['publish'] }],
  page: true,
}

const all = cleanups()
let redis: RedisServer
let browser: Browser

before(async () => {
  redis = await startRedis(all)
  browser = await chromium.launch({ executablePath: findProgram('chromium')!, args: FLAGS, timeout: START })
  all.after(() => browser.close())
})
after(() => all.end())

/** The page of a node, and what the browser did and said meanwhile. */
async function openPage(t: TestContext, port: number, viewport = { width: 1280, height: 800 }) {
  const context = await browser.newContext({ viewport })
  context.setDefaultTimeout(START)
  t.after(() => context.close())
  const page = await context.newPage()
  const urls: string[] = []
  const said: string[] = []
  page.on('request', request => urls.push(request.url()))
  // A refused call is told on the console by the browser itself.
  page.on('console', message => {
    if (!/Failed to load resource.*40[13]/.test(message.text())) said.push(message.text())
  })
  page.on('pageerror', error => said.push(String(error)))
  await page.goto(`http://127.0.0.1:${port}/push/page`)
  return { page, urls, said }
}

async function enter(page: Page, key: string): Promise<void> {
  await page.getByLabel('Key', { exact: true }).fill(key)
  await page.getByRole('button', { name: 'Open' }).click()
}

const shows = (page: Page, selector: string, text: string | RegExp) =>
  page.locator(selector, { hasText: text }).first().waitFor()

async function publish(page: Page, topic: string): Promise<void> {
  const form = page.locator('#publish')
  await form.getByLabel('Topic').fill(topic)
  await form.getByLabel('Type').fill('notice')
  await form.getByRole('button').click()
}

test('the page: a wrong key, the right one, numbers, publish, explain, and nothing that a policy forbids', async t => {
  const node = await buildPush(t, { redis: redis.url, api })
  const other = await startInteropNode(t, redis.url)
  await openConnection(node.app, '/ws/room?user=user-0')
  await listenTo(t, `${other.url}/room?user=user-1`)
  const evil = await openConnection(node.app, '/ws?user=eve')
  evil.send('subscribe', { topic: EVIL }, 1)
  await evil.next('subscribed')
  const { page, urls, said } = await openPage(t, node.port)

  await enter(page, 'not-the-right-key')
  await shows(page, '#entry-problem', /missing or wrong/)
  await enter(page, KEY)
  await page.locator('#nodes tbody tr').nth(1).waitFor()
  await shows(page, '#nodes-note', '2 nodes, all answered')
  await shows(page, '.chart', /Connections\s*3/)
  await shows(page, '#state', 'Live')

  await publish(page, 'channel:room')
  await shows(page, '#outcome', 'Delivered to 2 connections on 2 nodes')
  await publish(page, EVIL)
  await shows(page, '#outcome', 'Delivered to 1 connection on 1 node')
  await page.locator('#topics button', { hasText: EVIL }).click()
  await shows(page, '#answer h3', EVIL)
  await shows(page, '#answer td', 'eve')
  await page.getByLabel('Connections of a user').fill('user-1')
  await page.getByRole('button', { name: 'Show' }).click()
  await shows(page, '#answer h3', /^user:user-1\s+1 connection$/)
  assert.equal(await page.locator('img').count(), 0)
  assert.equal(await page.title(), 'Push nodes')

  await page.getByRole('button', { name: 'Forget key' }).click()
  await page.getByLabel('Key', { exact: true }).waitFor()
  assert.equal(await page.locator('tbody tr').count(), 0, 'nothing is left of what the key saw')
  assert.equal(await page.evaluate('sessionStorage.length + localStorage.length'), 0)
  assert.deepEqual(said, [])
  assert.deepEqual(
    urls.filter(url => !url.startsWith(`http://127.0.0.1:${node.port}/push`) || url.includes(KEY)),
    [],
  )
})

test('the page: a key with fewer rights does what it may, and a narrow page shows all of it', async t => {
  const node = await buildPush(t, { redis: redis.url, api })
  await openConnection(node.app, '/ws/room')
  const { page, said } = await openPage(t, node.port, { width: 390, height: 800 })
  await enter(page, LIMITED)
  await shows(page, '#notice', 'This key lacks the action status.')
  await publish(page, 'channel:room')
  await shows(page, '#outcome', 'Delivered to 1 connection on 1 node')
  await publish(page, 'user:7')
  await shows(page, '#outcome', 'This key may not publish on user:7.')
  assert.equal(await page.evaluate('document.documentElement.scrollWidth'), 390)
  assert.deepEqual(said, [])
})

test('the page: a kept key outlives a reload, and a server that is gone is said', async t => {
  const node = await buildPush(t, { redis: redis.url, api })
  const { page } = await openPage(t, node.port, { width: 390, height: 800 })
  await page.getByLabel('Keep it until this tab is closed').check()
  await enter(page, KEY)
  await shows(page, '#state', 'Live')
  await page.reload()
  await shows(page, '#state', 'Live')
  assert.equal(await page.evaluate('document.documentElement.scrollWidth'), 390)
  await node.app.close()
  await shows(page, '#state', 'No answer')
  await shows(page, '#notice', 'The server does not answer.')
  await shows(page, '#age', /^as of \d\d:\d\d:\d\d, \d+ s ago$/)
  assert.ok(await page.locator('#nodes tbody tr').first().isVisible(), 'the last numbers stay, with their age')
})

test('the page: whatever is answered is shown as text, or as what is wrong with it', async t => {
  const node = await buildPush(t, { redis: redis.url, api })
  const { page, said } = await openPage(t, node.port)
  const html = '<img src=x onerror=a()>'
  const strange = { now: 'x', members: [{ id: html, user: 5, since: 1e308 }, null], dropped: [1], problem: html }
  let answers: Record<string, unknown> = {
    nodes: { nodes: [{ node: html, counters: { [`gaps_total{${html}}`]: 3 }, busiest: [{ topic: html }, 7] }, null] },
    explain: {
      topic: html,
      findings: [html, 5],
      nodes: [{ node: html, publications: [{ at: 1e300, type: html, skipped: { [html]: 1 } }], ...strange }, 'x'],
      rejected: { length: 5 },
    },
  }
  await page.route(/\/push\/(nodes|explain)/, (route, request) => {
    const answer = answers[/\/push\/(\w+)/.exec(request.url())![1]!]
    return route.fulfill({ body: typeof answer === 'string' ? answer : JSON.stringify(answer) })
  })
  await enter(page, KEY)
  await shows(page, '#nodes th', html)
  await shows(page, '#reasons td', html)
  await page.locator('#topics button', { hasText: html }).click()
  await shows(page, '#answer li', html)
  await shows(page, '#answer td', `1 ${html}`)
  assert.equal(await page.locator('img').count(), 0)
  assert.equal(await page.title(), 'Push nodes')
  answers = { nodes: html }
  await shows(page, '#notice', 'The answer is no JSON: does a proxy lead here?')
  answers = { nodes: { nodes: 7 } }
  await shows(page, '#notice', 'The answer has no nodes: does a proxy lead this address to something else?')
  assert.deepEqual(said, [])
})
