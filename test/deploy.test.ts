import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { parse, parseAllDocuments } from 'yaml'
import { GAUGES } from '../src/node/monitoring/series.ts'
import { readConfig } from '../src/node/serve-config.ts'
import { registerOptions } from '../src/node/serve-options.ts'
import { readSettings, type ServeSettings, USAGE } from '../src/node/serve-settings.ts'
import { parseOptions } from '../src/options/parse.ts'
import { environmentOf, lastStep, parseDockerfile, readDockerfile, wordsOf } from './helpers/dockerfile.ts'
import { path } from './helpers/processes.ts'

/** Whether the files of `example/deploy/` agree with each other and with what nodes do. test/interop/deploy.test.ts runs them. */

const DEPLOY = path('example/deploy')
const MANIFESTS = join(DEPLOY, 'kubernetes')
const read = (file: string) => readFileSync(join(DEPLOY, file), 'utf8')

/** As deep as a test looks; what is not there is undefined, and the assertion on it fails. */
interface Yaml {
  [key: string]: Yaml
}

const { drain, limits, heartbeat } = parseOptions({ path: '/ws' })
const drainTime = (given: typeof drain) => given.delay + given.window + given.timeout

// ── the image ──────────────────────────────────────────────────────────────────────────────────────────────────────

const stages = readDockerfile(join(DEPLOY, 'docker/Dockerfile'))
const image = stages.at(-1)!
const imageEnv = environmentOf(image)
const user = Number(/^(\d+):\d+$/.exec(lastStep(image, 'USER').text)?.[1])

test('Dockerfile: what it copies is in the folder, or made as docs/deploy.md says, and is let in', () => {
  const ignored = read('docker/.dockerignore')
  const made = ['package-lock.json', '*.tgz']
  const copied = stages.flatMap(({ steps }) => steps.filter(({ word, flags }) => word === 'COPY' && !flags.from))
  const sources = copied.flatMap(({ text }) => text.split(' ').slice(0, -1))
  assert.deepEqual(sources.toSorted(), ['*.tgz', 'healthcheck.mjs', 'package-lock.json', 'package.json'])
  for (const source of sources) {
    assert.ok(ignored.includes(`\n!${source}\n`), source)
    assert.ok(made.includes(source) || existsSync(join(DEPLOY, 'docker', source)), source)
  }
  for (const name of made) assert.ok(readFileSync(path('docs/deploy.md'), 'utf8').includes(name.replace('*', '')), name)
})

test('Dockerfile: it ends as a user that is not root, with the port and the signal of the node', () => {
  assert.ok(user > 0)
  const indexOf = (word: string) => image.steps.findLastIndex(step => step.word === word)
  assert.ok(indexOf('USER') > indexOf('RUN'))
  assert.equal(lastStep(image, 'EXPOSE').text, imageEnv.PORT)
  assert.equal(lastStep(image, 'STOPSIGNAL').text, 'SIGTERM')
  const [program, script] = wordsOf(lastStep(image, 'HEALTHCHECK').text)
  assert.deepEqual([program, existsSync(join(DEPLOY, 'docker', script!))], ['node', true])
  const { dependencies } = JSON.parse(read('docker/package.json')) as { dependencies: Record<string, string> }
  const { version } = JSON.parse(readFileSync(path('package.json'), 'utf8')) as { version: string }
  assert.equal(dependencies['fastify-push-bridge'], `^${version}`)
})

test('a Dockerfile with a line that is no instruction is refused', () => {
  const text = '# a comment\nFROM node AS a\nCOPY --from=b --chown=1:1 x \\\n  y ./\n'
  const copy = { word: 'COPY', flags: { from: 'b', chown: '1:1' }, text: 'x    y ./' }
  assert.deepEqual(parseDockerfile(text), [{ base: 'node', name: 'a', steps: [copy] }])
  assert.throws(() => parseDockerfile('FROM node\nrun x'), /no instruction of a Dockerfile: run x/)
  assert.throws(() => parseDockerfile('RUN x'), /not in a Dockerfile: RUN x/)
})

