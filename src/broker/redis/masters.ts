import { setTimeout as sleep } from 'node:timers/promises'
import { errors, isPushError, type PushError } from '../../protocol/errors.ts'
import { ClusterWatch, type ClusterWatchParts } from './cluster-watch.ts'
import { type Command, type CommandLink, MIN_TIME, type Patience } from './commands.ts'
import type { Call, Functions } from './functions.ts'
import type { Names } from './names.ts'
import { hasSlot, type MasterAddress, SLOTS, sharedSlots, slotOf } from './topology.ts'

/** One master of Redis, and the way to it. */
export interface Master {
  readonly commands: CommandLink
  readonly functions: Functions
}

type Reply = unknown | PushError

/** Where commands go: to the one Redis, or to the master of a Cluster that has the slot of their key. */
export interface Masters<M extends Master = Master> {
  readonly all: readonly M[]
  /** The masters of a Cluster by their addresses; undefined without a Cluster. */
  readonly byAddress?: ReadonlyMap<string, M>
  /** Whether every key has a master. */
  readonly isComplete: boolean
  /** The master that has the slot of a key or channel; undefined while that is not known. */
  of(key: string): M | undefined
  /** Runs commands that are all about `key`. One reply or PushError for each of them within `timeout`. */
  run(key: string, commands: Command[], timeout: number, patience?: Patience): Promise<Reply[]>
  /** Calls functions, each at the master of its key. One reply or PushError for each call, in their order. */
  call(calls: readonly Call[], timeout: number, patience?: Patience): Promise<Reply[]>
  /** A command was redirected. Resolves when it is known anew where everything is. */
  look(): Promise<void>
  close(): void
}

export class OneMaster<M extends Master & { close(): void }> implements Masters<M> {
  readonly all: readonly [M]
  readonly isComplete = true

  constructor(master: M) {
    this.all = [master]
  }

  of(): M {
    return this.all[0]
  }

  run(_key: string, commands: Command[], timeout: number, patience?: Patience): Promise<Reply[]> {
    return this.all[0].commands.run(commands, timeout, patience)
  }

  call(calls: readonly Call[], timeout: number, patience?: Patience): Promise<Reply[]> {
    return this.all[0].functions.run(calls, timeout, patience)
  }

  async look(): Promise<void> {}

  close(): void {
    this.all[0].close()
  }
}

/** A master of a Cluster. Another server may take over its slots. */
export interface ClusterMaster extends Master {
  readonly names: Names
  moveTo(address: MasterAddress): void
  /** The keys of its ticks are in a slot that it has no more. */
  keysMoved(): void
  close(): void
}

export interface ClusterEvents<M> {
  create(address: MasterAddress): M
  /** Slots may have other masters than before. Those of `gone` have none any more and are closed after this. */
  changed(gone: readonly M[]): void
  /** No server of the Cluster has answered. */
  failed(error: Error): void
}

/** Milliseconds between two attempts at what was moved just now. */
const PAUSE = 20

/** The masters of a Cluster, and which of them has which slot. */
export class ClusterMasters<M extends ClusterMaster> implements Masters<M> {
  readonly #events: ClusterEvents<M>
  #known: { address: MasterAddress; master: M }[] = []
  #bySlot: readonly (M | undefined)[] = []
  #view = ''
  isComplete = false
  /** Why the Cluster could not be looked at the last time. */
  #problem: Error | undefined
  readonly #watch: ClusterWatch
  #isClosed = false

