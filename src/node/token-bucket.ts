/** So many a second, and twice as many in a burst. */
export class TokenBucket {
  readonly #rate: number
  #tokens: number
  #refilled: number

  constructor(rate: number, now = performance.now()) {
    this.#rate = rate
    this.#tokens = rate * 2
    this.#refilled = now
  }

  /** Whether one more may be. What is refused costs nothing: who goes on for a moment is not locked out for longer. */
  take(now = performance.now()): boolean {
    this.#refill(now)
    if (this.#tokens < 1) return false
    this.#tokens--
    return true
  }

  /** As if nothing had been taken: it may be forgotten. */
  isFull(now = performance.now()): boolean {
    this.#refill(now)
    return this.#tokens >= this.#rate * 2
  }

  /** Seconds until `take` succeeds again. */
  wait(now = performance.now()): number {
    this.#refill(now)
    return Math.max(0, (1 - this.#tokens) / this.#rate)
  }

  #refill(now: number): void {
    this.#tokens = Math.min(this.#rate * 2, this.#tokens + (Math.max(0, now - this.#refilled) / 1000) * this.#rate)
    this.#refilled = now
  }
}
