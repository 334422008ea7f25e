/** Large enough that most joins find room in what is there; what a single stalled socket can pin of it is bounded. */
const SLAB_BYTES = 256 * 1024

/**
 * Memory for bytes that are written at once and mostly gone right after: a socket that takes them on the spot gives
 * them back, so that thousands of small writes share a few kilobytes. A buffer of its own for each of them made the
 * garbage collector a third of all work where hardly two connections have the same queue.
 */
export class BufferPool {
  #bytes = Buffer.allocUnsafeSlow(SLAB_BYTES)
  #used = 0

  /** `size` bytes that nobody else has, up to 64 KiB; what is larger gets a buffer of its own. */
  take(size: number): Buffer {
    if (size > SLAB_BYTES / 4) return Buffer.allocUnsafeSlow(size)
    if (this.#used + size > SLAB_BYTES) {
      this.#bytes = Buffer.allocUnsafeSlow(SLAB_BYTES)
      this.#used = 0
    }
    const start = this.#used
    this.#used += size
    return this.#bytes.subarray(start, this.#used)
  }

  /** Nobody needs `part` any more. Room is won back when it was the last one taken. */
  giveBack(part: Uint8Array): void {
    const isLast = part.buffer === this.#bytes.buffer && part.byteOffset + part.length === this.#used
    if (isLast) this.#used = part.byteOffset
  }
}

/**
 * Pieces of memory of one size, taken for a fraction of a second and used again: for what a few connections have to
 * write. Each is an allocation of its own, so that one which a stalled socket keeps pins nothing else.
 */
export class BlockPool {
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
