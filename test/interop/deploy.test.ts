import assert from 'node:assert/strict'
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, type TestContext, test } from 'node:test'
import { parse } from 'yaml'
import { lastStep, wordsOf } from '../helpers/dockerfile.ts'
import { buildImage, type Image } from '../helpers/image.ts'
import { listenTo } from '../helpers/listener.ts'
import { startNginx } from '../helpers/nginx.ts'
import { cleanups, type Program, path, run, temporaryFolder } from '../helpers/processes.ts'
import { findProgram } from '../helpers/programs.ts'
import { freePort, type RedisServer, startRedis } from '../helpers/redis.ts'
import { START, until, within } from '../helpers/waiting.ts'

/** What `example/deploy/` says is done here by local programs, since a test has neither Docker nor a cluster. */

const DEPLOY = path('example/deploy')
const KEY = 'a-key-of-the-deploy-tests'
const all = cleanups()
let image: Image

before(async () => {
  const context = temporaryFolder(all)
  cpSync(join(DEPLOY, 'docker'), context, { recursive: true })
  // As docs/deploy.md says, without the build that prepack would do: test/run.ts has just done it.
  const packed = await succeed('npm', ['pack', '--ignore-scripts', '--json', '--pack-destination', context], path('.'))
  const [{ filename }] = JSON.parse(packed) as [{ filename: string }]
  await succeed('npm', ['install', '--package-lock-only', '--prefer-offline', '--no-audit', `./${filename}`], context)
  image = await buildImage(all, context, ignoring(readFileSync(join(context, '.dockerignore'), 'utf8')))
})
after(() => all.end())

async function succeed(command: string, args: readonly string[], cwd: string): Promise<string> {
  const { code, stdout, stderr } = await run(command, args, { cwd }, START)
  assert.equal(code, 0, `${command} ${args.join(' ')}\n${stdout}${stderr}`)
  return stdout
}

/** Whether a file of the context is sent to the builder: the last line of `.dockerignore` that fits decides. */
function ignoring(text: string): (name: string) => boolean {
  const lines = text.split('\n').filter(line => line !== '')
  const fits = (pattern: string, name: string) =>
    pattern.startsWith('*') ? name.endsWith(pattern.slice(1)) : name === pattern
  return name => lines.findLast(line => fits(line.replace(/^!/, ''), name))?.startsWith('!') ?? true
}

interface Container {
  readonly port: number
  readonly origin: string
  readonly program: Program
  /** The exit code of HEALTHCHECK. */
  health(): Promise<number | null>
}

/** Starts the image; what it says of HOST and PORT is overridden, as `docker run -e` would. */
async function startContainer(t: TestContext, env: Record<string, string>): Promise<Container> {
  const port = await freePort()
  const variables = { ...env, HOST: '127.0.0.1', PORT: `${port}` }
  const probe = wordsOf(lastStep(image.stage, 'HEALTHCHECK').text)
  const health = async () => (await image.run(probe, variables)).code
  assert.equal(await health(), 1)
  const program = image.start(t, image.command, variables)
  await program.line(new RegExp(`listening at http://127.0.0.1:${port}`), START)
  return { port, origin: `http://127.0.0.1:${port}`, program, health }
}

const untilReady = ({ origin }: Container) =>
  until(async () => (await fetch(`${origin}/readyz?strict`)).ok, 'a node that has reached Redis')

async function ticketFor(redis: RedisServer, user: string): Promise<string> {
  const ticket = user.repeat(48)
  await redis.admin.set(`push:ticket:${ticket}`, JSON.stringify({ user, allow: ['channel:orders'] }), 'EX', 600)
  return ticket
}

/** Asks the node to stop as Docker and Kubernetes do. */
const stop = ({ program }: Container) =>
  program.process.kill(lastStep(image.stage, 'STOPSIGNAL').text as NodeJS.Signals)

test('the image has the node and what it needs, and no npm; its user is not root and can write nowhere', async () => {
  for (const name of ['fastify-push-bridge', 'fastify', 'prom-client']) {
    assert.ok(existsSync(join(image.root, 'srv/push/node_modules', name, 'package.json')), name)
  }
  for (const name of ['srv/push/node_modules/tsx', 'usr/local/bin/npm', 'usr/local/lib/node_modules']) {
    assert.ok(!existsSync(join(image.root, name)), name)
  }
  const script = `console.log(process.getuid()); require('fs').writeFileSync('/srv/push/written', '')`
  const { code, stdout, stderr } = await image.run(['node', '-e', script])
  assert.deepEqual([code, stdout], [1, process.getuid?.() === 0 ? '1000\n' : '0\n'])
  assert.match(stderr, /EROFS/)
  assert.match((await image.run([...image.command.slice(0, -1), '--help'])).stdout, /REDIS_URL/)
})

