import { isPushError } from '../../protocol/errors.ts'
import type { Command } from './commands.ts'
import type { Masters } from './masters.ts'
import { earliest, idAfter } from './stream-ids.ts'

/** Milliseconds that Redis has for a command. */
const TIMEOUT = 2000

/** A consumer shows itself when it has done nothing for a third of the time after which it is removed. */
const SIGNS = 3

/** After the last id that an entry can have a consumer has nothing, so asking for it gives nothing and counts nothing. */
const PAST_THE_END = '18446744073709551615-0'

export interface StreamGroupsOptions {
  group: string
  /** Whether what every group has handled is removed. */
  trim: boolean
  /** Milliseconds after which a consumer that has nothing and does nothing is removed. */
  consumersKept: number
}

export interface StreamGroupsParts {
  masters: Masters
  key: string
  consumer: string
  ask(command: Command): Promise<unknown>
}

/** What Redis says of a group of consumers. */
interface Group {
  name: string
  pending: number
  /** The last entry that one of its consumers got. */
  last: string
  /** Entries that none of them got yet; undefined if Redis does not know, as before version 7. */
  unread: number | undefined
}

/** Keeps a stream short: removes what all its groups have handled, and consumers that are gone. */
export class StreamGroups {
  readonly #parts: StreamGroupsParts
  readonly #options: StreamGroupsOptions
  /** Everything before it has been removed. */
  #trimmedTo: string | undefined
  /** Consumers that the last look found gone. */
  #gone = new Set<string>()

  constructor(parts: StreamGroupsParts, options: StreamGroupsOptions) {
    this.#parts = parts
    this.#options = options
  }

  /** Resolves with how many messages our group has not handled, if Redis knows. */
  async tend(): Promise<number | undefined> {
    const { ask, key } = this.#parts
    const groups = parseGroups(await ask(['XINFO', 'GROUPS', key]))
    const own = groups.find(({ name }) => name === this.#options.group)
    // Somebody has removed it: to trim by the others would remove what it has not got.
    if (!own) return undefined
    if (this.#options.trim) await this.#trim(groups)
    return own.unread === undefined ? undefined : own.unread + own.pending
  }

  /**
   * Other groups count as well: what they have not handled stays. What happens between the questions and the removal only
   * makes ids later: no entry before the found one can become unhandled.
   */
  async #trim(groups: readonly Group[]): Promise<void> {
    const { ask, key } = this.#parts
    const needed = earliest(await Promise.all(groups.map(group => this.#firstNeeded(group))))
    if (needed === undefined || needed === this.#trimmedTo) return
    await ask(['XTRIM', key, 'MINID', needed])
    this.#trimmedTo = needed
  }

  async #firstNeeded({ name, pending, last }: Group): Promise<string> {
    if (pending === 0) return idAfter(last)
    const [, first] = (await this.#parts.ask(['XPENDING', this.#parts.key, name])) as [number, string | null]
    return first ?? idAfter(last)
  }

  /**
   * A node has a new name at every start. One that has messages stays until another node has claimed them: with a consumer
   * Redis forgets what it had, also what it got a moment before. So one that only comes back must not be removed, and it
   * takes two looks: it shows itself between them.
   */
  async removeConsumers(): Promise<void> {
    const { ask, masters, key, consumer } = this.#parts
    const { group, consumersKept } = this.#options
    const consumers = ((await ask(['XINFO', 'CONSUMERS', key, group])) as unknown[]).map(fieldsOf)
    const own = consumers.find(({ name }) => name === consumer)
    if (own && Number(own.idle) > consumersKept / SIGNS) await this.#show()
    const gone = consumers
      .filter(({ name, pending, idle }) => name !== consumer && Number(pending) === 0 && Number(idle) > consumersKept)
      .map(({ name }) => String(name))
    const twice = gone.filter(name => this.#gone.has(name))
    this.#gone = new Set(gone)
    if (twice.length === 0) return
    const commands = twice.map((name): Command => ['XGROUP', 'DELCONSUMER', key, group, name])
    const replies = await masters.run(key, commands, TIMEOUT)
    const failed = replies.find(isPushError)
    if (failed) throw failed
  }

  /** Before Redis 7.2 a read that gets nothing is no sign of life, however long the consumer waits there. */
  async #show(): Promise<void> {
    const { ask, key, consumer } = this.#parts
    const { group } = this.#options
    await ask(['XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1, 'STREAMS', key, PAST_THE_END])
  }
}

function parseGroups(reply: unknown): Group[] {
  return (reply as unknown[]).map(fieldsOf).map(fields => {
    const { name, pending, lag } = fields
    const unread = typeof lag === 'number' ? lag : undefined
    return { name: String(name), pending: Number(pending), last: String(fields['last-delivered-id']), unread }
  })
}

/** Names and values, one after the other. */
function fieldsOf(list: unknown): Record<string, unknown> {
  const items = list as unknown[]
  return Object.fromEntries(items.flatMap((name, i) => (i % 2 === 0 ? [[String(name), items[i + 1]]] : [])))
}
