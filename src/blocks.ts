/**
 * Pieces of memory of one size, taken for a fraction of a second and used again: for what a few connections have to
 * write. Each is an allocation of its own, so that one which a stalled socket keeps pins nothing else.
 */
export class Blocks {
  readonly bytes: number
  readonly #maxFree: number
  readonly #free: Buffer[] = []

  /** Up to `maxFree` that nobody uses are kept. */
  constructor(bytes: number, maxFree: number) {
    this.bytes = bytes
    this.#maxFree = maxFree
  }

  take(): Buffer {
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(this.bytes)
  }

  /** Nobody reads or writes `block` any more. */
  giveBack(block: Buffer): void {
    if (block.length === this.bytes && this.#free.length < this.#maxFree) this.#free.push(block)
  }
}
