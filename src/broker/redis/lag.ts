/** A message that the node publishes to itself once a second. */
export interface Tick {
  number: number
  /** When Redis was asked to publish it, and when it had done so. */
  sentAt: number
  publishedAt: number
}

/** Longest tick number on the node's own channel. */
export const MAX_DIGITS = 16

export interface LagEvents {
  /** The tick of that time has arrived, and everything that Redis wrote before it. */
  heard(sentAt: number): void
  /** For the log: `milliseconds` is the present delay, or the longest one once the node has caught up. */
  told(isBehind: boolean, milliseconds: number): void
}

/**
 * Redis writes a tick before the answer to any later PING. But a proxy may answer the PING itself, so a tick gets this
 * many milliseconds more.
 */
const GRACE = 2000

/**
 * Milliseconds: the least lag that is reported, the least time between two reports, and the lag that counts as caught
 * up.
 */
const TOLD_FROM = 3000
const TELL_INTERVAL = 60_000
const CAUGHT_UP = 1000

/**
 * How far this node is behind Redis. Ticks show it: they wait in line like all other messages, and the node knows when
 * they were published.
 */
export class Lag {
  readonly #events: LagEvents
  /** Oldest first. There are few: the link is closed long before there are hundreds. */
  #unheard: Tick[] = []
  #newestHeard = 0
  /** The longest lag since it was reported; 0 while none is. */
  #longest = 0
  #toldAt = Number.NEGATIVE_INFINITY

  constructor(events: LagEvents) {
    this.#events = events
  }

  /** The lag at `now` in milliseconds; 0 if every tick has arrived. */
  at(now: number): number {
    const [oldest] = this.#unheard
    return oldest ? now - oldest.publishedAt : 0
  }

  /** Redis has confirmed that it published `tick`, which may have arrived before this confirmation. */
  published(tick: Tick): void {
    if (tick.number <= this.#newestHeard) return this.#events.heard(tick.sentAt)
    this.#unheard.push(tick)
    this.#observe(tick.publishedAt)
  }

  /** A tick has arrived. Any program can publish on this channel: what is not a number has no effect. */
  heard(number: number, now: number): void {
    this.#observe(now)
    if (number > this.#newestHeard) this.#newestHeard = number
    let newest: Tick | undefined
    while (this.#unheard[0] && this.#unheard[0].number <= number) newest = this.#unheard.shift()
    if (newest) this.#events.heard(newest.sentAt)
    this.#settle(now)
  }

  /** The PING of that time was answered. Whether an older tick should have arrived before the answer, and has not. */
  isDeaf(askedAt: number): boolean {
    return this.at(askedAt) >= GRACE
  }

  #observe(now: number): void {
    const lag = this.at(now)
    if (this.#longest > 0) this.#longest = Math.max(this.#longest, lag)
    else if (lag >= TOLD_FROM && now - this.#toldAt >= TELL_INTERVAL) {
      this.#longest = lag
      this.#toldAt = now
      this.#events.told(true, Math.round(lag))
    }
  }

  #settle(now: number): void {
    if (this.#longest === 0 || this.at(now) > CAUGHT_UP) return
    const longest = this.#longest
    this.#longest = 0
    this.#events.told(false, Math.round(longest))
  }

  /** Ticks that were published to the last connection do not arrive on the next one. */
  clear(): void {
    this.#unheard = []
    this.#longest = 0
  }
}
