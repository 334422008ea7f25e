import { type ChildProcess, spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Server } from 'node:net'
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

/** Ports that a process takes at once. It listens at the first of them until it ends: test files run beside one another. */
const SHARE = 50

/** What is left of the last share. */
const own = { next: 0, end: 0 }
let taking: Promise<void> | undefined

/**
 * A port that is free and that nobody else is given: one that only was free a moment ago may go to another server, of this
 * file or of one that runs beside it, before the first one listens there.
 */
export async function freePort(): Promise<number> {
  for (let attempt = 0; attempt < 1000; attempt++) {
    if (own.next === own.end) {
      taking ??= takeShare()
      await taking
      continue
    }
    const port = own.next++
    const server = await listening(port)
    if (!server) continue
    server.close()
    await once(server, 'close')
    return port
  }
  throw new Error(`no port from ${PORTS.from} to ${PORTS.to} is free`)
}

async function takeShare(): Promise<void> {
  const first = PORTS.from + SHARE * randomInt((PORTS.to - PORTS.from) / SHARE)
  const mark = await listening(first)
  taking = undefined
  if (!mark) return
  mark.unref()
  Object.assign(own, { next: first + 1, end: first + SHARE })
}

/** Undefined if somebody else has the port. */
async function listening(port: number): Promise<Server | undefined> {
  const server = createServer().listen(port, '127.0.0.1')
  return once(server, 'listening').then(
    () => server,
    () => undefined,
  )
}

/** Starts a Redis that ends with the test `t`. `isDown` gives the port and leaves the server for `start()`. */
export async function startRedis(
  t: Cleanup,
  options: { isDown?: boolean; args?: string[] } = {},
): Promise<RedisServer> {
  const server = new Started(await freePort(), options.args ?? [])
  t.after(() => server.stop())
  if (!options.isDown) await server.start()
  return server
}

class Started implements RedisServer {
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
