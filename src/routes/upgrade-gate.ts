import { TokenBucket } from '../node/token-bucket.ts'
import type { Options } from '../options/options.ts'
import { errors, type PushError } from '../protocol/errors.ts'

/** How many upgrades a registration takes, a second and at the same time, whoever asks. */
export class UpgradeGate {
  readonly #limits: Pick<Options['limits'], 'upgrades' | 'pendingUpgrades'>
  readonly #rate: TokenBucket
  readonly #refused: (refusal: PushError) => void
  #pending = 0

  constructor(limits: Pick<Options['limits'], 'upgrades' | 'pendingUpgrades'>, refused: (refusal: PushError) => void) {
    this.#limits = limits
    this.#rate = new TokenBucket(limits.upgrades)
    this.#refused = refused
  }

  /** Upgrades that are not finished. */
  get pending(): number {
    return this.#pending
  }

  get isFull(): boolean {
    return this.#pending >= this.#limits.pendingUpgrades
  }

  /** Counts one more, which ends with `leave`; or returns why it is refused. */
  enter(): PushError | undefined {
    const refusal = this.#refusal()
    if (refusal) this.#refused(refusal)
    else this.#pending++
    return refusal
  }

  leave(): void {
    this.#pending--
  }

  #refusal(): PushError | undefined {
    const { upgrades, pendingUpgrades } = this.#limits
    if (this.isFull) {
      return new errors.PENDING_UPGRADES(
        `${pendingUpgrades} upgrades are unfinished on this node (limits.pendingUpgrades)`,
      )
    }
    if (this.#rate.take()) return undefined
    return new errors.UPGRADES(`more than ${upgrades} upgrades a second on this node (limits.upgrades)`)
  }
}
