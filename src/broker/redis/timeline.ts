import { randomBytes } from 'node:crypto'
import { isPushError, type PushError } from '../../protocol/errors.ts'
import { isTransient } from '../waiting.ts'
import type { CommandLink } from './commands.ts'
import type { Functions } from './functions.ts'
import type { Tick } from './lag.ts'
import type { Names } from './names.ts'

const TICK_INTERVAL = 1000

/** Milliseconds between two attempts at what Redis has refused to this node. */
const RECHECK_INTERVAL = 3000

/** What a server of a Cluster answers to one who takes it for the only one. */
const OF_CLUSTER = /^(MOVED|CROSSSLOT|CLUSTERDOWN) /

export interface TimelineEvents {
  /** Redis has refused a tick: without ticks nothing can be recorded or replayed. */
  failed(error: Error): void
  /** The histories are not those that this node knew. */
  changed(): void
  /** Redis published a tick on the node's own channel, to this many subscribers. */
  ticked(tick: Tick, receivers: number): void
}

/**
 * Detects that Redis went back in time. Every second the node writes a number that only it writes: a Redis that has an
 * older number was restored from an older state. A promoted replica may lack the latest writes. In both cases a new
 * timeline of the server begins. Every topic has a timeline of its own, from its first entry on; one that is older than
 * that of the server may lack entries, so that no client may continue on it as if nothing were missing.
 */
export class Timeline {
  readonly #commands: CommandLink
  readonly #functions: Functions
  readonly #names: Names
  readonly #options: { node: string; timeout: number }
  readonly #events: TimelineEvents
  readonly #timer: NodeJS.Timeout
  /** What the tick of this broker is called. */
  readonly #name: string
  #current: string | undefined
  /** The last number that Redis confirmed. */
  #confirmed = 0
  /** When Redis confirmed it, in microseconds by the clock of Redis, and in milliseconds by the clock of this process. */
  #confirmedAt: { redis: number; here: number } | undefined
  #replication: string | undefined
  #isPromoted = false
  #isInspected = false
  /** Redis did not let the node ask that. */
  #isRefused = false
  #knownSince = Number.POSITIVE_INFINITY
  /** Counts lost links. */
  #link = 0
  #checking: Promise<boolean> | undefined
  #recheckedAt = performance.now()

  constructor(
    commands: CommandLink,
    functions: Functions,
    names: Names,
    options: { node: string; timeout: number },
    events: TimelineEvents,
  ) {
    this.#commands = commands
    this.#functions = functions
    this.#names = names
    this.#options = options
    this.#events = events
    this.#name = takeName(names.prefix, options.node)
    this.#timer = setInterval(() => void this.tick(), TICK_INTERVAL)
    this.#timer.unref()
  }

  /** The name of the timeline; empty until Redis has told it. */
  get current(): string {
    return this.#current ?? ''
  }

  /**
   * When the timeline was first checked over the present link; infinite until then. Before the check a Redis that went
   * back in time answers as if nothing had happened.
   */
  get knownSince(): number {
    return this.#knownSince
  }

  /** The link is lost: the next answer may come from another server, or from the same one in an older state. */
  linkLost(): void {
    this.#link++
    this.#isInspected = false
    this.#knownSince = Number.POSITIVE_INFINITY
  }

  /** Its ticks are under other keys from now on, in another slot of the same server. */
  keysMoved(): void {
    this.#confirmed = 0
    this.#confirmedAt = undefined
  }

  /** Finds out whether a new link leads to a promoted replica, which may not have received everything. */
  async #inspect(): Promise<void> {
    const link = this.#link
    const [info] = await this.#commands.run([['INFO', 'replication']], this.#options.timeout)
    if (link !== this.#link || isTransient(info)) return
    this.#isInspected = true
    this.#isRefused = typeof info !== 'string'
    if (typeof info !== 'string') return
    const id = /^master_replid:(\w+)/m.exec(info)?.[1]
    const before = /^master_replid2:(\w+)/m.exec(info)?.[1]
    if (this.#replication !== undefined && id !== this.#replication && before === this.#replication) {
      this.#isPromoted = true
    }
    this.#replication = id
  }

