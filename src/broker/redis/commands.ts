import type { Redis } from 'ioredis'
import { errors, type PushError } from '../../protocol/errors.ts'
import { Link } from './link.ts'

export type Command = [name: string, ...args: (string | number)[]]

interface Waiting {
  commands: Command[]
  /** Until when it waits for the link, and then for the answer. */
  deadline: number
  /** Milliseconds that it had in all. */
  timeout: number
  attempt: number
  patience: number
  resolve(replies: (unknown | PushError)[]): void
}

export interface Patience {
  /** Milliseconds that the answer may take once it was sent. Default: the timeout. */
  attempt?: number
  /**
   * The `publishTimeout` of the registration that waits for it: until then nobody who waits less may take the link away.
   * Default: 0, for what the node does by itself and can do again.
   */
  patience?: number
}

/** What left in one write; `open` is what has neither an answer nor exceeded its time. */
interface Batch {
  open: Waiting[]
  timer: NodeJS.Timeout | undefined
}

/** By so many milliseconds a timer may be early. */
const EARLY = 1

/**
 * What waited for the link and has fewer milliseconds left is not sent any more: without an answer in time it would take
 * the link, and with it the answers of all that were sent together with it.
 */
export const MIN_TIME = 100

/** More waiting calls than this are turned away at once: memory for an outage has a bound. */
const MAX_WAITING = 10_000

/**
 * The connection for everything but subscribing. A call settles within its deadline, and says by its code whether
 * Redis may have executed it: PUSH_ERR_BROKER_AWAY means surely not, PUSH_ERR_UNCONFIRMED means perhaps.
 */
export class CommandLink {
  readonly #link: Link
  #waiting: Waiting[] = []
  readonly #batches = new Set<Batch>()
  /** Something is overdue, and nothing more is sent until an answer comes. */
  #isSilent = false
  #scheduled = false
  #closed = false
  #sweeper: NodeJS.Timeout | undefined
  #sweepAt = Number.POSITIVE_INFINITY

