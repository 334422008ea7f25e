import { execFileSync, spawnSync } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { delimiter, isAbsolute, join } from 'node:path'

/** The path of the first of these programs that this machine has. */
export function findProgram(...names: string[]): string | undefined {
  const folders = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin']
  for (const name of names) {
    const found = (isAbsolute(name) ? [name] : folders.map(folder => join(folder, name))).find(isExecutable)
    if (found) return found
  }
  return undefined
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** `redis-server`, `valkey-server` or whatever REDIS_SERVER_BIN names. */
export function findRedisServer(): string | undefined {
  const { REDIS_SERVER_BIN } = process.env
  return REDIS_SERVER_BIN ? findProgram(REDIS_SERVER_BIN) : findProgram('redis-server', 'valkey-server')
}

/** Installs Debian's packages (Homebrew's on macOS) after saying so; false where it may not or cannot. */
export function installPackages(debian: readonly string[], homebrew: readonly string[]): boolean {
  if (process.platform === 'darwin' && findProgram('brew') && homebrew.length > 0) {
    process.stdout.write(`Installing with Homebrew: ${homebrew.join(' ')}\n`)
    return spawnSync('brew', ['install', ...homebrew], { stdio: 'inherit' }).status === 0
  }
  if (!findProgram('apt-get')) return false
  const sudo = process.getuid?.() === 0 ? [] : findProgram('sudo') ? ['sudo', '-n'] : undefined
  if (!sudo) return false
  process.stdout.write(`Installing Debian's packages: ${debian.join(' ')}\n`)
  const run = (...command: string[]) => {
    const [program, ...args] = [...sudo, ...command]
    execFileSync(program!, args, { stdio: 'ignore', env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } })
  }
  try {
    run('apt-get', 'update')
    run('apt-get', 'install', '-y', '--no-install-recommends', ...debian)
    return true
  } catch {
    return false
  }
}
