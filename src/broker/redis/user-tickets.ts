import { isPushError } from '../../protocol/errors.ts'
import type { TicketBound } from '../broker.ts'
import type { Masters } from './masters.ts'
import type { Names } from './names.ts'

/**
 * Seconds that lists of tickets last. One for short tickets and one for all others, so that no list ends before the tickets
 * that it names, and that of a short ticket is not kept for a day.
 */
const SHORT = 120
const LONG = 24 * 60 * 60

/** So many tickets are ended at once at most, whatever somebody has written into the list. */
const MAX_ENDED = 100

/**
 * Which tickets the nodes have made for a user, so that the oldest end when there are too many. Never rejects: a ticket
 * that cannot be listed is as good as any other.
 */
export class UserTickets {
  readonly #masters: Masters
  readonly #names: Names
  readonly #timeout: number

  constructor(masters: Masters, names: Names, timeout: number) {
    this.#masters = masters
    this.#names = names
    this.#timeout = timeout
  }

  /** Adds a ticket. Resolves with how many older ones were ended. */
  async add(token: string, ttlSeconds: number, { user, most }: TicketBound): Promise<number> {
    const seconds = ttlSeconds <= SHORT ? SHORT : LONG
    const list = this.#names.tickets(user, seconds)
    const replies = await this.#masters.run(
      list,
      [
        ['LPUSH', list, token],
        ['LRANGE', list, most, most + MAX_ENDED - 1],
        ['LTRIM', list, 0, most - 1],
        ['EXPIRE', list, seconds],
      ],
      this.#timeout,
    )
    const [, tokens] = replies
    if (!Array.isArray(tokens)) return 0
    const ended = await Promise.all(tokens.map(old => this.#end(String(old))))
    return ended.filter(Boolean).length
  }

  async #end(token: string): Promise<boolean> {
    const key = this.#names.ticket(token)
    const [reply] = await this.#masters.run(key, [['UNLINK', key]], this.#timeout)
    return !isPushError(reply) && Number(reply) === 1
  }
}
