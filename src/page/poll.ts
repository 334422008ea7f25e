/** How often the nodes are asked, in milliseconds. */
export const EVERY = 2000

interface PollParts {
  /** Resolves with how long to wait before the next one at least. */
  ask(): Promise<number>
  isHidden(): boolean
}

/** Asks again and again, one question at a time, and not while nobody looks. */
export class Poll {
  readonly #parts: PollParts
  #timer: ReturnType<typeof setTimeout> | undefined
  #isOn = false
  #isAsking = false

  constructor(parts: PollParts) {
    this.#parts = parts
  }

  get isOn(): boolean {
    return this.#isOn
  }

  start(): void {
    this.#isOn = true
    this.wake()
  }

  stop(): void {
    this.#isOn = false
    clearTimeout(this.#timer)
  }

  /** Asks now, for example because the page is seen again; rests while it is hidden. */
  wake(): void {
    clearTimeout(this.#timer)
    if (this.#isOn && !this.#isAsking && !this.#parts.isHidden()) void this.#ask()
  }

  async #ask(): Promise<void> {
    this.#isAsking = true
    let wait = 0
    try {
      wait = await this.#parts.ask()
    } finally {
      this.#isAsking = false
      clearTimeout(this.#timer)
      if (this.#isOn) this.#timer = setTimeout(() => this.wake(), Math.max(EVERY, wait))
    }
  }
}
