import { existsSync, mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Redis } from 'ioredis'
import { freePort } from '../helpers/redis.ts'
import { ClusterStore } from './cluster.ts'
import type { Journal } from './journal.ts'
import type { FaultProxy } from './proxy.ts'
import { RedisProcess } from './redis-server.ts'
import { SentinelStore } from './sentinel.ts'

export const TOPOLOGIES = ['single', 'sentinel', 'nginx', 'cluster', 'cluster-sharded'] as const
export type Topology = (typeof TOPOLOGIES)[number]

export const isCluster = (topology: Topology): boolean => topology.startsWith('cluster')

/** A server that has data now, and how the journal names it. */
export interface Target {
  server: RedisProcess
  /** Only what is there has to do with what happens to it. */
  details: { shard?: number }
}

/** Redis as the nodes see it. */
export interface Store {
  /** Of the server that the proxies of the nodes lead to. */
  readonly port: number
  /** The servers that have the data now. */
  readonly masters: readonly Target[]
  /** The proxies before Redis that are not those of the nodes. */
  readonly links: readonly { link: FaultProxy; details: object }[]
  /** What PHP is told. */
  readonly phpAddress: string
  /** What a program that goes through `proxy` gives as `redis`. */
  sourceThrough(proxy: FaultProxy): string | object
  /** Resolves when all of it is well, and it is known which servers are the masters. */
  whole(): Promise<void>
  /** For looking into the history of a topic. */
  adminOf(topic: string): Redis
  close(): Promise<void>
}

/** Memory where there is some: the append-only file is flushed with every write. */
export function dataFolder(): string {
  return mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'push-chaos-'))
}

export async function createStore(topology: Topology, folder: string, journal: Journal): Promise<Store> {
  if (isCluster(topology)) return ClusterStore.start(journal, topology === 'cluster-sharded')
  if (topology === 'sentinel') return SentinelStore.start(folder)
  return SingleStore.start()
}

class SingleStore implements Store {
  readonly links = []
  readonly #server: RedisProcess

  private constructor(server: RedisProcess) {
    this.#server = server
  }

  static async start(): Promise<SingleStore> {
    const server = new RedisProcess(await freePort(), join(dataFolder(), 'data'))
    await server.start()
    return new SingleStore(server)
  }

  get port(): number {
    return this.#server.port
  }

  get masters(): Target[] {
    return [{ server: this.#server, details: {} }]
  }

  get phpAddress(): string {
    return `${this.port}`
  }

  async whole(): Promise<void> {}

  adminOf(): Redis {
    return this.#server.admin
  }

  sourceThrough(proxy: FaultProxy): string {
    return `redis://127.0.0.1:${proxy.port}`
  }

  close(): Promise<void> {
    return this.#server.close()
  }
}
