import type { Options } from '../options/options.ts'
import { errors } from '../protocol/errors.ts'
import type { Turn } from './turn.ts'

/** What the default export of a worker's file gets. */
export interface WorkerTask {
  /** As the schema of the type allows it. */
  payload: unknown
  connection: { id: string; user: string | null }
}

/**
 * What is used of a pool of piscina. Not its own type: it does not compile with `exactOptionalPropertyTypes`, and applications
 * without `skipLibCheck` would have to.
 */
interface Pool {
  readonly queueSize: number
  run(task: WorkerTask, options: { filename: string; signal: AbortSignal }): Promise<unknown>
  on(event: 'error', listener: (error: unknown) => void): unknown
  destroy(): Promise<void>
}

interface PoolOptions {
  minThreads: number
  maxThreads: number
  maxQueue: number
  atomics: 'disabled'
  niceIncrement: number
}

interface PoolModule {
  Piscina: new (options: PoolOptions) => Pool
}

/**
 * How much nicer a thread is than the node: where all cores are busy, pushes come first. Elsewhere than on Linux it would be the
 * whole process that is.
 */
const NICER = process.platform === 'linux' ? 10 : 0

/** Messages of clients that are handled in worker threads: whatever these do, the node goes on. */
export class Workers {
  readonly #pool: Pool
  readonly #most: number

  private constructor(pool: Pool, most: number) {
    this.#pool = pool
    this.#most = most
  }

  /** Undefined if no handler has a worker. `failed` is told what a worker throws that answers nobody. */
  static async open(
    { handlers, workers }: Pick<Options, 'handlers' | 'workers'>,
    failed: (error: unknown) => void,
  ): Promise<Workers | undefined> {
    const first = Object.entries(handlers).find(([, { worker }]) => worker !== undefined)
    if (!first) return undefined
    const { Piscina } = await loadPool(first[0])
    const { threads, queue } = workers
    // Otherwise a thread without a task stands still, with its timers and sockets.
    const fixed = { atomics: 'disabled', niceIncrement: NICER } as const
    const pool = new Piscina({ minThreads: threads, maxThreads: threads, maxQueue: queue, ...fixed })
    // Without a listener the event would end the process.
    pool.on('error', failed)
    return new Workers(pool, queue)
  }

  /**
   * Resolves with what the worker returns. Rejects with what it throws, with PUSH_ERR_BUSY if too many wait, and when the
   * turn is over: then the thread is ended, and another one takes its place.
   */
  async run(file: URL | string, task: WorkerTask, turn: Pick<Turn, 'over' | 'isOver'>): Promise<unknown> {
    if (this.#pool.queueSize >= this.#most) {
      throw new errors.BUSY(`${this.#most} messages wait for a worker (workers.queue): try again`)
    }
    const ending = new AbortController()
    void turn.over.then(() => ending.abort())
    try {
      return await this.#pool.run(task, { filename: String(file), signal: ending.signal })
    } catch (error) {
      // Nobody waits for it any more, and that it was ended is no news.
      if (turn.isOver) return undefined
      throw asError(error)
    }
  }

  close(): Promise<void> {
    return this.#pool.destroy()
  }
}

const PACKAGE: string = 'piscina'

async function loadPool(type: string): Promise<PoolModule> {
  try {
    return await import(PACKAGE)
  } catch (cause) {
    throw new errors.OPTIONS(`option handlers["${type}"].worker needs piscina: npm install piscina`, { cause })
  }
}

/**
 * What is thrown in a thread is cloned on its way here, and an Error loses its status and code. So a worker that refuses
 * throws an object: `{ statusCode: 409, code: 'SOLD_OUT', message: '…' }`.
 */
function asError(thrown: unknown): unknown {
  if (thrown instanceof Error || typeof thrown !== 'object' || thrown === null) return thrown
  const { message, statusCode, code } = thrown as Record<string, unknown>
  return Object.assign(new Error(String(message ?? 'a worker failed')), { statusCode, code })
}
