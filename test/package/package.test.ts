import assert from 'node:assert/strict'
import { copyFileSync, cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { build } from 'esbuild'
import { frontEndBlocks } from '../helpers/front-end-blocks.ts'
import { cleanups, Program, path, run, temporaryFolder } from '../helpers/processes.ts'
import { freePort, startRedis } from '../helpers/redis.ts'
import { START, until } from '../helpers/waiting.ts'

/**
 * The package as npm would publish it, installed from its tarball into a project of its own. Nothing in there is ours: the
 * dependencies are the newest that npm gives to an application today, and what only this repository has is missing.
 */

/** Registries and compilers take longer than any program to start. */
const LONG = 3 * START

const all = cleanups()
const folder = temporaryFolder(all)
const inFolder = (name: string) => join(folder, name)
let tarball: string
let files: string[]

/** Both compilers in one project: installing twice would take as long as everything else here. */
const COMPILERS = { typescript: 'the current TypeScript', 'typescript-5': 'TypeScript 5' }
const PACKAGES = ['fastify', 'ws', '@types/node', 'typescript@latest', 'typescript-5@npm:typescript@5', 'typebox']
const FRONT_ENDS = ['react', 'react-dom', '@types/react', 'vue', 'svelte']

before(async () => {
  // Without scripts: test/run.ts has just built what prepack would build.
  const packed = await succeed('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', folder], path('.'))
  const [pack] = JSON.parse(packed) as [{ filename: string; files: { path: string }[] }]
  tarball = inFolder(pack.filename)
  files = pack.files.map(file => file.path)
  cpSync(path('test/package/project'), folder, { recursive: true })
  copyFileSync(inFolder('program.mts'), inFolder('program.cts'))
  writeFileSync(inFolder('package.json'), '{ "private": true }\n')
  await succeed('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', tarball, ...PACKAGES, ...FRONT_ENDS])
})
after(() => all.end())

/** Of the roads whose libraries are not there: the entries are loaded all the same. */
const ROADS = `fastify-push-bridge: rabbitmqIngress needs rabbitmq-client: npm install rabbitmq-client
fastify-push-bridge: kafkaIngress needs kafkajs: npm install kafkajs
`

/** What a program prints that ends well. */
async function succeed(command: string, args: readonly string[], cwd = folder): Promise<string> {
  const { code, stdout, stderr } = await run(command, args, { cwd }, LONG)
  assert.equal(code, 0, `${command} ${args.join(' ')}\n${stdout}${stderr}`)
  return stdout
}

/** Runs a program of the project, which prints no warning either. */
async function runProgram(name: string): Promise<string> {
  const { code, stdout, stderr } = await run(process.execPath, [inFolder(name)], { cwd: folder })
  assert.deepEqual([code, stderr], [0, ''])
  return stdout
}

test('the package holds only what users need', () => {
  const allowed =
    /^(dist\/.+\.(js|d\.ts)|dist\/page\/[a-z]+\.(html|css|svg)|dist\/broker\/redis\/push\.lua|docs\/(.+\.md|openapi\.json|push\.proto)|[A-Z]+(\.zh-CN)?\.md|LICENSE|package\.json)$/
  assert.deepEqual(
    files.filter(file => !allowed.test(file)),
    [],
  )
  for (const file of [
    'dist/client.module.js',
    'dist/client/react/index.js',
    'dist/page/page.html',
    'dist/page/page.js',
    'dist/page/page.css',
    'dist/page/icon.svg',
    'dist/broker/redis/push.lua',
    'docs/openapi.json',
    'docs/push.proto',
    'dist/client/msgpack.js',
    'dist/client/protobuf.js',
    'LICENSE',
    'README.md',
  ]) {
    assert.ok(files.includes(file), `${file} is missing`)
  }
})

test('publint finds nothing', async () => {
  await succeed(process.execPath, [path('node_modules/publint/src/cli.js'), tarball, '--strict'])
})

test('attw finds nothing', async () => {
  // node16: resolution without `exports` knows no entries. And Node requires ES modules from 20.19 on, the oldest that is
  // supported, which attw calls an error.
  const options = ['--profile', 'node16', '--ignore-rules', 'cjs-resolves-to-esm', '--no-definitely-typed']
  await succeed(path('node_modules/.bin/attw'), [tarball, ...options, '--format', 'ascii'])
})

