import { freePort, type RedisServer, startRedis } from './redis.ts'
import { until } from './waiting.ts'

interface Cleanup {
  after(hook: () => unknown): void
}

/** A throw-away Redis Cluster: masters with an equal share of the slots each, and as many replicas for each of them. */
export interface RedisCluster {
  readonly masters: readonly RedisServer[]
  /** Of the master at the same place. */
  readonly replicas: readonly RedisServer[]
  readonly urls: string[]
  /** The master that has the slot of a key or channel. */
  masterOf(key: string): Promise<RedisServer>
  /** Moves the slot of `key`, with its keys, to another master, as `redis-cli --cluster reshard` does it. */
  move(key: string, to: RedisServer): Promise<void>
  /** One more master, without slots. */
  add(): Promise<RedisServer>
}

const SLOTS = 16_384
/** Milliseconds without an answer after which the others take a master for dead. */
const NODE_TIMEOUT = 1000

export async function startCluster(
  t: Cleanup,
  options: { masters?: number; replicas?: boolean; args?: string[] | (() => Promise<string[]>) } = {},
): Promise<RedisCluster> {
  const { masters: count = 3, replicas: hasReplicas = false, args = [] } = options
  const start = async (): Promise<RedisServer> => {
    const cluster = ['--cluster-enabled', 'yes', '--cluster-port', `${await freePort()}`]
    const more = ['--cluster-node-timeout', `${NODE_TIMEOUT}`, '--repl-diskless-sync-delay', '0']
    const own = typeof args === 'function' ? await args() : args
    return startRedis(t, { args: [...cluster, ...more, ...own] })
  }
  const startAll = (number: number) => Promise.all(Array.from({ length: number }, start))
  const masters = await startAll(count)
  const replicas = hasReplicas ? await startAll(count) : []
  await Promise.all(masters.map((master, i) => addSlots(master, i, count)))
  const [first, ...others] = [...masters, ...replicas] as [RedisServer, ...RedisServer[]]
  for (const other of others) await first.admin.call('CLUSTER', 'MEET', '127.0.0.1', other.port, await busPort(other))
  const all = [first, ...others]
  await until(
    async () => (await Promise.all(all.map(server => knows(server, all.length)))).every(Boolean),
    'all have met',
  )
  for (const [i, replica] of replicas.entries()) {
    await replica.admin.call('CLUSTER', 'REPLICATE', await idOf(masters[i]!))
  }
  await until(async () => (await Promise.all(all.map(isOk))).every(Boolean), 'the cluster is up')
  await until(async () => (await Promise.all(replicas.map(isInStep))).every(Boolean), 'the replicas are in step')
  return new Started(masters, replicas, start)
}

async function addSlots(master: RedisServer, place: number, count: number): Promise<void> {
  const from = Math.floor((SLOTS * place) / count)
  const to = Math.floor((SLOTS * (place + 1)) / count) - 1
  await master.admin.call('CLUSTER', 'ADDSLOTSRANGE', from, to)
  // Otherwise two that meet settle who is who by chance.
  await master.admin.call('CLUSTER', 'SET-CONFIG-EPOCH', place + 1)
}

async function busPort(server: RedisServer): Promise<string> {
  return ((await server.admin.config('GET', 'cluster-port')) as string[])[1]!
}

async function knows(server: RedisServer, count: number): Promise<boolean> {
  const nodes = String(await server.admin.call('CLUSTER', 'NODES'))
    .trim()
    .split('\n')
  return nodes.length === count && nodes.every(line => line.includes(' connected') && !line.includes('handshake'))
}

async function isOk(server: RedisServer): Promise<boolean> {
  return String(await server.admin.call('CLUSTER', 'INFO')).includes('cluster_state:ok')
}

async function isInStep(replica: RedisServer): Promise<boolean> {
  return (await replica.admin.info('replication')).includes('master_link_status:up')
}

export async function idOf(server: RedisServer): Promise<string> {
  return String(await server.admin.call('CLUSTER', 'MYID'))
}

class Started implements RedisCluster {
  readonly masters: RedisServer[]
  readonly replicas: readonly RedisServer[]
  readonly #start: () => Promise<RedisServer>

  constructor(masters: RedisServer[], replicas: readonly RedisServer[], start: () => Promise<RedisServer>) {
    this.masters = masters
    this.replicas = replicas
    this.#start = start
  }

  async add(): Promise<RedisServer> {
    const added = await this.#start()
    const all = [...this.masters, ...this.replicas, added]
    await this.masters[0]!.admin.call('CLUSTER', 'MEET', '127.0.0.1', added.port, await busPort(added))
    await until(
      async () => (await Promise.all(all.map(server => knows(server, all.length)))).every(Boolean),
      'all know the new one',
    )
    await until(() => isOk(added), 'the new one takes part')
    this.masters.push(added)
    return added
  }

  get urls(): string[] {
    return this.masters.map(({ url }) => url)
  }

  async masterOf(key: string): Promise<RedisServer> {
    const slot = await this.#slotOf(key)
    for (const server of [...this.masters, ...this.replicas]) {
      const shards = (await server.admin.call('CLUSTER', 'SLOTS').catch(() => [])) as [
        number,
        number,
        [string, number],
      ][]
      const owner = shards.find(([from, to]) => from <= slot && slot <= to)?.[2][1]
      const found = [...this.masters, ...this.replicas].find(({ port }) => port === owner)
      if (found) return found
    }
    throw new Error(`nobody has slot ${slot}`)
  }

  async #slotOf(key: string): Promise<number> {
    return Number(await this.masters[0]!.admin.call('CLUSTER', 'KEYSLOT', key))
  }

  async move(key: string, to: RedisServer): Promise<void> {
    const from = await this.masterOf(key)
    const slot = await this.#slotOf(key)
    const [fromId, toId] = [await idOf(from), await idOf(to)]
    await to.admin.call('CLUSTER', 'SETSLOT', slot, 'IMPORTING', fromId)
    await from.admin.call('CLUSTER', 'SETSLOT', slot, 'MIGRATING', toId)
    for (;;) {
      const keys = (await from.admin.call('CLUSTER', 'GETKEYSINSLOT', slot, 1)) as string[]
      if (keys.length === 0) break
      await from.admin.call('MIGRATE', '127.0.0.1', to.port, '', 0, 5000, 'KEYS', ...keys)
    }
    for (const server of new Set([to, from, ...this.masters])) {
      // A master without slots becomes the replica of the one that got its last slot.
      await server.admin.call('CLUSTER', 'SETSLOT', slot, 'NODE', toId).catch((error: Error) => {
        if (!error.message.includes('only with masters')) throw error
      })
    }
  }
}
