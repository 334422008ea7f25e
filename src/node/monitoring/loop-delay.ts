const INTERVAL = 100

/** Looks ten times a second at how late a timer runs, which is how long everything else had to wait. */
export class LoopDelay {
  readonly #observe: (seconds: number) => void
  #timer: NodeJS.Timeout | undefined

  constructor(observe: (seconds: number) => void) {
    this.#observe = observe
  }

  start(): void {
    if (this.#timer) return
    let due = performance.now() + INTERVAL
    const look = () => {
      const now = performance.now()
      this.#observe(Math.max(0, now - due) / 1000)
      due = now + INTERVAL
      // Not an interval: after a long pause that would run several times at once.
      this.#timer = setTimeout(look, INTERVAL).unref()
    }
    this.#timer = setTimeout(look, INTERVAL).unref()
  }

  stop(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }
}
