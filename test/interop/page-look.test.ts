import assert from 'node:assert/strict'
import { mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, type TestContext, test } from 'node:test'
import { type Browser, chromium, type Page } from 'playwright-core'
import { maxDescriptors } from '../../src/node/descriptors.ts'
import { listenTo } from '../helpers/listener.ts'
import { API_KEY, cleanups, type InteropNode, Program, path, startInteropNode } from '../helpers/processes.ts'
import { findProgram } from '../helpers/programs.ts'
import { type RedisServer, startRedis } from '../helpers/redis.ts'
import { START } from '../helpers/waiting.ts'

/** A folder for pictures of the page; without it none are taken. */
const { SCREENSHOTS } = process.env

const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--no-first-run', '--disable-sync']
const IDLE = 10_000
const SCHEMES = ['light', 'dark'] as const
const WIDTHS = [1280, 390]
/** WCAG 2 AA: of text, and of what else has a meaning. */
const TEXT_CONTRAST = 4.5
const LINE_CONTRAST = 3

const JUDGE = readFileSync(path('test/interop/page-faults.js'), 'utf8')

const all = cleanups()
let redis: RedisServer
let browser: Browser
let node: InteropNode

before(async () => {
  redis = await startRedis(all)
  browser = await chromium.launch({ executablePath: findProgram('chromium')!, args: FLAGS, timeout: START })
  all.after(() => browser.close())
  node = await startInteropNode(all, redis.url, { PAGE: '1', HEARTBEAT: '3600000,3600000' })
})
after(() => all.end())

async function emptyPage(t: TestContext, colorScheme: 'light' | 'dark', width: number): Promise<Page> {
  const context = await browser.newContext({ viewport: { width, height: 800 }, colorScheme })
  context.setDefaultTimeout(START)
  t.after(() => context.close())
  return context.newPage()
}

async function openPage(t: TestContext, colorScheme: 'light' | 'dark', width: number): Promise<Page> {
  const page = await emptyPage(t, colorScheme, width)
  await page.goto(`${node.origin}/push/page`)
  return page
}

const shows = (page: Page, selector: string, text: string | RegExp) =>
  page.locator(selector, { hasText: text }).first().waitFor()

async function enter(page: Page, key: string): Promise<void> {
  await page.getByLabel('Key', { exact: true }).fill(key)
  await page.getByRole('button', { name: 'Open' }).click()
}

/** Every text of the page with too little contrast, every line of a chart, and whatever is wider than its place. */
async function faults(page: Page): Promise<string[]> {
  // Not as a script of the page, whose policy allows none but its own.
  return page.evaluate(`(() => { ${JUDGE}\nreturn pageFaults(${TEXT_CONTRAST}, ${LINE_CONTRAST}) })()`) as Promise<
    string[]
  >
}

