/** A connection, as far as it is judged here. */
export interface Consumer {
  /** Bytes that wait for it, on the node and in its socket. */
  readonly buffered: number
  /** It is too slow: closes it, or drops what waits. False when there was nothing to drop. */
  giveUp(): boolean
  /** Closes it. */
  cut(): void
}

/** How many looks at the clock the time over the budget is made of. */
const SWEEPS = 10

/**
 * For whom more is published than their sockets take, and who of them is too slow. Much at once is a burst, which most
 * can take in a moment; slow is who stays over the budget for a time. The time is counted in sweeps, one timer for all
 * of them, so that a process that was stopped for an hour does not take its own absence for theirs.
 */
export class SlowConsumers<C extends Consumer> {
  readonly #budget: number
  readonly #tick: number
  /** For whom something waits; whose socket took something longest ago comes first. */
  readonly #waiting = new Set<C>()
  /** Those of them over the budget, in the same order, with the sweeps that found them there. */
  readonly #over = new Map<C, number>()
  #timer: NodeJS.Timeout | undefined

  /** A consumer may be over `budget` bytes for `time` milliseconds, and a tenth more at most. */
  constructor(budget: number, time: number) {
    this.#budget = budget
    this.#tick = Math.ceil(time / SWEEPS)
  }

  get size(): number {
    return this.#waiting.size
  }

  /** Something waits for `consumer`, for which nothing did. */
  waits(consumer: C): void {
    this.#waiting.add(consumer)
    if (consumer.buffered > this.#budget) this.exceeds(consumer)
  }

  /** More waits for it than its budget, for the first time or still. */
  exceeds(consumer: C, sweeps = 0): void {
    if (this.#over.has(consumer)) return
    this.#over.set(consumer, sweeps)
    this.#timer ??= setTimeout(() => this.#onTick(), this.#tick).unref()
  }

  /** Its socket took some of what waits: everybody whose socket did not is slower. */
  progressed(consumer: C): void {
    const sweeps = this.#over.get(consumer)
    this.forget(consumer)
    this.#waiting.add(consumer)
    if (consumer.buffered > this.#budget) this.exceeds(consumer, sweeps)
  }

  /** Nothing waits for it any more. */
  forget(consumer: C): void {
    this.#waiting.delete(consumer)
    this.#over.delete(consumer)
  }

  #onTick(): void {
    this.#timer = undefined
    this.sweep()
    if (this.#over.size > 0) this.#timer ??= setTimeout(() => this.#onTick(), this.#tick).unref()
  }

  /** Gives up whoever has been over the budget for the whole time. */
  sweep(): void {
    for (const [consumer, sweeps] of this.#over) {
      // The first may come right after the budget was passed: it takes one more to be sure of the time.
      if (consumer.buffered <= this.#budget) this.#over.delete(consumer)
      else if (sweeps < SWEEPS) this.#over.set(consumer, sweeps + 1)
      else {
        this.#over.delete(consumer)
        consumer.giveUp()
      }
    }
  }

  /**
   * While memory `isShort` the slowest pay: those over the budget before all others, and first of them whose socket took
   * something longest ago. A client that reads outlives those that do not, however much waits for it.
   */
  relieve(isShort: () => boolean): void {
    for (let slowest = this.#slowest(); slowest && isShort(); slowest = this.#slowest()) {
      this.forget(slowest)
      if (!slowest.giveUp()) slowest.cut()
    }
  }

  #slowest(): C | undefined {
    const [over] = this.#over.keys()
    if (over) return over
    const [waiting] = this.#waiting
    return waiting
  }

  close(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#waiting.clear()
    this.#over.clear()
  }
}
