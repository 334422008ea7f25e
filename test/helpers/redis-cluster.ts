import type { Redis } from 'ioredis'
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

/** What is needed to make a Cluster of servers that run already, with `cluster-enabled`. */
export interface ClusterServer {
  readonly port: number
  readonly admin: Redis
}

const SLOTS = 16_384
/** Milliseconds without an answer after which the others take a master for dead. */
const NODE_TIMEOUT = 1000
/** The same where no replica could take over: a master that had to wait for a core must not stop the whole Cluster. */
const LONE_TIMEOUT = 15_000

export async function startCluster(
  t: Cleanup,
  options: { masters?: number; replicas?: boolean; args?: string[] | (() => Promise<string[]>) } = {},
): Promise<RedisCluster> {
  const { masters: count = 3, replicas: hasReplicas = false, args = [] } = options
  const start = async (): Promise<RedisServer> => {
    const cluster = ['--cluster-enabled', 'yes', '--cluster-port', `${await freePort()}`]
    const timeout = hasReplicas ? NODE_TIMEOUT : LONE_TIMEOUT
    const more = ['--cluster-node-timeout', `${timeout}`, '--repl-diskless-sync-delay', '0']
    const own = typeof args === 'function' ? await args() : args
    return startRedis(t, { args: [...cluster, ...more, ...own] })
  }
  const startAll = (number: number) => Promise.all(Array.from({ length: number }, start))
  const masters = await startAll(count)
  const replicas = hasReplicas ? await startAll(count) : []
  await joinCluster(masters, replicas)
  return new Started(masters, replicas, start)
}

/** Makes a Cluster of them: equal shares of the slots, and each replica for the master at the same place. */
export async function joinCluster(
  masters: readonly ClusterServer[],
  replicas: readonly ClusterServer[],
): Promise<void> {
  await Promise.all(masters.map((master, i) => addSlots(master, i, masters.length)))
  const all = [...masters, ...replicas]
  for (const other of all.slice(1)) await introduce(all[0]!, other)
  await until(
    async () => (await Promise.all(all.map(server => knows(server, all.length)))).every(Boolean),
    'all have met',
  )
  for (const [i, replica] of replicas.entries()) {
    await replica.admin.call('CLUSTER', 'REPLICATE', await idOf(masters[i]!))
  }
  await until(async () => (await Promise.all(all.map(isOk))).every(Boolean), 'the cluster is up')
  await until(async () => (await Promise.all(replicas.map(isInStep))).every(Boolean), 'the replicas are in step')
}

/** One more server, which gets no slots yet. */
export async function addToCluster(present: readonly ClusterServer[], added: ClusterServer): Promise<void> {
  await introduce(present[0]!, added)
  const all = [...present, added]
  await until(
    async () => (await Promise.all(all.map(server => knows(server, all.length)))).every(Boolean),
    'all know the new one',
  )
  await until(() => isOk(added), 'the new one takes part')
}

async function introduce(one: ClusterServer, other: ClusterServer): Promise<void> {
  await one.admin.call('CLUSTER', 'MEET', '127.0.0.1', other.port, await busPort(other))
}

async function addSlots(master: ClusterServer, place: number, count: number): Promise<void> {
  const from = Math.floor((SLOTS * place) / count)
  const to = Math.floor((SLOTS * (place + 1)) / count) - 1
  await master.admin.call('CLUSTER', 'ADDSLOTSRANGE', from, to)
  // Otherwise two that meet settle who is who by chance.
  await master.admin.call('CLUSTER', 'SET-CONFIG-EPOCH', place + 1)
}

async function busPort(server: ClusterServer): Promise<string> {
  return ((await server.admin.config('GET', 'cluster-port')) as string[])[1]!
}

async function knows(server: ClusterServer, count: number): Promise<boolean> {
  const nodes = String(await server.admin.call('CLUSTER', 'NODES'))
    .trim()
    .split('\n')
  return nodes.length === count && nodes.every(line => line.includes(' connected') && !line.includes('handshake'))
}

async function isOk(server: ClusterServer): Promise<boolean> {
  return String(await server.admin.call('CLUSTER', 'INFO')).includes('cluster_state:ok')
}

/** Until the replica has everything that the master has written so far. */
export async function inStep(master: ClusterServer, replica: ClusterServer): Promise<void> {
  const offset = async ({ admin }: ClusterServer, name: string) =>
    Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(await admin.info('replication'))?.[1])
  const written = await offset(master, 'master_repl_offset')
  await until(async () => (await offset(replica, 'slave_repl_offset')) >= written, 'the replica has everything')
}

async function isInStep(replica: ClusterServer): Promise<boolean> {
  return (await replica.admin.info('replication')).includes('master_link_status:up')
}

export async function idOf(server: ClusterServer): Promise<string> {
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
    await addToCluster([...this.masters, ...this.replicas], added)
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
    const move = new SlotMove(await this.#slotOf(key), await this.masterOf(key), to)
    await move.begin()
    while (await move.moveKeys(1));
    await move.end(this.masters)
  }
}

/** The move of one slot, step by step. */
export class SlotMove {
  readonly #slot: number
  readonly #from: ClusterServer
  readonly #to: ClusterServer
  #toId = ''

  constructor(slot: number, from: ClusterServer, to: ClusterServer) {
    this.#slot = slot
    this.#from = from
    this.#to = to
  }

  async begin(): Promise<void> {
    this.#toId = await idOf(this.#to)
    await this.#to.admin.call('CLUSTER', 'SETSLOT', this.#slot, 'IMPORTING', await idOf(this.#from))
    await this.#from.admin.call('CLUSTER', 'SETSLOT', this.#slot, 'MIGRATING', this.#toId)
  }

  /** Moves up to `count` keys; false when there are none any more. */
  async moveKeys(count: number): Promise<boolean> {
    const keys = (await this.#from.admin.call('CLUSTER', 'GETKEYSINSLOT', this.#slot, count)) as string[]
    if (keys.length === 0) return false
    await this.#from.admin.call('MIGRATE', '127.0.0.1', this.#to.port, '', 0, 5000, 'KEYS', ...keys)
    return true
  }

  async end(masters: readonly ClusterServer[]): Promise<void> {
    for (const { admin } of new Set([this.#to, this.#from, ...masters])) {
      // A master without slots becomes the replica of the one that got its last slot.
      await admin.call('CLUSTER', 'SETSLOT', this.#slot, 'NODE', this.#toId).catch((error: Error) => {
        if (!error.message.includes('only with masters')) throw error
      })
    }
  }
}
