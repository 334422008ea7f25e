import type { Connection } from '../connection/connection.ts'
import { timeOf } from '../connection/identity.ts'

/** The part of a connection that the heartbeat uses. */
export type Beating = Pick<
  Connection,
  'idle' | 'seen' | 'closingFor' | 'expires' | 'began' | 'isWarned' | 'isClosing' | 'received' | 'ping' | 'terminate'
>

export interface HeartbeatEvents<B> {
  silent(connection: B): void
  expired(connection: B): void
  /** The identity of `connection` will soon expire. */
  expiring(connection: B): void
}

export interface HeartbeatOptions {
  interval: number
  timeout: number
  /** Milliseconds before its end at which an identity is reported as expiring; 0: never. */
  warn: number
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
  readonly #tick: number
  readonly #pingAt: number
  readonly #deadAt: number
  readonly #closeAt: number
  readonly #warn: number

  /** Reports a connection as silent at most `interval` + `timeout` milliseconds after its last byte. */
  constructor(connections: { values(): Iterable<B> }, options: HeartbeatOptions, events: HeartbeatEvents<B>) {
    const tick = Math.max(1, Math.min(MAX_TICK, Math.floor(options.interval / 10), Math.floor(options.timeout / 5)))
    this.#tick = tick
    this.#connections = connections
    this.#events = events
    this.#warn = options.warn
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
    const { expires } = connection
    if (expires === undefined || connection.isClosing) return
    if (now >= expires) this.#events.expired(connection)
    else if (!connection.isWarned && now >= expires - this.#leadOf(connection.began, expires)) {
      connection.isWarned = true
      this.#events.expiring(connection)
    }
  }

  /** At most half of its life: an identity of ten seconds is not at its end when it begins. */
  #leadOf(began: number, expires: number): number {
    return Math.max(0, Math.min(this.#warn, (expires - timeOf(began)) / 2))
  }

  /** Milliseconds since its last sign of life, about. */
  idleTime({ idle }: Pick<B, 'idle'>): number {
    return idle * this.#tick
  }

  close(): void {
    clearInterval(this.#timer)
    this.#closing.clear()
  }
}
