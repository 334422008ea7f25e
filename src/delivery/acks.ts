/** How many publications may wait for acknowledgements at the same time; further ones are not counted. */
const MAX_WAITING = 1000

interface Waiting<C> {
  missing: Set<C>
  acknowledged: number
  settle(): void
}

/** Counts the connections that acknowledge a publication, by its receipt token, until all have or the time is up. */
export class Acknowledgements<C> {
  /** Milliseconds that clients have. */
  readonly timeout: number
  readonly #waiting = new Map<string, Waiting<C>>()

  constructor(timeout: number) {
    this.timeout = timeout
  }

  /** Resolves with how many of `connections` acknowledged. Does not wait for those that close meanwhile. */
  collect(token: string, connections: readonly C[]): Promise<number> {
    if (connections.length === 0 || this.#waiting.size >= MAX_WAITING) return Promise.resolve(0)
    return new Promise(resolve => {
      const settle = () => {
        clearTimeout(timer)
        this.#waiting.delete(token)
        resolve(waiting.acknowledged)
      }
      const waiting: Waiting<C> = { missing: new Set(connections), acknowledged: 0, settle }
      const timer = setTimeout(settle, this.timeout)
      this.#waiting.set(token, waiting)
    })
  }

  acknowledge(connection: C, token: string): void {
    const waiting = this.#waiting.get(token)
    if (!waiting?.missing.delete(connection)) return
    waiting.acknowledged++
    if (waiting.missing.size === 0) waiting.settle()
  }

  forget(connection: C): void {
    for (const waiting of this.#waiting.values()) {
      if (waiting.missing.delete(connection) && waiting.missing.size === 0) waiting.settle()
    }
  }

  close(): void {
    for (const { settle } of [...this.#waiting.values()]) settle()
  }
}
