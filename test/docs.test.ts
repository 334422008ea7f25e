import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { EventEmitter } from 'node:events'
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { after, before, type TestContext, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import Fastify, { type FastifyInstance } from 'fastify'
import { Cluster } from 'ioredis'
import { Registry } from 'prom-client'
import { type TSchema, Type } from 'typebox'
import { WebSocket } from 'ws'
import { tracing } from '../src/broker/tracing.ts'
import { msgpack } from '../src/client/msgpack.ts'
import pushBridge, { clientHandler, type PushBridgeOptions } from '../src/index.ts'
import { StreamsIngressSchema } from '../src/ingress/streams/options.ts'
import { streamsIngress } from '../src/ingress/streams/streams.ts'
import { EVENT_FLAGS, EVENT_USAGE } from '../src/node/events/environment.ts'
import { METRICS_FLAGS } from '../src/node/monitoring/environment.ts'
import { COUNTERS, GAUGES, HISTOGRAMS, LOOP_DELAY } from '../src/node/monitoring/series.ts'
import { readConfig, SERVER_KEYS } from '../src/node/serve-config.ts'
import { registerOptions } from '../src/node/serve-options.ts'
import { readSettings, SERVE_FLAGS, type ServeSettings, USAGE } from '../src/node/serve-settings.ts'
import { CompressionSchema } from '../src/options/compression.ts'
import { EventsSchema } from '../src/options/events.ts'
import { HealthSchema, MetricsSchema } from '../src/options/monitoring.ts'
import { ApiSchema, OptionsSchema } from '../src/options/options.ts'
import { OPTION_KEYS, parseOptions } from '../src/options/parse.ts'
import { SseSchema } from '../src/options/sse.ts'
import { type Decoded, decodeEnvelope } from '../src/protocol/envelope.ts'
import { errors } from '../src/protocol/errors.ts'
import { EVENT_KINDS, EventWriter } from '../src/protocol/event.ts'
import { decodeEventId } from '../src/protocol/event-id.ts'
import { CLOSE, type From, shouldReconnect } from '../src/protocol/messages.ts'
import { KEY_ACTIONS } from '../src/protocol/rights.ts'
import { PublishRequestSchema } from '../src/publish/request.ts'
import { createPublisher } from '../src/publisher.ts'
import { API_ROUTES } from '../src/routes/api-routes.ts'
import { FailureSchema, ResultSchema, StatusAnswer, TicketBody } from '../src/routes/api-schemas.ts'
import { COMMANDS } from '../src/terminal/commands.ts'
import { openConnection } from './helpers/app.ts'
import { openStream, postStream } from './helpers/event-stream.ts'
import { cleanups, temporaryFolder } from './helpers/processes.ts'
import { findProgram } from './helpers/programs.ts'
import { freePort, type RedisServer, startRedis } from './helpers/redis.ts'
import { startCluster } from './helpers/redis-cluster.ts'
import { once, PATIENCE, START, until, within } from './helpers/waiting.ts'

const ROOT = fileURLToPath(new URL('../', import.meta.url))
const KEY = 'a-key-of-the-documents'

// ── the documents ──────────────────────────────────────────────────────────────────────────────────────────────────

const CONTRACTS = ['README.md', 'docs/options.md', 'docs/api.md', 'docs/protocol.md', 'docs/redis.md']
const DOCUMENTS = [
  ...CONTRACTS,
  'docs/front-ends.md',
  'docs/events.md',
  'docs/ingress.md',
  'docs/php.md',
  'docs/laravel.md',
  'php/README.md',
  'docs/guarantees.md',
  'docs/operations.md',
  'docs/deploy.md',
  'docs/cli.md',
  'docs/architecture.md',
  'docs/comparison.md',
  'docs/scale.md',
  'docs/tutorial.md',
  'docs/choose.md',
  ...readdirSync(new URL('../docs/coming-from', import.meta.url)).map(name => `docs/coming-from/${name}`),
  'README.zh-CN.md',
  'CHANGELOG.md',
  'CONTRIBUTING.md',
  'SECURITY.md',
]

interface Block {
  file: string
  heading: string
  lang: string
  code: string
}

const read = (file: string) => readFileSync(join(ROOT, file), 'utf8')

interface PackageJson {
  name: string
  repository: { url: string }
  homepage: string
  bugs: { url: string }
  scripts: Record<string, string>
  peerDependencies: Record<string, string>
  peerDependenciesMeta: Record<string, { optional?: boolean }>
}

const packageJson = JSON.parse(read('package.json')) as PackageJson
const without = (text: string) => text.replaceAll('`', '')

function blocksOf(file: string): Block[] {
  const blocks: Block[] = []
  let heading = ''
  let open: Block | undefined
  for (const line of read(file).split('\n')) {
    const fence = /^```(\w*)/.exec(line)
    if (fence && open) {
      blocks.push(open)
      open = undefined
    } else if (fence) open = { file, heading, lang: fence[1]!, code: '' }
    else if (open) open.code += `${line}\n`
    else heading = /^#+ (.+)/.exec(line)?.[1] ?? heading
  }
  return blocks
}

const blocks = [...CONTRACTS, 'docs/operations.md'].flatMap(blocksOf)
const unused = new Set(blocks.filter(({ file }) => CONTRACTS.includes(file)))

/** The blocks of a language under a heading, which from now on count as run. */
function take(file: string, heading: string, lang: string): string[] {
  const found = blocks.filter(block => block.file === file && block.heading === heading && block.lang === lang)
  assert.ok(found.length > 0, `${file} has no ${lang} under "${heading}"`)
  for (const block of found) unused.delete(block)
  return found.map(({ code }) => code)
}

const cells = (row: string) => row.slice(2, -2).split(' | ')

/** The rows of the table under a heading, as cells. */
function tableOf(file: string, heading: string): string[][] {
  const section = read(file)
    .split(/^#+ /m)
    .find(part => part.startsWith(`${heading}\n`))
  assert.ok(section, `${file} has no heading "${heading}"`)
  const rows = section.split('\n').filter(line => line.startsWith('|'))
  return rows.slice(2).map(cells)
}

/** The rows of every table of a text whose first column has this name. */
function rowsOf(text: string, column: string): string[][] {
  const tables = text.match(/^\|(?:.*\n\|)*.*$/gm) ?? []
  const rows = tables.map(table => table.split('\n')).filter(([head]) => cells(head!)[0] === column)
  return rows.flatMap(([, , ...body]) => body.map(cells))
}

/** A section of a document, with those below it. */
function sectionOf(file: string, heading: string): string {
  const [, section] = read(file).split(`\n## ${heading}\n`)
  assert.ok(section, `${file} has no heading "${heading}"`)
  return section.split('\n## ')[0]!
}

// ── running what they say ──────────────────────────────────────────────────────────────────────────────────────────

const all = cleanups()
const folder = temporaryFolder(all)
const env = { ...process.env, PUSH_API_KEY: KEY }
let redis: RedisServer
let port: number
let server: Program

const ENTRIES: Record<string, string> = {
  'fastify-push-bridge': 'src/index.ts',
  'fastify-push-bridge/client': 'src/client/index.ts',
  'fastify-push-bridge/ingress-streams': 'src/ingress/streams/streams.ts',
  'fastify-push-bridge/client/msgpack': 'src/client/msgpack.ts',
  'fastify-push-bridge/echo': 'src/client/echo/index.ts',
  'fastify-push-bridge/publisher': 'src/publisher.ts',
  'fastify-push-bridge/testing': 'src/testing.ts',
}

/** The same text for the ports, programs and files of this test. */
function localise(code: string): string {
  return code
    .replaceAll('6379', `${redis.port}`)
    .replaceAll(/\b3000\b/g, `${port}`)
    .replaceAll('redis-cli ', `redis-cli -p ${redis.port} `)
    .replaceAll('npx fastify-push-bridge', `exec ${process.execPath} --import tsx src/cli.ts`)
    .replaceAll(/from '([^']+)'/g, (_all, from: string) => `from '${locate(from)}'`)
}

function locate(from: string): string {
  if (ENTRIES[from]) return new URL(`../${ENTRIES[from]}`, import.meta.url).href
  return from.endsWith('/client.js') ? './client.mjs' : import.meta.resolve(from)
}

/** A program that is running, and what it has printed so far. */
class Program {
  output = ''
  hasEnded = false
  readonly process: ChildProcess

  constructor(child: ChildProcess) {
    this.process = child
    for (const stream of [child.stdout!, child.stderr!]) {
      stream.on('data', chunk => {
        this.output += chunk
      })
    }
    // Behind the last of what it printed.
    child.on('close', () => {
      this.hasEnded = true
    })
  }

  /** Resolves when `pattern` was printed `times` times. */
  async until(pattern: RegExp, times = 1): Promise<void> {
    const isThere = () => (this.output.match(new RegExp(pattern, `g${pattern.flags}`)) ?? []).length >= times
    const sentence = () => `${times} times ${pattern} in: ${this.output}`
    await until(() => isThere() || this.hasEnded, sentence, START)
    assert.ok(isThere(), `it ended without ${sentence()}`)
  }

  async stop(): Promise<void> {
    if (this.process.exitCode !== null || this.process.signalCode !== null) return
    const exit = once(this.process, 'exit')
    this.process.kill('SIGKILL')
    await exit
  }
}

let modules = 0

/** Runs a block of JavaScript in a process of its own, with what a browser has and Node 20 lacks. */
function runModule(code: string): Program {
  const file = join(folder, `block-${modules++}.mjs`)
  const prelude = `import { WebSocket as Ws } from '${import.meta.resolve('ws')}'
    globalThis.WebSocket ??= Ws
    globalThis.sessionStorage ??= { getItem: name => globalThis[name] ?? null, setItem: (name, value) => { globalThis[name] = value } }\n`
  writeFileSync(file, prelude + localise(code))
  const child = spawn(process.execPath, ['--import', import.meta.resolve('tsx'), file], {
    cwd: folder,
    env: { ...env, REDIS_URL: redis.url },
  })
  const program = new Program(child)
  all.after(() => program.stop())
  return program
}

const execute = promisify(execFile)

/** What the programs in a block print. Undefined, after saying so, where this machine lacks the program. */
async function run(t: TestContext, program: string, code: string): Promise<string | undefined> {
  if (!hasProgram(program)) {
    t.diagnostic(`${program} is not on the PATH: its lines are not run`)
    return undefined
  }
  const file = join(folder, `block-${modules++}`)
  writeFileSync(file, localise(code))
  const options = { cwd: ROOT, env, timeout: PATIENCE }
  const { stdout } = await execute(program === 'php' ? 'php' : 'bash', [file], options)
  return stdout
}

const hasPhpRedis = () => spawnSync('php', ['-r', 'exit(extension_loaded("redis") ? 0 : 1);']).status === 0
const hasProgram = (name: string) => findProgram(name) !== undefined && (name !== 'php' || hasPhpRedis())

/** Publishes until as many connections get it: what was started may still be connecting. */
async function untilDelivered(topic: string, connections: number): Promise<void> {
  const publisher = createPublisher({ redis: redis.url, publishTimeout: PATIENCE })
  let delivered: number | undefined
  const probe = async () => {
    delivered = (await publisher.publish(topic, { type: 'probe', receipt: true })).delivered
    return delivered === connections
  }
  try {
    await until(probe, () => `${connections} connections of ${topic}, only ${delivered}`)
  } finally {
    await publisher.end()
  }
}

/** The module in a page, with what it uses of a page; what it shows is printed. */
function runPage(page: string): Program {
  const [, script] = /<script type="module">([\s\S]*)<\/script>/.exec(page)!
  const document = `{
    baseURI: 'http://127.0.0.1:${port}/',
    body: { append: (...parts) => console.log(parts.join('')) },
    createElement: () => '',
    addEventListener() {},
    removeEventListener() {},
  }`
  return runModule(`globalThis.document = ${document}\n${script}`)
}

before(async () => {
  redis = await startRedis(all)
  port = await freePort()
  const [page] = take('README.md', 'In the browser', 'html')
  writeFileSync(join(folder, 'page.html'), page!)
  // The page on the push API says which option opens it.
  const [, api] = /`(api: \{ .+ \})`/.exec(sectionOf('docs/api.md', '`POST /push`'))!
  const [code] = take('README.md', 'In a Fastify application', 'js')
  server = runModule(code!.replace("path: '/ws',", `path: '/ws', ${api},`))
  await server.until(/Server listening/)
  const response = await fetch(`http://127.0.0.1:${port}/ws/client.js`)
  writeFileSync(join(folder, 'client.mjs'), await response.text())
})

after(() => all.end())

// ── README.md ──────────────────────────────────────────────────────────────────────────────────────────────────────

test('README: the application, its page, the receipt and PHP', async t => {
  const page = runPage(await (await fetch(`http://127.0.0.1:${port}/`)).text())
  await page.until(/^open$/m)
  await untilDelivered('channel:orders', 1)
  const [receipt] = take('README.md', 'Did anybody get it?', 'js')
  const sent = runModule(receipt!)
  await once(sent.process, 'close', START)
  assert.equal(sent.output.replace(/\s+/g, ' ').trim(), /\/\/ (\{.*\})/.exec(receipt!)![1])

  const response = await fetch(`http://127.0.0.1:${port}/orders`, { method: 'POST' })
  assert.deepEqual(await response.json(), { topic: 'channel:orders', nodes: 1 })
  await page.until(/order 7 on channel:orders/)
  const [php] = take('README.md', 'From PHP', 'php')
  if ((await run(t, 'php', php!)) !== undefined) await page.until(/order 8 on channel:orders/)
  await page.stop()
})

test('README: serve, and a ticket of the Redis contract', async t => {
  const [serve] = take('README.md', 'Without a Node application', 'bash') as [string]
  const [ticket] = take(REDIS, 'Tickets', 'bash') as [string]
  const own = await freePort()
  const child = spawn('bash', ['-c', localise(serve)], { cwd: ROOT, env: { ...process.env, PORT: `${own}` } })
  const program = new Program(child)
  t.after(() => program.stop())
  await program.until(/Server listening/)
  // A server that listens need not have reached Redis yet.
  await until(async () => (await fetch(`http://127.0.0.1:${own}/readyz?strict`)).ok, 'serve has reached Redis')
  if ((await run(t, 'redis-cli', ticket)) === undefined) return
  const secret = /ticket:(\w+)/.exec(ticket)![1]
  const socket = new WebSocket(`ws://127.0.0.1:${own}/ws/orders?ticket=${secret}`)
  t.after(() => socket.terminate())
  const [welcome] = await once(socket, 'message')
  assert.equal(JSON.parse(String(welcome)).payload.user, '42')
})

test('README: the npm commands are there', () => {
  const { name, peerDependencies, peerDependenciesMeta } = packageJson
  const needed = Object.keys(peerDependencies).filter(peer => !peerDependenciesMeta[peer]?.optional)
  assert.deepEqual(take('README.md', name, 'bash'), [`npm install ${needed.join(' ')} ${name}\n`])
  assert.deepEqual(take('README.md', 'See it run', 'bash'), ['npm ci && npm start\n'])
  for (const file of DOCUMENTS) {
    const names = [...read(file).matchAll(/npm run ([\w:-]+)/g)].map(([, name]) => name!)
    for (const name of [...names, 'start', 'test']) assert.ok(packageJson.scripts[name], `${file}: npm run ${name}`)
  }
})

test('options: the tables are the schema', () => {
  const expected = new Map<string, string>()
  const leaves = (schema: TSchema, at: string) => {
    for (const [key, property] of Object.entries((schema as { properties?: object }).properties ?? {})) {
      if ('properties' in property) leaves(property, `${at}${key}.`)
      else expected.set(at + key, property.default === undefined ? '' : JSON.stringify(property.default))
    }
  }
  leaves(OptionsSchema, '')
  leaves(ApiSchema, 'api.')
  leaves(EventsSchema, 'events.')
  leaves(CompressionSchema, 'compression.')
  expected.set('compression', 'false')
  leaves(SseSchema, 'sse.')
  expected.set('sse', 'false')
  leaves(HealthSchema, 'health.')
  leaves(MetricsSchema, 'metrics.')
  const [, callbacks] = /interface PushBridgeOptions [^{]*\{\n([\s\S]*?)\n\}/.exec(read('src/options/options.ts'))!
  const others = [...callbacks!.matchAll(/^ {2}(\w+)\??[:(]/gm), ...callbacks!.matchAll(/^ {4}(on\w+)\??[:(]/gm)]
  for (const [line, name] of others) {
    const path = line.startsWith('    ') ? `api.${name}` : name!
    if (!expected.has(path) && ![...expected.keys()].some(key => key.startsWith(`${path}.`))) expected.set(path, '')
  }
  const rows = rowsOf(read('docs/options.md'), 'option').map(([name, fallback]) => [without(name!), fallback!] as const)
  assert.deepEqual(rows.map(([name]) => name).toSorted(), [...expected.keys()].toSorted())
  for (const [name, fallback] of rows) {
    if (name === 'redis') assert.equal(fallback, '`false`')
    else if (expected.get(name)) assert.equal(fallback, `\`${expected.get(name)}\``, name)
    else assert.doesNotMatch(fallback, /^`/, `${name} has no default in the schema`)
  }
})

test('options: the example', async t => {
  const app = Fastify()
  t.after(() => app.close())
  const [code] = take('docs/options.md', 'Options', 'js')
  const process = { env: { REDIS_URL: redis.url, PUSH_API_KEY: KEY } }
  const AsyncFunction = (async () => {}).constructor as new (
    ...parts: string[]
  ) => (...args: unknown[]) => Promise<void>
  await new AsyncFunction('app', 'pushBridge', 'process', code!)(app, pushBridge, process)
  const { welcome } = await openConnection(app, '/ws/orders.7?user=42')
  assert.ok('channel:news' in welcome.topics && 'channel:orders.7' in welcome.topics)
  const push = (to: string) =>
    app.inject({
      method: 'POST',
      url: '/push',
      headers: { authorization: `Bearer ${KEY}` },
      payload: { to, type: 'notice' },
    })
  assert.equal((await push('channel:orders.7')).json().seq, 1)
  assert.equal((await push('channel:news')).statusCode, 403)
})

// ── docs/api.md ────────────────────────────────────────────────────────────────────────────────────────────────────

const API = 'docs/api.md'

test('api: publishing over HTTP, with curl and PHP', async t => {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws?user=7`)
  t.after(() => socket.terminate())
  await once(socket, 'message')
  const [single, batch] = take(API, '`POST /push`', 'bash') as [string, string]
  const [result, results] = take(API, '`POST /push`', 'json') as [string, string]
  const [php] = take(API, '`POST /push`', 'php') as [string]
  for (const [program, code, expected] of [
    ['curl', single, result],
    ['php', php, result],
    ['curl', batch, results],
  ] as const) {
    const answer = await run(t, program, code)
    if (answer !== undefined) assert.equal(answer.trim(), expected.trim())
  }
})

test('api: the other routes, with curl and PHP', async t => {
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws?user=9`)
  t.after(() => socket.terminate())
  await once(socket, 'message')
  const closed = once(socket, 'close')
  const heading = 'The other routes'
  const [subscribe, close, status] = take(API, heading, 'bash') as [string, string, string]
  const answers = take(API, heading, 'json')
  for (const [i, code] of [subscribe, close].entries()) {
    const answer = await run(t, 'curl', code)
    if (answer !== undefined) assert.equal(answer.trim(), answers[i]!.trim())
  }
  const said = await run(t, 'curl', status)
  if (said !== undefined) {
    assert.equal(JSON.parse(said).connected, true)
    const [code, reason] = await closed
    assert.deepEqual([code, String(reason)], [4403, 'your account was locked'])
  }
  const ticket = await run(t, 'php', take(API, heading, 'php')[0]!)
  if (ticket === undefined) return
  const app = await buildApp(t, { tickets: true, authenticate: () => null })
  const { welcome } = await openConnection(app, `/ws/orders.7?ticket=${ticket}`)
  assert.equal(welcome.user, '42')
})

test('api: the table of routes is that of the code, and so is that of the actions of keys', () => {
  const routes = tableOf(API, 'The other routes').filter(([route]) => route!.startsWith('`'))
  const written = routes.map(([route, body, gives]) => [without(route!), namesIn([[body!]]), gives])
  for (const { method, path, body, query } of API_ROUTES) {
    const row = written.find(([route]) => route === `${method} /push${path}`)
    assert.ok(row, `${method} ${path}`)
    const keys = Object.keys((body as { properties?: object } | undefined)?.properties ?? query?.properties ?? {})
    if (path === '/tickets') assert.deepEqual(row[1], ['ttl'])
    else if (path !== '' && row[1]!.length > 0) assert.deepEqual(row[1], keys.toSorted())
  }
  assert.equal(written.length, API_ROUTES.length)
  assert.deepEqual(namesIn(tableOf('docs/options.md', 'Keys')), [...KEY_ACTIONS].toSorted())
  const statuses = tableOf(API, 'The other routes').flatMap(([cell]) => cell!.match(/^\d{3}.*/) ?? [])
  const named = statuses.flatMap(cell => cell.split(', '))
  const { paths } = JSON.parse(read('docs/openapi.json')) as { paths: Record<string, { post: { responses: object } }> }
  const responses = Object.keys(paths['/push']!.post.responses)
  assert.deepEqual(['200', ...named], responses)
})

test('openapi.json: its schemas have what the interfaces have', () => {
  const keys = ({ properties }: { properties: object }) => Object.keys(properties).toSorted()
  assert.deepEqual(keys(ResultSchema), membersOf('src/publish/result.ts', 'PublishResult'))
  assert.deepEqual(keys(FailureSchema), membersOf('src/publish/result.ts', 'PublishFailure'))
  assert.deepEqual(keys(StatusAnswer), membersOf('src/bridge.ts', 'Status'))
  const { ttl: _ttl, ...identity } = TicketBody.properties
  assert.deepEqual(keys({ properties: identity }), membersOf('src/options/identity.ts', 'Authentication'))
})

test('api: the publisher, the client and the test of an application', async () => {
  const client = runModule(take(API, 'The client', 'js')[0]!)
  await client.until(/^open$/m)
  for (const heading of ['`createPublisher`', 'Testing']) {
    const [code] = take(API, heading, 'js')
    const program = runModule(code!)
    await once(program.process, 'close', START)
    assert.equal(program.output.replace(/\s+/g, ' ').trim(), /\) \/\/ (.*)/.exec(code!)![1])
  }
  await untilDelivered('channel:orders', 1)
  await fetch(`http://127.0.0.1:${port}/orders`, { method: 'POST' })
  await client.until(/^order 7$/m)
  await client.stop()
})

test('api: a client with another codec', async t => {
  const app = await buildApp(t, { codecs: ['json', 'msgpack'] })
  const { port: own } = app.server.address() as { port: number }
  const client = runModule(take(API, 'Another codec', 'js')[0]!.replace('3000', `${own}`))
  const message = { type: 'thumbnail', payload: { id: 7, png: new Uint8Array(8) } }
  // It has the topic a moment before Redis knows of that.
  const isHeard = async () => (await app.push.publish('channel:orders', { ...message, receipt: true })).delivered === 1
  await until(
    async () => client.hasEnded || (await isHeard()),
    () => `its subscription; it said ${client.output}`,
    START,
  )
  await client.until(/^thumbnail 8 bytes$/m)
  await client.stop()
})

/** The names that a table gives to what it lists; several may share a row. */
const namesIn = (rows: string[][]) =>
  [...new Set(rows.flatMap(([cell]) => [...cell!.matchAll(/`(\w+)/g)].map(([, name]) => name!)))].toSorted()

/** The members of an interface in the source. */
function membersOf(file: string, name: string): string[] {
  const [, body] =
    new RegExp(`interface ${name}\\b[^{]*(?:\\{\\s*\\}[^{]*)?\\{\\n([\\s\\S]*?)\\n\\}`).exec(read(file)) ?? []
  assert.ok(body, `${file} has no interface ${name}`)
  return [...new Set([...body.matchAll(/^ {2}(?:readonly )?(\w+)[?:(<]/gm)].map(([, member]) => member!))].toSorted()
}

test('api: every table is complete', async t => {
  const app = Fastify()
  t.after(() => app.close())
  await app.register(pushBridge, { path: '/ws' })
  await app.ready()
  const methods = Object.getOwnPropertyNames(Object.getPrototypeOf(app.push)).filter(name => name !== 'constructor')
  const rows = (heading: string, column: string) => namesIn(rowsOf(sectionOf(API, heading), column))
  assert.deepEqual(namesIn(tableOf(API, '`app.push`')), [...methods, ...Object.keys(app.push)].toSorted())
  const { to: _to, ...message } = PublishRequestSchema.properties
  assert.deepEqual(namesIn(tableOf(API, 'The message')), Object.keys(message).toSorted())
  assert.deepEqual(namesIn(tableOf(API, 'The result')), membersOf('src/publish/result.ts', 'PublishResult'))
  assert.deepEqual(rows('`createPublisher`', 'call'), membersOf('src/publisher.ts', 'ScriptPublisher'))
  assert.deepEqual(rows('`createPublisher`', 'option'), membersOf('src/publisher.ts', 'CreatePublisherOptions'))
  assert.deepEqual(rows('The client', 'option'), membersOf('src/client/options.ts', 'ClientOptions'))
  assert.deepEqual(rows('The client', 'member'), membersOf('src/client/index.ts', 'Client'))
  assert.deepEqual(rows('The client', 'event'), membersOf('src/client/index.ts', 'ClientEvents'))
  assert.deepEqual(rows('Testing', 'member'), membersOf('src/testing.ts', 'TestConnection'))
  const identity = namesIn(tableOf('docs/options.md', 'The identity'))
  assert.deepEqual(identity, membersOf('src/options/identity.ts', 'Authentication'))
})

// ── docs/protocol.md ───────────────────────────────────────────────────────────────────────────────────────────────

interface Positioned {
  topic?: string
  id?: unknown
}

type Message = Positioned & { type: string; payload: unknown; from?: From; seq?: number; ack?: string }

/** An application for what the documents say of one; it ends with the test. */
async function buildApp(t: TestContext, options: Partial<PushBridgeOptions> = {}): Promise<FastifyInstance> {
  const app = Fastify()
  t.after(() => app.close())
  await app.register(pushBridge, {
    path: '/ws',
    redis: redis.url,
    authenticate: () => ({ user: '42', allow: ['channel:*'] }),
    ...options,
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  return app
}

/** A session at which the lines of a dialogue are said and expected one after the other. */
async function openSession(t: TestContext, app: FastifyInstance) {
  const { port: own } = app.server.address() as { port: number }
  const socket = new WebSocket(`ws://127.0.0.1:${own}/ws/orders`)
  t.after(() => socket.terminate())
  const heard: string[] = []
  socket.on('message', data => {
    heard.push(String(data))
    socket.emit('heard')
  })
  const next = async (): Promise<string> => {
    if (heard.length === 0) await once(socket, 'heard')
    return heard.shift()!
  }
  return { socket, next }
}

const RECORDED = { size: 100, ttl: 3600 }

test('protocol: every dialogue is what is said', async t => {
  const greet = clientHandler(Type.Object({ name: Type.String() }), ({ name }) => ({ text: `hello ${name}` }))
  const history = { 'user:42': RECORDED, 'channel:prices': RECORDED }
  const allow = ['channel:*', { topics: 'channel:room', actions: ['subscribe', 'publish'] as const }]
  const app = await buildApp(t, {
    redisPrefix: 'protocol:',
    handlers: { greet },
    clientPublications: { 'chat.message': { schema: Type.Object({ text: Type.String() }) } },
    history,
    authenticate: () => ({ user: '42', allow: [...allow, { topics: 'channel:prices', actions: ['history'] }] }),
    onAuthenticate: ({ token }: { token: string }) => ({
      user: token === 'a fresh one' ? '42' : '7',
      allow: ['channel:orders', { topics: 'channel:prices', actions: ['subscribe', 'history'] }],
      expires: 4_102_444_800_000,
    }),
  })
  const { socket, next } = await openSession(t, app)
  const names = new Aliases()
  let acknowledged: Promise<{ acknowledged?: number }> | undefined

  /** Sees to it that the server says `line`; what it says by itself, or again, needs nothing. */
  const provoke = async ({ type, payload, topic, from, seq, id, ack }: Message) => {
    if (type === 'gap' && (payload as { reason: string }).reason === 'broker_link') {
      await redis.kill()
      await redis.start()
    }
    if (!topic || names.isKnown(topic, id)) return
    const published = app.push.publish(topic, { type, payload, from, ...(ack && { ack: true }), ...(!id && { seq }) })
    if (ack) acknowledged = published
    else await published
  }

  const expect = async (line: string) => {
    const written = JSON.parse(line) as Message
    await provoke(written)
    const closed = written.type === 'reconnect' ? app.close() : undefined
    const actual = await next()
    if (!closed) return assert.deepEqual(names.alias(JSON.parse(actual), written), written)
    assert.match(actual, /^\{"type":"reconnect","payload":\{"after":\d+\}\}$/)
    const [code] = await once(socket, 'close')
    assert.equal(code, CLOSE.RESTART)
    await closed
  }

  const headings = blocks.filter(({ file, lang }) => file === 'docs/protocol.md' && lang === 'text')
  for (const heading of new Set(headings.map(block => block.heading))) {
    if (heading === '`reconnect`: server to client') continue
    for (const line of take('docs/protocol.md', heading, 'text').join('').trim().split('\n')) {
      if (line.startsWith('→ ')) socket.send(names.real(line.slice(2)))
      else await expect(line.slice(2))
    }
  }
  assert.equal((await acknowledged)?.acknowledged, 1)
  for (const line of take('docs/protocol.md', '`reconnect`: server to client', 'text'))
    await expect(line.trim().slice(2))
})

/** What is new every time, and what the document has in its place: one name for each, wherever it stands. */
class Aliases {
  readonly #written = new Map<string, string>()
  readonly #actual = new Map<string, string>()

  /** `actual` with the names of `written`. */
  alias(actual: Message, written: Message): unknown {
    if (written.type === 'welcome') {
      const [a, w] = [actual.payload, written.payload] as [Record<string, string>, Record<string, string>]
      for (const key of ['connection', 'node']) this.#add(a[key]!, w[key]!)
    }
    if (written.ack) this.#add(actual.ack!, written.ack)
    const same = JSON.parse(this.#replace(JSON.stringify(actual), this.#written)) as Message
    const expected = new Map(positionsIn(written))
    for (const [topic, place] of positionsIn(same)) {
      const id = expected.get(topic)?.id
      if (typeof place.id !== 'string' || typeof id !== 'string') continue
      this.#add(`${topic} ${place.id}`, `${topic} ${id}`)
      place.id = id
    }
    return same
  }

  #add(actual: string, written: string): void {
    assert.equal(this.#written.get(actual) ?? written, written, `${actual} has two names`)
    assert.equal(this.#actual.get(written) ?? actual, actual, `${written} stands for two things`)
    this.#written.set(actual, written)
    this.#actual.set(written, actual)
  }

  isKnown(topic: string, id: unknown): boolean {
    return this.#actual.has(`${topic} ${id}`)
  }

  /** What a client sends that read what is written. */
  real(line: string): string {
    const text = this.#replace(line, this.#actual)
    const [, topic, since] = /"topic":"(.*?)","since":"(.*?)"/.exec(text) ?? []
    const known = this.#actual.get(`${topic} ${since}`)
    return known ? text.replace(since!, known.slice(known.indexOf(' ') + 1)) : text
  }

  #replace(text: string, names: ReadonlyMap<string, string>): string {
    const whole = [...names].filter(([from]) => !from.includes(' '))
    return whole.reduce((result, [from, to]) => result.replaceAll(from, to), text)
  }
}

/** Every object in a message that has the id of a topic. */
function positionsIn(message: Message): [string, Positioned][] {
  const payload = (message.payload ?? {}) as Positioned & Record<string, Record<string, Positioned>>
  const told: Record<string, Positioned> = { welcome: payload.topics, gap: payload.positions }[message.type] ?? {}
  const own: Positioned = message.type === 'subscribed' ? payload : message
  return own.topic === undefined ? Object.entries(told) : [[own.topic, own], ...Object.entries(told)]
}

test('protocol: a first message says who it is', async t => {
  const app = await buildApp(t, { authenticate: 'message', tickets: true })
  const [message] = take('docs/protocol.md', 'The first message says who it is', 'json')
  const { ticket } = JSON.parse(message!).payload
  await redis.admin.set(`push:ticket:${ticket}`, '{"user":"7","allow":["channel:orders"]}', 'EX', 30)
  const { socket, next } = await openSession(t, app)
  await once(socket, 'open')
  socket.send(message!)
  assert.equal(JSON.parse(await next()).payload.code ?? 'welcome', 'welcome')
})

test('protocol: the complete client gets what it missed', async t => {
  const gone = new EventEmitter()
  const onDisconnect = () => gone.emit('gone')
  const identity = { user: '42', allow: ['channel:*'] }
  let mayReturn = Promise.resolve()
  const app = await buildApp(t, {
    history: { 'channel:orders': RECORDED },
    onDisconnect,
    authenticate: () => mayReturn.then(() => identity),
  })
  const { port: own } = app.server.address() as { port: number }
  const order = (id: number) => app.push.publish('channel:orders', { type: 'order.created', payload: { id } })
  const client = runModule(take('docs/protocol.md', 'A complete client', 'js')[0]!.replace('3000', `${own}`))
  await untilDelivered('channel:orders', 1)
  await order(8)
  await client.until(/order\.created channel:orders \{ id: 8 \}/)
  let letIn = () => {}
  mayReturn = new Promise(resolve => {
    letIn = resolve
  })
  await Promise.all([once(gone, 'gone'), app.push.close('user:42', CLOSE.RESTART)])
  for (const id of [9, 10]) await order(id)
  letIn()
  await client.until(/id: 9 \}\n.*id: 10 \}/)
  assert.doesNotMatch(client.output, /id: 8 \}[\s\S]*id: 8 \}|gap/)
  assert.equal((await app.push.status()).metrics['recoveries_total{replayed}'], 1)
  await client.stop()
})

test('protocol: an event stream is what is shown, and its id what the server can read', async t => {
  const history = { 'channel:orders': RECORDED }
  const authenticate = () => ({ user: '42', allow: ['channel:*'] })
  const app = await buildApp(t, { redisPrefix: 'stream:', sse: true, history, authenticate })
  const [command, longer] = take('docs/protocol.md', 'Event streams', 'bash') as [string, string]
  const [shown] = take('docs/protocol.md', 'Event streams', 'http') as [string]
  const { pathname, search } = new URL(/'(http[^']+)'/.exec(command)![1]!)
  assert.equal(pathname, '/ws/-/events')
  const { port: own } = app.server.address() as { port: number }
  const reader = await openStream(t, own, search)
  const { connection, node } = await reader.welcomed()
  await app.push.publish('channel:orders', { type: 'order.created', payload: { id: 7 } })
  await reader.next('order.created')
  const other = await postStream(t, own, /-d '(.+)'/.exec(longer)![1]!)
  assert.ok('channel:orders' in (await other.welcomed()).topics)
  await app.close()
  await reader.closed()
  const written = JSON.parse(/^data: (.*welcome.*)$/m.exec(shown)![1]!).payload
  const ids = /[0-9a-z]+\.(\d+)\.\d+-\d+/g
  /** Fields of the events, with what is new every time as it is written. */
  const fieldsOf = (text: string) => {
    const named = text.replaceAll(connection, written.connection).replaceAll(node, written.node).replaceAll(ids, 'ID$1')
    const fields = named
      .split('\n')
      .filter(line => /^(event|data|id|retry):/.test(line) && !line.includes('"reconnect"'))
    return fields.map(line => line.replace(/^(id|retry): .*/, '$1'))
  }
  const actual = fieldsOf(reader.text)
  // Before the `reconnect` stands when to come back, for an EventSource.
  assert.deepEqual(actual.toSpliced(actual.lastIndexOf('retry'), 1), fieldsOf(shown))
  const positions = [...shown.matchAll(/^id: (.*)$/gm)].map(([, id]) => decodeEventId(id!).since.get('channel:orders'))
  assert.deepEqual(positions, ['t1.0.3-0', 't1.1.4-0'])
})

test('protocol: every error, every close code with its rule, and every reserved type is named', () => {
  const codes = tableOf('docs/protocol.md', 'Errors').map(([code, status]) => [without(code!), status])
  for (const make of Object.values(errors)) {
    const { code, statusCode } = new make('x') as { code: string; statusCode: number }
    const row = codes.find(([name]) => name === code)
    assert.ok(row, code)
    if (row[1] !== '–') assert.equal(row[1], `${statusCode}`, code)
  }
  const rows = new Map(tableOf('docs/protocol.md', 'Close codes').map(([code, , rule]) => [Number(code), rule!]))
  for (const code of Object.values(CLOSE)) assert.ok(rows.has(code), `close code ${code}`)
  for (const [code, rule] of rows) assert.equal(rule.startsWith('reconnects'), shouldReconnect(code), `${code}`)
  const reserved = /const RESERVED = new Set\(\[([^\]]*)\]/.exec(read('src/protocol/messages.ts'))![1]!.match(/\w+/g)!
  const listed = read('docs/protocol.md').split('## Reserved for later')[1]!
  for (const type of reserved) assert.ok(listed.includes(`\`${type}\``), type)
})

test('protocol: every reason of a gap and every word of refusal is named', () => {
  const reasons = /type GapReason =([\s\S]*?)\n\n/.exec(read('src/protocol/messages.ts'))![1]!.match(/\w+/g)!
  const listed = tableOf('docs/protocol.md', '`gap`: server to client').map(([reason]) => without(reason!))
  assert.deepEqual(listed.toSorted(), [...reasons].toSorted())
  const rejections = /type RejectReason =([\s\S]*?)\n\n/.exec(read('src/protocol/envelope.ts'))![1]!.match(/\w+/g)!
  const refused = tableOf('docs/redis.md', 'What is refused').map(([reason]) => without(reason!))
  assert.deepEqual(refused.toSorted(), [...rejections].toSorted())
})

// ── docs/redis.md ──────────────────────────────────────────────────────────────────────────────────────────────────

const REDIS = 'docs/redis.md'

const noted = () => until(() => redis.admin.exists('push:rejected'), 'a note of what was rejected')

const decode = (text: string): Decoded => decodeEnvelope(Buffer.from(text), 262_144)
const keysOf = (text: string) => Object.keys(JSON.parse(text)).toSorted()

test('protocol: other codecs, byte for byte, and bytes in JSON', async t => {
  const app = await buildApp(t, { codecs: ['json', 'msgpack', 'protobuf'] })
  const { port: own } = app.server.address() as { port: number }
  const PROTOCOL = 'docs/protocol.md'
  for (const [name] of tableOf(PROTOCOL, 'Other codecs')) {
    const socket = new WebSocket(`ws://127.0.0.1:${own}/ws`, [without(name!)])
    t.after(() => socket.terminate())
    const [, isBinary] = await once(socket, 'message')
    assert.deepEqual([socket.protocol, isBinary], [without(name!), name !== '`push.json`'])
    if (name !== '`push.msgpack`') continue
    for (const line of take(PROTOCOL, 'Other codecs', 'hex')[0]!.trim().split('\n')) {
      const [, arrow, hex, json] = /^(.) ([0-9a-f ]+?) {2,}(.*)$/.exec(line)!
      const bytes = Buffer.from(hex!.replaceAll(' ', ''), 'hex')
      assert.deepEqual(msgpack.decodeMessage(bytes), JSON.parse(json!))
      if (arrow === '→') socket.send(bytes)
      else assert.deepEqual((await once(socket, 'message'))[0], bytes)
    }
  }
  const [written] = take(PROTOCOL, 'Bytes in JSON', 'json') as [string]
  const connection = await openConnection(app, '/ws/orders')
  const coded = await openConnection(app, '/ws/orders', { codec: msgpack })
  const { type, payload } = JSON.parse(written) as { type: string; payload: { id: number; png: { $binary: string } } }
  const png = Buffer.from(payload.png.$binary, 'base64')
  await app.push.publish('channel:orders', { type, payload: { ...payload, png } })
  assert.deepEqual(await connection.next(), JSON.parse(written))
  assert.deepEqual(Buffer.from(((await coded.next()).payload as { png: Uint8Array }).png), png)
})

test('redis: an envelope in MessagePack, from PHP', async t => {
  const [script] = take(REDIS, 'Envelopes in MessagePack', 'php') as [string]
  const app = await buildApp(t, { codecs: ['json', 'msgpack'] })
  const connection = await openConnection(app, '/ws')
  const answer = await run(t, 'php', script)
  if (answer === undefined) return
  assert.equal(answer, '1 nodes\n')
  const pixel = { type: 'pixel', payload: { $binary: '/wB/' }, topic: 'user:42' }
  assert.deepEqual(await connection.next(), pixel)
})

test('redis: what is an envelope and what is refused', () => {
  for (const text of take(REDIS, 'The envelope', 'json')) assert.equal(decode(text).kind, 'publication', text)
  const kinds = take(REDIS, 'Control envelopes', 'json').map(text => decode(text).kind)
  assert.deepEqual(kinds, ['close', 'subscribe', 'unsubscribe'])
  for (const [reason, example] of tableOf(REDIS, 'What is refused')) {
    if (example === '–') continue
    const decoded = decode(without(example!))
    assert.equal(decoded.kind === 'rejected' && decoded.reason, without(reason!), example)
  }
})

test('redis: publishing, receipts and who is online', async t => {
  const app = await buildApp(t)
  const one = await openConnection(app, '/ws')
  await openConnection(app, '/ws')
  const published = [
    await run(t, 'redis-cli', take(REDIS, 'Publishing', 'bash')[0]!),
    await run(t, 'php', take(REDIS, 'Publishing', 'php')[0]!),
  ]
  for (const answer of published) {
    if (answer === undefined) continue
    assert.match(answer, /^1( nodes)?\n$/)
    assert.deepEqual((await one.next()).payload, { text: 'hi' })
  }
  const receipt = await run(t, 'php', take(REDIS, 'Receipts', 'php')[0]!)
  if (receipt !== undefined) assert.equal(receipt, 'delivered to 2 connections on 1 nodes\n')
  const online = await run(t, 'redis-cli', take(REDIS, 'Who is online', 'bash')[1]!)
  if (online !== undefined) assert.match(online, /^push:nodes\n2\npush:user:42\n1\npush:channel:orders\n0\n$/)

  const [normal, refused] = take(REDIS, 'Receipts', 'json') as [string, string]
  const envelopes = [`{"type":"a","except":"connection:${one.welcome.connection}"`, '{"type":"a","excpet":"user:1"']
  for (const [i, written] of [normal, refused].entries()) {
    await redis.admin.publish('push:user:42', `${envelopes[i]},"receipt":"t${i}"}`)
    const [, answer] = (await redis.admin.blpop(`push:receipt:t${i}`, 60)) as [string, string]
    assert.deepEqual(keysOf(answer), keysOf(written))
  }
})

test('redis: what a rejection looks like', async t => {
  const app = await buildApp(t)
  await openConnection(app, '/ws')
  await redis.admin.del('push:rejected')
  await redis.admin.publish('push:user:42', 'junk')
  await noted()
  const [written] = take(REDIS, 'What is refused', 'json') as [string]
  const [entry] = (await redis.admin.lrange('push:rejected', 0, 0)) as [string]
  const same = ({ time: _time, node: _node, ...rest }: Record<string, unknown>) => rest
  assert.deepEqual(same(JSON.parse(entry)), same(JSON.parse(written)))
  assert.deepEqual(keysOf(entry), keysOf(written))
  const listed = await run(t, 'redis-cli', take(REDIS, 'What is refused', 'bash')[0]!)
  if (listed !== undefined) assert.equal(listed, `${entry}\n`)
})

test('redis: tickets from redis-cli and PHP', async t => {
  const app = await buildApp(t, { tickets: true })
  const [line] = take(REDIS, 'Tickets', 'bash') as [string]
  const [script] = take(REDIS, 'Tickets', 'php') as [string]
  if ((await run(t, 'redis-cli', line)) !== undefined) {
    const { welcome } = await openConnection(app, `/ws?ticket=${/ticket:(\w+)/.exec(line)![1]}`)
    assert.equal(welcome.user, '42')
  }
  const ticket = await run(t, 'php', script)
  if (ticket === undefined) return
  const { welcome } = await openConnection(app, `/ws/orders.7?ticket=${ticket}`)
  assert.ok('channel:news' in welcome.topics && 'channel:orders.7' in welcome.topics)
})

test('redis: a user is revoked from redis-cli', async t => {
  const app = await buildApp(t)
  const closed = new WebSocket(`ws://127.0.0.1:${(app.server.address() as { port: number }).port}/ws`)
  t.after(() => closed.terminate())
  await untilDelivered('user:42', 1)
  const closing = once(closed, 'close')
  const [commands] = take(REDIS, 'Revoking a user', 'bash')
  if ((await run(t, 'redis-cli', commands!)) === undefined) return
  const [code, reason] = await closing
  assert.deepEqual([code, String(reason)], [4401, 'revoked'])
  await redis.admin.del('push:revoked:42')
})

test('redis: recording from redis-cli and PHP, and what it is on its way', async t => {
  const app = await buildApp(t)
  const connection = await openConnection(app, '/ws')
  const listener = redis.admin.duplicate()
  t.after(() => listener.disconnect())
  await listener.subscribe('push:user:42')
  const travelled = once(listener, 'message')
  const [line] = take(REDIS, 'Recorded publications', 'bash') as [string]
  const [script] = take(REDIS, 'Recorded publications', 'php') as [string]
  const [written] = take(REDIS, 'What a recorded publication is', 'text') as [string]
  const answer = await run(t, 'redis-cli', line)
  if (answer === undefined) return
  const [id, seq, nodes, duplicate] = answer.trim().split('\n')
  assert.deepEqual([seq, nodes, duplicate], ['1', '2', '0'])
  const { type, ...message } = await connection.next('notice')
  assert.deepEqual(message, { payload: { text: 'hi' }, topic: 'user:42', seq: 1, id })
  const [, came] = (await travelled) as [string, string]
  const envelope = '{"type":"notice","payload":{"text":"hi"}}'
  assert.equal(came, `${id} 1 -\n${envelope}`)
  assert.match(written, /^\w+\.2\.[\d-]+ 2 \w+\.1\.[\d-]+\n/)
  assert.equal(written.split('\n')[1], envelope)
  for (const ending of ['', ', recorded before']) {
    const said = await run(t, 'php', script)
    if (said !== undefined) assert.equal(said, `number 2 of user:42, 2 nodes${ending}\n`)
  }
  const fields = ['i', id, 'p', '-', 'e', envelope]
  assert.deepEqual((await redis.admin.xrange('{push:user:42}:history', '-', '+', 'COUNT', 1))[0]![1], fields)
  const names = tableOf(REDIS, 'Names').map(([name]) =>
    without(name!).replace(/TOPIC|TOKEN|TICKET|NODE|KEY|SECONDS|USER/g, '.+'),
  )
  const isNamed = (key: string) => names.some(name => new RegExp(`^${name.replace(/[{}]/g, '\\$&')}$`).test(key))
  for (const key of await redis.admin.keys('*push:*')) assert.ok(isNamed(key), key)
  const head = ['id', 'seq', 'size', 'ttl']
  assert.deepEqual(Object.keys(await redis.admin.hgetall('{push:user:42}:head')).toSorted(), head)
})

test('presence: the option, the messages, and what backends read', async t => {
  const app = Fastify()
  t.after(() => app.close())
  const [code] = take('docs/options.md', 'Presence', 'js')
  const AsyncFunction = (async () => {}).constructor as new (
    ...parts: string[]
  ) => (...args: unknown[]) => Promise<void>
  await new AsyncFunction('app', 'pushBridge', code!.replace('{\n', `{ redis: '${redis.url}',\n`))(app, pushBridge)
  const ann = await openConnection(app, '/ws?user=42&name=Ann')
  const [ask, answer, joined, left] = take('docs/protocol.md', 'Who is there', 'json') as [
    string,
    string,
    string,
    string,
  ]
  const { type, payload, ref } = JSON.parse(ask)
  ann.send(type, payload, ref)
  const isListed = ({ payload }: { payload: unknown }) =>
    (payload as { presence: { members: unknown[] } }).presence.members.length > 0
  const changed = async (change: string) => {
    for (;;) {
      const message = await ann.next('push.presence')
      if (change in (message.payload as object)) return message
    }
  }
  // She is told of herself like of others, which may take a moment.
  if (!isListed(await ann.next('subscribed'))) await changed('joined')
  ann.send(type, payload, ref)
  const subscribed = await ann.next('subscribed')
  assert.deepEqual(keysOf(JSON.stringify(subscribed.payload)), ['presence', 'topic'])
  const list = (subscribed.payload as { presence: { members: object[] } }).presence
  const written = JSON.parse(answer).payload.presence
  assert.deepEqual(Object.keys(list), Object.keys(written))
  assert.deepEqual(Object.keys(list.members[0]!), Object.keys(written.members[0]))
  const bob = await openConnection(app, '/ws/room.1?user=bob')
  const shape = (text: string) => [Object.keys(JSON.parse(text)), Object.keys(JSON.parse(text).payload)]
  assert.deepEqual(shape(JSON.stringify(await changed('joined'))), shape(joined))
  await bob.close()
  assert.deepEqual(shape(JSON.stringify(await changed('left'))), shape(left))

  const [reading] = take(REDIS, 'Who is online', 'bash')
  const read = await run(t, 'redis-cli', reading!)
  if (read !== undefined)
    assert.match(read, /^\{"connections":1,"since":\d+,"info":\{"name":"Ann"\}\}\n1\n0\n42\n\{.*\}\n0\n$/)
  const php = await run(t, 'php', take(REDIS, 'Who is online', 'php')[0]!)
  if (php !== undefined) {
    const { node } = await app.push.status()
    const lines = php.split('\n')
    assert.deepEqual(lines.slice(0, 2), ['42 is online, connections: 1', '1 users are online'])
    assert.match(lines[2]!, new RegExp(`^connection ${ann.welcome.connection} on node ${node} since 20`))
  }
})

test('redis: what is not recorded, and the functions of the nodes', async t => {
  const app = await buildApp(t)
  const publish = (envelope: string, ...rest: (string | number)[]) =>
    redis.admin.call('FCALL', 'push_publish', 1, 'push:channel:refused', envelope, ...rest)
  for (const [code, example] of tableOf(REDIS, 'What is not recorded')) {
    const refusal = new RegExp(`^${without(code!)} `)
    if (example !== '–') await assert.rejects(publish(without(example!), 10, 10), { message: refusal })
  }
  const envelope = '{"type":"a"}'
  for (const rest of [
    [0, 10],
    [100_001, 10],
    [10, 0],
    [10, 31_622_401],
    [10, 10, ''],
    [10, 10, 'x'.repeat(201)],
  ]) {
    await assert.rejects(publish(envelope, ...rest), /^ReplyError: PUSH_ERR_FIELD /)
  }
  await assert.rejects(publish(`{"type":"${'a'.repeat(262_144)}"}`, 1, 1), /PUSH_ERR_TOO_LARGE/)
  assert.equal(await redis.admin.exists('{push:channel:refused}:head'), 0)
  const listed = (await redis.admin.call('FUNCTION', 'LIST', 'LIBRARYNAME', 'push_v1')) as unknown[]
  const functions = new Set(JSON.stringify(listed).match(/push_(?!v1)\w+/g))
  for (const name of functions) assert.match(read(REDIS), new RegExp(`FCALL ${name} `), name)
  assert.equal(functions.size, 11)
  const { node } = await app.push.status()
  assert.ok((await redis.admin.ttl(`{push:shard-0}:tick:${node}`)) > 86_000)
})

test('redis: a Cluster, named by options, by its URL and by a client', async t => {
  const cluster = await startCluster(t, { masters: 2 })
  const [code] = take(REDIS, 'Redis Cluster', 'js')
  const local = code!.replace(/redis:\/\/10\.0\.0\.(\d):6379/g, (_, n) => cluster.urls[n - 1]!)
  const app = Fastify()
  t.after(() => app.close())
  new Function('app', 'pushBridge', local)(app, pushBridge)
  await app.listen({ port: 0, host: '127.0.0.1' })
  const hosts = cluster.urls.map(url => url.replace('redis://', ''))
  const other = await buildApp(t, { redis: `redis+cluster://${hosts.join()}` })
  const client = new Cluster(cluster.urls, { lazyConnect: true })
  const publisher = createPublisher({ redis: client, publishTimeout: PATIENCE })
  t.after(() => publisher.end())
  await until(async () => (await app.push.status()).nodes === 1, 'the nodes are there')
  const connections = await Promise.all([app, other].map(node => openConnection(node, '/ws')))
  const { seq, delivered, complete } = await publisher.publish('all', {
    type: 'a',
    receipt: true,
    history: { size: 10, ttl: 60 },
  })
  assert.deepEqual([seq, delivered, complete], [1, 2, true])
  for (const connection of connections) assert.equal((await connection.next()).type, 'a')

  const php = take(REDIS, 'Redis Cluster', 'php')[0]!.replace(/10\.0\.0\.(\d):6379/g, (_, n) => hosts[n - 1]!)
  const user = await openConnection(other, '/ws')
  assert.equal(user.welcome.user, '42')
  const said = await run(t, 'php', php)
  if (said === undefined) return
  assert.equal(said, '1 nodes, then number 1, 1 nodes listen\n')
  for (let n = 0; n < 2; n++) assert.deepEqual((await user.next()).payload, { text: 'hi' })
})

test('redis: sharded pub/sub, by options and by its URL, and from PHP', async t => {
  const cluster = await startCluster(t, { masters: 2 })
  const hosts = cluster.urls.map(url => url.replace('redis://', ''))
  const [code] = take(REDIS, 'Sharded pub/sub', 'js')
  const app = Fastify()
  t.after(() => app.close())
  new Function(
    'app',
    'pushBridge',
    code!.replace(/10\.0\.0\.(\d):6379/g, (_, n) => hosts[n - 1]!),
  )(app, pushBridge)
  await app.listen({ port: 0, host: '127.0.0.1' })
  const other = await buildApp(t, { redis: `redis+cluster://${hosts.join()}?sharded=true` })
  await until(async () => (await app.push.status()).nodes === 1, 'the nodes are there')
  const publisher = createPublisher({
    redis: { cluster: new Cluster(cluster.urls, { lazyConnect: true }), sharded: true },
    publishTimeout: PATIENCE,
  })
  t.after(() => publisher.end())
  const connections = await Promise.all([app, other].map(node => openConnection(node, '/ws')))
  const sent = await publisher.publish('all', { type: 'a', receipt: true })
  assert.deepEqual([sent.nodes, sent.delivered, sent.complete], [1, 2, true])
  for (const connection of connections) assert.equal((await connection.next()).type, 'a')

  const php = take(REDIS, 'Sharded pub/sub', 'php')[0]!.replace(/10\.0\.0\.(\d):6379/g, (_, n) => hosts[n - 1]!)
  const user = await openConnection(other, '/ws')
  const said = await run(t, 'php', php)
  if (said === undefined) return
  assert.equal(said, '1 nodes, 1 nodes listen\n')
  assert.deepEqual((await user.next()).payload, { text: 'hi' })
})

test('redis: Predis in a Cluster', async t => {
  const cluster = await startCluster(t, { masters: 2 })
  const hosts = cluster.urls.map(url => url.replace('redis://', ''))
  const app = await buildApp(t, { redis: { cluster: cluster.urls } })
  const user = await openConnection(app, '/ws')
  // Where Debian has it.
  const predis = process.env.PREDIS ?? '/usr/share/php/Predis/autoload.php'
  const php = take(REDIS, 'Predis', 'php')[0]!
    .replace('vendor/autoload.php', predis)
    .replace(/10\.0\.0\.(\d):6379/g, (_, n) => hosts[n - 1]!)
  if (!existsSync(predis)) return t.diagnostic('Predis is not installed: its lines are not run')
  const said = await run(t, 'php', php)
  if (said === undefined) return
  assert.equal(said, '1 nodes, then number 1\n')
  for (let n = 0; n < 2; n++) assert.deepEqual((await user.next()).payload, { text: 'hi' })
})

for (const sharded of [false, true]) {
  test(`redis: the rights that the users of a Cluster need, sharded: ${sharded}`, async t => {
    const cluster = await startCluster(t, { masters: 2 })
    const users = take(REDIS, 'Users with the least rights', 'bash')
    const more = [...take(REDIS, 'Redis Cluster', 'bash'), ...(sharded ? take(REDIS, 'Sharded pub/sub', 'bash') : [])]
    for (const { port } of cluster.masters) {
      const code = [...users, ...more].join('\n').replaceAll('redis-cli ', `redis-cli  -p ${port} `)
      if ((await run(t, 'redis-cli', code)) === undefined) return
    }
    const nodes = cluster.urls.map(url => url.replace('//', '//node:another-secret@'))
    const app = await buildApp(t, { redis: { cluster: nodes, sharded }, tickets: true })
    await until(async () => (await app.push.status()).connected, 'the node is connected')
    const connection = await openConnection(app, '/ws')
    const shop = new Cluster(cluster.urls, { redisOptions: { username: 'shop', password: 'a-long-secret' } })
    t.after(() => shop.disconnect())
    const call = ['push_publish', 1, 'push:user:42', '{"type":"a"}', 10, 60] as const
    const answer = await within(shop.call('FCALL', ...call), 'the answer to a backend with the rights of a Cluster')
    assert.equal((answer as unknown[])[1], 1)
    assert.equal((await connection.next()).type, 'a')
    if (sharded) {
      assert.equal(await within(shop.call('SPUBLISH', 'push:user:42', '{"type":"x"}'), 'an answer'), 1)
      assert.equal((await connection.next()).type, 'x')
    }
    const sent = await app.push.publish('user:42', { type: 'b', receipt: true, history: { size: 10, ttl: 60 } })
    assert.deepEqual([sent.delivered, sent.seq], [1, 2])
    for (const { admin } of cluster.masters) {
      // The library of the backend asks for INFO as well, which it can do without.
      const refused = (await admin.call('ACL', 'LOG')) as unknown[][]
      const ofNode = refused.filter(entry => entry.includes('node'))
      assert.deepEqual(ofNode, [])
    }
  })
}

test('redis: the rights of a publisher and of a node are enough, and no more', async t => {
  const [shop, recorder, node] = take(REDIS, 'Users with the least rights', 'bash') as [string, string, string]
  if ((await run(t, 'redis-cli', shop + node)) === undefined) return
  const url = `redis://node:another-secret@127.0.0.1:${redis.port}`
  await redis.admin.call('FUNCTION', 'DELETE', 'push_v1')
  const app = await buildApp(t, { redis: url, tickets: true, history: { 'channel:orders': RECORDED } })
  const connection = await openConnection(app, '/ws/orders')
  const other = await openConnection(app, `/ws?ticket=${await app.push.ticket({ user: '7' })}`)
  assert.equal(other.welcome.user, '7')
  const sent = await app.push.publish('channel:orders', { type: 'a', receipt: true })
  assert.deepEqual([sent.delivered, sent.complete, typeof sent.seq], [1, true, 'number'])
  assert.equal((await app.push.status()).nodes, 2)
  await redis.admin.del('push:rejected')

  const limited = redis.admin.duplicate({ username: 'shop', password: 'a-long-secret', enableReadyCheck: false })
  t.after(() => limited.disconnect())
  const record = (topic: string, key: string) =>
    limited.call('FCALL', 'push_publish', 1, `push:${topic}`, '{"type":"c"}', 10, 60, key) as Promise<[string, number]>
  assert.equal(await limited.publish('push:user:42', '{"type":"b","receipt":"acl"}'), 1)
  assert.match((await limited.blpop('push:receipt:acl', 60))![1], /"delivered":1/)
  assert.deepEqual(await limited.pubsub('NUMSUB', 'push:user:42'), ['push:user:42', 1])
  assert.equal(await limited.set('push:ticket:0123456789abcdef', '{}', 'EX', 30, 'NX'), 'OK')
  await assert.rejects(record('channel:orders', 'k'), /NOPERM/)
  await run(t, 'redis-cli', recorder)
  const [id] = await record('channel:orders', 'k')
  assert.equal((await record('channel:orders', 'k'))[0], id)
  await limited.publish('push:user:42', 'junk')
  await noted()
  await assert.rejects(limited.publish('push:all', '{"type":"b"}'), /NOPERM/)
  await assert.rejects(record('all', 'k'), /NOPERM/)
  await assert.rejects(limited.get('push:ticket:0123456789abcdef'), /NOPERM/)
  await assert.rejects(limited.hset('{push:shard-0}:timeline', 'timeline', 'x'), /NOPERM/)
  await assert.rejects(limited.set('other', '1'), /NOPERM/)
  const types = [await connection.next(), await connection.next(), await connection.next()].map(({ type }) => type)
  assert.deepEqual(types, ['a', 'b', 'c'])
  connection.send('subscribe', { topic: 'channel:orders', since: sent.id }, 1)
  assert.deepEqual((await connection.next('subscribed')).payload, {
    topic: 'channel:orders',
    id,
    seq: sent.seq! + 1,
    recovered: true,
  })
  assert.equal((await connection.next('c')).id, id)
  await ticked(app)
  const refused = (await redis.admin.call('ACL', 'LOG')) as unknown[][]
  const users = refused.map(entry => entry[entry.indexOf('username') + 1])
  assert.ok(!users.includes('node'), JSON.stringify(refused))
})

/** Resolves when the node has done what it does every second. */
async function ticked(app: FastifyInstance): Promise<void> {
  const key = `{push:shard-0}:tick:${(await app.push.status()).node}`
  const before = Number(await redis.admin.get(key))
  await until(async () => Number(await redis.admin.get(key)) !== before, 'a tick of the node')
}

// ── docs/events.md ─────────────────────────────────────────────────────────────────────────────────────────────────

test('events: every kind and every setting of serve is named, and the example is one', () => {
  const file = 'docs/events.md'
  const kinds = rowsOf(sectionOf(file, 'What an event is'), 'kind').map(([kind]) => without(kind!))
  assert.deepEqual(kinds, [...EVENT_KINDS, 'lost'])
  const [, example] = /```json\n(.*)\n```/.exec(read(file))!
  const written = new EventWriter('n', () => 1).message({ id: 'c', user: 'u' }, { type: 't', payload: '1' })
  assert.deepEqual(keysOf(example!), keysOf(written.json))
  const settings = tableOf(file, 'serve').map(([variable, flag]) => [without(variable!), without(flag!)] as const)
  for (const [variable, flag] of settings) {
    assert.ok(EVENT_USAGE.includes(`  ${variable} `), variable)
    if (flag.startsWith('--')) assert.equal(flag, `--${variable.toLowerCase().replaceAll('_', '-')}`)
  }
  const flags = settings.filter(([, flag]) => flag.startsWith('--')).map(([, flag]) => flag.slice(2))
  assert.deepEqual(flags.toSorted(), Object.keys(EVENT_FLAGS).toSorted())
})

// ── docs/ingress.md ────────────────────────────────────────────────────────────────────────────────────────────────

const INGRESS = 'docs/ingress.md'

test('ingress: the table of options is the schema, the commands are publications, and the rights are enough', async t => {
  const rows = tableOf(INGRESS, 'Redis Streams').map(([name, fallback]) => [without(name!), fallback!] as const)
  const options = Object.entries(StreamsIngressSchema.properties) as [string, { default?: unknown }][]
  const expected = options.map(([name, schema]) => [
    name,
    schema.default === undefined ? 'required' : `\`${JSON.stringify(schema.default)}\``,
  ])
  assert.deepEqual(rows, expected)
  const requestKeys = rowsOf(sectionOf(INGRESS, 'The request'), 'key').flatMap(([keys]) => without(keys!).split(' '))
  const foreign = ['receipt', 'ack', 'trace']
  assert.deepEqual(
    requestKeys.toSorted(),
    Object.keys(PublishRequestSchema.properties)
      .filter(key => !foreign.includes(key))
      .toSorted(),
  )

  const [register] = blocksOf(INGRESS).filter(({ lang }) => lang === 'js') as [Block]
  const app = Fastify()
  t.after(() => app.close())
  const code = register.code
    .replaceAll(/^import .*\n/gm, '')
    .replace("path: '/ws',", "path: '/ws', authenticate: () => ({ join: ['channel:orders.7'] }),")
  const AsyncFunction = (async () => {}).constructor as new (
    ...parts: string[]
  ) => (...args: unknown[]) => Promise<void>
  await new AsyncFunction('app', 'pushBridge', 'streamsIngress', localise(code))(app, pushBridge, streamsIngress)
  await app.ready()
  const connection = await openConnection(app, '/ws')
  const [bash, php, predis] = blocksOf(INGRESS).filter(({ lang }) => lang !== 'js') as [Block, Block, Block]
  const connect = `$redis = new Redis(); $redis->connect('127.0.0.1', 6379);\n`
  const autoload = process.env.PREDIS ?? '/usr/share/php/Predis/autoload.php'
  const connectPredis = `require '${autoload}'; $predis = new Predis\\Client('tcp://127.0.0.1:6379');\n`
  const said = [
    await run(t, 'redis-cli', bash.code),
    await run(t, 'php', `<?php ${connect}${php.code}`),
    existsSync(autoload) ? await run(t, 'php', `<?php ${connectPredis}${predis.code}`) : undefined,
  ]
  for (const it of said) {
    if (it === undefined) continue
    assert.deepEqual((await connection.next('order.created')).payload, { id: 7 })
  }
})

// ── docs/cli.md ────────────────────────────────────────────────────────────────────────────────────────────────────

const flagsIn = (text: string) => [...text.matchAll(/--([a-z][\w-]*)/g)].map(([, flag]) => flag!)

test('cli: every command with its arguments and flags is in the table, and no other', () => {
  const rows = tableOf('docs/cli.md', 'Commands').map(([command, , flags]) => ({
    command: without(command!).replaceAll('\\|', '|'),
    flags: flagsIn(flags!).toSorted(),
  }))
  const expected = Object.entries(COMMANDS).map(([name, { flags }]) => ({ name, flags: Object.keys(flags).toSorted() }))
  assert.deepEqual(
    rows.map(({ command, flags }) => ({ name: command.split(' ')[0], flags })),
    expected,
  )
  for (const { command } of rows.filter(({ command }) => !command.startsWith('close'))) {
    const [name] = command.split(' ')
    assert.equal(command, `${name} ${COMMANDS[name!]!.usage}`.trimEnd())
  }
})

test('cli: every flag of serve is in a document and in the help, and the keys of the file are some', async () => {
  const documents = ['docs/cli.md', 'docs/events.md', 'docs/operations.md', 'docs/redis.md'].map(read).join('\n')
  for (const flag of Object.keys(SERVE_FLAGS)) {
    assert.match(documents, new RegExp(`--${flag}\\b`), flag)
    if (flag !== 'help') assert.match(USAGE, new RegExp(`--${flag}\\b`), flag)
  }
  const rows = tableOf('docs/cli.md', 'serve')
  const keys = rows.flatMap(([, , key]) => [...key!.matchAll(/`([\w.]+)`/g)].map(([, name]) => name!.split('.')[0]!))
  const known = new Set<string>([...OPTION_KEYS, ...SERVER_KEYS])
  assert.deepEqual(
    keys.filter(key => !known.has(key)),
    [],
  )
  for (const key of SERVER_KEYS) assert.ok(keys.includes(key), key)
  const examples = blocksOf('docs/cli.md').filter(({ lang }) => lang === 'json' || lang === 'js')
  assert.deepEqual(
    examples.map(({ lang }) => lang),
    ['json', 'js'],
  )
  for (const { lang, code } of examples) {
    const file = join(folder, `config-${modules++}.${lang === 'js' ? 'mjs' : 'json'}`)
    writeFileSync(file, code)
    const settings = readSettings(['serve'], {}, await readConfig(file)) as ServeSettings
    parseOptions(registerOptions(settings, { tickets: true }))
  }
})

// ── docs/operations.md and all of them ─────────────────────────────────────────────────────────────────────────────

test('operations: the metrics route, and every metric is named', async t => {
  const app = Fastify()
  t.after(() => app.close())
  const [code] = take('docs/operations.md', 'Metrics', 'js')
  const AsyncFunction = (async () => {}).constructor as new (
    ...parts: string[]
  ) => (...args: unknown[]) => Promise<void>
  const body = code!.replace(/^import .*$/m, '')
  await new AsyncFunction('app', 'pushBridge', 'Registry', body)(app, pushBridge, Registry)
  const connection = await openConnection(app, '/ws')
  const [, refusal] = await Promise.allSettled([connection.close(), openConnection(app, '/ws/orders')])
  assert.equal(refusal.status, 'rejected')
  const { body: text } = await app.inject('/metrics')
  assert.match(text, /^push_upgrades_refused_total\{registration="push",reason="PUSH_ERR_FORBIDDEN"\} 1$/m)
  const names = read('src/broker/metrics.ts').match(/'\w+_total'/g)!
  const rows = tableOf('docs/operations.md', 'Metrics').map(([name]) => without(name!))
  assert.deepEqual(rows.toSorted(), names.map(name => name.slice(1, -1)).toSorted())
  const others = namesIn(tableOf('docs/operations.md', 'Gauges and histograms'))
  assert.deepEqual(others, [...Object.keys(GAUGES), ...Object.keys(HISTOGRAMS), LOOP_DELAY.name].toSorted())
  const exported = new Set([...text.matchAll(/^# TYPE push_(\w+)/gm)].map(([, name]) => name!))
  assert.deepEqual([...exported].toSorted(), [...rows, ...others].toSorted())
})

test('operations: every reason of a counter that is there from the start is named, and every setting of serve', () => {
  const rows = new Map(tableOf('docs/operations.md', 'Metrics').map(([name, reasons]) => [without(name!), reasons!]))
  for (const [name, { label = 'reason', known = [] }] of Object.entries(COUNTERS)) {
    const reasons = rows.get(name)!
    if (label !== 'reason') assert.ok(reasons.includes(`label \`${label}\``), `${name}: ${label}`)
    if (label !== 'code') for (const it of known) assert.ok(reasons.includes(`\`${it}\``), `${name}: ${it}`)
  }
  const text = sectionOf('docs/operations.md', 'Metrics')
  for (const flag of Object.keys(METRICS_FLAGS)) assert.ok(text.includes(`\`--${flag}\``), flag)
})

test('operations: every channel of tracing is named, with the fields that it has', async t => {
  const rows = rowsOf(sectionOf('docs/operations.md', 'Tracing'), 'channel')
  assert.deepEqual(
    rows.map(([channel]) => without(channel!)),
    Object.values(tracing).map(({ name }) => name),
  )
  const fields = new Map(rows.map(([channel, , cell]) => [without(channel!), cell!]))
  const told = new Map<string, Set<string>>()
  for (const { name } of Object.values(tracing)) {
    const keys = new Set<string>()
    told.set(String(name), keys)
    const take = (event: unknown) => Object.keys(event as object).forEach(key => void keys.add(key))
    subscribe(name, take)
    t.after(() => unsubscribe(name, take))
  }
  const app = await buildApp(t)
  const connection = await openConnection(app, '/ws')
  connection.send('subscribe', { topic: 'channel:a' }, 1)
  await connection.next('subscribed')
  await app.push.publish('channel:a', { type: 'a' })
  await connection.next('a')
  await connection.close()
  // The client may know of the end before the node has taken notice.
  await until(
    () => [...told.values()].every(keys => keys.size > 0),
    () => `events of ${[...told].flatMap(([name, keys]) => (keys.size > 0 ? [] : [name]))}`,
  )
  for (const [name, keys] of told) {
    const inherited = name.endsWith(':deliver') ? fields.get('fastify-push-bridge:receive')! : ''
    for (const key of keys) assert.ok((fields.get(name)! + inherited).includes(`\`${key}\``), `${name}: ${key}`)
  }
})

test('operations: every log line is named', () => {
  const lines = tableOf('docs/operations.md', 'Log lines').map(([line]) => line!)
  const sources = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' }).filter(name =>
    /\.ts$/.test(name),
  )
  let count = 0
  for (const source of sources) {
    for (const [, text] of read(`src/${source}`).matchAll(/['`]push: ([^'`$"]{6,}?)(?=['`$"])/g)) {
      const known = lines.some(line => line.includes(text!.trim()))
      assert.ok(known, `src/${source}: ${text}`)
      count++
    }
  }
  assert.ok(count >= 15, `${count} lines were found`)
})

test('architecture: every file of the source stands in the table of its folder, and no other', () => {
  const text = read('docs/architecture.md')
  const sections = text.split(/^##+ /m).map(section => [/^`(.+)\/`/.exec(section)?.[1], section] as const)
  const named = sections.flatMap(([folder, section]) => {
    if (!folder && !section.startsWith('Entries')) return []
    return [...section.matchAll(/^\| `([\w-]+\.(?:ts|lua))` \|/gm)].map(([, file]) => join(folder ?? '', file!))
  })
  const files = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' }).filter(name =>
    /^[^.]+\.(ts|lua)$/.test(name),
  )
  assert.deepEqual(named.sort(), files.sort())
})

test('architecture: what it names exists', () => {
  const text = read('docs/architecture.md')
  const places = [...text.matchAll(/`((?:[\w-]+\/)+[\w.-]+\.(?:ts|md|lua))`/g)].map(([, name]) => name!)
  assert.ok(places.length > 50)
  for (const name of places) {
    const isThere = [name, `src/${name}`, `src/broker/${name}`].some(it => existsSync(join(ROOT, it)))
    assert.ok(isThere, name)
  }
})

test('README has at most 150 lines', () => {
  assert.ok(read('README.md').trimEnd().split('\n').length <= 150)
})

/**
 * Where the repository is: `repository` in package.json says it, and every link must say the same. To move it, replace
 * OWNER/fastify-push-bridge in package.json, README.md and docs/*.md by one and the same text.
 */
const REPOSITORY = packageJson.repository.url.replace(/^git\+/, '').replace(/\.git$/, '')

test('package.json and the documents name one repository', () => {
  assert.match(packageJson.repository.url, /^git\+https:\/\/github\.com\/[\w-]+\/fastify-push-bridge\.git$/)
  assert.equal(packageJson.homepage, `${REPOSITORY}#readme`)
  assert.equal(packageJson.bugs.url, `${REPOSITORY}/issues`)
  for (const file of DOCUMENTS) {
    for (const [url] of read(file).matchAll(/https?:\/\/[^\s)]*fastify-push-bridge[^\s)]*/g)) {
      const path = url.slice(REPOSITORY.length)
      assert.ok(url.startsWith(REPOSITORY), `${file}: ${url} is not in ${REPOSITORY}`)
      const [, kind, target] = /^\/(blob|tree|raw)\/HEAD\/([^#]+)$/.exec(path) ?? []
      if (path === '') continue
      assert.ok(target, `${file}: ${url} names no file of the default branch`)
      const isFolder = statSync(join(ROOT, target), { throwIfNoEntry: false })?.isDirectory()
      assert.equal(isFolder, kind === 'tree', `${file}: ${target} is not there, or is not a ${kind}`)
    }
  }
})

test('what README and its pages link to relatively is in the package', async () => {
  const { stdout } = await execute('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: ROOT })
  const [{ files }] = JSON.parse(stdout) as [{ files: { path: string }[] }]
  const packed = new Set(files.map(({ path }) => path))
  for (const file of ['README.md', 'README.zh-CN.md', 'docs/options.md', 'docs/api.md', 'docs/comparison.md']) {
    for (const [, target] of read(file).matchAll(/\]\(([^)\s#:]+)[^)\s]*\)/g)) {
      if (!target!.startsWith('https')) assert.ok(packed.has(join(dirname(file), target!)), `${file}: ${target}`)
    }
  }
})

const slug = (heading: string) =>
  without(heading)
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
    .replaceAll(' ', '-')

for (const file of DOCUMENTS) {
  test(`${file}: links lead somewhere`, () => {
    for (const [, target] of read(file).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^https?:/.test(target!)) continue
      const [path, anchor] = target!.split('#') as [string, string?]
      const linked = path === '' ? file : join(dirname(file), path)
      assert.ok(existsSync(join(ROOT, linked)), `${target} is not there`)
      if (anchor === undefined) continue
      const headings = [...read(linked).matchAll(/^#+ (.+)$/gm)].map(([, heading]) => slug(heading!))
      assert.ok(headings.includes(anchor), `${linked} has no heading for #${anchor}`)
    }
  })
}

test('every block of the contracts was run', () => {
  assert.deepEqual(
    [...unused].map(({ file, heading, lang }) => `${file}: ${lang} under "${heading}"`),
    [],
  )
})
