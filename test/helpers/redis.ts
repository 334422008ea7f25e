import { type ChildProcess, spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { findRedisServer } from './programs.ts'
import { once, within } from './waiting.ts'

/** A throw-away Redis of the test's own, on a free port of the loopback interface. */
export interface RedisServer {
  readonly port: number
  readonly url: string
  readonly pid: number
  /** A client for looking in; closed with the server. */
  readonly admin: Redis
  /** kill -9. */
  kill(): Promise<void>
  /** Starts again on the same port after `kill`. */
  start(): Promise<void>
  freeze(): void
  thaw(): void
}

interface Cleanup {
  after(hook: () => unknown): void
}

/** Below what systems give to whoever wants just any port, so that a free one stays free, also while its server is away. */
const PORTS = { from: 15_000, to: 30_000 }

/** A port of nobody, and nobody else is given it as long as this process lives. */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 100; attempt++) {
    const port = randomInt(PORTS.from, PORTS.to)
    if ((await reserve(port)) && (await isFree(port))) return port
  }
  throw new Error(`no port from ${PORTS.from} to ${PORTS.to} is free`)
}

/** Two programs that look at the same time would find the same one. UDP, which nobody speaks here, is where they meet. */
async function reserve(port: number): Promise<boolean> {
  const mark = createSocket('udp4')
  mark.bind(port, '127.0.0.1')
  if (await succeeds(once(mark, 'listening'))) return Boolean(mark.unref())
  mark.close()
  return false
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer().listen(port, '127.0.0.1')
  if (!(await succeeds(once(server, 'listening')))) return false
  server.close()
  await once(server, 'close')
  return true
}

const succeeds = (happening: Promise<unknown>): Promise<boolean> =>
  happening.then(
    () => true,
    () => false,
  )

/** Starts a Redis that ends with the test `t`. `isDown` gives the port and leaves the server for `start()`. */
export async function startRedis(
  t: Cleanup,
  options: { isDown?: boolean; args?: string[] } = {},
): Promise<RedisServer> {
  const server = new Server(await freePort(), options.args ?? [])
  t.after(() => server.stop())
  if (!options.isDown) await server.start()
  return server
}

class Server implements RedisServer {
  readonly port: number
  readonly #args: readonly string[]
  readonly #folder = mkdtempSync(join(tmpdir(), 'push-redis-'))
  #process: ChildProcess | undefined
  #admin: Redis | undefined

  constructor(port: number, args: readonly string[]) {
    this.port = port
    this.#args = args
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`
  }

  get pid(): number {
    return this.#process!.pid!
  }

  get admin(): Redis {
    if (!this.#admin) {
      this.#admin = new Redis(this.url)
      this.#admin.on('error', () => {})
    }
    return this.#admin
  }

  async start(): Promise<void> {
    const binary = findRedisServer()
    if (!binary) throw new Error('no redis-server found: run npm test, which installs one or says what to install')
    const args = [
      '--port',
      `${this.port}`,
      '--bind',
      '127.0.0.1',
      '--save',
      '',
      '--appendonly',
      'no',
      '--dir',
      this.#folder,
    ]
    this.#process = spawn(binary, [...args, ...this.#args], { stdio: ['ignore', 'pipe', 'ignore'] })
    const stdout = this.#process.stdout!
    let said = ''
    const isReady = async () => {
      for await (const chunk of stdout.iterator({ destroyOnReturn: false })) {
        said += chunk
        if (said.includes('eady to accept connections')) return
      }
      throw new Error(`Redis ended before it was ready: ${said}`)
    }
    await within(isReady(), () => `Redis is ready: ${said}`)
    stdout.resume()
  }

  async kill(): Promise<void> {
    const running = this.#process
    if (!running || running.exitCode !== null || running.signalCode !== null) return
    running.kill('SIGKILL')
    await once(running, 'exit')
  }

  freeze(): void {
    this.#process!.kill('SIGSTOP')
  }

  thaw(): void {
    this.#process!.kill('SIGCONT')
  }

  async stop(): Promise<void> {
    this.#admin?.disconnect()
    await this.kill()
    rmSync(this.#folder, { recursive: true, force: true })
  }
}
