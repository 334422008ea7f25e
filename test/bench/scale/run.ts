import { join } from 'node:path'
import { CACHE, type Entry } from '../lib/build.ts'
import { Child } from '../lib/child.ts'
import { type Servers, startServers } from './servers.ts'

export interface Scale {
  entry: Entry
  /** Fewer messages: to see that it works. */
  quick: boolean
  /** Where a profile of the node goes. */
  profile: string | undefined
}

/** What was measured, by its name. `complete` is 1 if nothing was lost, came twice or out of order. */
export type Numbers = Record<string, number> & { complete: number }

/** One row of a table. */
export interface Case {
  name: string
  measure(run: Run): Promise<Numbers>
}

export interface Part {
  title: string
  columns: { key: string; label: string; digits: number }[]
  cases: Case[]
}

/** The processes of one measurement. They end with it. */
export class Run {
  readonly scale: Scale
  readonly #children: Child[] = []
  readonly #servers: Servers[] = []

  constructor(scale: Scale) {
    this.scale = scale
  }

  async servers(masters: number, options: { isCluster: boolean } = { isCluster: true }): Promise<Servers> {
    const servers = await startServers(masters, options)
    this.#servers.push(servers)
    return servers
  }

  /** `file`: a node of the plugin, or only what is named there. */
  async node({ source }: Servers, { file = 'node', isSharded = false } = {}): Promise<Child> {
    const { entry, profile } = this.scale
    const redis = isSharded && typeof source === 'object' ? { ...source, sharded: true } : source
    const profiling = profile === undefined ? [] : ['--cpu-prof', '--cpu-prof-dir', profile]
    const env = { SCALE_REDIS: JSON.stringify(redis), OURS_ENTRY: entry.url, NODE_ENV: 'production' }
    return this.#start(`scale/${file}.mjs`, ['--expose-gc', ...entry.nodeArgs, ...profiling], env)
  }

  async publisher({ places }: Servers): Promise<Child> {
    const publisher = await this.#start('scale/publisher.mjs')
    await publisher.request('open', { places })
    return publisher
  }

  loader(): Promise<Child> {
    return this.#start('load.mjs')
  }

  async #start(file: string, nodeArgs: string[] = [], env: Record<string, string> = {}): Promise<Child> {
    const child = await Child.start({ file: join(CACHE, file), cpus: undefined, nodeArgs, env })
    this.#children.push(child)
    return child
  }

  async stop(): Promise<void> {
    await Promise.all(this.#children.map(child => child.stop()))
    await Promise.all(this.#servers.map(servers => servers.stop()))
  }
}
