import { spawnSync } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { findProgram, findRedisServer, installPackages } from './helpers/programs.ts'

const INTEROP_PACKAGES = [
  'redis-server',
  'php-cli',
  'php-redis',
  'php-curl',
  'nginx-light',
  'python3',
  'python3-redis',
  'python3-websockets',
  'chromium',
]
const INTEROP_PROGRAMS = ['redis-cli', 'php', 'nginx', 'python3', 'chromium']

/** A failed assertion of one file says more when its own lines stand together: files run one by one on small machines. */
const CONCURRENCY = 2
const TIMEOUT = 300_000

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
  const php = spawnSync('php', ['-r', 'exit(extension_loaded("redis") && extension_loaded("curl") ? 0 : 1);'])
  const python = spawnSync(findSystemPython(), ['-c', 'import redis, websockets'])
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

function run(folder: URL): never {
  const files = readdirSync(folder)
    .filter(name => name.endsWith('.test.ts'))
    .map(name => fileURLToPath(new URL(name, folder)))
    .sort()
  const flags = ['--import', 'tsx', '--test', `--test-concurrency=${CONCURRENCY}`, `--test-timeout=${TIMEOUT}`]
  const { status } = spawnSync(process.execPath, [...flags, ...files], { stdio: 'inherit' })
  process.exit(status ?? 1)
}

function build(): void {
  const { status } = spawnSync('npm', ['run', '--silent', 'build'], { stdio: 'inherit' })
  if (status !== 0) stop('the build failed')
}

const isInterop = process.argv[2] === 'interop'
provideRedis()
if (isInterop) provideInterop()
build()
run(new URL(isInterop ? './interop/' : './', import.meta.url))
