import type { WriteQueue } from '../connection/write-queue.ts'
import { type Flow, FlushScheduler } from './flush-scheduler.ts'

/** Milliseconds for which sockets are written to before other events of the process get a turn. */
const SLICE = 8

/** At most one round in so many milliseconds is told of: an idle node writes one publication in each, thousands a second. */
const SAMPLE_EVERY = 1

/** What one round of writes did. */
export interface Round {
  /** Milliseconds since the oldest publication that it wrote was received; undefined if it wrote none. */
  age: number | undefined
  connections: number
  bytes: number
}

type Watcher = (round: Round) => void

/** Where a round begins. `oldest`: when the first publication came that is to be written; 0 if none came. */
interface Start {
  oldest: number
  flushes: number
  bytes: number
}

/** Rounds of writes to all sockets that have something to write, and what they are measured by. */
export class Rounds {
  readonly #queue: WriteQueue
  readonly #scheduler = new FlushScheduler()
  #watchers: readonly Watcher[] = []
  #oldest = 0
  #sampledAt = 0
  #start: Start | undefined

  constructor(queue: WriteQueue) {
    this.#queue = queue
  }

  /** `watcher` is told of rounds that end, of a sample if there are many. Returns what ends that. */
  watch(watcher: Watcher): () => void {
    if (this.#watchers.length === 0) this.#oldest = 0
    this.#watchers = [...this.#watchers, watcher]
    return () => {
      this.#watchers = this.#watchers.filter(it => it !== watcher)
      if (this.#watchers.length > 0) return
      this.#oldest = 0
      this.#start = undefined
    }
  }

  /** One more publication, which came at `now`, will be written in the next round. */
  gather(now: number): void {
    this.#scheduler.gather()
    if (this.#oldest === 0) this.#oldest = now
  }

  /** Flushes, unless the last round was too recent. Returns how many milliseconds are left to wait. */
  flush(flow: Flow): number {
    if (this.#queue.isIdle) {
      // Nobody here has what came.
      this.#oldest = 0
      return 0
    }
    const now = performance.now()
    const rest = this.#scheduler.rest(now, flow)
    // Timers count whole milliseconds.
    if (rest >= 1) return rest
    if (this.#watchers.length > 0 && !this.#scheduler.isFlushing) this.#begin(now)
    const isOver = this.#queue.flush(now + SLICE)
    const end = performance.now()
    this.#scheduler.flushed(now, end, isOver)
    // What came during the round, to connections that it had yet to reach, is written too.
    if (isOver && this.#queue.isIdle) this.#oldest = 0
    if (isOver && this.#start) this.#end(this.#start, end)
    return 0
  }

  #begin(now: number): void {
    const oldest = this.#oldest
    // What comes from now on belongs to the next round.
    this.#oldest = 0
    if (now - this.#sampledAt < SAMPLE_EVERY) return
    this.#sampledAt = now
    const { writtenBytes: bytes, flushes } = this.#queue
    this.#start = { oldest, flushes, bytes }
  }

  #end({ oldest, flushes, bytes }: Start, now: number): void {
    this.#start = undefined
    const connections = this.#queue.flushes - flushes
    const age = oldest === 0 ? undefined : now - oldest
    const round = { age, connections, bytes: this.#queue.writtenBytes - bytes }
    for (const watcher of this.#watchers) watcher(round)
  }
}
