/**
 * Bytes that stand in memory which they share with others. A Buffer of their own would cost more than everything else
 * that is done for a small message, and it is what the garbage collector would spend its time on.
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

  /** The same bytes as a Buffer. It keeps the whole memory alive, as the slice does. */
  view(): Buffer {
    return this.memory.subarray(this.start, this.end)
  }
}

/** Up to this many bytes a loop is faster than a call that needs a view of the source first. */
const FEW_BYTES = 48

/** Copies `source` to `at` in `target`; says where it ends. */
export function copyInto(target: Buffer, at: number, source: Buffer, start: number, end: number): number {
  const length = end - start
  if (length > FEW_BYTES) target.set(source.subarray(start, end), at)
  else for (let i = 0; i < length; i++) target[at + i] = source[start + i]!
  return at + length
}
