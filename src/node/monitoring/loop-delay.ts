const INTERVAL = 100

type Observer = (seconds: number) => void

/**
 * Looks ten times a second at how late a timer runs, which is how long everything else had to wait. One timer for
 * everybody in the process.
 */
class LoopDelay {
  #observers: readonly Observer[] = []
  #timer: NodeJS.Timeout | undefined

  /** Returns what ends it. */
  watch(observer: Observer): () => void {
    // An object of its own: the same function may watch twice.
    const own: Observer = seconds => observer(seconds)
    this.#observers = [...this.#observers, own]
    if (this.#observers.length === 1) this.#start()
    return () => {
      this.#observers = this.#observers.filter(it => it !== own)
      if (this.#observers.length === 0) clearTimeout(this.#timer)
    }
  }

  #start(): void {
    let due = performance.now() + INTERVAL
    const look = () => {
      const now = performance.now()
      const seconds = Math.max(0, now - due) / 1000
      due = now + INTERVAL
      // Not an interval: after a long pause that would run several times at once.
      this.#timer = setTimeout(look, INTERVAL).unref()
      for (const observer of this.#observers) observer(seconds)
    }
    this.#timer = setTimeout(look, INTERVAL).unref()
  }
}

export const loopDelay = new LoopDelay()
