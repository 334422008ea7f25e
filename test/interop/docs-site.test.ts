import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { extname, join } from 'node:path'
import { after, before, type TestContext, test } from 'node:test'
import { type Browser, chromium } from 'playwright-core'
import { titlesOf } from '../../docs/site/.vitepress/sidebar.ts'
import { cleanups, path, run, temporaryFolder } from '../helpers/processes.ts'
import { findProgram } from '../helpers/programs.ts'
import { once, START } from '../helpers/waiting.ts'

/** The site of the documents as a reader has it, in Chromium. It is built below a path, which is harder than at the root. */

const BASE = '/docs/'
const SITE = path('docs/site')
const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--no-first-run', '--disable-sync']
const TYPES: Record<string, string> = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.svg': 'image/svg+xml',
}

const all = cleanups()
const folder = temporaryFolder(all)
const pages = [...titlesOf(path('docs')).keys(), 'start', 'changes']
let browser: Browser
let origin: string

before(async () => {
  if (!existsSync(join(SITE, 'node_modules'))) await npm('ci', '--no-audit', '--no-fund')
  await npm('run', 'build', '--', '--outDir', folder)
  const server = createServer(({ url = '' }, response) => {
    const name = decodeURI(url.slice(BASE.length).replace(/[?#].*/, '')) || 'index.html'
    const file = join(folder, name)
    if (!url.startsWith(BASE) || !existsSync(file)) return response.writeHead(404).end()
    response
      .writeHead(200, { 'content-type': TYPES[extname(name)] ?? 'application/octet-stream' })
      .end(readFileSync(file))
  }).listen(0, '127.0.0.1')
  all.after(() => server.close())
  await once(server, 'listening')
  origin = `http://127.0.0.1:${(server.address() as { port: number }).port}`
  browser = await chromium.launch({ executablePath: findProgram('chromium')!, args: FLAGS, timeout: START })
  all.after(() => browser.close())
})
after(() => all.end())

async function npm(...args: string[]): Promise<void> {
  const { code, stdout, stderr } = await run('npm', ['--prefix', SITE, ...args], { env: { DOCS_BASE: BASE } }, START)
  assert.equal(code, 0, stdout + stderr)
}

/** A reader with a window this wide, and what the browser asked for and complained of. */
async function openReader(t: TestContext, width: number, colorScheme: 'light' | 'dark' = 'light') {
  const context = await browser.newContext({ viewport: { width, height: 800 }, colorScheme })
  context.setDefaultTimeout(START)
  t.after(() => context.close())
  const page = await context.newPage()
  const said: string[] = []
  page.on('console', message => message.type() === 'error' && said.push(message.text()))
  page.on('pageerror', error => said.push(String(error)))
  page.on('requestfailed', request => {
    // Pages are fetched ahead of a click, and given up when the reader goes on.
    if (request.failure()?.errorText !== 'net::ERR_ABORTED') said.push(`failed: ${request.url()}`)
  })
  page.on('request', request => {
    if (!request.url().startsWith(origin)) said.push(`elsewhere: ${request.url()}`)
  })
  return { page, said, open: (name: string) => page.goto(`${origin}${BASE}${name}`) }
}

for (const width of [390, 1280]) {
  test(`every page fits into ${width} pixels, loads nothing from elsewhere and has no error`, async t => {
    const { page, said, open } = await openReader(t, width)
    for (const name of ['', ...pages.map(page => `${page}.html`)]) {
      await open(name)
      await page
        .locator(name === '' ? '.VPHero' : '.vp-doc h1')
        .first()
        .waitFor()
      const excess = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth)
      assert.ok(excess <= 0, `${name} is ${excess} pixels too wide`)
    }
    assert.deepEqual(said, [])
  })
}

test('a reader gets from the first page to a heading by search, and it is dark where the system is', async t => {
  const { page, said, open } = await openReader(t, 1280, 'dark')
  await open('')
  assert.equal(await page.locator('html.dark').count(), 1)
  await page.getByRole('link', { name: 'Getting started' }).first().click()
  await page.waitForURL(`**${BASE}start.html`)
  await page.getByRole('button', { name: 'Search' }).click()
  await page.locator('.search-input').fill('systemd')
  await page.locator('.result', { hasText: 'Deploy' }).first().click()
  await page.waitForURL(new RegExp(`${BASE}deploy\\.html`))
  assert.deepEqual(said, [])
})

test('the sidebar leads to every page', async t => {
  const { page, open } = await openReader(t, 1280)
  await open('options.html')
  const links = page.locator('.VPSidebar a')
  await links.first().waitFor()
  const found = await links.evaluateAll(list => list.map(link => link.getAttribute('href')))
  assert.deepEqual(found.toSorted(), pages.map(name => `${BASE}${name}.html`).toSorted())
})
