import { TokenBucket } from '../node/token-bucket.ts'
import type { ApiKey } from '../options/options.ts'

/** How many requests each key has left. */
export class KeyRates {
  readonly #buckets: ReadonlyMap<ApiKey, TokenBucket>

  constructor(keys: readonly ApiKey[], rate: number) {
    this.#buckets = new Map(keys.map(key => [key, new TokenBucket(rate)]))
  }

  /** Counts a request with these keys. In how many whole seconds it may come again, or 0 if it may be now. */
  take(keys: readonly ApiKey[]): number {
    const buckets = keys.map(key => this.#buckets.get(key)!)
    const wait = Math.max(...buckets.map(bucket => bucket.wait()))
    if (wait > 0) return Math.ceil(wait)
    for (const bucket of buckets) bucket.take()
    return 0
  }
}
