import type { Connection } from '../connection/connection.ts'

/** The part of a connection that the heartbeat uses. */
export type Beating = Pick<
  Connection,
  'idle' | 'seen' | 'closingFor' | 'expires' | 'isClosing' | 'received' | 'ping' | 'terminate'
>

export interface HeartbeatEvents<B> {
  silent(connection: B): void
  expired(connection: B): void
}

/** A peer that has not answered a close frame after this long never will: its socket is destroyed. */
export const CLOSE_TIMEOUT = 5000

const MAX_TICK = 1000

/**
 * One timer for all connections of a node. Time is counted in ticks: after a pause of the whole process, no connection
 * looks silent because of it.
 */
export class Heartbeat<B extends Beating> {
  readonly #connections: { values(): Iterable<B> }
  readonly #events: HeartbeatEvents<B>
  readonly #closing = new Set<B>()
  readonly #timer: NodeJS.Timeout
  readonly #pingAt: number
  readonly #deadAt: number
  readonly #closeAt: number

  /** Reports a connection as silent at most `interval` + `timeout` milliseconds after its last byte. */
  constructor(
    connections: { values(): Iterable<B> },
    options: { interval: number; timeout: number },
    events: HeartbeatEvents<B>,
  ) {
    const tick = Math.max(1, Math.min(MAX_TICK, Math.floor(options.interval / 10), Math.floor(options.timeout / 5)))
    this.#connections = connections
    this.#events = events
    // A byte that comes right after a tick is seen only at the next one, so both counts are one tick short.
    this.#pingAt = Math.max(1, Math.floor(options.interval / tick) - 1)
    this.#deadAt = Math.max(this.#pingAt + 1, Math.floor((options.interval + options.timeout) / tick) - 1)
    this.#closeAt = Math.ceil(CLOSE_TIMEOUT / tick)
    this.#timer = setInterval(() => this.beat(), tick)
    this.#timer.unref()
  }

  /** Watches a connection whose close frame was sent, until `forget`. */
  closing(connection: B): void {
    this.#closing.add(connection)
  }

  forget(connection: B): void {
    this.#closing.delete(connection)
  }

  beat(): void {
    const now = Date.now()
    for (const connection of this.#connections.values()) this.#check(connection, now)
    for (const connection of this.#closing) {
      if (++connection.closingFor < this.#closeAt) continue
      this.#closing.delete(connection)
      connection.terminate()
    }
  }

  #check(connection: B, now: number): void {
    if (connection.isClosing) return
    const { received } = connection
    if (received !== undefined && received !== connection.seen) {
      connection.seen = received
      connection.idle = 0
    } else if (++connection.idle === this.#pingAt) {
      connection.ping()
    } else if (connection.idle >= this.#deadAt) {
      this.#events.silent(connection)
    }
    if (connection.expires !== undefined && now >= connection.expires) this.#events.expired(connection)
  }

  close(): void {
    clearInterval(this.#timer)
    this.#closing.clear()
  }
}
