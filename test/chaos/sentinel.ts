import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { Redis } from 'ioredis'
import { findRedisServer } from '../helpers/programs.ts'
import { freePort } from '../helpers/redis.ts'
import { Child } from './child.ts'
import { RedisProcess } from './redis-server.ts'
import { dataFolder, type Store, type Target } from './store.ts'

const NAME = 'chaos'
const DOWN_AFTER = 1000
const SETTLE = 15_000

/** One master, one replica and three sentinels. Programs ask the sentinels, and no proxy stands before Redis. */
export class SentinelStore implements Store {
  readonly links = []
  readonly #servers: RedisProcess[]
  readonly #sentinels: { port: number; child: Child; client: Redis }[] = []
  #masterPort: number
  #isBusy = false

  private constructor(servers: RedisProcess[]) {
    this.#servers = servers
    this.#masterPort = servers[0]!.port
  }

  static async start(folder: string): Promise<SentinelStore> {
    const data = dataFolder()
    const servers: RedisProcess[] = []
    for (const name of ['a', 'b']) servers.push(new RedisProcess(await freePort(), join(data, name)))
    await servers[0]!.start()
    await servers[1]!.start(['--replicaof', `127.0.0.1 ${servers[0]!.port}`])
    const store = new SentinelStore(servers)
    for (let i = 0; i < 3; i++) await store.#addSentinel(folder, i)
    await store.whole()
    return store
  }

  async #addSentinel(folder: string, index: number): Promise<void> {
    const port = await freePort()
    const file = join(folder, `sentinel-${index}.conf`)
    const rules = [
      `port ${port}`,
      'bind 127.0.0.1',
      `dir ${folder}`,
      `sentinel monitor ${NAME} 127.0.0.1 ${this.#masterPort} 2`,
      `sentinel down-after-milliseconds ${NAME} ${DOWN_AFTER}`,
      `sentinel failover-timeout ${NAME} 3000`,
    ]
    writeFileSync(file, rules.join('\n') + '\n')
    const output = join(folder, `sentinel-${index}.log`)
    const child = new Child('sentinel', findRedisServer()!, [file, '--sentinel'], { output })
    const client = new Redis({ port, host: '127.0.0.1', retryStrategy: () => 100, maxRetriesPerRequest: null })
    client.on('error', () => {})
    this.#sentinels.push({ port, child, client })
  }

  get port(): number {
    return this.#masterPort
  }

  get master(): RedisProcess {
    return this.#servers.find(({ port }) => port === this.#masterPort)!
  }

  get masters(): Target[] {
    return [{ server: this.master, details: {} }]
  }

  adminOf(): Redis {
    return this.master.admin
  }

  get phpAddress(): string {
    return `sentinel:${this.#sentinels.map(({ port }) => port).join(',')}`
  }

  sourceThrough(): object {
    return { sentinels: this.#sentinels.map(({ port }) => ({ host: '127.0.0.1', port })), name: NAME }
  }

  /** The master that the sentinels name; the replica follows it and has everything. */
  async whole(): Promise<void> {
    const deadline = Date.now() + SETTLE
    while (Date.now() < deadline) {
      const state = await this.#look()
      if (state) {
        this.#masterPort = state
        return
      }
      await sleep(100)
    }
    throw new Error('the sentinels did not settle')
  }

  async #look(): Promise<number | undefined> {
    const found = await Promise.all(
      this.#sentinels.map(({ client }) => client.call('SENTINEL', 'get-master-addr-by-name', NAME)),
    )
    const ports = new Set((found as [string, string][]).map(address => Number(address?.[1])))
    const [port] = ports
    const master = this.#servers.find(server => server.port === port)
    if (ports.size !== 1 || !master?.isRunning) return undefined
    const info = await master.admin.info('replication')
    const peers = await Promise.all(this.#sentinels.map(({ client }) => client.call('SENTINEL', 'sentinels', NAME)))
    const knowsAll = (peers as unknown[][]).every(list => list.length === 2)
    return knowsAll && info.includes('role:master') && /slave0:.*state=online/.test(info) ? port : undefined
  }

  /** One at a time: the sentinels would refuse, or the replica be alone. */
  async #exclusively(begun: () => void, act: () => Promise<void>): Promise<void> {
    if (this.#isBusy) return
    this.#isBusy = true
    begun()
    try {
      await act()
      await this.whole()
    } finally {
      this.#isBusy = false
    }
  }

  failOver(duration: number, begun: () => void): Promise<void> {
    return this.#exclusively(begun, async () => {
      const { master } = this
      await this.#sentinels[0]!.client.call('SENTINEL', 'FAILOVER', NAME).catch(() => {})
      await this.#moved(master.port, SETTLE)
      await sleep(duration / 4)
      await this.#demote(master)
    })
  }

  /** Sentinels leave an old master a master for ten seconds. */
  async #demote(old: RedisProcess): Promise<void> {
    const other = this.#servers.find(server => server !== old)!
    await old.admin.call('REPLICAOF', '127.0.0.1', other.port)
  }

  killMaster(duration: number, begun: () => void): Promise<void> {
    return this.#exclusively(begun, async () => {
      const { master } = this
      await master.kill()
      await this.#moved(master.port, SETTLE)
      await sleep(duration)
      const other = this.#servers.find(server => server !== master)!
      await master.start(['--replicaof', `127.0.0.1 ${other.port}`])
    })
  }

  freezeMaster(duration: number, begun: () => void): Promise<void> {
    return this.#exclusively(begun, async () => {
      const { master } = this
      master.signal('SIGSTOP')
      await this.#moved(master.port, SETTLE)
      await sleep(duration)
      master.signal('SIGCONT')
      await this.#demote(master)
    })
  }

  /** All sentinels name another master than before. */
  async #moved(before: number, patience: number): Promise<void> {
    const deadline = Date.now() + patience
    while (Date.now() < deadline) {
      const found = await Promise.all(
        this.#sentinels.map(({ client }) => client.call('SENTINEL', 'get-master-addr-by-name', NAME)),
      )
      if (found.every(address => Number((address as [string, string])?.[1]) !== before)) return
      await sleep(50)
    }
  }

  async close(): Promise<void> {
    for (const { client, child } of this.#sentinels) {
      client.disconnect()
      await child.kill()
    }
    for (const server of this.#servers) await server.close()
  }
}
