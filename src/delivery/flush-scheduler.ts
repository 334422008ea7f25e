import { LoopLoad } from '../broker/loop-load.ts'

/** After a round of flushes a busy node rests for a quarter of its time, at most this many milliseconds. */
const REST_FACTOR = 0.25
const MAX_REST = 5

/** How publications arrive: singly, in a flow of which the next turn brings more, or faster than they are delivered. */
export type Flow = 'calm' | 'flowing' | 'behind'

/** In a flow a round gathers for this many milliseconds. What a node delivers that is behind is later than that anyway. */
const MAX_GATHER = { flowing: 30, behind: 60 }

/**
 * When sockets are written to. A write costs the same whatever its size, so a busy node writes to each socket
 * less often and more at a time; a node that is not busy writes at once. A round to 1,000 sockets takes about 5 ms and
 * may need several turns of the event loop.
 */
export class FlushScheduler {
  readonly #load: LoopLoad
  /** When something was last flushed, how long the round has taken so far, and how long to rest after it. */
  #flushedAt = 0
  #took = 0
  #rest = 0
  /** Publications delivered since the last round. */
  #gathered = 0

  constructor(load = new LoopLoad()) {
    this.#load = load
  }

  /** Whether a round has begun and not ended. */
  get isFlushing(): boolean {
    return this.#took > 0
  }

  /** One more publication will be written in the next round. */
  gather(): void {
    this.#gathered++
  }

  /** Milliseconds until the next round may begin. */
  rest(now: number, flow: Flow): number {
    if (this.isFlushing) return 0
    return this.#flushedAt + (flow === 'calm' ? this.#rest : MAX_GATHER[flow]) - now
  }

  /** Sockets were written to from `begin` to `end`. `isOver`: this ended the round. */
  flushed(begin: number, end: number, isOver: boolean): void {
    this.#flushedAt = end
    this.#took += end - begin
    if (!isOver) return
    // After a single publication there is no rest: waiting would have gathered nothing.
    this.#rest = this.#load.isHigh(end) && this.#gathered > 1 ? Math.min(MAX_REST, this.#took * REST_FACTOR) : 0
    this.#took = 0
    this.#gathered = 0
  }
}
