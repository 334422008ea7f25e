import { performance } from 'node:perf_hooks'

/** The load is high if the event loop was busy for more than this share of a window of this many milliseconds. */
const HIGH = 0.8
const WINDOW = 20

/** Whether the event loop was busy lately. Then it is cheaper to collect work that can wait and do it together. */
export class LoopLoad {
  readonly #idleTime: () => number
  #window: { begin: number; idle: number }
  #isHigh = false

  /** `idleTime`: the milliseconds that the event loop has been idle since it started. */
  constructor(now = performance.now(), idleTime: () => number = () => performance.eventLoopUtilization().idle) {
    this.#idleTime = idleTime
    this.#window = { begin: now, idle: idleTime() }
  }

  isHigh(now: number): boolean {
    const { begin, idle } = this.#window
    if (now - begin >= WINDOW) {
      this.#window = { begin: now, idle: this.#idleTime() }
      this.#isHigh = (this.#window.idle - idle) / (now - begin) < 1 - HIGH
    }
    return this.#isHigh
  }
}
