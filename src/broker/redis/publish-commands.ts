import { setTimeout as sleep } from 'node:timers/promises'
import { errors, isPushError, type PushError } from '../../protocol/errors.ts'
import type { Outgoing, Sent } from '../broker.ts'
import { isTransient, RETRY } from '../waiting.ts'
import type { Command } from './commands.ts'
import type { Call } from './functions.ts'
import type { Masters } from './masters.ts'
import type { Names } from './names.ts'
import type { PubSub } from './pub-sub.ts'
import { collectAnswers } from './receipts.ts'

type Result = Sent | PushError

/** An attempt that may be repeated gets this share of the remaining time, so that there is time for another one. */
const ATTEMPT_SHARE = 0.4

/** Publishes to Redis, for nodes and for scripts without Fastify. */
export class PublishCommands {
  readonly #masters: Masters
  readonly #names: Names
  readonly #timeout: number
  readonly #maxBytes: number
  readonly #pubSub: PubSub

  /** `maxBytes`: size limit of a recorded envelope. */
  constructor(
    masters: Masters,
    names: Names,
    { publishTimeout, maxBytes, pubSub }: { publishTimeout: number; maxBytes: number; pubSub: PubSub },
  ) {
    this.#pubSub = pubSub
    this.#masters = masters
    this.#names = names
    this.#timeout = publishTimeout
    this.#maxBytes = maxBytes
  }

  /** One result for each item within the timeout. Neighbours of one kind share a round trip; the order is kept. */
  async publish(items: readonly Outgoing[]): Promise<Result[]> {
    const deadline = performance.now() + this.#timeout
    const sending = runsOf(items).map(run =>
      run[0]!.history === undefined ? this.#publishLive(run, deadline) : this.#record(run, deadline),
    )
    return (await Promise.all(sending)).flat()
  }

  async #publishLive(items: readonly Outgoing[], deadline: number): Promise<Result[]> {
    return Promise.all(items.map(item => this.#publishOne(item, deadline)))
  }

  async #publishOne({ topic, envelope, receipt, trace }: Outgoing, deadline: number): Promise<Result> {
    const channel = this.#names.channel(topic)
    const { publish: name } = this.#pubSub
    const publish: Command = [name, channel, envelope]
    // PUBLISH also counts pattern subscribers, for example a debugging PSUBSCRIBE *, which never answer a receipt.
    const count: Command = ['PUBSUB', name === 'PUBLISH' ? 'NUMSUB' : 'SHARDNUMSUB', channel]
    const commands: Command[] = receipt === undefined ? [publish] : [count, publish]
    const replies = await this.#masters.run(channel, commands, this.#timeout, { patience: this.#timeout })
    const nodes = replies.at(-1)
    if (isPushError(nodes)) return nodes
    if (receipt === undefined) return { nodes: Number(nodes) }
    const taken = takenIf(trace)
    return { ...(await this.#withAnswers(receipt, Number(nodes), replies[0], deadline)), ...taken }
  }

  async #record(items: readonly Outgoing[], deadline: number): Promise<Result[]> {
    const calls = items.map(item => this.#callFor(item))
    const mayRepeat = items.every(({ idempotencyKey }) => idempotencyKey !== undefined)
    const attempts = calls.map((): Attempts => ({ reply: undefined, isUnconfirmed: false }))
    await this.#attempt(calls, attempts, deadline, mayRepeat ? ATTEMPT_SHARE : 1)
    // An idempotency key makes it safe to repeat when an answer was lost or Redis was away for a moment.
    while (mayRepeat && attempts.some(isOpen) && deadline - performance.now() > RETRY + MIN_ATTEMPT) {
      // Without a pause the attempts would be used up at once, for example while Redis loads its data.
      await sleep(RETRY)
      // In a busy process the pause takes longer.
      if (deadline - performance.now() < MIN_ATTEMPT) break
      await this.#attempt(calls, attempts, deadline, ATTEMPT_SHARE)
    }
    return Promise.all(items.map((item, i) => this.#recorded(item, attempts[i]!, deadline)))
  }

  /** Makes the calls that have no final answer yet. */
  async #attempt(calls: readonly Call[], attempts: Attempts[], deadline: number, share: number): Promise<void> {
    const left = Math.max(1, deadline - performance.now())
    const open = attempts.flatMap((attempt, i) => (isOpen(attempt) ? i : []))
    const again = open.map(i => calls[i]!)
    const time = Math.min(left, Math.max(MIN_ATTEMPT, left * share))
    const replies = await this.#masters.call(again, left, { attempt: time, patience: this.#timeout })
    for (const [n, i] of open.entries()) {
      const attempt = attempts[i]!
      attempt.reply = replies[n]
      attempt.isUnconfirmed ||= isUnconfirmed(replies[n])
    }
  }

  #callFor({ topic, envelope, history, idempotencyKey }: Outgoing): Call {
    const keys = [this.#names.channel(topic)]
    const isSharded = this.#pubSub.publish === 'SPUBLISH' ? ['1'] : []
    const args = [envelope, history!.size, history!.ttl, idempotencyKey ?? '', this.#maxBytes, ...isSharded]
    return { name: 'push_publish', keys, args }
  }

  async #recorded({ receipt, trace }: Outgoing, attempts: Attempts, deadline: number): Promise<Result> {
    const { reply, isUnconfirmed } = attempts
    if (isPushError(reply)) {
      return isUnconfirmed && isTransient(reply) ? new errors.UNCONFIRMED(UNANSWERED, { cause: reply }) : reply
    }
    if (!Array.isArray(reply))
      return new errors.INTERNAL('push_publish returned no list: another library may have its name')
    const [id, seq, nodes, duplicate] = reply as [string, number, number, number]
    const position = { id, seq: Number(seq) }
    // Otherwise an earlier attempt of this call recorded it: the nodes have received it with this receipt.
    if (duplicate === 1 && !isUnconfirmed) return { nodes: Number(nodes), position, duplicate: true }
    if (receipt === undefined) return { nodes: Number(nodes), position }
    const taken = takenIf(trace)
    return { ...(await this.#withAnswers(receipt, Number(nodes), undefined, deadline)), position, ...taken }
  }

  async #withAnswers(token: string, nodes: number, listening: unknown, deadline: number): Promise<Sent> {
    const exact = Array.isArray(listening) ? Number(listening[1]) : nodes
    const expected = Math.min(exact, nodes)
    const answers = await collectAnswers(this.#masters, this.#names, token, expected, deadline)
    return { nodes, answers, complete: answers.length >= expected }
  }
}

function takenIf(trace: boolean | undefined): Pick<Sent, 'takenAt'> {
  return trace ? { takenAt: Date.now() } : {}
}

/** What is known of a call so far. */
interface Attempts {
  /** The last answer. */
  reply: unknown
  /** An attempt may have recorded it without an answer. */
  isUnconfirmed: boolean
}

function isOpen({ reply }: Attempts): boolean {
  return reply === undefined || isTransient(reply)
}

/** The least milliseconds of an attempt: without an answer in time it closes the link, for other calls too. */
const MIN_ATTEMPT = 300

const UNANSWERED = 'Redis did not answer in time: it may or may not have been recorded'

function isUnconfirmed(reply: unknown): boolean {
  return isPushError(reply) && reply.code === 'PUSH_ERR_UNCONFIRMED'
}

/** Runs of neighbours of one kind. Runs of different kinds stay in order too, because they use one connection. */
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
