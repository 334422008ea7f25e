/** Large enough that most joins find room; small enough to bound what one stalled socket keeps in memory. */
const POOL_BYTES = 256 * 1024

/**
 * Memory for bytes that are written at once. When the socket takes them immediately, as most do, the memory is given
 * back, so that thousands of small writes share a few kilobytes. With a new buffer for each write, and queues that
 * hardly two connections shared, the garbage collector took a third of the processor time.
 */
export class BufferPool {
  #bytes = Buffer.allocUnsafeSlow(POOL_BYTES)
  #used = 0

  /** `size` bytes for the caller alone. More than 64 KiB get a buffer of their own. */
  take(size: number): Buffer {
    if (size > POOL_BYTES / 4) return Buffer.allocUnsafeSlow(size)
    if (this.#used + size > POOL_BYTES) {
      this.#bytes = Buffer.allocUnsafeSlow(POOL_BYTES)
      this.#used = 0
    }
    const start = this.#used
    this.#used += size
    return this.#bytes.subarray(start, this.#used)
  }

  /** `part` is no longer used. Its memory is reused if it was taken last. */
  giveBack(part: Uint8Array): void {
    const isLast = part.buffer === this.#bytes.buffer && part.byteOffset + part.length === this.#used
    if (isLast) this.#used = part.byteOffset
  }
}

/**
 * Blocks of memory of one size, each used for a fraction of a second and then again: for what a few connections have to
 * write. Each is an allocation of its own, so that a stalled socket keeps no other block in memory.
 */
export class BlockPool {
  readonly bytes: number
  readonly #max: number
  readonly #free: Buffer[] = []
  #taken = 0

  /** At most `max` blocks are in use. */
  constructor(bytes: number, max: number) {
    this.bytes = bytes
    this.#max = max
  }

  get isEmpty(): boolean {
    return this.#taken >= this.#max
  }

  take(): Buffer {
    this.#taken++
    return this.#free.pop() ?? Buffer.allocUnsafeSlow(this.bytes)
  }

  /** `block` is no longer read or written. */
  giveBack(block: Buffer): void {
    this.#taken--
    this.#free.push(block)
  }

  /** A block that was taken belongs to somebody else from now on. */
  handOver(): void {
    this.#taken--
  }
}