  constructor(parts: Omit<ClusterWatchParts, 'links'>, events: ClusterEvents<M>) {
    this.#events = events
    this.#watch = new ClusterWatch(
      { ...parts, links: () => this.all },
      {
        seen: view => this.#apply(view),
        failed: error => {
          this.#problem = error
          events.failed(error)
        },
      },
    )
  }

  get all(): readonly M[] {
    return this.#known.map(({ master }) => master)
  }

  get byAddress(): ReadonlyMap<string, M> {
    return new Map(this.#known.map(({ address: { host, port }, master }) => [`${host}:${port}`, master]))
  }

  of(key: string): M | undefined {
    return this.#bySlot[slotOf(key)]
  }

  look(): Promise<void> {
    return this.#watch.look()
  }

  /** Takes over a view of the Cluster. A new server with the slots of a known master is that master after a failover. */
  #apply(view: readonly MasterAddress[]): void {
    const text = JSON.stringify(view)
    if (text === this.#view) return
    this.#view = text
    const before = [...this.#known]
    const known: { address: MasterAddress; master: M }[] = []
    const place = (address: MasterAddress, match: (known: MasterAddress) => boolean) => {
      const at = before.findIndex(it => match(it.address))
      if (at < 0) return false
      const [{ address: old, master }] = before.splice(at, 1) as [{ address: MasterAddress; master: M }]
      if (old.host !== address.host || old.port !== address.port) master.moveTo(address)
      known.push({ address, master })
      return true
    }
    const unplaced = view.filter(address => !place(address, ({ id }) => id === address.id))
    const successors = unplaced.filter(address => !place(address, old => sharedSlots(old, address) > 0))
    for (const address of successors) known.push({ address, master: this.#events.create(address) })
    this.#known = known
    for (const { address, master } of known) this.#nameShard(address, master)
    const bySlot: (M | undefined)[] = new Array(SLOTS)
    for (const { address, master } of known) {
      for (const [first, last] of address.slots) bySlot.fill(master, first, last + 1)
    }
    this.#bySlot = bySlot
    this.isComplete = !bySlot.includes(undefined)
    const gone = before.map(({ master }) => master)
    this.#events.changed(gone)
    for (const master of gone) master.close()
  }

  /** What is about a server has keys in one of its slots: all nodes must find the same one. */
  #nameShard(address: MasterAddress, { names, keysMoved }: M): void {
    const isHere = (shard: number) => hasSlot(address, slotOf(names.shardTag(shard)))
    if (isHere(names.shard) && !Array.from({ length: names.shard }, (_, shard) => shard).some(isHere)) return
    let shard = 0
    while (!isHere(shard)) shard++
    names.shard = shard
    keysMoved()
  }

  async run(key: string, commands: Command[], timeout: number, patience?: Patience): Promise<Reply[]> {
    const deadline = performance.now() + timeout
    for (let left = timeout; ; left = deadline - performance.now()) {
      const master = this.of(key)
      const replies = master ? await master.commands.run(commands, left, patience) : commands.map(() => this.#unknown())
      // If the first was executed, a repetition would execute it twice.
      if (!this.#isToRepeat(replies[0]) || deadline - performance.now() < MIN_TIME) return replies
      await this.#lookAgain()
    }
  }

  async call(calls: readonly Call[], timeout: number, patience?: Patience): Promise<Reply[]> {
    const deadline = performance.now() + timeout
    const replies: Reply[] = new Array(calls.length)
    let open = calls.map((_, i) => i)
    for (let left = timeout; ; left = deadline - performance.now()) {
      await this.#callEach(calls, open, replies, left, patience)
      open = open.filter(i => this.#isToRepeat(replies[i]))
      if (open.length === 0 || deadline - performance.now() < MIN_TIME) return replies
      await this.#lookAgain()
    }
  }

  /** The calls at the places `open`, in one batch for each master. */
  async #callEach(
    calls: readonly Call[],
    open: readonly number[],
    replies: Reply[],
    timeout: number,
    patience?: Patience,
  ): Promise<void> {
    const byMaster = new Map<M | undefined, number[]>()
    for (const i of open) {
      const master = this.of(calls[i]!.keys[0]!)
      const places = byMaster.get(master)
      if (places) places.push(i)
      else byMaster.set(master, [i])
    }
    const batches = [...byMaster].map(async ([master, places]) => {
      const answers = await master?.functions.run(
        places.map(i => calls[i]!),
        timeout,
        patience,
      )
      for (const [n, i] of places.entries()) {
        const answer = answers ? answers[n] : this.#unknown()
        replies[i] = (await this.#askOther(calls[i]!, answer, timeout, patience)) ?? answer
      }
    })
    await Promise.all(batches)
  }

  /** While a slot moves, a topic that has gone already is asked for where it goes. */
  async #askOther(call: Call, answer: Reply, timeout: number, patience?: Patience): Promise<Reply | undefined> {
    const [, host, port] = ASK.exec(redirectIn(answer) ?? '') ?? []
    const other = this.#known.find(({ address }) => address.host === host && address.port === Number(port))
    return other?.master.functions.runAsking(call, timeout, patience)
  }

  /** Nothing was executed: the slot is elsewhere, or the call was waiting for a master that has left the Cluster. */
  #isToRepeat(reply: Reply): boolean {
    const wasLeft = isPushError(reply) && reply.code === 'PUSH_ERR_CLOSED' && !this.#isClosed
    return wasLeft || redirectIn(reply) !== undefined
  }

  #unknown(): PushError {
    const cause = new Error('CLUSTERDOWN no view of the Cluster', { cause: this.#problem })
    const why = this.#problem ? `: ${this.#problem.message}` : ''
    return new errors.BROKER_AWAY(`no master of the Cluster is known for this slot${why}`, { cause })
  }

  async #lookAgain(): Promise<void> {
    await this.#watch.look()
    await sleep(PAUSE)
  }

  close(): void {
    this.#isClosed = true
    this.#watch.close()
    for (const { master } of this.#known) master.close()
  }
}

const REDIRECT = /^(MOVED|ASK|TRYAGAIN|CLUSTERDOWN|READONLY) |non local key/
const ASK = /^ASK \d+ (.*):(\d+)$/

/** What Redis said if the slot is elsewhere, or is being moved. Nothing was executed then. */
function redirectIn(reply: Reply): string | undefined {
  const message = isPushError(reply) && reply.cause instanceof Error ? reply.cause.message : ''
  return REDIRECT.test(message) ? message : undefined
}
