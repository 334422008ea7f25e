import { errors } from '../protocol/errors.ts'

export interface TurnRules {
  milliseconds: number
  /** What is called when a task ends after its deadline, with its error if it failed. */
  late(error?: unknown): void
}

/** The handling of one client message, and its deadline. */
export class Turn {
  /** The client was told that it took too long: what comes now is dropped. */
  isOver = false
  /** Resolves when that happens. */
  readonly over: Promise<void>
  #end = () => {}
  #timer: NodeJS.Timeout | undefined

  constructor() {
    this.over = new Promise(resolve => {
      this.#end = resolve
    })
  }

  /** Ends as `task` does, or rejects with PUSH_ERR_TIMEOUT when that takes too long. */
  async run(task: (turn: this) => unknown, { milliseconds, late }: TurnRules): Promise<void> {
    const ending = this.#start(task, late)
    const overdue = new Promise<void>((_resolve, reject) => {
      const end = () => {
        this.isOver = true
        this.#end()
        reject(new errors.TIMEOUT(`it was not handled within ${milliseconds} ms (limits.handlerTime)`))
      }
      // After the poll phase: if this process was busy itself, what the handler waits for is read there.
      this.#timer = setTimeout(() => setImmediate(() => this.#timer && end()), milliseconds)
      // A handler that hangs must not keep a process alive that wants to end.
      this.#timer.unref()
    })
    try {
      await Promise.race([ending, overdue])
    } finally {
      this.settle()
    }
  }

  async #start(task: (turn: this) => unknown, late: TurnRules['late']): Promise<void> {
    try {
      await task(this)
      if (this.isOver) late()
    } catch (error) {
      if (!this.isOver) throw error
      late(error)
    }
  }

  /** What follows has a deadline of its own. */
  settle(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }
}
