import { errors } from '../../protocol/errors.ts'

const MAX_REVOKED = 100_000

/** Users who were revoked, while the process lives. */
export class MemoryRevocations {
  /** In the order in which they were revoked. */
  readonly #byUser = new Map<string, { time: number; ends: number }>()

  put(user: string, time: number, ttlSeconds: number): void {
    const now = Date.now()
    this.#byUser.delete(user)
    if (this.#byUser.size >= MAX_REVOKED) this.#sweep(now)
    // To forget one of the others would let it in again.
    if (this.#byUser.size >= MAX_REVOKED) throw new errors.BUSY(`${MAX_REVOKED} users are revoked already`)
    this.#byUser.set(user, { time, ends: now + ttlSeconds * 1000 })
  }

  of(user: string): number | undefined {
    const revoked = this.#byUser.get(user)
    if (!revoked) return undefined
    if (revoked.ends > Date.now()) return revoked.time
    this.#byUser.delete(user)
    return undefined
  }

  #sweep(now: number): void {
    for (const [user, { ends }] of this.#byUser) if (ends <= now) this.#byUser.delete(user)
  }
}