test('import gives every entry', async () => {
  assert.equal(await runProgram('main.mjs'), `hi hi\n${ROADS}`)
})

test('require() gives every entry', async () => {
  assert.equal(await runProgram('main.cjs'), `hi hi\n${ROADS}`)
})

test('app.register(require(…)) works without .default', async () => {
  assert.equal(await runProgram('register.cjs'), 'function\n')
})

test('the command runs from the package', async () => {
  assert.match(await succeed('npx', ['--no', '--', 'fastify-push-bridge', '--help']), /REDIS_URL/)
})

test('a bundle for browsers needs nothing of Node', async () => {
  const { outputFiles } = await build({
    absWorkingDir: folder,
    entryPoints: ['page.ts'],
    bundle: true,
    platform: 'browser',
    write: false,
    logLevel: 'silent',
  })
  assert.ok(outputFiles[0]!.text.includes('channel:orders'))
})

// TypeScript 5 takes most of the time here, for the types of TypeBox, and uses one core.
describe('without skipLibCheck', { concurrency: 2 }, () => {
  for (const [compiler, title] of Object.entries(COMPILERS)) {
    const compile = (config: string, ...args: string[]) =>
      succeed(process.execPath, [
        inFolder(`node_modules/${compiler}/bin/tsc`),
        '-p',
        `tsconfig.${config}.json`,
        ...args,
      ])

    test(`${title} compiles an ES module and a CommonJS module, and they run`, async () => {
      await compile('nodenext', '--outDir', compiler)
      for (const name of ['program.mjs', 'program.cjs']) {
        assert.equal(await runProgram(`${compiler}/${name}`), '[1,{"id":1},"42"]\n')
      }
    })

    test(`${title} finds the types as bundlers do`, async () => {
      await compile('bundler')
    })

    test(`${title} compiles a page without the types of Node`, async () => {
      await compile('page')
    })
  }
})

/** The JavaScript of the README that imports `name`. */
function readmeBlock(name: string): string {
  const blocks = readFileSync(path('README.md'), 'utf8').matchAll(/^```js\n([\s\S]*?)^```/gm)
  const found = [...blocks].map(([, code]) => code!).filter(code => code.includes(`from '${name}'`))
  assert.equal(found.length, 1, `the README has one block of js that imports ${name}`)
  return found[0]!
}

test('the front ends of the document run with the real Vue, Svelte and React, and its TypeScript compiles', async () => {
  const port = await freePort()
  for (const { name, code } of frontEndBlocks()) {
    writeFileSync(inFolder(`front/${name}`), code.replace("connect('/ws')", `connect('ws://127.0.0.1:${port}/ws')`))
  }
  const { code, stdout, stderr } = await run(process.execPath, [inFolder('front/main.js'), `${port}`], { cwd: folder })
  assert.deepEqual([code, stderr, stdout], [0, '', '[[1,2,3],[2,3],"subscribing"]\n'])
  await succeed(process.execPath, [inFolder('node_modules/typescript/bin/tsc'), '-p', 'front/tsconfig.json'])
})

test('the code of the README runs', async t => {
  const redis = await startRedis(t)
  const port = await freePort()
  const origin = `127.0.0.1:${port}`
  const localise = (code: string) => code.replaceAll(/\b3000\b/g, `${port}`).replaceAll('6379', `${redis.port}`)
  writeFileSync(inFolder('server.mjs'), localise(readmeBlock('fastify')))
  writeFileSync(inFolder('script.mjs'), localise(readmeBlock('fastify-push-bridge/publisher')))

  const env = { REDIS_URL: redis.url, PUSH_API_KEY: 'a-key-of-the-package-test' }
  new Program(t, process.execPath, [inFolder('server.mjs')], { env })
  const answers = () =>
    fetch(`http://${origin}/ws/client.js`).then(
      ({ ok }) => ok,
      () => false,
    )
  await until(answers, 'the server of the README answers', START)
  const listener = new Program(t, process.execPath, [inFolder('listener.mjs'), `ws://${origin}/ws?user=42`])
  await listener.line(/^subscribed channel:orders$/)
  const { status } = await fetch(`http://${origin}/orders`, { method: 'POST' })
  assert.equal(status, 200)
  await listener.line(/^order 7$/)
  assert.match(await runProgram('script.mjs'), /delivered: 1\b/)
})
