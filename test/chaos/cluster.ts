import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Redis } from 'ioredis'
import { freePort } from '../helpers/redis.ts'
import { addToCluster, idOf, joinCluster, SlotMove } from '../helpers/redis-cluster.ts'
import { within } from '../helpers/waiting.ts'
import type { Journal } from './journal.ts'
import { FaultProxy } from './proxy.ts'
import { RedisProcess } from './redis-server.ts'
import { firstHomeOf, NODE_TIMEOUT, SHARDS, slotOf } from './slots.ts'
import { dataFolder, type Store, type Target } from './store.ts'
import { LOBBIES, TOPICS } from './topics.ts'

/** The number of the shard of a master that joins. */
const JOINED = SHARDS
const SETTLE = 30_000
const ANSWER = 1000
/** While a master of the Cluster is dead, none of the others takes a key. */
const PAUSE = 100

/** A server, and the proxy by which everybody reaches it: the Cluster announces the port of that. */
export interface Member {
  readonly process: RedisProcess
  readonly link: FaultProxy
  readonly shard: number
  readonly id: string
}

/** Three masters with a replica each, and now and then one master more. A shard is a master and its replica. */
export class ClusterStore implements Store {
  readonly #journal: Journal
  readonly #isSharded: boolean
  readonly #data = dataFolder()
  #members: Member[] = []
  /** By shard. */
  #masters: Member[] = []
  /** The shard of each key of which it matters: those of the topics, of the ticks and of the ingress. */
  readonly #homes = new Map<string, number>()
  readonly #taken = new Set<number>()
  #isFailing = false
  /** Shards of which a fault may change the master. */
  readonly #changing = new Set<number>()
  #wholeAt = 0
  #promotions = 0

  private constructor(journal: Journal, isSharded: boolean) {
    this.#journal = journal
    this.#isSharded = isSharded
  }

