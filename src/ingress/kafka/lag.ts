/** How many messages of this node's partitions are behind the last one that was handled, as of the last fetch of each. */
export class Lag {
  readonly #partitions = new Map<string, { end: bigint; next: bigint }>()
  #isKnown = false

  /** Undefined until it is known which partitions there are. */
  get total(): number | undefined {
    if (!this.#isKnown) return undefined
    let sum = 0n
    for (const { end, next } of this.#partitions.values()) if (end > next) sum += end - next
    return Number(sum)
  }

  /** The partitions are given out anew: others may be ours now. */
  restart(): void {
    this.#partitions.clear()
    this.#isKnown = true
  }

  /** Nobody knows any more. */
  forget(): void {
    this.#partitions.clear()
    this.#isKnown = false
  }

  fetched(partition: string, end: string, first: string): void {
    this.#partitions.set(partition, { end: BigInt(end), next: BigInt(first) })
  }

  handled(partition: string, offset: string): void {
    const known = this.#partitions.get(partition)
    if (known) known.next = BigInt(offset) + 1n
  }
}