  /** Sends a tick; true if Redis answered. One at a time: a second caller gets the result of the first call. */
  tick(): Promise<boolean> {
    this.#checking ??= this.#tick().finally(() => {
      this.#checking = undefined
    })
    return this.#checking
  }

  async #tick(): Promise<boolean> {
    if (!this.#commands.isUp) return false
    const link = this.#link
    const isDue = performance.now() - this.#recheckedAt >= RECHECK_INTERVAL
    if (isDue) this.#recheckedAt = performance.now()
    if (!this.#isInspected || (this.#isRefused && isDue)) await this.#inspect()
    if (!this.#isInspected) return false
    const next = ++lastTick
    const sentAt = performance.now()
    if (!this.#functions.isSupported) {
      if (!isDue) return this.#tickUnrecorded(next, sentAt)
      // Rights that are granted later begin to count without a restart.
      await this.#functions.recheck(this.#options.timeout)
    }
    const isPromoted = this.#isPromoted
    const { node, timeout } = this.#options
    const keys = [this.#names.timeline, this.#names.tick(this.#name)]
    const call = {
      name: 'push_tick' as const,
      keys,
      args: [this.#names.node(node), ...this.#tickArgs(next, isPromoted)],
    }
    const [reply] = await this.#functions.run([call], timeout)
    if (isPushError(reply)) this.#failed(reply)
    if (!Array.isArray(reply)) return false
    // The function publishes as well: what was refused to a tick without it is granted.
    this.#commands.refusals.observe(['PUBLISH', this.#names.node(node)], undefined)
    // The next tick goes to other keys, where this one is not: it would look like a loss.
    if (keys[0] !== this.#names.timeline) return false
    this.#confirmed = next
    this.#confirmedAt = { redis: Number(reply[2]), here: performance.now() }
    if (isPromoted) this.#isPromoted = false
    if (link === this.#link) this.#knownSince = Math.min(this.#knownSince, performance.now())
    this.#adopt(String(reply[0]))
    this.#ticked(next, sentAt, reply[1])
    return true
  }

  #failed({ cause }: PushError): void {
    if (!(cause instanceof Error) || cause.name !== 'ReplyError') return
    const isForeign = !this.#functions.isCluster && OF_CLUSTER.test(cause.message)
    this.#events.failed(isForeign ? new Error(NOT_ALONE, { cause }) : cause)
  }

  #tickArgs(next: number, isPromoted: boolean): (string | number)[] {
    const random = randomBytes(4).toString('hex')
    const known = [this.#confirmed || '', next, random, isPromoted ? '1' : '0', this.current]
    const confirmed = this.#confirmedAt
    if (!confirmed) return known
    const elapsed = (performance.now() - confirmed.here) * 1000
    return [...known, confirmed.redis, Math.ceil(confirmed.redis + elapsed)]
  }

  #ticked(number: number, sentAt: number, receivers: unknown): void {
    this.#events.ticked({ number, sentAt, publishedAt: performance.now() }, Number(receivers))
  }

  /** Without histories there is no timeline to check. The tick still shows whether the node receives messages. */
  async #tickUnrecorded(number: number, sentAt: number): Promise<false> {
    const { node, timeout } = this.#options
    const [receivers] = await this.#commands.run([['PUBLISH', this.#names.node(node), number]], timeout)
    if (!isPushError(receivers)) this.#ticked(number, sentAt, receivers)
    return false
  }

  #adopt(timeline: string): void {
    const isNew = this.#current !== undefined && timeline !== this.#current
    this.#current = timeline
    if (isNew) this.#events.changed()
  }

  close(): void {
    clearInterval(this.#timer)
    takenNames.delete(this.#names.prefix + this.#name)
  }
}

/** Never starts again: a later broker in this process writes to the same key. */
let lastTick = 0

const NOT_ALONE =
  'this Redis is one server of a Cluster: write redis: { cluster: [its URL] }, or redis+cluster:// instead of redis://'

const takenNames = new Set<string>()

/** One process may reach one Redis by two URLs: the ticks of one broker must not look like a rollback to the other. */
function takeName(prefix: string, node: string): string {
  let free = node
  for (let n = 2; takenNames.has(prefix + free); n++) free = `${node}:${n}`
  takenNames.add(prefix + free)
  return free
}
