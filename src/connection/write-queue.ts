import type { Metrics } from '../metrics.ts'
import type { GapReason } from '../protocol/messages.ts'
import { HeldMemory } from './backlog.ts'
import type { Connection, Outlet } from './connection.ts'
import { ReconnectTimes } from './reconnect-times.ts'
import { SlowConsumers } from './slow-consumers.ts'
import type { Writer } from './writer.ts'

export interface WriteQueueOptions {
  /** Bytes that may wait for one connection for as long as it likes, and how many milliseconds more than that may. */
  buffer: number
  bufferTime: number
  /** Bytes that may wait on this node for connections whose sockets take no more. */
  nodeBuffer: number
  slowConsumer: 'close' | 'drop'
}

/** How many connections, and about how many bytes, are flushed as a group: between two looks at the clock. */
const GROUP_CONNECTIONS = 32
const GROUP_BYTES = 256 * 1024

/** How many flushed entries may stay in the list of those that are due before it is cut. */
const MAX_DONE = 4096

/** One connection gets no more of the node's memory than this share, however short the time. */
const MAX_SHARE = 1 / 8

/** Who has something to write, and how much memory the node holds for those that cannot take it. */
export class WriteQueue implements Outlet {
  readonly budget: number
  readonly ceiling: number
  readonly slowConsumer: 'close' | 'drop'
  readonly slow: SlowConsumers<Writer>
  readonly held = new HeldMemory()
  readonly #nodeBudget: number
  readonly #metrics: Metrics
  readonly #wake: () => void
  readonly #onClosing: (connection: Connection) => void
  readonly #reconnectTimes = new ReconnectTimes()
  #due: Writer[] = []
  #next = 0
  /** Where those end that are flushed in this round. */
  #roundEnd = 0

  constructor(
    options: WriteQueueOptions,
    metrics: Metrics,
    events: { wake(): void; closing(connection: Connection): void },
  ) {
    this.budget = options.buffer
    this.ceiling = Math.max(options.buffer, Math.floor(options.nodeBuffer * MAX_SHARE))
    this.slowConsumer = options.slowConsumer
    this.slow = new SlowConsumers(options.buffer, options.bufferTime)
    this.#nodeBudget = options.nodeBuffer
    this.#metrics = metrics
    this.#wake = events.wake
    this.#onClosing = events.closing
  }

  get isIdle(): boolean {
    return this.#next >= this.#due.length
  }

  schedule(writer: Writer): void {
    this.#due.push(writer)
    this.#wake()
  }

  dropped(messages: number, reason: string): void {
    if (messages > 0) this.#metrics.count('messages_dropped_total', messages, reason)
  }

  gapped(reason: GapReason): void {
    this.#metrics.count('gaps_total', 1, reason)
  }

  closing(connection: Connection): void {
    this.#onClosing(connection)
  }

  reconnectAfter(): number {
    return this.#reconnectTimes.after(performance.now())
  }

  /** `bytes` of new frames are about to be given to any number of connections: the slowest make room for them. */
  delivered(bytes: number): void {
    if (this.held.bytes + bytes > this.#nodeBudget) this.#relieve(bytes)
  }

  #relieve(bytes: number): void {
    this.slow.relieve(() => this.held.bytes + bytes > this.#nodeBudget)
  }

  /**
   * Flushes all that were due when the round began, until the clock says `deadline`; true when the round is over. Who
   * becomes due meanwhile is for the next one: else, while much comes in, a round would never end.
   */
  flush(deadline: number): boolean {
    if (this.#next >= this.#roundEnd) this.#roundEnd = this.#due.length
    while (this.#next < this.#roundEnd) {
      const end = this.#groupEnd()
      while (this.#next < end) this.#due[this.#next++]!.flush()
      // What their sockets did not take waits from now on.
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
   * Where the next group ends. That its connections are looked at here, before the first of them is written to, is worth
   * more than what is found: the kernel's work on each write pushes all of this out of the processor's cache, and
   * connection by connection is then waited for as often. In a row, the processor fetches several at a time.
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
