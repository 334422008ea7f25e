import { type EventEmitter, once as onceOf } from 'node:events'

/** How long a test waits for what should come at once. Long, for a slow machine is no failure; but it ends. */
export const PATIENCE = 60_000
/** The same for a program of its own, which has all its TypeScript to read first. */
export const START = 180_000
const LOOK_EVERY = 5

/** Those of Node, in whichever test somebody else moves the clock. */
const { setTimeout, clearTimeout, setImmediate } = globalThis

type Sentence = string | (() => string)

function lateness(what: Sentence, milliseconds: number): Error {
  return new Error(`not within ${milliseconds} ms: ${typeof what === 'string' ? what : what()}`)
}

/**
 * Rejects, with what was being waited for, when `promise` takes longer. Timers fire in the order of their times, and this
 * one looks once more after what has been read by then: what ends by an earlier timer of this process, or has come in
 * time, is in time here however busy the machine is.
 */
export async function within<T>(promise: Promise<T>, what: Sentence, milliseconds = PATIENCE): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => setImmediate(() => reject(lateness(what, milliseconds))), milliseconds)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}

/** `once` of node:events, which never gives up, with a deadline. */
export async function once(emitter: EventEmitter, event: string, milliseconds = PATIENCE): ReturnType<typeof onceOf> {
  const waiting = new AbortController()
  const timer = setTimeout(() => waiting.abort(), milliseconds)
  try {
    return await onceOf(emitter, event, { signal: waiting.signal })
  } catch (error) {
    if (!waiting.signal.aborted) throw error
    throw lateness(`the event "${event}" of a ${emitter.constructor.name}`, milliseconds)
  } finally {
    clearTimeout(timer)
  }
}

/** Looks again and again until `check` is true; for what nobody tells of by an event. */
export async function until(check: () => unknown, what: Sentence, milliseconds = PATIENCE): Promise<void> {
  let isLate = false
  const look = async () => {
    while (!isLate && !(await check())) await new Promise(resolve => setTimeout(resolve, LOOK_EVERY))
  }
  try {
    await within(look(), what, milliseconds)
  } finally {
    isLate = true
  }
}

/** What arrives, taken one at a time and in order. */
export class Inbox<Item> {
  readonly #what: string
  readonly #items: Item[] = []
  readonly #takers = new Set<(item: Item) => void>()

  /** `what` names an item in the sentence that says that none came. */
  constructor(what = 'the next item') {
    this.#what = what
  }

  put(item: Item): void {
    const [take] = this.#takers
    if (!take) return void this.#items.push(item)
    this.#takers.delete(take)
    take(item)
  }

  get size(): number {
    return this.#items.length
  }

  clear(): void {
    this.#items.length = 0
  }

  async take(milliseconds = PATIENCE): Promise<Item> {
    if (this.#items.length > 0) return this.#items.shift()!
    let take = (_item: Item) => {}
    const coming = new Promise<Item>(resolve => {
      take = resolve
      this.#takers.add(take)
    })
    try {
      return await within(coming, this.#what, milliseconds)
    } finally {
      this.#takers.delete(take)
    }
  }
}

/**
 * Publishes 1, 2, 3… until `isOver`, and never more than `most` ahead of what was read: a publisher that runs free
 * outruns its readers on one machine and not on the next. Resolves with the last number.
 */
export async function publishAhead(
  publish: (n: number) => Promise<unknown>,
  isOver: () => boolean,
  { most, read }: { most: number; read: () => number },
): Promise<number> {
  let n = 0
  while (!isOver()) {
    await until(
      () => isOver() || n - read() < most,
      () => `the readers, at ${read()}, are ${most} behind`,
    )
    if (!isOver()) await publish(++n)
  }
  return n
}
