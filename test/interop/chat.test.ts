import assert from 'node:assert/strict'
import { after, before, type TestContext, test } from 'node:test'
import { type Browser, chromium, type Page } from 'playwright-core'
import { startNginx } from '../helpers/nginx.ts'
import { cleanups, Program, path } from '../helpers/processes.ts'
import { findProgram } from '../helpers/programs.ts'
import { freePort, type RedisServer, startRedis } from '../helpers/redis.ts'
import { START } from '../helpers/waiting.ts'

const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--no-first-run', '--disable-quic']

const all = cleanups()
let redis: RedisServer
let browser: Browser

before(async () => {
  redis = await startRedis(all)
  browser = await chromium.launch({ executablePath: findProgram('chromium')!, args: FLAGS, timeout: START })
  all.after(() => browser.close())
})
after(() => all.end())

function startChat(t: TestContext, port: number): Program {
  const env = { REDIS_URL: redis.url, PORT: String(port) }
  return new Program(t, process.execPath, ['--import', 'tsx', path('example/chat/server.ts')], { env })
}

async function open(t: TestContext, origin: string, name: string): Promise<Page> {
  const context = await browser.newContext()
  context.setDefaultTimeout(START)
  t.after(() => context.close())
  const page = await context.newPage()
  await page.goto(`${origin}/?name=${name}`)
  await isOpen(page)
  return page
}

const isOpen = (page: Page) => page.locator('#state[data-state="open"]').waitFor()
const shows = (page: Page, text: string) => page.locator('#log .message', { hasText: text }).first().waitFor()
const sees = (page: Page, user: string) => page.locator('#members li', { hasText: user }).waitFor()
const seesNot = (page: Page, user: string) =>
  page.locator('#members li', { hasText: user }).waitFor({ state: 'detached' })

async function say(page: Page, text: string): Promise<void> {
  await page.getByRole('textbox', { name: 'Message' }).fill(text)
  await page.getByRole('button', { name: 'Send' }).click()
}

test('a chat: three tabs on two nodes write, type, come, go and lose a node', { timeout: 300_000 }, async t => {
  const ports = [await freePort(), await freePort()]
  const programs = ports.map(port => startChat(t, port))
  for (const program of programs) await program.line(/\?name=ann/, START)
  const { origin } = await startNginx(t, ports)
  const ann = await open(t, `http://127.0.0.1:${ports[0]}`, 'ann')
  const bob = await open(t, `http://127.0.0.1:${ports[1]}`, 'bob')
  const carl = await open(t, origin, 'carl')
  for (const page of [ann, bob, carl]) for (const user of ['ann', 'bob', 'carl']) await sees(page, user)
  await say(ann, 'hello from ann')
  for (const page of [ann, bob, carl]) await shows(page, 'hello from ann')
  await bob.getByRole('textbox', { name: 'Message' }).pressSequentially('I am')
  await ann.locator('#typing', { hasText: 'bob is typing' }).waitFor()
  await say(bob, 'I am here too')
  await shows(carl, 'I am here too')
  await ann.locator('#typing', { hasText: /^$/ }).waitFor()

  const dora = await open(t, origin, 'dora')
  await shows(dora, 'hello from ann')
  await sees(ann, 'dora')
  await dora.getByRole('button', { name: 'kitchen' }).click()
  await sees(dora, 'dora')
  await seesNot(dora, 'ann')
  await seesNot(ann, 'dora')

  await programs[1]!.stop('SIGKILL')
  // Bob has no other node, so he leaves; whoever came through nginx is let in by the other one.
  await ann.locator('#members li', { hasText: 'bob' }).waitFor({ state: 'detached' })
  await isOpen(carl)
  await sees(ann, 'carl')
  startChat(t, ports[1]!)
  await isOpen(bob)
  await say(ann, 'welcome back')
  for (const page of [ann, bob, carl]) await shows(page, 'welcome back')
  assert.equal(await bob.locator('#log .message', { hasText: 'welcome back' }).count(), 1)
})

