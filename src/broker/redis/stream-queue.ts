import { isPushError } from '../../protocol/errors.ts'
import type { DeathCause, QueuedMessage, StreamQueue, StreamQueueOptions } from '../stream-queue.ts'
import type { Command } from './commands.ts'
import { Lease } from './lease.ts'
import type { Masters } from './masters.ts'
import { RemovedEntries } from './removed-entries.ts'
import { StreamGroups } from './stream-groups.ts'
import { claimedIn, entriesOfStream, isWithoutGroup, messagesIn, type Pending, saidBy } from './stream-replies.ts'

/** Milliseconds that Redis has for a command, besides those for which it waits for a message. */
const TIMEOUT = 2000

/**
 * Milliseconds for which a read waits. A link that hears nothing for two seconds is taken for dead, and while Redis waits
 * on it, it answers nothing else.
 */
const BLOCK = 1000

/** Milliseconds for which the name of a silent consumer is kept at least: some looks of each node, whatever `claimAfter` is. */
const CONSUMERS_KEPT = 10_000

/** More messages than a node ever holds: what it left behind when an answer was lost is among them. */
const MAX_PENDING = 10_000

export interface StreamQueueParts {
  /** Where everything but reading goes. */
  masters: Masters
  /** Links of its own: a read that waits lets nothing else through. Ended by `stopReading`. */
  reading: Masters
  /** Of the stream, with the prefix. */
  key: string
  /** The name of this node in the group; nobody else has it. */
  consumer: string
}

/** A consumer group on a stream of Redis. */
export class RedisStreamQueue implements StreamQueue {
  readonly #parts: StreamQueueParts
  readonly #options: StreamQueueOptions
  readonly #groups: StreamGroups
  readonly #lease: Lease
  readonly #removed: RemovedEntries
  #isKnown = false
  /** Where the next search for messages of nodes that are gone begins. */
  #cursor = '0-0'
  /** Messages of this node that Redis counts as if it had never had them. */
  readonly #excused = new Set<string>()

  constructor(parts: StreamQueueParts, options: StreamQueueOptions) {
    this.#parts = parts
    this.#options = options
    const { masters, key, consumer } = parts
    this.#lease = new Lease(masters, { key: `${key}:lead`, owner: consumer, ttl: options.claimAfter })
    this.#removed = new RemovedEntries({ masters, key, lost: options.lost })
    this.#groups = new StreamGroups(
      { ...parts, ask: command => this.#ask(command) },
      {
        group: options.group,
        trim: options.trim,
        consumersKept: Math.max(options.claimAfter * 10, CONSUMERS_KEPT),
      },
    )
  }

  async read(count: number): Promise<QueuedMessage[]> {
    const { reading, key, consumer } = this.#parts
    const { group } = this.#options
    const how = { by: reading, timeout: BLOCK + TIMEOUT, asBytes: true }
    const command: Command = [
      'XREADGROUP',
      'GROUP',
      group,
      consumer,
      'COUNT',
      count,
      'BLOCK',
      BLOCK,
      'STREAMS',
      key,
      '>',
    ]
    const reply = await this.#inGroup(() => this.#ask(command, how))
    return messagesIn(entriesOfStream(reply)).map(message => ({ ...message, tries: 1 }))
  }

