/**
 * A range of bytes in shared memory. To create a Buffer for each small message would cost more than all other work on
 * it, and would keep the garbage collector busy.
 */
export class Slice {
  readonly memory: Buffer
  readonly start: number
  readonly end: number

  constructor(memory: Buffer, start = 0, end = memory.length) {
    this.memory = memory
    this.start = start
    this.end = end
  }

  get length(): number {
    return this.end - this.start
  }

  /** The same bytes as a Buffer. Like the slice it keeps the whole memory alive. */
  view(): Buffer {
    return this.memory.subarray(this.start, this.end)
  }
}

/** Up to this many bytes a loop is faster than `set`, which needs a view of the source. */
const FEW_BYTES = 48

/** Copies bytes of `source` to `at` in `target` and returns where they end. */
export function copyInto(target: Buffer, at: number, source: Buffer, start: number, end: number): number {
  const length = end - start
  if (length > FEW_BYTES) target.set(source.subarray(start, end), at)
  else for (let i = 0; i < length; i++) target[at + i] = source[start + i]!
  return at + length
}
