/** Each bucket is a twelfth of an octave wider than the one before: within six hundredths of the value. */
const STEPS = 12
/** The first bucket holds everything below this many milliseconds, the last one all above a minute or so. */
const LEAST = 0.01
const BUCKETS = 12 * 23

/** Percentiles of what was observed lately: in the present period and the one before it. */
export class Percentiles {
  #present = new Uint32Array(BUCKETS)
  #before = new Uint32Array(BUCKETS)

  add(milliseconds: number): void {
    const bucket = milliseconds <= LEAST ? 0 : Math.ceil(Math.log2(milliseconds / LEAST) * STEPS)
    this.#present[Math.min(bucket, BUCKETS - 1)]!++
  }

  /** Begins a new period, and forgets the one before the last. */
  rotate(): void {
    const oldest = this.#before
    this.#before = this.#present
    this.#present = oldest.fill(0)
  }

  /** Undefined if nothing was observed. */
  get lately(): { p50: number; p99: number } | undefined {
    const all = this.#present.map((count, i) => count + this.#before[i]!)
    const total = all.reduce((sum, count) => sum + count, 0)
    if (total === 0) return undefined
    return { p50: percentile(all, total * 0.5), p99: percentile(all, total * 0.99) }
  }

  /** Of the present period alone; 0 if nothing was observed. */
  get p99(): number {
    const total = this.#present.reduce((sum, count) => sum + count, 0)
    return total === 0 ? 0 : percentile(this.#present, total * 0.99)
  }
}

/** The upper end of the bucket in which the `rank`th observation is. */
function percentile(counts: Uint32Array, rank: number): number {
  let sum = 0
  const bucket = counts.findIndex(count => {
    sum += count
    return sum >= rank
  })
  return bucket <= 0 ? 0 : Number((LEAST * 2 ** (bucket / STEPS)).toPrecision(4))
}
