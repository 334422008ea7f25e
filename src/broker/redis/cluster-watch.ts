import type { Redis } from 'ioredis'
import { isPushError } from '../../protocol/errors.ts'
import type { CommandLink } from './commands.ts'
import type { Address } from './link.ts'
import { type MasterAddress, mastersIn } from './topology.ts'

export interface ClusterWatchEvents {
  /** The Cluster as one of its servers sees it. */
  seen(view: readonly MasterAddress[]): void
  /** None of the servers has answered. */
  failed(error: Error): void
}

export interface ClusterWatchParts {
  /** Where to ask while no master is known or reachable. */
  seeds: readonly Address[]
  connect(address: Address): Redis
  /** The links to the known masters. */
  links(): readonly { commands: CommandLink }[]
}

/** Milliseconds between two looks at the Cluster while nothing seems to have changed, and while nobody answers. */
const LOOK_INTERVAL = 5000
const FAILED_INTERVAL = 500

/** Milliseconds that one server has for its answer. */
const TIMEOUT = 1000

/** For this many milliseconds a view that is older than the last one is not believed: it is of a server that was cut off. */
const STALE = 30_000

/** Finds out which master has which slots: at the start, every few seconds, and when a command was redirected. */
export class ClusterWatch {
  readonly #parts: ClusterWatchParts
  readonly #events: ClusterWatchEvents
  #looking: Promise<void> | undefined
  #timer: NodeJS.Timeout | undefined
  /** The epoch of the last view, which grows with every change. */
  #epoch = 0
  #seenAt = Number.NEGATIVE_INFINITY
  #isClosed = false

  constructor(parts: ClusterWatchParts, events: ClusterWatchEvents) {
    this.#parts = parts
    this.#events = events
    void this.look()
  }

  /** Resolves when the Cluster was looked at. One at a time: a second caller waits for the first. */
  look(): Promise<void> {
    this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined
    })
    return this.#looking
  }

  async #look(): Promise<void> {
    clearTimeout(this.#timer)
    // A reply of an unknown form must not end the looking.
    const error = await this.#ask().catch((thrown: Error) => thrown)
    if (this.#isClosed) return
    if (error) this.#events.failed(error)
    this.#timer = setTimeout(() => void this.look(), error ? FAILED_INTERVAL : LOOK_INTERVAL)
    this.#timer.unref()
  }

  /** Asks one server after the other until one has a view; the last error if none has. */
  async #ask(): Promise<Error | undefined> {
    let last = new Error('no server of the Cluster is known')
    for (const { commands } of this.#parts.links()) {
      if (this.#isClosed || !commands.isUp) continue
      const problem = this.#take(await commands.run(QUESTIONS, TIMEOUT), commands.address)
      if (!problem) return undefined
      last = problem
    }
    for (const seed of this.#parts.seeds) {
      if (this.#isClosed) return undefined
      const problem = await this.#askSeed(seed)
      if (!problem) return undefined
      last = problem
    }
    return last
  }

  async #askSeed(seed: Address): Promise<Error | undefined> {
    const client = this.#parts.connect(seed)
    let failure: Error | undefined
    client.on('error', error => {
      failure = error
    })
    try {
      const answers = await within(TIMEOUT, () => askOver(client))
      return this.#take(answers, seed)
    } catch (error) {
      return failure ?? (error as Error)
    } finally {
      client.disconnect()
    }
  }

  /** What is wrong with the answers; undefined if they are a view of the Cluster. */
  #take([slots, info]: readonly unknown[], asked: Address): Error | undefined {
    if (slots instanceof Error) return isPushError(slots) && slots.cause instanceof Error ? slots.cause : slots
    const view = mastersIn(slots, asked)
    const epoch = Number(/^cluster_current_epoch:(\d+)/m.exec(String(info))?.[1] ?? 0)
    if (view.length === 0) return new Error(`${asked.host}:${asked.port} knows no master of the Cluster`)
    const now = performance.now()
    if (epoch < this.#epoch && now - this.#seenAt < STALE) {
      return new Error(`${asked.host}:${asked.port} has an older view of the Cluster than others`)
    }
    this.#epoch = epoch
    this.#seenAt = now
    this.#events.seen(view)
    return undefined
  }

  close(): void {
    this.#isClosed = true
    clearTimeout(this.#timer)
  }
}

const QUESTIONS: [string, ...string[]][] = [
  ['CLUSTER', 'SLOTS'],
  ['CLUSTER', 'INFO'],
]

async function askOver(client: Redis): Promise<unknown[]> {
  await client.connect()
  // One that is refused must not cost the answer to the other.
  return Promise.all(QUESTIONS.map(([name, ...args]) => client.call(name, ...args).catch((error: Error) => error)))
}

async function within<T>(milliseconds: number, ask: () => Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${milliseconds} ms`)), milliseconds)
  })
  try {
    return await Promise.race([ask(), late])
  } finally {
    clearTimeout(timer)
  }
}
