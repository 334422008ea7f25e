import { Circuit } from './circuit.ts'

/** Calls that may wait until others have ended. */
const MAX_WAITING = 1000

interface Waiter {
  timer: NodeJS.Timeout
  resolve(entry: Entry): void
}

/** Whether a call may begin now; `full`: too many wait already; `late`: its own time was over first. */
export type Entry = 'in' | 'full' | 'late' | 'closed'

/** Calls of one kind: how many at the same time. Each kind has its own, so that slow ones do not hold up the others. */
export class Lane {
  readonly circuit = new Circuit()
  readonly #width: number
  #active = 0
  #isClosed = false
  readonly #waiting = new Set<Waiter>()

  constructor(width: number) {
    this.#width = width
  }

  /** Whoever is let in has to `leave`. */
  enter(milliseconds: number): Promise<Entry> {
    if (this.#isClosed) return Promise.resolve('closed')
    if (this.#active < this.#width) {
      this.#active++
      return Promise.resolve('in')
    }
    if (this.#waiting.size >= MAX_WAITING) return Promise.resolve('full')
    return new Promise(resolve => {
      const late = () => {
        this.#waiting.delete(waiter)
        resolve('late')
      }
      const waiter: Waiter = { resolve, timer: setTimeout(late, milliseconds) }
      this.#waiting.add(waiter)
    })
  }

  leave(): void {
    const [next] = this.#waiting
    if (next) this.#tell(next, 'in')
    else this.#active--
  }

  #tell(waiter: Waiter, entry: Entry): void {
    clearTimeout(waiter.timer)
    this.#waiting.delete(waiter)
    waiter.resolve(entry)
  }

  close(): void {
    this.#isClosed = true
    for (const waiter of this.#waiting) this.#tell(waiter, 'closed')
  }
}
