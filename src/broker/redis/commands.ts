import type { Redis } from 'ioredis'
import { errors, type PushError } from '../../protocol/errors.ts'
import { type Address, Link } from './link.ts'
import { Refusals } from './refusals.ts'

export type Command = [name: string, ...args: (string | number | Buffer)[]]

/** Functions whose answers have envelopes in them, which need not be text. */
const OF_ENVELOPES: ReadonlySet<unknown> = new Set(['push_history', 'push_newest'])

function answersInBytes([name, first, keys, ...rest]: Command): boolean {
  if (name === 'FCALL') return OF_ENVELOPES.has(first)
  // The script gets the name of the function behind its keys.
  return name === 'EVALSHA' && OF_ENVELOPES.has(rest[Number(keys)])
}

interface Waiting {
  commands: Command[]
  /** Until when it waits, first for the link and then for the answer. */
  deadline: number
  /** The milliseconds that it had at first. */
  timeout: number
  attempt: number
  patience: number
  asBytes: boolean
  resolve(replies: (unknown | PushError)[]): void
}

export interface Patience {
  /** Milliseconds that the answer may take after sending. Default: the timeout. */
  attempt?: number
  /**
   * The `publishTimeout` of the registration that waits: until then a call with less patience must not close the link.
   * Default: 0, for commands that the node sends on its own account and can repeat.
   */
  patience?: number
  /** Texts in replies are bytes, as they were written: what is no UTF-8 would be changed. Default: false. */
  asBytes?: boolean
}

/** Calls that were sent in one write. `open` are those that have no answer and have not timed out. */
interface Batch {
  open: Waiting[]
  timer: NodeJS.Timeout | undefined
}

/** A timer may fire this many milliseconds early. */
const EARLY = 1

/**
 * A call that waited for the link and has fewer milliseconds left is not sent: without an answer in time it would close
 * the link, and all calls that were sent with it would lose their answers.
 */
export const MIN_TIME = 100

/** A server may forbid some of these and allow others that do the same. */
const OF_FUNCTIONS = new Set(['FCALL', 'EVALSHA', 'FUNCTION', 'SCRIPT'])

/** More calls than this are refused at once: an outage must not fill the memory. */
const MAX_WAITING = 10_000

/**
 * The connection for all commands except subscribing. A call settles by its deadline, and its error code says whether
 * Redis may have executed it: PUSH_ERR_BROKER_AWAY means certainly not, PUSH_ERR_UNCONFIRMED means perhaps.
 */
export class CommandLink {
  readonly refusals = new Refusals()
  readonly #link: Link
  /** A server of a Cluster has said that another one has the slot. */
  readonly #onRedirect: () => void
  #waiting: Waiting[] = []
  readonly #batches = new Set<Batch>()
  /** A call has timed out: nothing more is sent until an answer comes. */
  #isSilent = false
  #scheduled = false
  #closed = false
  #sweeper: NodeJS.Timeout | undefined
  #sweepAt = Number.POSITIVE_INFINITY

  constructor(client: Redis, onChange: (isUp: boolean, error: Error | undefined) => void, onRedirect = () => {}) {
    this.#onRedirect = onRedirect
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
   * One reply or PushError for each command within `timeout`. Calls in one turn of the event loop are sent in one
   * write.
   */
  run(
    commands: Command[],
    timeout: number,
    { attempt = timeout, patience = 0, asBytes = false }: Patience = {},
  ): Promise<(unknown | PushError)[]> {
    if (this.#closed) return Promise.resolve(commands.map(() => new errors.CLOSED()))
    if (this.#waiting.length >= MAX_WAITING) {
      return Promise.resolve(commands.map(() => new errors.BUSY(`${MAX_WAITING} calls are already waiting for Redis`)))
    }
    return new Promise(resolve => {
      const deadline = performance.now() + timeout
      this.#waiting.push({ commands, deadline, timeout, attempt, patience, asBytes, resolve })
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
    for (const { commands, asBytes } of calls) {
      for (const command of commands) pipeline[asBytes || answersInBytes(command) ? 'callBuffer' : 'call'](...command)
    }
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
      resolve(commands.map(command => this.#settled(command, replies?.[next++])))
    }
    if (replies?.some(([error]) => error?.message.startsWith('MOVED '))) this.#onRedirect()
  }

  #settled(command: Command, reply: Reply | undefined): unknown | PushError {
    const error = reply?.[0]
    if (reply && (error || this.refusals.areAny) && !OF_FUNCTIONS.has(command[0])) this.refusals.observe(command, error)
    return toReply(reply)
  }

  #watch(batch: Batch): void {
    const deadline = Math.min(...batch.open.map(call => call.deadline))
    batch.timer = setTimeout(() => {
      // After the poll phase: if this process was busy itself, the answers are read there.
      setImmediate(() => this.#endOverdue(batch))
    }, deadline - performance.now())
  }

  /**
   * Ends the calls that have timed out. A Redis that resumes may still execute what was sent, so nothing more is sent
   * over this connection. It is closed, unless a call with more patience is still waiting on it.
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

  /** Takes the waiting calls. Those that are too late are answered and left out. */
  #takeWaiting(isLate: (call: Waiting) => boolean): Waiting[] {
    const waiting: Waiting[] = []
    for (const call of this.#waiting) {
      if (isLate(call)) call.resolve(call.commands.map(() => away(this.#link.lastError)))
      else waiting.push(call)
    }
    this.#waiting = []
    return waiting
  }

  get address(): Address {
    return this.#link.address
  }

  moveTo(address: Address): void {
    this.#link.moveTo(address)
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
  // ioredis reports this before it writes anything.
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