  async claim(count: number, whose?: 'all'): Promise<QueuedMessage[]> {
    const { key, consumer } = this.#parts
    const { group, claimAfter } = this.#options
    const idle = whose === 'all' ? 0 : claimAfter
    const claimed: QueuedMessage[] = []
    do {
      const command: Command = ['XAUTOCLAIM', key, group, consumer, idle, this.#cursor, 'COUNT', count - claimed.length]
      const reply = claimedIn(await this.#inGroup(() => this.#ask(command, { asBytes: true })))
      this.#cursor = reply.cursor
      claimed.push(...(await this.#withTries(reply.messages)))
      this.#removed.tell(reply.removed)
      if (reply.hasNameless) await this.#dropNameless(claimed)
      // Redis looks at a part of what is pending only, and may find nothing there although there is more.
    } while (this.#cursor !== '0-0' && claimed.length < count)
    return claimed
  }

  /** Of what this node has now, some is no longer in the stream. */
  async #dropNameless(claimed: readonly QueuedMessage[]): Promise<void> {
    const known = new Set(claimed.map(({ id }) => id))
    const own = (await this.#pending()).map(([id]) => id)
    const gone = await this.#removed.among(own.filter(id => !known.has(id)))
    await this.acknowledge(gone)
    this.#removed.tell(gone)
  }

  async lead(): Promise<'no' | 'new' | 'still'> {
    const answer = await this.#lease.hold()
    // What it had is another node's to finish.
    if (answer !== 'still') this.#removed.giveUp()
    // Whatever is pending now, from the oldest on.
    if (answer === 'new') this.#cursor = '0-0'
    return answer
  }

  /** Redis counts to how many nodes a message was given, and says so to those who ask about it. */
  async #withTries(messages: readonly Omit<QueuedMessage, 'tries'>[]): Promise<QueuedMessage[]> {
    if (messages.length === 0) return []
    const { masters, key } = this.#parts
    const { group } = this.#options
    const commands = messages.map(({ id }): Command => ['XPENDING', key, group, id, id, 1])
    const replies = await masters.run(key, commands, TIMEOUT)
    for (const { id } of messages) this.#excused.delete(id)
    return messages.map((message, i) => {
      const reply = replies[i]
      const [[, , , tries] = []] = Array.isArray(reply) ? (reply as Pending[]) : []
      return { ...message, tries: Number(tries ?? 1) }
    })
  }

  keep(ids: readonly string[]): Promise<ReadonlySet<string>> {
    return this.#removed.during(() => this.#keep(ids))
  }

  async #keep(ids: readonly string[]): Promise<ReadonlySet<string>> {
    const own = new Set((await this.#pending()).map(([id]) => id))
    const kept = ids.filter(id => own.has(id))
    // Only its own: to claim what another node has claimed meanwhile would have both publish it.
    if (kept.length > 0) await this.#reclaim(kept, [])
    return new Set(ids.filter(id => own.has(id) || this.#removed.has(id)))
  }

  async noteTries(id: string, tries: number): Promise<void> {
    await this.#removed.during(() => this.#reclaim([id], ['RETRYCOUNT', tries]))
    this.#excused.delete(id)
  }

  async excuse(ids: readonly string[]): Promise<void> {
    const fresh = new Set(ids.filter(id => !this.#excused.has(id)))
    if (fresh.size === 0) return
    await this.#removed.during(async () => {
      // As in keep: only its own.
      const pending = (await this.#pending()).filter(([id]) => fresh.has(id))
      for (const [tries, some] of this.#byTries(pending)) await this.#reclaim(some, ['RETRYCOUNT', tries])
      for (const [id] of pending) this.#excused.add(id)
    })
  }

  async acknowledge(ids: readonly string[]): Promise<void> {
    if (ids.length > 0) await this.#ask(['XACK', this.#parts.key, this.#options.group, ...ids])
    this.#removed.settle(ids)
  }

  /** First written, then acknowledged: a failure between the two makes a second letter, and never none. */
  async bury({ id, body }: QueuedMessage, { code, message, tries }: DeathCause): Promise<void> {
    const { masters, key } = this.#parts
    const dead = `${key}:dead`
    const fields = ['body', Buffer.from(body ?? ''), 'id', id, 'code', code, 'reason', message, 'tries', tries]
    // In a Cluster it may be elsewhere than the stream.
    const [reply] = await masters.run(
      dead,
      [['XADD', dead, 'MAXLEN', '~', this.#options.deadLetters, '*', ...fields]],
      TIMEOUT,
    )
    if (isPushError(reply)) throw reply
    await this.acknowledge([id])
  }

  async tend(): Promise<number | undefined> {
    const waiting = await this.#inGroup(() => this.#groups.tend())
    await this.#groups.removeConsumers()
    return waiting
  }

  stopReading(): void {
    this.#parts.reading.close()
  }

  async close(): Promise<void> {
    this.stopReading()
    try {
      await this.#removed.during(() => this.#giveBack())
      await this.#lease.release()
    } catch {
      // All that is another node's after claimAfter.
    }
    this.#removed.giveUp()
  }

  async #giveBack(): Promise<void> {
    // Those whose answer was lost with the link as well.
    const given = this.#byTries(await this.#pending())
    // Redis counts whom it gives them to next: an end in order is no failure of theirs.
    const how = ['IDLE', this.#options.claimAfter, 'RETRYCOUNT']
    for (const [tries, ids] of given) await this.#reclaim(ids, [...how, tries])
  }

  /** What this node has not acknowledged. */
  async #pending(): Promise<Pending[]> {
    const { key, consumer } = this.#parts
    const reply = await this.#ask(['XPENDING', key, this.#options.group, '-', '+', MAX_PENDING, consumer])
    const pending = reply as Pending[]
    const own = new Set(pending.map(([id]) => id))
    for (const id of this.#excused) if (!own.has(id)) this.#excused.delete(id)
    return pending
  }

  /** Ids by the number of tries without that of this node. */
  #byTries(pending: readonly Pending[]): Map<number, string[]> {
    const groups = new Map<number, string[]>()
    for (const [id, , , counted] of pending) {
      const tries = this.#excused.has(id) ? Number(counted) : Math.max(Number(counted) - 1, 0)
      groups.set(tries, [...(groups.get(tries) ?? []), id])
    }
    return groups
  }

  async #reclaim(ids: readonly string[], how: (string | number)[]): Promise<void> {
    const { key, consumer } = this.#parts
    const claimed = await this.#ask(['XCLAIM', key, this.#options.group, consumer, 0, ...ids, ...how, 'JUSTID'])
    await this.#removed.note(ids, claimed)
  }

  async #ask(
    command: Command,
    {
      by = this.#parts.masters,
      timeout = TIMEOUT,
      asBytes = false,
    }: { by?: Masters; timeout?: number; asBytes?: boolean } = {},
  ): Promise<unknown> {
    const [reply] = await by.run(this.#parts.key, [command], timeout, { asBytes })
    if (isPushError(reply)) throw reply
    return reply
  }

  /** Makes the group if it is not there: the first node does, and whoever notices that it was lost. */
  async #inGroup<T>(ask: () => Promise<T>): Promise<T> {
    try {
      const answer = await ask()
      this.#isKnown = true
      return answer
    } catch (error) {
      if (!isWithoutGroup(error)) throw error
      await this.#create()
      return ask()
    }
  }

  /** From the beginning of the stream: what was written before, or while there was no group, is published too. */
  async #create(): Promise<void> {
    try {
      await this.#ask(['XGROUP', 'CREATE', this.#parts.key, this.#options.group, '0', 'MKSTREAM'])
    } catch (error) {
      // Another node was faster.
      if (!saidBy(error).startsWith('BUSYGROUP')) throw error
      return
    }
    this.#options.created(!this.#isKnown)
    this.#cursor = '0-0'
  }
}