async function picture(page: Page, name: string): Promise<void> {
  if (SCREENSHOTS === undefined) return
  mkdirSync(SCREENSHOTS, { recursive: true })
  await page.evaluate('scrollTo(0, 0)')
  await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`), fullPage: true })
}

test('the judge of the page finds what is too pale, cut off or too wide', async t => {
  const page = await emptyPage(t, 'light', 390)
  await page.setContent(`<body style="margin:0;background:#fff"><p style="color:#888">pale</p><p style="color:#767676">fair</p>
    <p style="opacity:.5;color:#555">faint</p><div style="background:#000000b3"><b style="color:#fff">veiled</b></div>
    <div style="width:20px;overflow:hidden;white-space:nowrap">cut off by its box</div><input placeholder="hint" style="color:#000">
    <style>::placeholder{color:#aaa}</style><div style="width:500px;height:1px"></div></body>`)
  const found = await faults(page)
  assert.deepEqual(found.map(it => it.replace(/ \(.*| by .*/, '')).toSorted(), [
    'cut off',
    'faint',
    'hint',
    'pale',
    'the page is 500 px wide',
  ])
})

for (const scheme of SCHEMES) {
  for (const width of WIDTHS) {
    test(`the page, ${scheme}, ${width} px: a wrong key, and a server that answers no more`, async t => {
      const page = await openPage(t, scheme, width)
      await enter(page, 'not-the-right-key')
      await shows(page, '#entry-problem', /missing or wrong/)
      assert.deepEqual(await faults(page), [])
      await picture(page, `entry-${scheme}-${width}`)
      await enter(page, API_KEY)
      await shows(page, '#state', 'Live')
      await page.route(/\/push\/nodes/, route => route.abort())
      await shows(page, '#state', 'No answer')
      assert.deepEqual(await faults(page), [])
      await picture(page, `old-${scheme}-${width}`)
    })
  }
}

/** As the page writes numbers. */
const text = (value: number) => value.toLocaleString('en')

/** What the page asked for and changed while it was answered `answers` times. */
async function workOf(page: Page, answers: number) {
  const sizes: number[] = []
  await page.evaluate(`
    window.changes = 0
    new MutationObserver(records => { window.changes += records.length })
      .observe(document.body, { subtree: true, childList: true, attributes: true, characterData: true })`)
  for (let n = 0; n < answers; n++) {
    const response = await page.waitForResponse(/\/push\/nodes/)
    sizes.push((await response.body()).length)
  }
  return {
    largest: Math.max(...sizes),
    changes: (await page.evaluate('window.changes')) as number,
    elements: (await page.evaluate('document.querySelectorAll("*").length')) as number,
  }
}

/** A node that answers ten thousand connections as it does one: this is the most for either. */
const MOST = { largest: 100_000, changesEach: 1000, elements: 2500 }

const descriptors = maxDescriptors() ?? Number.POSITIVE_INFINITY
const skip = descriptors < IDLE + 1000 && `${descriptors} descriptors are too few for ${IDLE} connections (ulimit -n)`

test(`the page with ${IDLE} idle connections, in both schemes and widths`, { skip }, async t => {
  const env = { COUNT: `${IDLE}`, PORT: `${node.port}` }
  const loader = new Program(t, process.execPath, ['--import', 'tsx', path('test/helpers/idle-clients.ts')], { env })
  await loader.line(/^ready$/, 2 * START)
  const other = await startInteropNode(t, redis.url)
  for (let n = 0; n < 3; n++) await listenTo(t, `${other.url}/orders.created.in.europe?user=user-${n}`)
  for (const scheme of SCHEMES) {
    for (const width of WIDTHS) {
      await t.test(`${scheme}, ${width} px`, async t => {
        const page = await openPage(t, scheme, width)
        await enter(page, API_KEY)
        await shows(page, '#nodes-note', '2 nodes, all answered')
        await shows(page, '.chart', `Connections${text(IDLE + 3)}`)
        await shows(page, '#nodes tbody tr', text(IDLE))
        const form = page.locator('#publish')
        await form.getByLabel('Topic').fill('channel:orders.created.in.europe')
        await form.getByLabel('Type').fill('order.created')
        await form.getByRole('button').click()
        await shows(page, '#outcome', 'Delivered to 3 connections on 1 node')
        await shows(page, '#topics button', 'channel:orders.created.in.europe')
        await page.getByLabel('Why did it not arrive?').fill('all')
        await page.getByRole('button', { name: 'Explain' }).click()
        await shows(page, '#answer', `${text(IDLE - 50)} more connections`)
        assert.equal(await page.locator('#answer table[aria-label=Connections] tbody tr').count(), 53)
        assert.deepEqual(await faults(page), [])
        await picture(page, `nodes-${scheme}-${width}`)
      })
    }
  }
  await t.test('a refresh asks once, and costs what it costs with one connection', async t => {
    const page = await openPage(t, 'light', 1280)
    const asked: string[] = []
    page.on('request', request => asked.push(request.url()))
    await enter(page, API_KEY)
    await shows(page, '.chart', `Connections${text(IDLE + 3)}`)
    const before = asked.length
    const { largest, changes, elements } = await workOf(page, 3)
    assert.ok(
      asked.slice(before).every(url => url.includes('/push/nodes?')),
      asked.slice(before).join(' '),
    )
    assert.ok(largest < MOST.largest, `an answer of ${largest} bytes`)
    assert.ok(changes < 3 * MOST.changesEach, `${changes} changes by 3 answers`)
    assert.ok(elements < MOST.elements, `${elements} elements`)
  })
  assert.deepEqual(loader.lines, ['ready'], 'every connection is still open')
})