test('a container becomes healthy, stays so without Redis, and drains when it is stopped', async t => {
  const redis = await startRedis(t)
  const container = await startContainer(t, { REDIS_URL: redis.url })
  await untilReady(container)
  assert.equal(await container.health(), 0)
  const listener = await listenTo(t, `ws://127.0.0.1:${container.port}/ws?ticket=${await ticketFor(redis, '7')}`)
  await redis.kill()
  await until(async () => !(await fetch(`${container.origin}/readyz?strict`)).ok, 'a node that misses Redis')
  assert.equal(await container.health(), 0)
  stop(container)
  assert.equal((await listener.closed).code, 1012)
  assert.equal(await within(container.program.exited, 'the end of the container'), 0)
})

interface Service {
  command?: string[]
  environment?: Record<string, string>
  healthcheck?: { test: string[] }
}

/** `compose.yaml` with what it takes from `.env`. */
function readCompose(): Record<string, Service> {
  const text = readFileSync(join(DEPLOY, 'compose.yaml'), 'utf8').replaceAll(/\$\{PUSH_API_KEY:\?[^}]*\}/g, KEY)
  return (parse(text, { merge: true }) as { services: Record<string, Service> }).services
}

/** The nginx.conf of the containers for nodes of this machine. What asks Docker for names needs a newer nginx than Debian's. */
function localNginx(listen: string, ports: Readonly<Record<string, number>>): string {
  let conf = readFileSync(join(DEPLOY, 'nginx.conf'), 'utf8').replace('listen 80;', `${listen};`)
  for (const [name, port] of Object.entries(ports)) conf = conf.replace(`${name}:3000`, `127.0.0.1:${port}`)
  return conf.replace(/^.*resolver .*\n/m, '').replaceAll(' resolve;', ';')
}

test('compose: two nodes behind nginx share Redis, and one that is stopped leaves no client behind', async t => {
  const { redis: redisService, push1, push2 } = readCompose()
  const [program, ...args] = redisService!.command!
  assert.equal(program, 'redis-server')
  const redis = await startRedis(t, { args })
  const [kind, ...probe] = redisService!.healthcheck!.test
  const answer = await run(probe[0]!, ['-p', `${redis.port}`, ...probe.slice(1)])
  assert.deepEqual([kind, answer.code, answer.stdout], ['CMD', 0, 'PONG\n'])

  const start = ({ environment = {} }: Service) => {
    assert.equal(environment.REDIS_URL, 'redis://redis:6379')
    return startContainer(t, { ...environment, REDIS_URL: redis.url })
  }
  const containers = await Promise.all([push1!, push2!].map(start))
  const [first, second] = containers as [Container, Container]
  for (const container of containers) {
    await untilReady(container)
    assert.equal(await container.health(), 0)
  }
  const ports = { push1: first.port, push2: second.port }
  const edit = (conf: string) => localNginx(/listen 127\.0\.0\.1:\d+/.exec(conf)![0], ports)
  const nginx = await startNginx(t, [first.port, second.port], { edit })
  const listen = async (user: string) =>
    listenTo(t, `${nginx.url}/orders?ticket=${await ticketFor(redis, user)}`, { origin: nginx.origin })
  const listeners = [await listen('1'), await listen('2')]
  const nodes = listeners.map(({ welcome }) => welcome.node)
  assert.equal(new Set(nodes).size, 2)
  const pushed = await fetch(`${nginx.origin}/push`, {
    method: 'POST',
    headers: { authorization: `Bearer ${KEY}`, 'content-type': 'application/json' },
    body: '{"to":"channel:orders","type":"order.created","receipt":true}',
  })
  assert.equal(((await pushed.json()) as { delivered: number }).delivered, 2)
  for (const listener of listeners) await listener.next('order.created')
  assert.equal((await fetch(`${nginx.origin}/livez`)).status, 404)

  stop(first)
  const { node: gone } = (await (await fetch(`${second.origin}/readyz`)).json()) as { node: string }
  const left = listeners[nodes.findIndex(node => node !== gone)]!
  assert.equal((await left.closed).code, 1012)
  assert.equal(await within(first.program.exited, 'the end of the first node'), 0)
  assert.equal((await listen('3')).welcome.node, gone)
  await until(
    () => readFileSync(nginx.accessLog, 'utf8').includes('"GET /ws/orders" 101'),
    'the connection that has ended',
  )
  assert.doesNotMatch(readFileSync(nginx.accessLog, 'utf8'), /ticket/)
})

