import { LoopLoad } from '../broker/loop-load.ts'

/** A busy node rests half as long as a round of flushes took, up to a bound in milliseconds. */
const REST_FACTOR = 0.5
const MAX_REST = 5

/** While more keeps coming in, what is gathered for a round may take this many milliseconds. */
const MAX_GATHER = 30

/**
 * When sockets are written to. A write costs the same whatever its size, so a busy node writes to each socket less often
 * and more at a time; on one that is not busy whatever comes leaves at once. A round to 1,000 sockets takes some 5 ms,
 * and may need several turns of the event loop.
 */
export class FlushScheduler {
  readonly #load: LoopLoad
  /** When something was flushed last, how long the round has taken so far, and how long the rest behind it is. */
  #flushedAt = 0
  #took = 0
  #rest = 0
  /** Runs delivered since the last round. */
  #gathered = 0

  constructor(load = new LoopLoad()) {
    this.#load = load
  }

  /** Whether a round has begun and is not over. */
  get isFlushing(): boolean {
    return this.#took > 0
  }

  /** One more run will be written in the next round. */
  gather(): void {
    this.#gathered++
  }

  /** Milliseconds that are left until the next round may begin. */
  rest(now: number, isFlowing: boolean): number {
    if (this.isFlushing) return 0
    return this.#flushedAt + (isFlowing ? MAX_GATHER : this.#rest) - now
  }

  /** Sockets were written to from `begin` to `end`; `isOver` says that the round is. */
  flushed(begin: number, end: number, isOver: boolean): void {
    this.#flushedAt = end
    this.#took += end - begin
    if (!isOver) return
    // What came alone leaves alone: waiting would not have made it less.
    this.#rest = this.#load.isHigh(end) && this.#gathered > 1 ? Math.min(MAX_REST, this.#took * REST_FACTOR) : 0
    this.#took = 0
    this.#gathered = 0
  }
}
