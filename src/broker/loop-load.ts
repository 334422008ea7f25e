import { performance } from 'node:perf_hooks'

/** The load is high when the event loop had work for more than this share of the time, over this many milliseconds. */
const HIGH = 0.8
const WINDOW = 20

/** Whether the event loop was busy lately: then what can wait a little is cheaper done together. */
export class LoopLoad {
  readonly #idleTime: () => number
  #window: { begin: number; idle: number }
  #isHigh = false

  /** `idleTime`: for how many milliseconds the event loop had nothing to do, since it began. */
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
