/** So many failures in a row open the circuit. */
const FAILURES = 5
const FIRST_WAIT = 1000
const LONGEST_WAIT = 30_000

/** What a call that was let through has to give back with its result. */
export interface Pass {
  isProbe: boolean
}

/**
 * Keeps calls from a backend that is down: they would only wait for their deadlines, and hit it when it gets up. Once in a
 * while a single call is let through, and when it succeeds all are.
 */
export class Circuit {
  #failures = 0
  #wait = FIRST_WAIT
  #until = 0
  #isProbing = false

  get isOpen(): boolean {
    return this.#failures >= FAILURES
  }

  mayEnter(now: number): boolean {
    return !this.isOpen || (!this.#isProbing && now >= this.#until)
  }

  /** Undefined while no call may be made. */
  enter(now: number): Pass | undefined {
    if (!this.mayEnter(now)) return undefined
    const isProbe = this.isOpen
    this.#isProbing ||= isProbe
    return { isProbe }
  }

  /** The backend answered. True if the circuit was open. */
  succeeded(pass: Pass): boolean {
    const wasOpen = this.isOpen
    if (pass.isProbe) this.#isProbing = false
    this.#failures = 0
    this.#wait = FIRST_WAIT
    return wasOpen
  }

  /** True if the circuit opens with this failure. */
  failed(pass: Pass, now: number): boolean {
    if (pass.isProbe) {
      this.#isProbing = false
      // It may have closed meanwhile, by a late answer to an earlier call.
      if (this.isOpen) this.#rest(now, Math.min(this.#wait * 2, LONGEST_WAIT))
      return false
    }
    // Calls that began before it opened say nothing new.
    if (this.isOpen) return false
    this.#failures++
    if (this.isOpen) this.#rest(now, FIRST_WAIT)
    return this.isOpen
  }

  #rest(now: number, wait: number): void {
    this.#wait = wait
    // With jitter, so that nodes do not probe together.
    this.#until = now + wait * (0.75 + Math.random() / 2)
  }
}
