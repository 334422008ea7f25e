import { randomBytes } from 'node:crypto'
import { isPushError } from '../../protocol/errors.ts'
import { isTransient } from '../waiting.ts'
import type { CommandLink } from './commands.ts'
import type { Functions } from './functions.ts'
import type { Tick } from './lag.ts'
import type { Names } from './names.ts'

const TICK_INTERVAL = 1000

export interface TimelineEvents {
  /** A history that is not the one this node knew. */
  changed(): void
  /** Redis published a tick to the channel that only this node holds, where so many heard it. */
  ticked(tick: Tick, hearing: number): void
}

/**
 * Tells whether Redis went back in time. Every second the node writes a number that only it writes: a Redis that knows
 * an older one was restored from the past, and one that was a replica may lack the end. Either begins a new timeline,
 * so that no client goes on as if nothing were missing.
 */
export class Timeline {
  readonly #commands: CommandLink
  readonly #functions: Functions
  readonly #names: Names
  readonly #options: { node: string; timeout: number; maxBytes: number }
  readonly #events: TimelineEvents
  readonly #timer: NodeJS.Timeout
  readonly #tickKey: string
  #current: string | undefined
  /** The last number that Redis confirmed. */
  #confirmed = 0
  /** When that was, by the clock of Redis. */
  #confirmedAt = ''
  #replication: string | undefined
  #isPromoted = false
  #isInspected = false
  #knownSince = Number.POSITIVE_INFINITY
  /** Counts links that were lost. */
  #link = 0
  #checking: Promise<boolean> | undefined

  constructor(
    commands: CommandLink,
    functions: Functions,
    names: Names,
    options: { node: string; timeout: number; maxBytes: number },
    events: TimelineEvents,
  ) {
    this.#commands = commands
    this.#functions = functions
    this.#names = names
    this.#options = options
    this.#events = events
    this.#tickKey = takeKey(names.tick(options.node))
    this.#timer = setInterval(() => void this.tick(), TICK_INTERVAL)
    this.#timer.unref()
  }

  /**
   * Since when it is known which Redis answers; infinite from when the link is lost until the first tick over the next
   * one. What a Redis that went back in time says before that looks as if nothing had happened.
   */
  get knownSince(): number {
    return this.#knownSince
  }

  /** The link is lost: who answers next may be another server, or the same one from the past. */
  linkLost(): void {
    this.#link++
    this.#isInspected = false
    this.#knownSince = Number.POSITIVE_INFINITY
  }

  /** The link is new: is this the server that we knew? A replica that was promoted may not have got everything. */
  async #inspect(): Promise<void> {
    const link = this.#link
    const [info] = await this.#commands.run([['INFO', 'replication']], this.#options.timeout)
    if (link !== this.#link || isTransient(info)) return
    this.#isInspected = true
    if (typeof info !== 'string') return
    const id = /^master_replid:(\w+)/m.exec(info)?.[1]
    const before = /^master_replid2:(\w+)/m.exec(info)?.[1]
    if (this.#replication !== undefined && id !== this.#replication && before === this.#replication) {
      this.#isPromoted = true
    }
    this.#replication = id
  }

  /** Whether Redis could be asked. One at a time: who asks while one is under way gets its answer. */
  tick(): Promise<boolean> {
    this.#checking ??= this.#tick().finally(() => {
      this.#checking = undefined
    })
    return this.#checking
  }

  async #tick(): Promise<boolean> {
    if (!this.#commands.isUp) return false
    const link = this.#link
    if (!this.#isInspected) await this.#inspect()
    if (!this.#isInspected) return false
    const next = ++lastTick
    const sentAt = performance.now()
    if (!this.#functions.isSupported) return this.#tickBare(next, sentAt)
    const isPromoted = this.#isPromoted
    const { node, timeout, maxBytes } = this.#options
    const call = {
      name: 'push_tick' as const,
      keys: [this.#names.timeline, this.#tickKey, this.#names.node(node)],
      args: [
        this.#confirmed || '',
        next,
        newTimeline(),
        isPromoted ? '1' : '0',
        maxBytes,
        this.#confirmedAt,
        this.#current ?? '',
      ],
    }
    const [reply] = await this.#functions.run([call], timeout)
    if (isPushError(reply) || !Array.isArray(reply)) return false
    this.#confirmed = next
    this.#confirmedAt = String(reply[2])
    if (isPromoted) this.#isPromoted = false
    if (link === this.#link) this.#knownSince = Math.min(this.#knownSince, performance.now())
    this.#adopt(String(reply[0]))
    this.#ticked(next, sentAt, reply[1])
    return true
  }

  #ticked(number: number, sentAt: number, hearing: unknown): void {
    this.#events.ticked({ number, sentAt, publishedAt: performance.now() }, Number(hearing))
  }

  /** Where nothing can be recorded there is no history to go back in time; what the node does not hear it notices. */
  async #tickBare(number: number, sentAt: number): Promise<false> {
    const { node, timeout } = this.#options
    const [hearing] = await this.#commands.run([['PUBLISH', this.#names.node(node), number]], timeout)
    if (!isPushError(hearing)) this.#ticked(number, sentAt, hearing)
    return false
  }

  #adopt(timeline: string): void {
    const isNew = this.#current !== undefined && timeline !== this.#current
    this.#current = timeline
    if (isNew) this.#events.changed()
  }

  close(): void {
    clearInterval(this.#timer)
    takenKeys.delete(this.#tickKey)
  }
}

/** Never begins again: a broker that follows another one in this process writes the same key. */
let lastTick = 0

const takenKeys = new Set<string>()

/** One process may reach one Redis by two names: the ticks of the one must not look like a rollback to the other. */
function takeKey(key: string): string {
  let free = key
  for (let n = 2; takenKeys.has(free); n++) free = `${key}:${n}`
  takenKeys.add(free)
  return free
}

/** Later ones sort behind earlier ones, which helps whoever looks at ids; what counts is that no two are the same. */
function newTimeline(): string {
  return `${Date.now().toString(36)}${randomBytes(4).toString('hex')}`
}