// ── what nodes are told ────────────────────────────────────────────────────────────────────────────────────────────

const compose = parse(read('compose.yaml'), { merge: true }) as Yaml
const deployment = manifest('deployment.yaml')
const pod = deployment.spec!.template!.spec!
const [node] = pod.containers as unknown as [Yaml]
const unit = read('systemd/push@.service')

function manifest(file: string): Yaml {
  const [document, ...others] = parseAllDocuments(readFileSync(join(MANIFESTS, file), 'utf8'))
  assert.deepEqual([document?.errors, document?.warnings, others.length], [[], [], 0], file)
  return document!.toJS() as Yaml
}

test('every variable is one of serve', () => {
  const secret = manifest('secret.example.yaml').stringData!
  const named = [
    ...Object.keys(imageEnv),
    ...Object.keys(compose.services!.push1!.environment!),
    ...Object.keys(secret),
    ...(node.env as unknown as { name: string }[]).map(({ name }) => name),
    ...[...unit.matchAll(/^Environment=(.+)$/gm)].flatMap(([, pairs]) => pairs!.match(/\w+(?==)/g)!),
  ]
  assert.ok(named.length > 8)
  // That of Node itself, for libraries.
  for (const name of named) if (name !== 'NODE_ENV') assert.match(USAGE, new RegExp(`^ {2}${name} `, 'm'), name)
})

test('compose: it waits longer than a node needs to drain, and has descriptors for its connections', () => {
  for (const name of ['push1', 'push2']) {
    const { stop_grace_period: grace, ulimits, environment } = compose.services![name]! as Record<string, Yaml>
    assert.ok(Number(/^(\d+)s$/.exec(String(grace))![1]) * 1000 > drainTime(drain), name)
    assert.ok(Number(ulimits!.nofile!.soft) > limits.connections, name)
    assert.equal(environment!.REDIS_URL, 'redis://redis:6379')
  }
})

