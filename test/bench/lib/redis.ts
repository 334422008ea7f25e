import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pinned } from './machine.ts'

const BINARY = process.env.REDIS_SERVER_BIN ?? 'redis-server'

export interface Redis {
  port: number
  url: string
  stop(): Promise<void>
}

export function redisVersion(): string {
  return /v=(\S+)/.exec(execFileSync(BINARY, ['--version'], { encoding: 'utf8' }))?.[1] ?? 'unknown'
}

/**
 * A throw-away Redis on loopback. Its limits are the defaults (`client-output-buffer-limit pubsub 32mb 8mb 60`): a
 * peer that is cut off by them loses messages, and the table says so.
 */
export async function startRedis(cpus: string | undefined): Promise<Redis> {
  const port = await freePort()
  const folder = await mkdtemp(join(tmpdir(), 'push-bench-redis-'))
  const options = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no', '--dir', folder]
  const [command, ...args] = pinned(cpus, [BINARY, ...options])
  const child = spawn(command!, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  const exited = once(child, 'exit')
  // However the bench ends: nothing is left running.
  process.on('exit', () => child.kill('SIGKILL'))
  await new Promise<void>((resolve, reject) => {
    child.stdout.on('data', chunk => String(chunk).includes('Ready to accept connections') && resolve())
    child.once('error', reject)
    child.once('exit', code => reject(new Error(`${BINARY} exited with ${code}`)))
  })
  return {
    port,
    url: `redis://127.0.0.1:${port}`,
    async stop() {
      child.kill('SIGKILL')
      await exited
      await rm(folder, { recursive: true, force: true })
    },
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}
