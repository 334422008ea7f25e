import { setTimeout as sleep } from 'node:timers/promises'
import { errors, isPushError, type PushError } from '../../protocol/errors.ts'
import type { Outgoing, Sent } from '../broker.ts'
import { isTransient, RETRY } from '../waiting.ts'
import type { Command, CommandLink } from './commands.ts'
import type { Call, Functions } from './functions.ts'
import type { Names } from './names.ts'
import { collectAnswers } from './receipts.ts'

type Result = Sent | PushError

/** An attempt that may be repeated gets this share of the time there is, so that another one fits in. */
const ATTEMPT_SHARE = 0.4

/** Publishes to Redis: what a node and a script without Fastify have in common. */
export class PublishCommands {
  readonly #commands: CommandLink
  readonly #functions: Functions
  readonly #names: Names
  readonly #timeout: number

  constructor(commands: CommandLink, functions: Functions, names: Names, timeout: number) {
    this.#commands = commands
    this.#functions = functions
    this.#names = names
    this.#timeout = timeout
  }

  /** One result for each item, within the timeout; neighbours of one kind in one round trip, in the order given. */
  async publish(items: readonly Outgoing[]): Promise<Result[]> {
    const deadline = performance.now() + this.#timeout
    const sending = runsOf(items).map(run =>
      run[0]!.history === undefined ? this.#publishLive(run, deadline) : this.#record(run, deadline),
    )
    return (await Promise.all(sending)).flat()
  }

  async #publishLive(items: readonly Outgoing[], deadline: number): Promise<Result[]> {
    const replies = await this.#commands.run(
      items.flatMap(item => this.#commandsFor(item)),
      this.#timeout,
      { patience: this.#timeout },
    )
    let next = 0
    return Promise.all(
      items.map(({ receipt }) => {
        const listening = receipt === undefined ? undefined : replies[next++]
        const nodes = replies[next++]
        if (isPushError(nodes)) return nodes
        return receipt === undefined
          ? { nodes: Number(nodes) }
          : this.#withAnswers(receipt, Number(nodes), listening, deadline)
      }),
    )
  }

  #commandsFor({ topic, envelope, receipt }: Outgoing): Command[] {
    const channel = this.#names.channel(topic)
    const publish: Command = ['PUBLISH', channel, envelope]
    // PUBLISH counts pattern subscribers too, a debugging PSUBSCRIBE * for one, and those never answer.
    return receipt === undefined ? [publish] : [['PUBSUB', 'NUMSUB', channel], publish]
  }

  async #record(items: readonly Outgoing[], deadline: number): Promise<Result[]> {
    const calls = items.map(item => this.#callFor(item))
    const mayRepeat = items.every(({ idempotencyKey }) => idempotencyKey !== undefined)
    const attempts = calls.map((): Attempts => ({ reply: undefined, isUnconfirmed: false }))
    await this.#attempt(calls, attempts, deadline, mayRepeat ? ATTEMPT_SHARE : 1)
    // With a key a repeat is harmless: the answer to the first may have been lost, or Redis was away for a moment.
    while (mayRepeat && attempts.some(isOpen) && deadline - performance.now() > RETRY + MIN_ATTEMPT) {
      // Redis may refuse at once, while it loads its data for example.
      await sleep(RETRY)
      await this.#attempt(calls, attempts, deadline, ATTEMPT_SHARE)
    }
    return Promise.all(items.map((item, i) => this.#recorded(item, attempts[i]!, deadline)))
  }

  /** Makes those calls that have no answer yet. */
  async #attempt(calls: readonly Call[], attempts: Attempts[], deadline: number, share: number): Promise<void> {
    const left = Math.max(1, deadline - performance.now())
    const open = attempts.flatMap((attempt, i) => (isOpen(attempt) ? i : []))
    const replies = await this.#functions.run(
      open.map(i => calls[i]!),
      left,
      { attempt: Math.min(left, Math.max(MIN_ATTEMPT, left * share)), patience: this.#timeout },
    )
    for (const [n, i] of open.entries()) {
      const attempt = attempts[i]!
      attempt.reply = replies[n]
      attempt.isUnconfirmed ||= isUnconfirmed(replies[n])
    }
  }

  #callFor({ topic, envelope, history, idempotencyKey }: Outgoing): Call {
    const args = [envelope, history!.size, history!.ttl]
    const keys = [this.#names.channel(topic)]
    return { name: 'push_publish', keys, args: idempotencyKey === undefined ? args : [...args, idempotencyKey] }
  }

  async #recorded({ receipt }: Outgoing, attempts: Attempts, deadline: number): Promise<Result> {
    const { reply, isUnconfirmed } = attempts
    if (isPushError(reply)) {
      return isUnconfirmed && isTransient(reply) ? new errors.UNCONFIRMED(UNANSWERED, { cause: reply }) : reply
    }
    if (!Array.isArray(reply)) return new errors.INTERNAL('push_publish gave no list: another library has its name')
    const [id, seq, nodes, duplicate] = reply as [string, number, number, number]
    const position = { id, seq: Number(seq) }
    // What an attempt of our own recorded the nodes have answered, whoever heard that it was recorded.
    if (duplicate === 1 && !isUnconfirmed) return { nodes: Number(nodes), position, duplicate: true }
    if (receipt === undefined) return { nodes: Number(nodes), position }
    return { ...(await this.#withAnswers(receipt, Number(nodes), undefined, deadline)), position }
  }

  async #withAnswers(token: string, nodes: number, listening: unknown, deadline: number): Promise<Sent> {
    const exact = Array.isArray(listening) ? Number(listening[1]) : nodes
    const expected = Math.min(exact, nodes)
    const answers = await collectAnswers(this.#commands, this.#names, token, expected, deadline)
    return { nodes, answers, complete: answers.length >= expected }
  }
}

/** What came of a call so far. */
interface Attempts {
  /** The last answer. */
  reply: unknown
  /** Any of them may have recorded it, and its answer was lost. */
  isUnconfirmed: boolean
}

function isOpen({ reply }: Attempts): boolean {
  return reply === undefined || isTransient(reply)
}

/** Milliseconds below which an attempt has no prospect: one without an answer takes the link from all others. */
const MIN_ATTEMPT = 300

const UNANSWERED = 'Redis did not answer in time: it may or may not have been recorded'

function isUnconfirmed(reply: unknown): boolean {
  return isPushError(reply) && reply.code === 'PUSH_ERR_UNCONFIRMED'
}

/** Neighbours that travel the same way: what is recorded and what is not stay in order, for they use one connection. */
function runsOf(items: readonly Outgoing[]): Outgoing[][] {
  const runs: Outgoing[][] = []
  for (const item of items) {
    const last = runs.at(-1)
    if (last && kindOf(last[0]!) === kindOf(item)) last.push(item)
    else runs.push([item])
  }
  return runs
}

function kindOf({ history, idempotencyKey }: Outgoing): number {
  return history === undefined ? 0 : idempotencyKey === undefined ? 1 : 2
}
