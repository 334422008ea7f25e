import type { Redis } from 'ioredis'
import { slotOf } from './topology.ts'

/**
 * Which commands carry publications in a Cluster. `false`: PUBLISH and SUBSCRIBE, which every server hands on to all
 * others. `true`: SPUBLISH and SSUBSCRIBE, at the master of the topic alone. The others are steps from one to the other,
 * in which nodes receive both: with 'receive' they publish with PUBLISH, with 'publish' they publish with SPUBLISH.
 */
export type Sharded = boolean | 'receive' | 'publish'

export const SHARDED: readonly unknown[] = [true, false, 'receive', 'publish']

/** Channels of one command: a larger command and its reply would block others. */
const BATCH = 1000

/** What the server says about a slot that it does not have, or does not have alone. */
const ELSEWHERE = /^(MOVED|ASK|TRYAGAIN|CLUSTERDOWN) /

/** How publications are sent and received. */
export class PubSub {
  readonly publish: 'PUBLISH' | 'SPUBLISH'
  readonly #isClassic: boolean
  readonly #isSharded: boolean

  constructor(sharded: Sharded) {
    this.publish = sharded === true || sharded === 'publish' ? 'SPUBLISH' : 'PUBLISH'
    this.#isClassic = sharded !== true
    this.#isSharded = sharded !== false
  }

  /** Whether nobody hears what is published with PUBLISH. */
  get isShardedOnly(): boolean {
    return !this.#isClassic
  }

  /** Whether a channel that is refused one way may have been granted the other way. */
  get isBoth(): boolean {
    return this.#isClassic && this.#isSharded
  }

  /** Parts of `topics` whose channels one command may name: those of SSUBSCRIBE must be in one slot. */
  parts<T>(topics: readonly T[], channelOf: (topic: T) => string): T[][] {
    const groups = this.#isSharded ? bySlot(topics, channelOf) : [topics]
    return [...groups].flatMap(group => chunks(group))
  }

  /** Subscribes the channels of one part. The error of Redis, or undefined. */
  subscribe(client: Redis, channels: readonly string[]): Promise<Error | undefined> {
    const answers: Promise<unknown>[] = []
    if (this.#isClassic) answers.push(client.subscribe(...channels))
    if (this.#isSharded) answers.push(client.ssubscribe(...channels))
    return errorOf(answers)
  }

  unsubscribe(client: Redis, channels: readonly string[]): Promise<Error | undefined> {
    const answers: Promise<unknown>[] = []
    if (this.#isClassic) answers.push(client.unsubscribe(...channels))
    if (this.#isSharded) answers.push(client.sunsubscribe(...channels))
    return errorOf(answers)
  }
}

/** The first error among these answers. */
export async function errorOf(answers: readonly Promise<unknown>[]): Promise<Error | undefined> {
  const settled = await Promise.allSettled(answers)
  return settled.find(answer => answer.status === 'rejected')?.reason as Error | undefined
}

function bySlot<T>(topics: readonly T[], channelOf: (topic: T) => string): Iterable<T[]> {
  const groups = new Map<number, T[]>()
  for (const topic of topics) {
    const slot = slotOf(channelOf(topic))
    const group = groups.get(slot)
    if (group) group.push(topic)
    else groups.set(slot, [topic])
  }
  return groups.values()
}

function chunks<T>(list: readonly T[]): T[][] {
  return Array.from({ length: Math.ceil(list.length / BATCH) }, (_, i) => list.slice(i * BATCH, (i + 1) * BATCH))
}

/** What a server means that says `sunsubscribe` on its own. */
export const slotMoved = (): Error => new Error('MOVED the slot of the topic was given to another server')

/** A Redis older than version 7 does not know SSUBSCRIBE. */
export function isUnknownCommand({ message }: Error): boolean {
  return message.startsWith('ERR unknown command')
}

export function isElsewhere({ message }: Error): boolean {
  return ELSEWHERE.test(message)
}

/**
 * Whether `error` cannot be the answer to a command about these channels: it names another slot. A server says
 * `sunsubscribe` on its own when a slot moves. If that came instead of the answer to an SUNSUBSCRIBE of the same channel,
 * every later answer would be taken for that to the command before it.
 */
export function isOutOfStep({ message }: Error, channels: readonly string[]): boolean {
  const slot = /^MOVED (\d+) /.exec(message)?.[1]
  return slot !== undefined && !channels.some(channel => slotOf(channel) === Number(slot))
}

/** Whether the answer that is due next is that to an SUNSUBSCRIBE of this channel. */
export function isLeaving({ commandQueue }: Redis, channel: string): boolean {
  const command = commandQueue.peekFront()?.command
  return command?.name === 'sunsubscribe' && command.args.some(argument => String(argument) === channel)
}