test('the chat fits a phone and a screen', { timeout: 240_000 }, async t => {
  const port = await freePort()
  await startChat(t, port).line(/\?name=ann/, START)
  for (const [width, height] of [
    [1280, 844],
    [390, 844],
  ] as const) {
    const page = await open(t, `http://127.0.0.1:${port}`, 'eve')
    await page.setViewportSize({ width, height })
    await say(page, `a long word ${'x'.repeat(300)}`)
    await shows(page, 'a long word')
    assert.ok((await page.evaluate<number>('document.documentElement.scrollWidth')) <= width)
    const box = await page.getByRole('button', { name: 'Send' }).boundingBox()
    assert.ok(box && box.y + box.height <= height, 'the form is in sight')
  }
})

/** PHP decides, `serve` holds the sockets, nginx stands in front. */
async function startPhpChat(t: TestContext) {
  const php = await freePort()
  const ports = [await freePort(), await freePort()]
  const secret = 'a-secret-of-the-tests-0123456789'
  const env = {
    BACKEND_SECRET: secret,
    REDIS_HOST: '127.0.0.1',
    REDIS_PORT: String(redis.port),
  }
  const backend = new Program(t, 'php', ['-S', `127.0.0.1:${php}`, path('example/php/chat.php')], { env })
  const settings = {
    REDIS_URL: redis.url,
    PRESENCE: '{"channel:room.*":{"info":true,"grace":500},"lease":3000}',
    BACKEND_URL: `http://127.0.0.1:${php}/calls`,
    BACKEND_SECRET: secret,
    BACKEND_CALLS: 'connect,subscribe',
    BACKEND_HEADERS: 'cookie',
    BACKEND_MESSAGES: 'chat.*',
  }
  const nodes = ports.map(
    port =>
      new Program(t, process.execPath, ['--import', 'tsx', path('src/cli.ts'), 'serve'], {
        env: { ...settings, PORT: String(port) },
      }),
  )
  for (const node of nodes) await node.line(/Server listening/, START)
  const edit = (conf: string) => {
    const at = conf.indexOf('location / {')
    assert.ok(at > 0)
    return conf.slice(0, at) + conf.slice(at).replace('http://push_nodes', `http://127.0.0.1:${php}`)
  }
  const { origin } = await startNginx(t, ports, { edit })
  return { origin, nodes, backend }
}

async function openPhpChat(t: TestContext, origin: string, name: string): Promise<Page> {
  const context = await browser.newContext()
  context.setDefaultTimeout(START)
  t.after(() => context.close())
  const page = await context.newPage()
  await page.goto(`${origin}/?name=${name}`)
  await page.locator('#state', { hasText: 'open' }).waitFor()
  return page
}

test('the same chat with all decisions in PHP: three tabs, two nodes, one of which is killed', {
  timeout: 300_000,
}, async t => {
  const { origin, nodes } = await startPhpChat(t)
  const stranger = await (await browser.newContext()).newPage()
  stranger.setDefaultTimeout(START)
  t.after(() => stranger.context().close())
  await stranger.goto(origin)
  await stranger.locator('#state', { hasText: 'log in first' }).waitFor()

  const pages = await Promise.all(['ann', 'bob', 'carl'].map(name => openPhpChat(t, origin, name)))
  const here = (page: Page, names: string) => page.locator('#members', { hasText: names }).waitFor()
  const said = (page: Page, text: string) => page.locator('#log li', { hasText: text }).waitFor()
  const write = async (page: Page, text: string) => {
    await page.getByRole('textbox', { name: 'Message' }).fill(text)
    await page.getByRole('button', { name: 'Send' }).click()
  }
  for (const page of pages) await here(page, 'ann, bob, carl')
  await write(pages[0]!, 'Grüße aus PHP')
  for (const page of pages) await said(page, 'Grüße aus PHP')
  await write(pages[1]!, '   ')
  await said(pages[1]!, 'say something of up to 8,000 bytes')

  await nodes[0]!.stop('SIGKILL')
  await write(pages[2]!, 'still here').catch(() => {})
  for (const page of pages) await page.locator('#state', { hasText: 'open' }).waitFor()
  for (const page of pages) await here(page, 'ann, bob, carl')
  await write(pages[0]!, 'after the fall')
  for (const page of pages) await said(page, 'after the fall')
  const late = await openPhpChat(t, origin, 'dora')
  await said(late, 'Grüße aus PHP')
})
