/** Each bucket is 2 % wider than the one before: what is read from it is that exact. */
const GROWTH = Math.log(1.02)
const LEAST = 0.01
const BUCKETS = 1000

/** Milliseconds, however many, in 4 KB. */
export class Latencies {
  readonly #counts = new Uint32Array(BUCKETS)
  #size = 0
  #largest = 0

  get size(): number {
    return this.#size
  }

  get largest(): number {
    return this.#largest
  }

  add(milliseconds: number): void {
    const bucket = Math.floor(Math.log(Math.max(LEAST, milliseconds) / LEAST) / GROWTH)
    this.#counts[Math.min(BUCKETS - 1, bucket)]!++
    this.#size++
    this.#largest = Math.max(this.#largest, milliseconds)
  }

  /** What `share` of them do not exceed; undefined without any. */
  at(share: number): number | undefined {
    if (this.#size === 0) return undefined
    let left = share * this.#size
    const bucket = this.#counts.findIndex(count => {
      left -= count
      return left <= 0
    })
    return Math.min(this.#largest, LEAST * Math.exp((bucket + 1) * GROWTH))
  }
}