interface Probe {
  httpGet: { path: string }
}

test('kubernetes: the image runs with push.json and the Secret, answers every probe and Prometheus, and drains', async t => {
  const redis = await startRedis(t)
  const folder = join(DEPLOY, 'kubernetes')
  const config = '/etc/push/push.json'
  mkdirSync(join(image.root, 'etc/push'), { recursive: true })
  cpSync(join(folder, 'push.json'), join(image.root, config))
  const { stringData } = parse(readFileSync(join(folder, 'secret.example.yaml'), 'utf8')) as {
    stringData: Record<string, string>
  }
  const { spec } = parse(readFileSync(join(folder, 'deployment.yaml'), 'utf8')) as {
    spec: { template: { spec: { containers: [{ env: { name: string; value: string }[] } & Record<string, Probe>] } } }
  }
  const [node] = spec.template.spec.containers
  const env = Object.fromEntries(node.env.map(({ name, value }) => [name, value]))
  assert.deepEqual(env, { PUSH_CONFIG: config })
  const metrics = `127.0.0.1:${await freePort()}`
  const container = await startContainer(t, { ...stringData, ...env, REDIS_URL: redis.url, METRICS_LISTEN: metrics })
  await untilReady(container)
  for (const probe of [node.startupProbe, node.readinessProbe, node.livenessProbe]) {
    assert.equal((await fetch(container.origin + probe!.httpGet.path)).status, 200)
  }
  const url = `ws://127.0.0.1:${container.port}/ws?ticket=${await ticketFor(redis, '9')}`
  const listener = await listenTo(t, url)
  assert.match(await (await fetch(`http://${metrics}/metrics`)).text(), /^push_connections\{.*\} 1$/m)
  stop(container)
  assert.equal((await listener.closed).code, 1012)
  assert.equal(await within(container.program.exited, 'the end of the node'), 0)
})

test('kubernetes: what the adapter asks Prometheus is a query, and adds up the registrations of a node', async t => {
  const { rules } = parse(readFileSync(join(DEPLOY, 'kubernetes/prometheus-adapter.yaml'), 'utf8')) as {
    rules: { custom: [{ metricsQuery: string }] }
  }
  const query = rules.custom[0].metricsQuery
    .replace('<<.Series>>', 'push_connections')
    .replace('<<.LabelMatchers>>', 'namespace="push",pod=~"a|b"')
    .replace('<<.GroupBy>>', 'pod')
  assert.doesNotMatch(query, /<</)
  const series = (labels: string, value: number) => ({
    series: `push_connections{${labels}}`,
    values: `${value} ${value}`,
  })
  const test = {
    tests: [
      {
        interval: '1m',
        input_series: [
          series('namespace="push",pod="a",registration="push"', 3),
          series('namespace="push",pod="a",registration="admin"', 4),
          series('namespace="push",pod="b",registration="push"', 5),
          series('namespace="other",pod="a",registration="push"', 6),
        ],
        promql_expr_test: [
          {
            expr: query,
            eval_time: '1m',
            exp_samples: [
              { labels: '{pod="a"}', value: 7 },
              { labels: '{pod="b"}', value: 5 },
            ],
          },
        ],
      },
    ],
  }
  const file = join(temporaryFolder(t), 'adapter.test.yml')
  // JSON is YAML.
  writeFileSync(file, JSON.stringify(test))
  const { code, stdout, stderr } = await run(findProgram('promtool')!, ['test', 'rules', file])
  assert.equal(code, 0, stdout + stderr)
})

test('systemd: the unit has no mistake, and leaves the node little to do harm with', async t => {
  const folder = temporaryFolder(t)
  const unit = readFileSync(join(DEPLOY, 'systemd/push@.service'), 'utf8')
  const file = join(folder, 'push@.service')
  // Only whether the program is there depends on the machine.
  writeFileSync(file, unit.replace('/usr/bin/node', process.execPath))
  const analyze = findProgram('systemd-analyze')!
  const env = { SYSTEMD_UNIT_PATH: `${folder}:` }
  const { code, stdout, stderr } = await run(analyze, ['verify', 'push@3001.service'], { env })
  assert.deepEqual([code, stdout + stderr], [0, ''])
  // In tenths of what it calls exposure: 96 for a unit that says nothing.
  const security = await run(analyze, ['security', '--offline=true', '--threshold=20', file])
  assert.equal(security.code, 0, security.stdout)
})
