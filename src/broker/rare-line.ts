const INTERVAL = 10_000

/** At most one line in ten seconds, which says how many more there would have been: what fails often must not fill a disk. */
export class RareLine {
  readonly #write: (fields: object, more: number) => void
  #at = Number.NEGATIVE_INFINITY
  #more = 0

  constructor(write: (fields: object, more: number) => void) {
    this.#write = write
  }

  /** `by`: how many times it happened. */
  tell(fields: object, by = 1, now = performance.now()): void {
    this.#more += by
    if (now - this.#at < INTERVAL) return
    this.#at = now
    this.#write(fields, this.#more)
    this.#more = 0
  }
}
