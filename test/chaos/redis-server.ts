import { cpSync, mkdirSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { findRedisServer } from '../helpers/programs.ts'
import { Child } from './child.ts'

const QUIET = { retryStrategy: () => 50, maxRetriesPerRequest: null, lazyConnect: false } as const

/** A Redis with an append-only file that is written before anything is answered: kill -9 loses nothing. */
export class RedisProcess {
  readonly port: number
  readonly folder: string
  /** Looks in; its commands wait while Redis is away. */
  readonly admin: Redis
  readonly #args: readonly string[]
  #child: Child | undefined
  #isClosed = false

  constructor(port: number, folder: string, args: readonly string[] = []) {
    this.port = port
    this.folder = folder
    this.#args = args
    mkdirSync(folder, { recursive: true })
    this.admin = new Redis({ ...QUIET, port, host: '127.0.0.1' })
    this.admin.on('error', () => {})
  }

  get pid(): number {
    return this.#child!.process.pid!
  }

  get isRunning(): boolean {
    return this.#child?.isRunning ?? false
  }

  async start(more: readonly string[] = []): Promise<void> {
    // A fault may outlive a run that was given up.
    if (this.#isClosed) return
    const settings = { port: this.port, bind: '127.0.0.1', dir: this.folder, appendonly: 'yes', appendfsync: 'always' }
    const args = Object.entries({ ...settings, save: '' }).flatMap(([key, value]) => [`--${key}`, `${value}`])
    const output = `${this.folder}/../redis-${this.port}.log`
    this.#child = new Child('redis', findRedisServer()!, [...args, ...this.#args, ...more], { output })
    for (let i = 0; i < 200 && !(await answers(this.port)); i++) await sleep(25)
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.signal(signal)
  }

  async kill(): Promise<void> {
    await this.#child?.kill()
  }

  /** The files as they are now. The end may be half a command, which Redis cuts off. */
  snapshot(): string {
    const copy = `${this.folder}-${Date.now()}`
    cpSync(`${this.folder}/appendonlydir`, copy, { recursive: true })
    return copy
  }

  restore(copy: string): void {
    rmSync(`${this.folder}/appendonlydir`, { recursive: true, force: true })
    cpSync(copy, `${this.folder}/appendonlydir`, { recursive: true })
  }

  async close(): Promise<void> {
    this.#isClosed = true
    this.admin.disconnect()
    await this.kill()
    // With the snapshots beside it.
    rmSync(join(this.folder, '..'), { recursive: true, force: true })
  }
}

/** Whether it serves: while it loads its files it accepts connections already. */
function answers(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(port, '127.0.0.1', () => socket.write('PING\r\n'))
    socket.on('data', data => {
      socket.destroy()
      resolve(String(data).startsWith('+PONG'))
    })
    socket.on('error', () => resolve(false))
    socket.setTimeout(500, () => socket.destroy())
    socket.on('close', () => resolve(false))
  })
}
