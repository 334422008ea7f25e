import type { Metrics } from '../broker/metrics.ts'
import type { GapReason } from '../protocol/messages.ts'
import { HeldMemory } from './backlog.ts'
import type { Connection, Outlet } from './connection.ts'
import { ReconnectTimes } from './reconnect-times.ts'
import { SlowConsumers } from './slow-consumers.ts'
import type { Writer } from './writer.ts'

export interface WriteQueueOptions {
  /** Bytes that may wait for one connection without limit of time, and how many milliseconds more than that may wait. */
  buffer: number
  bufferTime: number
  /** Bytes that may wait on this node for connections whose sockets are full. */
  nodeBuffer: number
  slowConsumer: 'close' | 'drop'
}

interface WriteQueueEvents {
  wake(): void
  closing(connection: Connection): void
  /** A limit was applied to a connection. */
  limited?(connection: Connection, reason: GapReason): void
}

/** How many connections, and about how many bytes, are flushed between two looks at the clock. */
const GROUP_CONNECTIONS = 32
const GROUP_BYTES = 256 * 1024

/** How many flushed entries may stay at the beginning of the list before it is cut. */
const MAX_DONE = 4096

/** One connection never gets more than this share of the node's memory, not even for a moment. */
const MAX_SHARE = 1 / 8

/** The connections that have something to write, and the memory that the node holds for those with full sockets. */
export class WriteQueue implements Outlet {
  readonly budget: number
  readonly ceiling: number
  readonly slowConsumer: 'close' | 'drop'
  readonly slow: SlowConsumers<Writer>
  readonly held = new HeldMemory()
  readonly #nodeBudget: number
  readonly #metrics: Metrics
  readonly #events: WriteQueueEvents
  readonly #reconnectTimes = new ReconnectTimes()
  #due: Writer[] = []
  #next = 0
  /** Where the connections that this round flushes end. */
  #roundEnd = 0
  /** Since the node started: bytes that were written to sockets, and how often a connection was flushed. */
  writtenBytes = 0
  flushes = 0

  constructor(options: WriteQueueOptions, metrics: Metrics, events: WriteQueueEvents) {
    this.budget = options.buffer
    this.ceiling = Math.max(options.buffer, Math.floor(options.nodeBuffer * MAX_SHARE))
    this.slowConsumer = options.slowConsumer
    this.slow = new SlowConsumers(options.buffer, options.bufferTime)
    this.#nodeBudget = options.nodeBuffer
    this.#metrics = metrics
    this.#events = events
  }

  get isIdle(): boolean {
    return this.#next >= this.#due.length
  }

  /** How many connections wait to be written to. */
  get size(): number {
    return this.#due.length - this.#next
  }

  schedule(writer: Writer): void {
    this.#due.push(writer)
    this.#events.wake()
  }

  dropped(messages: number, reason: string): void {
    if (messages > 0) this.#metrics.count('messages_dropped_total', messages, reason)
  }

  limited(writer: Writer, reason: GapReason): void {
    this.#events.limited?.(writer as Connection, reason)
  }

  recoded(codec: string, messages: number, failed: number): void {
    this.#metrics.count('messages_recoded_total', messages, codec)
    if (failed > 0) this.#metrics.count('publications_unwritable_total', failed, codec)
  }

  gapped(reason: GapReason): void {
    this.#metrics.count('gaps_total', 1, reason)
  }

  closing(connection: Connection): void {
    this.#events.closing(connection)
  }

  reconnectAfter(): number {
    return this.#reconnectTimes.after(performance.now())
  }

  /** `bytes` of new frames are about to be queued for any number of connections: the slowest ones make room. */
  delivered(bytes: number): void {
    if (this.held.bytes + bytes > this.#nodeBudget) this.#relieve(bytes)
  }

  #relieve(bytes: number): void {
    this.slow.relieve(() => this.held.bytes + bytes > this.#nodeBudget)
  }

  /**
   * Flushes the connections that were due when the round began, until `deadline`; true when the round is over. Those
   * that become due meanwhile belong to the next round: under load a round would otherwise never end.
   */
  flush(deadline: number): boolean {
    if (this.#next >= this.#roundEnd) this.#roundEnd = this.#due.length
    while (this.#next < this.#roundEnd) {
      const end = this.#groupEnd()
      this.flushes += end - this.#next
      while (this.#next < end) this.#due[this.#next++]!.flush()
      // What their sockets did not take now counts as held.
      this.delivered(0)
      if (performance.now() >= deadline) break
    }
    if (this.isIdle || this.#next > MAX_DONE) {
      this.#due = this.#due.slice(this.#next)
      this.#roundEnd -= this.#next
      this.#next = 0
    }
    return this.#next >= this.#roundEnd
  }

  /**
   * Where the next group ends. Reading its connections here, before the first write, saves more time than it takes: the
   * kernel's work on each write evicts them from the processor's cache, and each write would then wait for memory.
   * Read in a row, the processor fetches several at a time.
   */
  #groupEnd(): number {
    const last = Math.min(this.#next + GROUP_CONNECTIONS, this.#roundEnd)
    let end = this.#next
    for (let bytes = 0; end < last && bytes < GROUP_BYTES; end++) bytes += this.#due[end]!.buffered
    return end
  }

  close(): void {
    this.slow.close()
  }
}
