import type { Redis } from 'ioredis'
import { errors, type PushError } from '../errors.ts'
import { Link } from './link.ts'

export type Command = [name: string, ...args: (string | number)[]]

interface Waiting {
  commands: Command[]
  /** Until when it waits for the link, and then for the answer. */
  deadline: number
  /** Milliseconds that it had in all. */
  timeout: number
  /** Milliseconds that the answer may take once it was sent. */
  attempt: number
  resolve(replies: (unknown | PushError)[]): void
}

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
      down: error => onChange(false, error),
    })
  }

  get isUp(): boolean {
    return this.#link.isUp
  }

  /**
   * One reply or PushError for each command within `timeout`, of which the answer may take `attempt`. Calls of one turn
   * of the event loop leave in one write.
   */
  run(commands: Command[], timeout: number, attempt = timeout): Promise<(unknown | PushError)[]> {
    if (this.#closed) return Promise.resolve(commands.map(() => new errors.CLOSED()))
    if (this.#waiting.length >= MAX_WAITING) {
      return Promise.resolve(commands.map(() => new errors.BUSY(`${MAX_WAITING} calls are waiting for Redis already`)))
    }
    return new Promise(resolve => {
      const deadline = performance.now() + timeout
      this.#waiting.push({ commands, deadline, timeout, attempt, resolve })
      if (this.#link.isUp) this.#schedule()
      else this.#sweepBy(deadline)
    })
  }

  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => this.#flush())
  }

  #flush(): void {
    this.#scheduled = false
    if (!this.#link.isUp) return this.#sweepInTime()
    const now = performance.now()
    const waiting = this.#takeWaiting(call => call.deadline - now < Math.min(MIN_TIME, call.timeout / 2))
    if (waiting.length === 0) return
    const sending = this.#send(waiting)
    const deadline = Math.min(...waiting.map(call => Math.min(call.deadline, now + call.attempt)))
    let isAnswered = false
    const timer = setTimeout(() => {
      // After the poll phase: a process that was busy itself finds the answers there.
      setImmediate(() => {
        // What was sent may still be executed by a Redis that thaws, so nothing more is sent over this connection.
        if (!isAnswered) this.#link.reset(new Error('no answer in time'))
      })
    }, deadline - now)
    sending.finally(() => {
      isAnswered = true
      clearTimeout(timer)
    })
  }

  async #send(waiting: Waiting[]): Promise<void> {
    const pipeline = this.#link.client.pipeline()
    for (const { commands } of waiting) for (const command of commands) pipeline.call(...command)
    const replies = await execOrFail(pipeline)
    let next = 0
    for (const { commands, resolve } of waiting) {
      resolve(commands.map(() => toReply(replies?.[next++])))
    }
  }

  /** While the link is down, calls wait for it until their own deadline. */
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
    if (!this.#link.isUp) this.#sweepInTime()
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
  return new errors.UNCONFIRMED('Redis was lost before it answered: it may or may not have been published', {
    cause: error,
  })
}

function away(cause: Error | undefined): PushError {
  return new errors.BROKER_AWAY(`Redis cannot be reached${cause?.message ? `: ${cause.message}` : ''}`, { cause })
}
