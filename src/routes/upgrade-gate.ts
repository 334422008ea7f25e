import { TokenBucket } from '../node/token-bucket.ts'
import type { Options } from '../options/options.ts'
import { errors, type PushError } from '../protocol/errors.ts'

type Limits = Pick<Options['limits'], 'upgrades' | 'pendingUpgrades' | 'handshake'>

/** How many upgrades a registration takes, a second and at the same time, whoever asks. */
export class UpgradeGate {
  readonly #limits: Limits
  readonly #rate: TokenBucket
  readonly #refused: (refusal: PushError) => void
  #pending = 0

  constructor(limits: Limits, refused: (refusal: PushError) => void) {
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
    if (!refusal) this.#pending++
    return refusal && this.#counted(refusal)
  }

  /** Counts one that was not finished in time, and returns why it is refused. */
  late(): PushError {
    const { handshake } = this.#limits
    return this.#counted(new errors.TIMEOUT(`nobody said within ${handshake} ms (limits.handshake) who this is`))
  }

  /** Counts one that comes, or waits, while the node closes. */
  draining(): PushError {
    return this.#counted(new errors.DRAINING())
  }

  #counted(refusal: PushError): PushError {
    this.#refused(refusal)
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
