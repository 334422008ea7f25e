import { existsSync, mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Redis } from 'ioredis'
import { freePort } from '../helpers/redis.ts'
import type { FaultProxy } from './proxy.ts'
import { RedisProcess } from './redis-server.ts'
import { SentinelStore } from './sentinel.ts'

export type Topology = 'single' | 'sentinel' | 'nginx'

/** Redis as the nodes see it. */
export interface Store {
  /** Of the master that proxies lead to. */
  readonly port: number
  /** The server that has the data now. */
  readonly master: RedisProcess
  /** What PHP is told. */
  readonly phpAddress: string
  /** What a program that goes through `proxy` gives as `redis`. */
  sourceThrough(proxy: FaultProxy): string | object
  /** For looking in at the end. */
  readonly admin: Redis
  close(): Promise<void>
}

/** Memory where there is some: the append-only file is flushed with every write. */
export function dataFolder(): string {
  return mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'push-chaos-'))
}

export async function createStore(topology: Topology, folder: string): Promise<Store> {
  if (topology === 'sentinel') return SentinelStore.start(folder)
  return SingleStore.start()
}

class SingleStore implements Store {
  readonly master: RedisProcess

  private constructor(master: RedisProcess) {
    this.master = master
  }

  static async start(): Promise<SingleStore> {
    const master = new RedisProcess(await freePort(), join(dataFolder(), 'data'))
    await master.start()
    return new SingleStore(master)
  }

  get port(): number {
    return this.master.port
  }

  get phpAddress(): string {
    return `${this.port}`
  }

  get admin(): Redis {
    return this.master.admin
  }

  sourceThrough(proxy: FaultProxy): string {
    return `redis://127.0.0.1:${proxy.port}`
  }

  close(): Promise<void> {
    return this.master.close()
  }
}
