/** The part of a connection that is used here. */
export interface Consumer {
  /** Bytes that wait for it, in the node and in its socket. */
  readonly buffered: number
  /** Closes it as too slow, or drops what waits for it. False when there was nothing to drop. */
  giveUp(): boolean
  /** Closes it. */
  cut(): void
}

/** The time over the budget is measured in this many sweeps. */
const SWEEPS = 10

/**
 * Finds the connections that are too slow for what is published to them. A burst is no reason, since most sockets take
 * it in a moment: a connection is slow when it stays over its budget for some time. One timer counts this time in sweeps
 * for all of them: after a pause of the whole process, no connection looks slow because of it.
 */
export class SlowConsumers<C extends Consumer> {
  readonly #budget: number
  readonly #tick: number
  /** Connections for which something waits. First comes the one whose socket last took something longest ago. */
  readonly #waiting = new Set<C>()
  /** Those over the budget, in the same order, and how many sweeps found them there. */
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

  /** Something waits for `consumer` now; before, nothing did. */
  waits(consumer: C): void {
    this.#waiting.add(consumer)
    if (consumer.buffered > this.#budget) this.exceeds(consumer)
  }

  /** More waits for it than its budget. */
  exceeds(consumer: C, sweeps = 0): void {
    if (this.#over.has(consumer)) return
    this.#over.set(consumer, sweeps)
    this.#timer ??= setTimeout(() => this.#onTick(), this.#tick).unref()
  }

  /** Its socket took some of what waits, so it comes after those whose sockets did not. */
  progressed(consumer: C): void {
    const sweeps = this.#over.get(consumer)
    this.forget(consumer)
    this.#waiting.add(consumer)
    if (consumer.buffered > this.#budget) this.exceeds(consumer, sweeps)
  }

  /** Nothing waits for it any longer. */
  forget(consumer: C): void {
    this.#waiting.delete(consumer)
    this.#over.delete(consumer)
  }

  #onTick(): void {
    this.#timer = undefined
    this.sweep()
    if (this.#over.size > 0) this.#timer ??= setTimeout(() => this.#onTick(), this.#tick).unref()
  }

  /** Gives up connections that were over the budget for the whole time. */
  sweep(): void {
    for (const [consumer, sweeps] of this.#over) {
      // The first sweep may come right after the budget was exceeded, so one more is needed for the full time.
      if (consumer.buffered <= this.#budget) this.#over.delete(consumer)
      else if (sweeps < SWEEPS) this.#over.set(consumer, sweeps + 1)
      else {
        this.#over.delete(consumer)
        consumer.giveUp()
      }
    }
  }

  /**
   * Gives up the slowest connections while memory `isShort`: first those over the budget, and among them the one whose
   * socket last took something longest ago. A client that reads outlives those that do not, however much waits for it.
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
