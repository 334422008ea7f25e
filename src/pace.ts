/** A busy node rests this many times as long as a round of flushes took, up to a bound in milliseconds. */
const REST_FACTOR = 2
const MAX_REST = 10

/** While more is waiting than can be delivered, what is gathered for a round may take this many milliseconds. */
const MAX_GATHER = 30

/** As long as flushing takes no more than this share of the time, nothing waits for more to come. */
const FREE_SHARE = 0.5
/** Milliseconds of flushing that may be saved up: rounds that follow a quiet time are free. */
const MAX_CREDIT = 20

/**
 * When sockets are written to. A write costs the same whatever its size, so a busy node writes to each socket less often
 * and more at a time; on one that is not busy whatever comes leaves at once. A round to 1,000 sockets takes some 5 ms,
 * and may need several turns of the event loop.
 */
export class Pace {
  /** Milliseconds of flushing that are free; less than none when there was too much of it. */
  #credit = MAX_CREDIT
  /** When something was flushed last, how long the round has taken so far, and how long the rest behind it is. */
  #flushedAt = 0
  #took = 0
  #rest = 0
  /** Runs delivered since the last round. */
  #gathered = 0

  /** Whether a round has begun and is not over. */
  get isFlushing(): boolean {
    return this.#took > 0
  }

  /** One more run will be written in the next round. */
  gather(): void {
    this.#gathered++
  }

  /** Milliseconds that are left until the next round may begin. */
  rest(now: number, hasBacklog: boolean): number {
    if (this.isFlushing) return 0
    return this.#flushedAt + (hasBacklog ? MAX_GATHER : this.#rest) - now
  }

  /** Sockets were written to from `begin` to `end`; `isOver` says that the round is. */
  flushed(begin: number, end: number, isOver: boolean): void {
    const earned = Math.min(MAX_CREDIT, this.#credit + (end - this.#flushedAt) * FREE_SHARE)
    this.#credit = Math.max(-MAX_CREDIT, earned - (end - begin))
    this.#flushedAt = end
    this.#took += end - begin
    if (!isOver) return
    // What came alone leaves alone: waiting would not have made it less.
    const isBusy = this.#credit < 0 && this.#gathered > 1
    this.#rest = isBusy ? Math.min(MAX_REST, this.#took * REST_FACTOR) : 0
    this.#took = 0
    this.#gathered = 0
  }
}
