import { spawnSync } from 'node:child_process'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { CONCURRENCY, testFiles, testFilesOfNode, testFilesWithClients } from './files.ts'
import { findProgram, findRedisServer, installPackages } from './helpers/programs.ts'
import { repeat } from './repeat.ts'

const INTEROP_PACKAGES = [
  'redis-server',
  'php-cli',
  'php-redis',
  'php-predis',
  'php-curl',
  'php-amqplib',
  'php-laravel-framework',
  'php-symfony-notifier',
  'phpunit',
  'composer',
  'nginx-light',
  'haproxy',
  'prometheus',
  'rabbitmq-server',
  'python3',
  'python3-redis',
  'python3-websockets',
  'python3-confluent-kafka',
  'chromium',
  'curl',
  'openssl',
  'protobuf-compiler',
  'systemd',
]
const INTEROP_PROGRAMS = [
  'redis-cli',
  'php',
  'phpunit',
  'composer',
  'nginx',
  'haproxy',
  'prometheus',
  'promtool',
  'rabbitmq-server',
  'python3',
  'chromium',
  'curl',
  'openssl',
  'protoc',
  'systemd-analyze',
]

const TIMEOUT = 600_000

function provideRedis(): void {
  if (findRedisServer()) return
  const { REDIS_SERVER_BIN } = process.env
  if (REDIS_SERVER_BIN) stop(`REDIS_SERVER_BIN=${REDIS_SERVER_BIN} is not a program that can be run`)
  if (installPackages(['redis-server'], ['redis']) && findRedisServer()) return
  stop('no Redis found: install redis-server (Debian, Ubuntu), redis (Homebrew) or valkey, or set REDIS_SERVER_BIN')
}

function provideInterop(): void {
  const missing = () => INTEROP_PROGRAMS.filter(name => !findProgram(name))
  if (missing().length === 0 && hasModules()) return
  if (installPackages(INTEROP_PACKAGES, []) && missing().length === 0) return
  stop(`missing ${missing().join(', ')}: install ${INTEROP_PACKAGES.join(' ')}`)
}

function hasModules(): boolean {
  const code = `@include 'Predis/autoload.php'; @include 'PhpAmqpLib/autoload.php';
    $has = fn (string $file) => stream_resolve_include_path($file) !== false;
    $frameworks = $has('Illuminate/Foundation/Application.php') && $has('Symfony/Component/Notifier/autoload.php');
    $clients = class_exists('Predis\\Client') && class_exists('PhpAmqpLib\\Message\\AMQPMessage');
    exit($frameworks && $clients && extension_loaded('redis') && extension_loaded('curl') ? 0 : 1);`
  const php = spawnSync('php', ['-r', code])
  const python = spawnSync(findSystemPython(), ['-c', 'import redis, websockets, confluent_kafka'])
  return php.status === 0 && python.status === 0
}

/** Debian's modules belong to Debian's Python, whichever other stands first in PATH. */
function findSystemPython(): string {
  return findProgram('/usr/bin/python3', 'python3') ?? 'python3'
}

function stop(reason: string): never {
  process.stderr.write(`${reason}\n`)
  process.exit(1)
}

/** Lines of Node from the npm package `node`, beside the oldest one that is supported: an LTS that many have, and the newest. */
const CURRENT_NODE = 'node@24'
const LATEST_NODE = 'node@26'

function installNode(name: string): string {
  const { stdout } = spawnSync('npx', ['-y', '-p', name, 'node', '-p', 'process.execPath'], { encoding: 'utf8' })
  const path = stdout.trim().split('\n').at(-1)
  if (!path) stop(`the npm package ${name} could not be installed`)
  return path
}

function build(): void {
  const { status } = spawnSync('npm', ['run', '--silent', 'build'], { stdio: 'inherit' })
  if (status !== 0) stop('the build failed')
}

/** What failed stands once more at the end: of thousands of tests a log often keeps the last lines only. */
const REPORTER = '--test-reporter=spec'

const LOADER = ['--import', 'tsx']

/** What a Node needs to run TypeScript: nothing from 24 on, which saves a second for each of the files. */
function loaderFor(node: string): string[] {
  const { stdout } = spawnSync(node, ['-p', 'process.features.typescript'], { encoding: 'utf8' })
  return stdout.trim() === 'strip' ? [] : LOADER
}

function run(
  files: string[],
  { node = process.execPath, through = [] as string[], env = {}, loader = loaderFor(node) },
): never {
  const flags = ['--test', REPORTER, `--test-concurrency=${CONCURRENCY}`, `--test-timeout=${TIMEOUT}`]
  const [program, ...args] = [...through, node, ...loader, ...flags, ...files]
  const { status } = spawnSync(program!, args, { stdio: 'inherit', env: { ...process.env, ...env } })
  process.exit(status ?? 1)
}

/** The same server without HELLO: no client can ask for RESP3. */
function serverInResp2(): string {
  const file = join(mkdtempSync(join(tmpdir(), 'push-resp2-')), 'redis-server')
  writeFileSync(file, `#!/bin/sh\nexec '${findRedisServer()}' "$@" --rename-command HELLO ''\n`, { mode: 0o755 })
  return file
}

/** What is about Redis, through the server that REDIS_SERVER_BIN names, or in the older protocol. */
function runServers(protocol: string | undefined): never {
  const files = testFiles().filter(file => /broker.redis|two-nodes|rolling-restart/.test(file))
  if (protocol === undefined) return run(files, {})
  if (protocol !== 'resp2') stop(`"${protocol}" is not resp2`)
  const others = files.filter(file => !file.endsWith('servers.test.ts'))
  return run(others, { env: { REDIS_SERVER_BIN: serverInResp2() } })
}

/** `npm run test:latest -- whole` */
const isWhole = process.argv[3] === 'whole'

const modes: Record<string, () => unknown> = {
  default: () => run(testFiles(), {}),
  interop: () => {
    provideInterop()
    run(testFiles('interop'), {})
  },
  // On the current line, where the whole suite runs once more anyway. Programs that tests start are loaded by tsx: coverage of
  // one file that was loaded in two ways cannot be added up.
  coverage: () => run(testFiles(), { node: installNode(CURRENT_NODE), through: ['npx', 'c8'], loader: LOADER }),
  package: () => run(testFiles('package'), {}),
  current: () => run(testFilesOfNode({ isWhole }), { node: installNode(CURRENT_NODE) }),
  latest: () => run(testFilesOfNode({ isWhole }), { node: installNode(LATEST_NODE) }),
  'ordinary-send': () => run(testFilesWithClients(), { env: { PUSH_ORDINARY_SEND: '1' } }),
  servers: () => runServers(process.argv[3]),
  repeat: async () => process.exit((await repeat(process.argv.slice(3))) ? 0 : 1),
}

const mode = modes[process.argv[2] ?? 'default']
if (!mode) stop(`there are the modes ${Object.keys(modes).join(', ')}`)
provideRedis()
build()
mode()
