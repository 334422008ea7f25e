import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { type Browser, chromium } from 'playwright-core'
import { cleanups, path, run, temporaryFolder } from '../helpers/processes.ts'
import { findProgram } from '../helpers/programs.ts'
import { freePort, type RedisServer, startRedis } from '../helpers/redis.ts'
import { START } from '../helpers/waiting.ts'
import { sectionsOf, Walkthrough } from '../helpers/walkthrough.ts'

/**
 * docs/tutorial.md, done by its text alone: in an empty folder, with the package as npm would publish it. Only ports are
 * others, and the package comes from its tarball.
 */

const FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--no-first-run', '--disable-quic']
const PORTS = ['3000', '3001', '3002', '8080']

const all = cleanups()
const folder = temporaryFolder(all)
const ports = new Map<string, number>()
let redis: RedisServer
let browser: Browser
let tarball: string

before(async () => {
  redis = await startRedis(all)
  for (const port of PORTS) ports.set(port, await freePort())
  ports.set('6379', redis.port)
  browser = await chromium.launch({ executablePath: findProgram('chromium')!, args: FLAGS, timeout: START })
  all.after(() => browser.close())
  // Without scripts: test/run.ts has just built what prepack would build.
  const pack = ['pack', '--ignore-scripts', '--json', '--pack-destination', folder]
  const { code, stdout, stderr } = await run('npm', pack, { cwd: path('.') }, START)
  assert.equal(code, 0, stderr)
  tarball = join(folder, (JSON.parse(stdout) as [{ filename: string }])[0].filename)
})
after(() => all.end())

function localise(text: string): string {
  return text
    .replaceAll(/\b(3000|3001|3002|8080|6379)\b/g, port => `${ports.get(port)}`)
    .replaceAll(/^(npm install .*)\bfastify-push-bridge$/gm, (_all, rest: string) => rest + tarball)
    .replaceAll(/^redis-cli /gm, `redis-cli -p ${redis.port} `)
    .replaceAll(/^nginx /gm, `${findProgram('nginx')} `)
}

test('docs/tutorial.md: from an empty folder to a killed node, as it is written', async () => {
  const sections = sectionsOf(readFileSync(path('docs/tutorial.md'), 'utf8'))
  assert.equal(sections.length, 8)
  const empty = join(folder, 'empty')
  mkdirSync(empty)
  const npm = { npm_config_prefer_offline: 'true', npm_config_audit: 'false', npm_config_fund: 'false' }
  const env = { ...process.env, ...npm, PORT: `${ports.get('3000')}` }
  const walk = new Walkthrough(all, { browser, folder: empty, env, localise })
  for (const section of sections) {
    await walk.follow(section).catch(cause => {
      throw new Error(`under "${section.heading}": ${cause.message}`, { cause })
    })
  }
})

const page = (prose: string, block: string) => sectionsOf(`# A page\n\n## A section\n\n${prose}\n\n${block}\n`)[0]!

for (const [what, section, problem] of [
  [
    'a command that prints something else',
    page('Run:', '```bash\necho one\n```\n\n```text\ntwo\n```'),
    /there is no\stwo/,
  ],
  ['a command that fails', page('Run:', '```bash\nfalse\n```'), /false/],
  ['a file that nothing names', page('Look at this:', '```js\n1\n```'), /nothing says what to do with the js/],
  [
    'a line that is not in the file',
    page('In `x.txt`, put this below the line `b`:', '```js\n1\n```'),
    /x\.txt has no "b"/,
  ],
  ['a window that nobody opened', page('The window of eve shows:', '```text\n1\n```'), /there is no window of eve/],
] as const) {
  test(`a page is not followed to its end: ${what}`, async t => {
    const own = temporaryFolder(t)
    writeFileSync(join(own, 'x.txt'), 'a\n')
    const walk = new Walkthrough(t, { browser, folder: own, env: process.env, localise: text => text })
    await assert.rejects(walk.follow(section), problem)
  })
}
