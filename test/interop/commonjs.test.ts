import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { after, before, test } from 'node:test'
import { cleanups, path, run, temporaryFolder } from '../helpers/processes.ts'

/** The package as npm would publish it, installed in a folder of its own, and used as people use it. */

const all = cleanups()
let folder: string
let files: string[]

before(async () => {
  folder = temporaryFolder(all)
  // Without scripts: test/run.ts has built what prepack would build, and other tests are using it.
  const args = ['pack', '--ignore-scripts', '--json', '--pack-destination', folder]
  const { stdout, stderr } = await run('npm', args, { cwd: path('.') })
  const [pack] = JSON.parse(stdout || stderr) as [{ filename: string; files: { path: string }[] }]
  files = pack.files.map(file => file.path)
  install(await unpack(join(folder, pack.filename)))
})
after(() => all.end())

async function unpack(tarball: string): Promise<string> {
  const target = join(folder, 'node_modules/fastify-push-bridge')
  mkdirSync(target, { recursive: true })
  const { code, stderr } = await run('tar', ['-xzf', tarball, '-C', target, '--strip-components=1'])
  assert.equal(code, 0, stderr)
  return target
}

/** Its dependencies and what an application has beside it are those of this repository. */
function install(target: string): void {
  const { dependencies } = JSON.parse(readFileSync(join(target, 'package.json'), 'utf8'))
  for (const name of [...Object.keys(dependencies), 'fastify', '@types/node', '@types/ws']) {
    const link = join(folder, 'node_modules', name)
    mkdirSync(dirname(link), { recursive: true })
    symlinkSync(path(`node_modules/${name}`), link)
  }
}

/** Writes the files and runs the first of them. */
async function use(sources: Record<string, string>): Promise<string> {
  for (const [name, text] of Object.entries(sources)) writeFileSync(join(folder, name), text)
  const { code, stdout, stderr } = await run(process.execPath, [join(folder, Object.keys(sources)[0]!)], {
    cwd: folder,
  })
  assert.deepEqual([code, stderr], [0, ''])
  return stdout
}

const LIVE = `
  const app = Fastify()
  await app.register(pushBridge, { path: '/ws', authenticate: () => ({ user: '42' }) })
  const connection = await openConnection(app, '/ws')
  await app.push.publish('user:42', { type: 'notice', payload: { text: 'hi' } })
  console.log((await connection.next('notice')).payload.text)
  const client = connect('ws://127.0.0.1:' + app.server.address().port + '/ws', { WebSocket })
  await new Promise(resolve => client.listen('welcome', resolve))
  client.close()
  const publisher = createPublisher({ redis: 'redis://127.0.0.1:1' })
  await publisher.close()
  await app.close()
`

test('the pack holds only what users need', () => {
  const allowed =
    /^(dist\/.+\.(js|d\.ts)|dist\/redis\/push\.lua|docs\/.+\.md|README\.md|LICENSE|CHANGELOG\.md|package\.json)$/
  assert.deepEqual(
    files.filter(file => !allowed.test(file)),
    [],
  )
  const needed = ['index', 'publisher', 'client', 'testing', 'cli'].flatMap(name => [
    `dist/${name}.js`,
    ...(name === 'cli' ? [] : [`dist/${name}.d.ts`]),
  ])
  for (const file of [...needed, 'dist/client.module.js', 'LICENSE', 'package.json']) {
    assert.ok(files.includes(file), `${file} is missing`)
  }
})

test('require() gives every entry', async () => {
  const source = `
    const Fastify = require('fastify')
    const { WebSocket } = require('ws')
    const bridge = require('fastify-push-bridge')
    const { createPublisher } = require('fastify-push-bridge/publisher')
    const { connect } = require('fastify-push-bridge/client')
    const { openConnection } = require('fastify-push-bridge/testing')
    require('fastify-push-bridge/package.json')
    const pushBridge = bridge.default
    async function main() { ${LIVE} }
    main()`
  assert.equal(await use({ 'main.cjs': source }), 'hi\n')
})

test('app.register(require(…)) works without .default', async () => {
  const source = `
    const app = require('fastify')()
    app.register(require('fastify-push-bridge'), { path: '/ws' })
    app.ready().then(() => { console.log(typeof app.push.publish); return app.close() })`
  assert.equal(await use({ 'plain.cjs': source }), 'function\n')
})

test('import gives every entry', async () => {
  const source = `
    import Fastify from 'fastify'
    import { WebSocket } from 'ws'
    import pushBridge from 'fastify-push-bridge'
    import { createPublisher } from 'fastify-push-bridge/publisher'
    import { connect } from 'fastify-push-bridge/client'
    import { openConnection } from 'fastify-push-bridge/testing'
    ${LIVE}`
  assert.equal(await use({ 'main.mjs': source }), 'hi\n')
})

test('the command runs from the package', async () => {
  const { bin } = JSON.parse(readFileSync(join(folder, 'node_modules/fastify-push-bridge/package.json'), 'utf8'))
  const command = join(folder, 'node_modules/fastify-push-bridge', bin['fastify-push-bridge'])
  const { code, stdout, stderr } = await run(process.execPath, [command, '--help'], { cwd: folder })
  assert.equal(code, 0, stderr)
  assert.match(stdout, /REDIS_URL/)
})

const TYPED = `
  import Fastify from 'fastify'
  import pushBridge, { type PushBridgeOptions, clientHandler } from 'fastify-push-bridge'
  import { createPublisher } from 'fastify-push-bridge/publisher'
  import { type Client, connect } from 'fastify-push-bridge/client'
  import { openConnection } from 'fastify-push-bridge/testing'

  declare module 'fastify-push-bridge' {
    interface Publications { 'order.created': { id: number } }
  }

  export async function main(): Promise<string> {
    const app = Fastify()
    const options: PushBridgeOptions = { path: '/ws', authenticate: request => ({ user: request.ip }) }
    await app.register(pushBridge, options)
    const { nodes } = await app.push.publish('user:42', { type: 'order.created', payload: { id: 1 } })
    // @ts-expect-error: the payload of this type has a number
    await app.push.publish('user:42', { type: 'order.created', payload: { id: '1' } })
    // @ts-expect-error: there is no such option
    const wrong: PushBridgeOptions = { path: '/ws', redisPrefx: 'push:' }
    const client: Client<{ 'order.created': { id: number } }> = connect('/ws')
    client.on('order.created', order => order.id.toFixed(nodes))
    const connection = await openConnection(app, '/ws')
    const publisher = createPublisher({ redis: 'redis://127.0.0.1' })
    await publisher.publish('all', { type: 'order.created', payload: { id: 1 } })
    return connection.welcome.node + String(wrong) + typeof clientHandler
  }
`

for (const [name, file] of [
  ['an ES module', 'typed.mts'],
  ['a CommonJS module', 'typed.cts'],
] as const) {
  test(`the types resolve from ${name} under nodenext`, async () => {
    writeFileSync(join(folder, file), TYPED)
    const options = ['--module', 'nodenext', '--target', 'es2023', '--strict', '--types', 'node', '--noEmit']
    const checks = ['--lib', 'es2023', '--exactOptionalPropertyTypes', '--skipLibCheck', 'false']
    const { code, stdout } = await run(path('node_modules/.bin/tsc'), [...options, ...checks, file], { cwd: folder })
    assert.equal(code, 0, stdout)
  })
}