  constructor(client: Redis, onChange: (isUp: boolean, error: Error | undefined) => void) {
    this.#link = new Link(client, {
      up: () => {
        onChange(true, undefined)
        this.#schedule()
      },
      down: error => {
        this.#isSilent = false
        onChange(false, error)
      },
    })
  }

  get isUp(): boolean {
    return this.#link.isUp
  }

  /**
   * One reply or PushError for each command within `timeout`. Calls of one turn of the event loop leave in one write.
   */
  run(
    commands: Command[],
    timeout: number,
    { attempt = timeout, patience = 0 }: Patience = {},
  ): Promise<(unknown | PushError)[]> {
    if (this.#closed) return Promise.resolve(commands.map(() => new errors.CLOSED()))
    if (this.#waiting.length >= MAX_WAITING) {
      return Promise.resolve(commands.map(() => new errors.BUSY(`${MAX_WAITING} calls are waiting for Redis already`)))
    }
    return new Promise(resolve => {
      const deadline = performance.now() + timeout
      this.#waiting.push({ commands, deadline, timeout, attempt, patience, resolve })
      if (this.#mayWrite) this.#schedule()
      else this.#sweepBy(deadline)
    })
  }

  get #mayWrite(): boolean {
    return this.#link.isUp && !this.#isSilent
  }

  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => this.#flush())
  }

  #flush(): void {
    this.#scheduled = false
    if (!this.#mayWrite) return this.#sweepInTime()
    const now = performance.now()
    const calls = this.#takeWaiting(call => call.deadline - now < Math.min(MIN_TIME, call.timeout / 2))
    if (calls.length === 0) return
    for (const call of calls) call.deadline = Math.min(call.deadline, now + call.attempt)
    void this.#send(calls)
  }

  async #send(calls: Waiting[]): Promise<void> {
    const pipeline = this.#link.client.pipeline()
    for (const { commands } of calls) for (const command of commands) pipeline.call(...command)
    const replying = execOrFail(pipeline)
    const batch: Batch = { open: calls, timer: undefined }
    this.#batches.add(batch)
    this.#watch(batch)
    const replies = await replying
    clearTimeout(batch.timer)
    this.#batches.delete(batch)
    this.#isSilent = false
    if (this.#waiting.length > 0 && this.#link.isUp) this.#schedule()
    let next = 0
    for (const { commands, resolve } of calls) {
      resolve(commands.map(() => toReply(replies?.[next++])))
    }
  }

  #watch(batch: Batch): void {
    const deadline = Math.min(...batch.open.map(call => call.deadline))
    batch.timer = setTimeout(() => {
      // After the poll phase: a process that was busy itself finds the answers there.
      setImmediate(() => this.#endOverdue(batch))
    }, deadline - performance.now())
  }

  /**
   * Ends the calls whose time is up. What was sent may still be executed by a Redis that thaws, so nothing more is sent
   * over this connection: it is given up, unless somebody who may wait longer has something on it that may be answered.
   */
  #endOverdue(batch: Batch): void {
    if (!this.#batches.has(batch)) return
    const now = performance.now() + EARLY
    const overdue = batch.open.filter(({ deadline }) => deadline <= now)
    batch.open = batch.open.filter(({ deadline }) => deadline > now)
    for (const { commands, resolve } of overdue) resolve(commands.map(() => unconfirmed(undefined)))
    const patience = Math.max(...overdue.map(call => call.patience))
    const isAwaited = [...this.#batches].some(({ open }) => open.some(call => call.patience > patience))
    if (!isAwaited) return this.#link.reset(new Error('no answer in time'))
    this.#isSilent = true
    if (batch.open.length > 0) this.#watch(batch)
  }

  /** While nothing can be sent, calls wait until their own deadline. */
  #sweepInTime(): void {
    for (const { deadline } of this.#waiting) this.#sweepBy(deadline)
  }

  #sweepBy(deadline: number): void {
    if (deadline >= this.#sweepAt) return
    clearTimeout(this.#sweeper)
    this.#sweepAt = deadline
    this.#sweeper = setTimeout(() => this.#sweep(), Math.max(1, deadline - performance.now()))
  }

  #sweep(): void {
    this.#sweepAt = Number.POSITIVE_INFINITY
    const now = performance.now()
    this.#waiting = this.#takeWaiting(call => call.deadline <= now)
    if (!this.#mayWrite) this.#sweepInTime()
  }

  /** All that wait; those that are too late have their answer. */
  #takeWaiting(isLate: (call: Waiting) => boolean): Waiting[] {
    const waiting: Waiting[] = []
    for (const call of this.#waiting) {
      if (isLate(call)) call.resolve(call.commands.map(() => away(this.#link.lastError)))
      else waiting.push(call)
    }
    this.#waiting = []
    return waiting
  }

  close(): void {
    this.#closed = true
    clearTimeout(this.#sweeper)
    for (const { commands, resolve } of this.#waiting.splice(0)) resolve(commands.map(() => new errors.CLOSED()))
    this.#link.close()
  }
}

type Reply = [error: Error | null, value: unknown]

async function execOrFail(pipeline: ReturnType<Redis['pipeline']>): Promise<Reply[] | undefined> {
  try {
    return (await pipeline.exec()) as Reply[]
  } catch {
    return undefined
  }
}

function toReply(reply: Reply | undefined): unknown | PushError {
  const [error, value] = reply ?? [new Error('the connection was lost')]
  if (!error) return value
  if (error.name === 'ReplyError') return new errors.BROKER_AWAY(`Redis refused: ${error.message}`, { cause: error })
  // ioredis says so before it writes anything.
  if (error.message.startsWith("Stream isn't writeable")) return away(error)
  return unconfirmed(error)
}

function unconfirmed(cause: Error | undefined): PushError {
  const message = cause ? 'Redis was lost before it answered' : 'Redis did not answer in time'
  return new errors.UNCONFIRMED(`${message}: it may or may not have been published`, { cause })
}

function away(cause: Error | undefined): PushError {
  return new errors.BROKER_AWAY(`Redis cannot be reached${cause?.message ? `: ${cause.message}` : ''}`, { cause })
}
