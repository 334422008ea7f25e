import type { Connection, Outlet } from './connection.ts'
import type { Metrics } from './metrics.ts'
import type { GapReason } from './protocol.ts'

export interface OutboxOptions {
  /** Bytes that may wait for one connection. */
  buffer: number
  /** Bytes that may wait on this node for connections whose sockets take no more. */
  nodeBuffer: number
  slowConsumer: 'close' | 'drop'
}

/** How many connections, and about how many bytes, are flushed as a group: between two looks at the clock. */
const GROUP_CONNECTIONS = 32
const GROUP_BYTES = 256 * 1024

/** How many flushed entries may stay in the list of those that are due before it is cut. */
const MAX_DONE = 4096

/** Who has something to write, and how much memory the node holds for those that cannot take it. */
export class Outbox implements Outlet {
  readonly budget: number
  readonly slowConsumer: 'close' | 'drop'
  readonly #nodeBudget: number
  readonly #metrics: Metrics
  readonly #wake: () => void
  readonly #onClosing: (connection: Connection) => void
  #due: Connection[] = []
  #next = 0
  /** Stalled connections, longest first, with what the node had delivered when each began to stall. */
  readonly #stalled = new Map<Connection, number>()
  #held = 0
  #delivered = 0

  constructor(
    options: OutboxOptions,
    metrics: Metrics,
    events: { wake(): void; closing(connection: Connection): void },
  ) {
    this.budget = options.buffer
    this.slowConsumer = options.slowConsumer
    this.#nodeBudget = options.nodeBuffer
    this.#metrics = metrics
    this.#wake = events.wake
    this.#onClosing = events.closing
  }

  get isIdle(): boolean {
    return this.#next >= this.#due.length
  }

  get stalledConnections(): number {
    return this.#stalled.size
  }

  /**
   * Bytes of memory held for stalled connections, never less than the truth: the sum of their queues, or all that was
   * delivered since the longest of them stalled, whichever is smaller (queues share the frames that they hold).
   */
  get heldBytes(): number {
    const [oldest] = this.#stalled.values()
    return oldest === undefined ? 0 : Math.min(this.#held, this.#delivered - oldest + this.budget)
  }

  schedule(connection: Connection): void {
    this.#due.push(connection)
    this.#wake()
  }

  stalled(connection: Connection, stalled: boolean): void {
    if (stalled) this.#stalled.set(connection, this.#delivered)
    else this.#stalled.delete(connection)
  }

  held(bytes: number): void {
    this.#held += bytes
  }

  dropped(messages: number, reason: string): void {
    this.#metrics.count('messages_dropped_total', messages, reason)
  }

  gapped(reason: GapReason): void {
    this.#metrics.count('gaps_total', 1, reason)
  }

  closing(connection: Connection): void {
    this.#onClosing(connection)
  }

  /** `bytes` of new frames were given to any number of connections. */
  delivered(bytes: number): void {
    this.#delivered += bytes
    while (this.#stalled.size > 0 && this.heldBytes > this.#nodeBudget) this.#relieve()
  }

  /** The node's memory is full: whoever has been stalled longest pays for it. */
  #relieve(): void {
    const [connection] = this.#stalled.keys()
    if (!connection) return
    connection.cut()
    this.stalled(connection, false)
  }

  /** Flushes until nothing is due or the clock says `deadline`. */
  flush(deadline: number): void {
    while (this.#next < this.#due.length) {
      const end = this.#groupEnd()
      while (this.#next < end) this.#due[this.#next++]!.flush()
      if (performance.now() >= deadline) break
    }
    if (this.isIdle || this.#next > MAX_DONE) {
      this.#due = this.#due.slice(this.#next)
      this.#next = 0
    }
  }

  /**
   * Where the next group ends. That its connections are looked at here, before the first of them is written to, is worth
   * more than what is found: the kernel's work on each write pushes all of this out of the processor's cache, and
   * connection by connection is then waited for as often. In a row, the processor fetches several at a time.
   */
  #groupEnd(): number {
    const last = Math.min(this.#next + GROUP_CONNECTIONS, this.#due.length)
    let end = this.#next
    for (let bytes = 0; end < last && bytes < GROUP_BYTES; end++) bytes += this.#due[end]!.buffered
    return end
  }
}