  static async start(journal: Journal, isSharded: boolean): Promise<ClusterStore> {
    const store = new ClusterStore(journal, isSharded)
    const shards = Array.from({ length: SHARDS }, (_, shard) => shard)
    const start = () => Promise.all(shards.map(shard => store.#add(shard)))
    const [masters, replicas] = [await start(), await start()]
    store.#members = [...masters, ...replicas]
    const serverOf = ({ process }: Member) => process
    await joinCluster(masters.map(serverOf), replicas.map(serverOf))
    await store.whole()
    for (const key of KEYS) store.#note(key, firstHomeOf(key), 'gets')
    return store
  }

  async #add(shard: number, more: string[] = []): Promise<Member> {
    const link = await FaultProxy.start()
    const port = await freePort()
    const ports = ['--cluster-port', `${await freePort()}`, '--cluster-announce-port', `${link.port}`]
    const settings = ['--cluster-enabled', 'yes', '--cluster-node-timeout', `${NODE_TIMEOUT}`]
    const args = [...settings, ...ports, '--repl-diskless-sync-delay', '0', ...more]
    const process = new RedisProcess(port, join(this.#data, `${port}`), args)
    link.target = port
    await process.start()
    return { process, link, shard, id: await idOf(process) }
  }

  /** For the judge: what happens to a shard happens to the topics that are there. */
  #note(key: string, shard: number, e: 'gets' | 'leaves'): void {
    if (e === 'gets') this.#homes.set(key, shard)
    this.#journal.write({ e, key, shard })
  }

  get port(): number {
    return this.#masters[0]!.process.port
  }

  get phpAddress(): string {
    return `cluster:${this.#ports.join(',')}`
  }

  get #ports(): number[] {
    return this.#members.map(({ link }) => link.port)
  }

  sourceThrough(): object {
    const cluster = this.#ports.map(port => `redis://127.0.0.1:${port}`)
    return this.#isSharded ? { cluster, sharded: true } : { cluster }
  }

  get masters(): Target[] {
    return this.#masters.map(({ process, shard }) => ({ server: process, details: { shard } }))
  }

  get links(): { link: FaultProxy; details: object }[] {
    return this.#masters.map(({ link, shard }) => ({ link, details: { shard } }))
  }

  adminOf(topic: string): Redis {
    return this.masterOf(this.#homes.get(PREFIX + topic)!).process.admin
  }

  masterOf(shard: number): Member {
    return this.#masters[shard]!
  }

  replicaOf(shard: number): Member {
    return this.#members.find(member => member.shard === shard && member !== this.#masters[shard])!
  }

  /** Whether another server than `before` is master where that was, as all the others say. */
  async isReplaced({ shard, id }: Member): Promise<boolean> {
    const others = this.#members.filter(member => member.shard !== shard)
    const views = await Promise.all(others.map(viewOf))
    return views.every(view => view?.some(node => node.id === id && !(node.isMaster && node.slots !== '')))
  }

  /** All agree who is who, nobody is gone, and no replica is behind. */
  async whole(): Promise<void> {
    const deadline = Date.now() + SETTLE
    let seen = ''
    while (Date.now() < deadline) {
      const problem = await this.#look()
      if (problem === undefined) return
      seen = problem
      await sleep(PAUSE)
    }
    throw new Error(`the Cluster did not settle: ${seen}`)
  }

  async #look(): Promise<string | undefined> {
    const views = await Promise.all(this.#members.map(viewOf))
    const [view] = views
    const wanted = view?.map(textOf).join()
    if (!view || views.some(other => other?.map(textOf).join() !== wanted)) return 'they do not agree'
    if (view.length !== this.#members.length || view.some(({ isWell }) => !isWell)) return JSON.stringify(view)
    const states = await Promise.all(this.#members.map(stateOf))
    if (states.some(state => !state?.includes('cluster_state:ok'))) return 'it is down'
    if (states.some(state => !/role:master|master_link_status:up/.test(state!))) return 'a replica is behind'
    const isMaster = (member: Member) => view.some(({ id, ...node }) => id === member.id && node.isMaster)
    const masters = this.#members.filter(isMaster).toSorted((a, b) => a.shard - b.shard)
    if (masters.some(({ shard }, i) => shard !== i)) return 'a shard has two masters, or none'
    for (const [shard, master] of masters.entries()) {
      const before = this.#masters[shard]
      if (before && before !== master && !this.#changing.has(shard)) this.#noteUnasked(shard)
    }
    this.#masters = masters
    this.#wholeAt = Date.now()
    return undefined
  }

  /** On a machine that is too busy the servers take a master for dead by themselves. */
  #noteUnasked(shard: number): void {
    const note = { number: -++this.#promotions, kind: 'promotion' }
    this.#journal.write({ e: 'fault', ...note, shard, since: this.#wholeAt })
    this.#journal.write({ e: 'fault-end', ...note })
  }

  /**
   * Takes shards for what may happen to one at a time: a slot that is under way is lost when its master fails, and two
   * dead masters of three are no majority. Undefined: they are taken already.
   */
  take(shards: readonly number[], isFailing: boolean): (() => void) | undefined {
    const isTaken = shards.some(shard => this.#taken.has(shard) || shard >= this.#masters.length)
    if (isTaken || (isFailing && this.#isFailing)) return undefined
    for (const shard of shards) this.#taken.add(shard)
    this.#isFailing ||= isFailing
    return () => {
      for (const shard of shards) this.#taken.delete(shard)
      if (isFailing) this.#isFailing = false
    }
  }

  /** While `act` lasts, the shard may get another master. */
  async changing<T>(shard: number, act: () => Promise<T>): Promise<T> {
    this.#changing.add(shard)
    try {
      return await act()
    } finally {
      this.#changing.delete(shard)
    }
  }

  get shards(): number[] {
    return this.#masters.map(({ shard }) => shard)
  }

  homeOf(key: string): number {
    return this.#homes.get(key)!
  }

  /**
   * Moves the slot of a key, as `redis-cli --cluster reshard` does: so many keys at once, with a pause after the first of
   * them. Both shards are taken.
   */
  async move(key: string, to: number, { pause, atOnce }: { pause: number; atOnce: number }): Promise<void> {
    const from = this.homeOf(key)
    const [source, target] = [this.masterOf(from).process, this.masterOf(to).process]
    const move = new SlotMove(slotOf(key), source, target)
    this.#note(key, to, 'gets')
    await move.begin()
    let isPaused = false
    while (await patiently(() => move.moveKeys(atOnce))) {
      if (!isPaused) await sleep(pause)
      isPaused = true
    }
    await move.end(this.#masters.map(({ process }) => process))
    this.#note(key, from, 'leaves')
  }

  /** One more master, as long as `act` takes, which has to give it slots and take them back. */
  async withNewcomer(act: (shard: number) => Promise<void>): Promise<void> {
    // Otherwise it becomes the replica of whoever gets its last slot.
    const added = await this.#add(JOINED, ['--cluster-allow-replica-migration', 'no'])
    try {
      await addToCluster(
        this.#members.map(({ process }) => process),
        added.process,
      )
      this.#members.push(added)
      await this.whole()
      await act(JOINED)
    } finally {
      await this.#remove(added)
    }
  }

  async #remove({ id, process, link }: Member): Promise<void> {
    this.#members = this.#members.filter(member => member.id !== id)
    this.#masters = this.#masters.filter(member => member.id !== id)
    await Promise.all(this.#members.map(member => member.process.admin.call('CLUSTER', 'FORGET', id)))
    await process.kill()
    process.admin.disconnect()
    link.close()
    await this.whole()
  }

  async close(): Promise<void> {
    for (const { process, link } of this.#members) {
      link.close()
      await process.close()
    }
  }
}

const PREFIX = 'push:'
/** Whose slots move. */
const KEYS = [
  ...[...TOPICS, ...LOBBIES].map(topic => PREFIX + topic),
  ...[0, 1, 2].map(shard => `{${PREFIX}shard-${shard}}`),
  `${PREFIX}ingress`,
]

/** Until the whole Cluster takes keys again; what is not to be done twice is no error of that kind. */
async function patiently<T>(act: () => Promise<T>): Promise<T> {
  const deadline = Date.now() + SETTLE
  for (;;) {
    try {
      return await act()
    } catch (error) {
      if (Date.now() > deadline || !/CLUSTERDOWN|IOERR/.test((error as Error).message)) throw error
      await sleep(PAUSE)
    }
  }
}

interface Node {
  id: string
  isMaster: boolean
  isWell: boolean
  master: string
  slots: string
}

const textOf = ({ id, isMaster, master, slots }: Node): string => `${id} ${isMaster} ${master} ${slots}`

/** The Cluster as one of its servers sees it; undefined when that is gone. */
async function viewOf(member: Member): Promise<Node[] | undefined> {
  const text = await ask(member, 'NODES')
  const nodes = text?.trim().split('\n').map(toNode)
  return nodes?.toSorted((a, b) => (a.id < b.id ? -1 : 1))
}

function toNode(line: string): Node {
  const [id = '', , flags = '', master = '', , , , link, ...slots] = line.split(' ')
  const isWell = !/fail|handshake|noaddr/.test(flags) && link === 'connected'
  const isMaster = flags.includes('master')
  // What is just moving stands behind its slots, at the two that it moves between.
  return { id, isMaster, isWell, master, slots: slots.filter(slot => !slot.startsWith('[')).join() }
}

async function stateOf(member: Member): Promise<string | undefined> {
  const [info, replication] = await Promise.all([ask(member, 'INFO'), infoOf(member)])
  return info && replication && info + replication
}

const infoOf = ({ process }: Member) => inTime(process, process.admin.info('replication'))

const ask = ({ process }: Member, question: string) => inTime(process, process.admin.call('CLUSTER', question))

async function inTime({ isRunning }: RedisProcess, asking: Promise<unknown>): Promise<string | undefined> {
  const answer = asking.then(String, () => undefined)
  return isRunning ? within(answer, 'an answer', ANSWER).catch(() => undefined) : undefined
}
