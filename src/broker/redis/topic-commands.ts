import type { Redis } from 'ioredis'
import type { Topic } from '../../protocol/topic.ts'
import type { Names } from './names.ts'
import type { PubSub } from './pub-sub.ts'
import type { Refusals } from './refusals.ts'
import { slotOf } from './topology.ts'

/** Channels of one command: a larger command and its reply would block others. */
const BATCH = 1000

/** What a server says about a slot that it does not have, or does not have alone. */
const ELSEWHERE = /^(MOVED|ASK|TRYAGAIN|CLUSTERDOWN) /

export interface TopicCommandsParts {
  /** A refused topic is no such refusal: it is asked for again. A right to leave is. */
  refusals: Refusals
  /** Answers are taken for those to other commands, so the connection is useless. */
  outOfStep(error: Error): void
}

/** The commands that join and leave topics over one connection, in one or both kinds of pub/sub. */
export class TopicCommands {
  readonly #client: Redis
  readonly #names: Names
  readonly #pubSub: PubSub
  readonly #refusals: Refusals
  readonly #outOfStep: (error: Error) => void

  constructor(client: Redis, names: Names, pubSub: PubSub, { refusals, outOfStep }: TopicCommandsParts) {
    this.#client = client
    this.#names = names
    this.#pubSub = pubSub
    this.#refusals = refusals
    this.#outOfStep = outOfStep
  }

  /** Parts of `topics`, each of which one command may name: the channels of SSUBSCRIBE must be in one slot. */
  parts(topics: readonly Topic[]): Topic[][] {
    const groups = this.#pubSub.isSharded ? this.#bySlot(topics) : [topics]
    return [...groups].flatMap(group => chunks(group))
  }

  #bySlot(topics: readonly Topic[]): Iterable<Topic[]> {
    const groups = new Map<number, Topic[]>()
    for (const topic of topics) {
      const slot = slotOf(this.#names.channel(topic))
      const group = groups.get(slot)
      if (group) group.push(topic)
      else groups.set(slot, [topic])
    }
    return groups.values()
  }

  /** Joins the topics of one part; the error of Redis, or undefined. */
  join(part: readonly Topic[]): Promise<Error | undefined> {
    const channels = this.#channels(part)
    const answers: Promise<unknown>[] = []
    if (this.#pubSub.isClassic) answers.push(this.#client.subscribe(...channels))
    if (this.#pubSub.isSharded) answers.push(this.#client.ssubscribe(...channels))
    return this.#checked(channels, answers)
  }

  leave(part: readonly Topic[]): Promise<Error | undefined> {
    const channels = this.#channels(part)
    const answers: Promise<unknown>[] = []
    const client = this.#client
    if (this.#pubSub.isClassic) answers.push(this.#observed('UNSUBSCRIBE', client.unsubscribe(...channels)))
    if (this.#pubSub.isSharded) answers.push(this.#observed('SUNSUBSCRIBE', client.sunsubscribe(...channels)))
    return this.#checked(channels, answers)
  }

  /** A right that is missing is named, whoever waits for the answer. */
  async #observed(command: string, answer: Promise<unknown>): Promise<void> {
    const error = await errorOf([answer])
    if (error || this.#refusals.areAny) this.#refusals.observe([command], error)
    if (error) throw error
  }

  /**
   * If one kind is refused, the other may have been granted. Then a PUBLISH would come over this link and over that to
   * the server which has the slot now.
   */
  leaveOtherKind(topics: readonly Topic[]): void {
    if (!(this.#pubSub.isClassic && this.#pubSub.isSharded)) return
    for (const part of this.parts(topics)) void this.leave(part)
  }

  /** Whether the answer that is due next is that to a SUNSUBSCRIBE of this topic. */
  isLeaving(topic: Topic): boolean {
    const command = this.#client.commandQueue.peekFront()?.command
    if (command?.name !== 'sunsubscribe') return false
    const channel = this.#names.channel(topic)
    return command.args.some(argument => String(argument) === channel)
  }

  #channels(topics: readonly Topic[]): string[] {
    return topics.map(topic => this.#names.channel(topic))
  }

  async #checked(channels: readonly string[], answers: readonly Promise<unknown>[]): Promise<Error | undefined> {
    const error = await errorOf(answers)
    if (error && isOutOfStep(error, channels)) this.#outOfStep(error)
    return error
  }
}

function chunks<T>(list: readonly T[]): T[][] {
  return Array.from({ length: Math.ceil(list.length / BATCH) }, (_, i) => list.slice(i * BATCH, (i + 1) * BATCH))
}

/** The first error among these answers. */
export async function errorOf(answers: readonly Promise<unknown>[]): Promise<Error | undefined> {
  const settled = await Promise.allSettled(answers)
  return settled.find(answer => answer.status === 'rejected')?.reason as Error | undefined
}

/** What a server means that says `sunsubscribe` on its own. */
export const slotMoved = (): Error => new Error('MOVED the slot of the topic was given to another server')

export function isElsewhere({ message }: Error): boolean {
  return ELSEWHERE.test(message)
}

export function isRefused({ message }: Error): boolean {
  return message.startsWith('NOPERM')
}

/** A Redis older than version 7 does not know SSUBSCRIBE. */
export function isUnknownCommand({ message }: Error): boolean {
  return message.startsWith('ERR unknown command')
}

/**
 * Whether `error` cannot be the answer to a command about these channels: it names another slot. A server says
 * `sunsubscribe` on its own when a slot moves. If that came instead of the answer to a SUNSUBSCRIBE of the same channel,
 * every later answer is taken for that to the command before it.
 */
function isOutOfStep({ message }: Error, channels: readonly string[]): boolean {
  const slot = /^MOVED (\d+) /.exec(message)?.[1]
  return slot !== undefined && !channels.some(channel => slotOf(channel) === Number(slot))
}