test('compose: nginx.conf is that of the example, for containers and without pages', () => {
  const plain = (conf: string) => conf.replaceAll(/^ *#.*\n|^\n/gm, '')
  const example = plain(readFileSync(path('example/nginx/nginx.conf'), 'utf8'))
    .replace(
      'server 127.0.0.1:3001 max_fails=2 fail_timeout=5s;',
      'server push1:3000 max_fails=2 fail_timeout=5s resolve;',
    )
    .replace(
      'server 127.0.0.1:3002 max_fails=2 fail_timeout=5s;',
      'server push2:3000 max_fails=2 fail_timeout=5s resolve;',
    )
    .replace('    zone push_nodes 64k;\n', '    zone push_nodes 64k;\n    resolver 127.0.0.11 valid=5s;\n')
    .replace('push.example.com;', '_;')
    .replace('location / {\n        proxy_pass http://push_nodes;', 'location / {\n        return 404;')
    .replace('allow 10.0.0.0/8;', 'allow 172.16.0.0/12;\n        allow 192.168.0.0/16;')
  assert.equal(plain(read('nginx.conf')), example)
})

test('systemd: it waits longer than a node needs to drain, and has descriptors for its connections', () => {
  const number = (name: string) => Number(new RegExp(`^${name}=(\\d+)$`, 'm').exec(unit)?.[1])
  assert.ok(number('TimeoutStopSec') * 1000 > drainTime(drain))
  assert.ok(number('LimitNOFILE') > limits.connections)
  assert.match(unit, /^KillSignal=SIGTERM$/m)
  const [program, script] = wordsOf(lastStep(image, 'ENTRYPOINT').text)
  const [command] = wordsOf(lastStep(image, 'CMD').text)
  assert.match(
    unit,
    new RegExp(`^ExecStart=/usr/bin/${program} ${lastStep(image, 'WORKDIR').text}/${script} ${command}$`, 'm'),
  )
})

// ── Kubernetes ─────────────────────────────────────────────────────────────────────────────────────────────────────

const ms = (seconds: unknown) => Number(seconds) * 1000

async function settings() {
  const env = manifest('secret.example.yaml').stringData as unknown as Record<string, string>
  const given = readSettings(['serve'], { ...imageEnv, ...env }, await readConfig(join(MANIFESTS, 'push.json')))
  const { trustProxy, metrics: served, port } = given as ServeSettings
  return { trustProxy, served, port, ...parseOptions(registerOptions(given as ServeSettings, { tickets: true })) }
}

test('kubernetes: every manifest has a name and stands in kustomization.yaml, or is applied by hand', () => {
  const listed = readFileSync(join(MANIFESTS, 'kustomization.yaml'), 'utf8')
  const byHand = ['kustomization.yaml', 'secret.example.yaml', 'prometheus-adapter.yaml']
  const files = readdirSync(MANIFESTS).filter(file => file.endsWith('.yaml'))
  for (const file of files.filter(file => !byHand.includes(file))) {
    assert.match(listed, new RegExp(`^ +(# )?- ${file}$`, 'm'), file)
    const { apiVersion, kind, metadata } = manifest(file)
    assert.deepEqual([typeof apiVersion, typeof kind, metadata!.name], ['string', 'string', 'push'], file)
  }
  const { resources, images, configMapGenerator } = manifest('kustomization.yaml') as unknown as {
    resources: string[]
    images: { name: string }[]
    configMapGenerator: { name: string; files: string[] }[]
  }
  for (const file of [...resources, ...configMapGenerator.flatMap(({ files }) => files)]) {
    assert.ok(existsSync(join(MANIFESTS, file)), file)
  }
  assert.equal(images[0]!.name, node.image)
  const [config] = pod.volumes as unknown as [Yaml]
  assert.equal(configMapGenerator[0]!.name, config.configMap!.name)
})

test('kubernetes: a node has the time to drain, and the next one waits until its clients are back', async () => {
  const { drain } = await settings()
  const preStop = node.lifecycle!.preStop!.sleep!.seconds
  assert.ok(Number(preStop) > 0)
  // Some more, for requests that are under way.
  assert.ok(ms(pod.terminationGracePeriodSeconds) >= ms(preStop) + drainTime(drain) + 5000)
  assert.ok(ms(deployment.spec!.minReadySeconds) > drain.window)
})

test('kubernetes: the probes ask the routes that docs/operations.md has, at the port of the node', () => {
  const documented = readFileSync(path('docs/operations.md'), 'utf8')
  const ports = node.ports as unknown as { name: string; containerPort: number }[]
  const paths = ['startupProbe', 'readinessProbe', 'livenessProbe'].map(name => {
    const { path, port } = node[name]!.httpGet as unknown as { path: string; port: string }
    assert.equal(ports.find(({ name }) => name === port)?.containerPort, Number(imageEnv.PORT))
    assert.ok(documented.includes(`| \`GET ${path}\` |`), path)
    return path
  })
  // Without Redis no node may be taken out, and none restarted.
  assert.deepEqual(paths, ['/readyz?strict', '/readyz', '/livez'])
})

test('kubernetes: nobody is root, and nobody can write or gain rights', () => {
  const { runAsNonRoot, runAsUser, seccompProfile } = pod.securityContext as Record<string, unknown>
  assert.deepEqual([runAsNonRoot, runAsUser, seccompProfile], [true, user, { type: 'RuntimeDefault' }])
  assert.deepEqual(node.securityContext as unknown, {
    allowPrivilegeEscalation: false,
    readOnlyRootFilesystem: true,
    capabilities: { drop: ['ALL'] },
  })
  assert.deepEqual([pod.automountServiceAccountToken, pod.enableServiceLinks], [false, false] as unknown[])
})

test('kubernetes: labels, names and ports lead from the Ingress to the nodes', async () => {
  const { port, served, path: route } = await settings()
  const { labels } = deployment.spec!.template!.metadata!
  const service = manifest('service.yaml')
  const budget = manifest('disruption-budget.yaml')
  const monitor = manifest('service-monitor.yaml')
  const selectors = [service.spec!.selector, budget.spec!.selector!.matchLabels, deployment.spec!.selector!.matchLabels]
  for (const selector of selectors) assert.deepEqual(selector, labels)
  for (const { labelSelector } of pod.topologySpreadConstraints as unknown as Yaml[]) {
    assert.deepEqual(labelSelector!.matchLabels, labels)
  }
  assert.deepEqual(monitor.spec!.selector!.matchLabels, service.metadata!.labels)
  const own = new Map((node.ports as unknown as { name: string; containerPort: number }[]).map(p => [p.name, p]))
  assert.deepEqual([own.get('http')?.containerPort, port], [3000, 3000])
  assert.equal(own.get('metrics')?.containerPort, served!.listen!.port)
  const services = service.spec!.ports as unknown as { name: string; targetPort: string }[]
  for (const { targetPort } of services) assert.ok(own.has(targetPort), targetPort)
  const [endpoint] = monitor.spec!.endpoints as unknown as [{ port: string; path: string }]
  assert.equal(endpoint.path, served!.path)
  assert.ok(services.some(({ name }) => name === endpoint.port))
  for (const file of ['ingress-nginx.yaml', 'ingress-haproxy.yaml']) {
    const [rule, ...others] = manifest(file).spec!.rules as unknown as Yaml[]
    const backend = { service: { name: service.metadata!.name, port: { name: 'http' } } }
    assert.deepEqual([rule!.http!.paths, others], [[{ path: route, pathType: 'Prefix', backend }], []], file)
  }
})

test('kubernetes: the proxies wait longer than a quiet connection is quiet, and log no ticket', async () => {
  const { annotations } = manifest('ingress-nginx.yaml').metadata as unknown as { annotations: Record<string, string> }
  const of = (name: string) => annotations[`nginx.ingress.kubernetes.io/${name}`]
  for (const name of ['proxy-read-timeout', 'proxy-send-timeout']) assert.ok(ms(of(name)) > heartbeat.interval, name)
  const example = readFileSync(path('example/nginx/nginx.conf'), 'utf8')
  assert.ok(example.includes(`proxy_next_upstream ${of('proxy-next-upstream')};`))
  assert.ok(example.includes(`proxy_next_upstream_tries ${of('proxy-next-upstream-tries')};`))
  assert.ok(example.includes(`proxy_connect_timeout ${of('proxy-connect-timeout')}s;`))
  assert.equal(of('enable-access-log'), 'false')
  const haproxy = manifest('ingress-haproxy.yaml').metadata as unknown as { annotations: Record<string, string> }
  assert.equal(haproxy.annotations['haproxy.org/check-http'], '/readyz')
  // Whoever believes X-Forwarded-Host needs a proxy that sets it.
  assert.equal(haproxy.annotations['haproxy.org/request-set-header'], 'X-Forwarded-Host %[req.hdr(Host)]')
  assert.equal((await settings()).trustProxy, '10.0.0.0/8')
})

test('kubernetes: the number of nodes follows a metric that there is, and leaves room on each', async () => {
  const { spec } = manifest('autoscaler.yaml')
  const [rule] = manifest('prometheus-adapter.yaml').rules!.custom as unknown as [Yaml]
  const [connections] = spec!.metrics as unknown as [{ pods: Yaml }]
  const { name } = connections.pods.metric as unknown as { name: string }
  assert.ok(name.replace(/^push_/, '') in GAUGES, name)
  assert.equal(rule.name!.as, name)
  assert.match(String(rule.seriesQuery), new RegExp(`^${name}\\{`))
  const { kind, name: target } = spec!.scaleTargetRef as unknown as { kind: string; name: string }
  assert.deepEqual([kind, target], [deployment.kind, deployment.metadata!.name])
  const each = Number(connections.pods.target!.averageValue)
  const { limits } = await settings()
  assert.ok(each > 0 && each <= limits.connections * 0.75, `${each}`)
  assert.ok(Number(spec!.minReplicas) >= 2)
})
