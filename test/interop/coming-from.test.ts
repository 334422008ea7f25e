import assert from 'node:assert/strict'
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { after, before, type TestContext, test } from 'node:test'
import { type Browser, chromium } from 'playwright-core'
import { cleanups, Program, path, run, temporaryFolder } from '../helpers/processes.ts'
import { findProgram } from '../helpers/programs.ts'
import { freePort, type RedisServer, startRedis } from '../helpers/redis.ts'
import { START, until } from '../helpers/waiting.ts'
import { type Section, sectionsOf, Walkthrough } from '../helpers/walkthrough.ts'

/**
 * docs/coming-from: what is to be written instead is run as it is printed, each page in a folder of its own with a Redis of
 * its own; what was there before is read by PHP or Node, and not run, since its libraries are not among those of the project.
 * That of Socket.IO runs where `npm ci --prefix test/chaos/peers` has installed it.
 */

const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--no-first-run', '--disable-quic']
const PAGES = readdirSync(path('docs/coming-from')).sort()
const HEADINGS = [
  'Stay or move',
  'The map',
  'Before',
  'The same with this',
  /^What .+ does better$/,
  'What is different by design',
  'Step by step',
]

/** Consoles of frameworks, whose place a stub takes. */
const CONSOLES: Record<string, string> = { think: 'think-console.php', artisan: 'artisan.php' }

/** What a page of the site would fetch. */
const ANSWERS: Record<string, Record<string, string>> = {
  'swoole.md': { '**/ticket.php': 'php ticket.php 42' },
  'think-swoole.md': { '**/ticket': 'php think ticket' },
  'reverb.md': { '**/ticket': 'php artisan ticket' },
  'centrifugo.md': { '**/token': 'JWT_SECRET=a-secret-of-at-least-32-characters node token.mjs' },
}

/** Socket.IO, its client and its adapter. */
const PEERS = path('test/chaos/peers/node_modules')
const isWithoutPeers = !existsSync(join(PEERS, 'socket.io-client')) && 'npm ci --prefix test/chaos/peers'

const all = cleanups()
let browser: Browser

before(async () => {
  browser = await chromium.launch({ executablePath: findProgram('chromium')!, args: FLAGS, timeout: START })
  all.after(() => browser.close())
})
after(() => all.end())

const sectionsIn = (page: string): Section[] => sectionsOf(readFileSync(path(`docs/coming-from/${page}`), 'utf8'))

function section(page: string, heading: string): Section {
  const found = sectionsIn(page).find(it => it.heading === heading)
  assert.ok(found, `${page} has no "${heading}"`)
  return found
}

/** A folder in which the package is installed, together with what a page takes for granted. */
function project(t: TestContext): string {
  const folder = temporaryFolder(t)
  mkdirSync(join(folder, 'node_modules/.bin'), { recursive: true })
  symlinkSync(path(''), join(folder, 'node_modules/fastify-push-bridge'))
  for (const name of ['fastify', 'ws']) symlinkSync(path(`node_modules/${name}`), join(folder, `node_modules/${name}`))
  const command = join(folder, 'node_modules/.bin/fastify-push-bridge')
  writeFileSync(command, `#!/bin/sh\nexec '${process.execPath}' '${path('dist/cli.js')}' "$@"\n`)
  chmodSync(command, 0o755)
  writeFileSync(join(folder, 'package.json'), '{ "private": true }\n')
  mkdirSync(join(folder, 'vendor'))
  writeFileSync(join(folder, 'vendor/autoload.php'), `<?php require '${path('php/autoload.php')}';\n`)
  for (const [name, stub] of Object.entries(CONSOLES)) {
    writeFileSync(join(folder, name), `<?php require '${path(`test/interop/stubs/${stub}`)}';\n`)
  }
  return folder
}

function localiserOf(redis: RedisServer, port: number) {
  return (text: string) =>
    text
      .replaceAll('6379', `${redis.port}`)
      .replaceAll(/\b3000\b/g, `${port}`)
      .replaceAll(/^redis-cli /gm, `redis-cli -p ${redis.port} `)
}

for (const page of PAGES) {
  test(`coming-from/${page}: has the same sections as the others`, () => {
    const headings = sectionsIn(page).map(({ heading }) => heading)
    const own = headings.filter(heading => heading !== 'Measured')
    assert.equal(own.length, HEADINGS.length, own.join(', '))
    for (const [i, expected] of HEADINGS.entries()) {
      if (typeof expected === 'string') assert.equal(own[i], expected)
      else assert.match(own[i]!, expected)
    }
  })

  test(`coming-from/${page}: what was there before can be read`, async t => {
    const folder = temporaryFolder(t)
    const blocks = section(page, 'Before').steps.filter(({ code }) => code !== undefined)
    assert.ok(blocks.length > 0)
    for (const [i, { lang, code }] of blocks.entries()) {
      if (lang === 'json') JSON.parse(code!)
      if (lang === 'json') continue
      const file = join(folder, `before-${i}.${lang === 'php' ? 'php' : 'mjs'}`)
      writeFileSync(file, code!)
      const [program, flag] = lang === 'php' ? ['php', '-l'] : [process.execPath, '--check']
      const { code: status, stdout, stderr } = await run(program!, [flag!, file])
      assert.equal(status, 0, `${basename(file)}: ${stdout}${stderr}`)
    }
  })

  test(`coming-from/${page}: the same with this, as it is written`, async t => {
    const [redis, port, folder] = [await startRedis(t), await freePort(), project(t)]
    const env = { ...process.env, PORT: `${port}`, REDIS_PORT: `${redis.port}` }
    const inApplication = async (code: string, cwd: string) => {
      const console = page === 'reverb.md' ? 'artisan' : 'think'
      const { code: status, stdout, stderr } = await run('php', [console, 'run', code], { cwd, env })
      assert.equal(status, 0, `${stdout}${stderr}`)
    }
    const answers = ANSWERS[page] ?? {}
    const walk = new Walkthrough(t, {
      browser,
      folder,
      env,
      answers,
      inApplication,
      localise: localiserOf(redis, port),
    })
    await walk.follow(section(page, 'The same with this'))
    if (page !== 'workerman.md') return
    // Presence is written a moment after the welcome.
    const said = async () => (await run('php', ['application.php'], { cwd: folder })).stdout
    await until(async () => (await said()) === '42 is online\n', 'application.php says that 42 is online')
  })
}

test('coming-from/socket.io.md: what was there before does what it says', { skip: isWithoutPeers }, async t => {
  const [redis, port, folder] = [await startRedis(t), await freePort(), temporaryFolder(t)]
  mkdirSync(join(folder, 'node_modules/@socket.io'), { recursive: true })
  for (const name of ['socket.io', 'socket.io-client', '@socket.io/redis-adapter']) {
    symlinkSync(join(PEERS, name), join(folder, 'node_modules', name))
  }
  symlinkSync(path('node_modules/ioredis'), join(folder, 'node_modules/ioredis'))
  const localise = localiserOf(redis, port)
  const [server, client] = section('socket.io.md', 'Before').steps.flatMap(({ code }) => code ?? [])
  for (const [name, code] of [
    // A notice every minute is too rare for a test.
    ['server.mjs', server!.replace('60_000', '20')],
    ['client.mjs', client!],
  ] as const) {
    writeFileSync(join(folder, name), localise(code))
  }
  new Program(t, process.execPath, [join(folder, 'server.mjs')])
  const said = new Program(t, process.execPath, [join(folder, 'client.mjs')])
  await said.line(/^42 hello$/)
  await said.line(/^5$/)
  await said.line(/^your order is on its way$/)
})
