/** What the node publishes to itself once a second. */
export interface Tick {
  number: number
  /** When Redis was asked to publish it, and when it had. */
  sentAt: number
  publishedAt: number
}

export interface LagEvents {
  /** A tick of that time has come, and with it all that Redis wrote before. */
  heard(sentAt: number): void
  /** For the log: the node is so many milliseconds behind, or was at most before it caught up. */
  told(isBehind: boolean, milliseconds: number): void
}

/**
 * Redis writes a tick before the answer to any PING that comes later. Something in between may answer a PING by itself,
 * so that a tick gets this much more time.
 */
const GRACE = 2000

/** A lag is told from here on, and so often at most; what is less than the last of these is caught up with. */
const TOLD_FROM = 3000
const TELL_INTERVAL = 60_000
const CAUGHT_UP = 1000

/**
 * How far this node is behind what Redis has published to it. The ticks show it: they stand in line like everything
 * else, and the node knows when it published them.
 */
export class Lag {
  readonly #events: LagEvents
  /** Oldest first. They are few: long before they were hundreds the link is given up. */
  #unheard: Tick[] = []
  #newestHeard = 0
  /** The longest lag since it was told; 0 when it is not. */
  #longest = 0
  #toldAt = Number.NEGATIVE_INFINITY

  constructor(events: LagEvents) {
    this.#events = events
  }

  /** Milliseconds at `now`; 0 when every tick has come. */
  at(now: number): number {
    const [oldest] = this.#unheard
    return oldest ? now - oldest.publishedAt : 0
  }

  /** Redis says that it has published `tick`, which may have come before it says so. */
  published(tick: Tick): void {
    if (tick.number <= this.#newestHeard) return this.#events.heard(tick.sentAt)
    this.#unheard.push(tick)
    this.#observe(tick.publishedAt)
  }

  /** A number has come. Any program can publish to this node; what is no number changes nothing. */
  heard(number: number, now: number): void {
    this.#observe(now)
    if (number > this.#newestHeard) this.#newestHeard = number
    let newest: Tick | undefined
    while (this.#unheard[0] && this.#unheard[0].number <= number) newest = this.#unheard.shift()
    if (newest) this.#events.heard(newest.sentAt)
    this.#settle(now)
  }

  /** A PING of that time has been answered: whether a tick that was published well before should have come. */
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

  /** What was published to the last connection does not come by the next. */
  clear(): void {
    this.#unheard = []
    this.#longest = 0
  }
}
