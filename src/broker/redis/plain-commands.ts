import { errors, isPushError } from '../../protocol/errors.ts'
import type { Broker, TicketBound } from '../broker.ts'
import type { Command } from './commands.ts'
import type { Masters } from './masters.ts'
import type { Names } from './names.ts'
import { UserTickets } from './user-tickets.ts'

/** What nodes and scripts do with commands that every backend has too: count nodes, write and take tickets. */
export class PlainCommands implements Pick<Broker, 'nodes' | 'putTicket' | 'takeTicket'> {
  readonly #masters: Masters
  readonly #names: Names
  readonly #timeout: number
  readonly #ofUsers: UserTickets

  constructor(masters: Masters, names: Names, timeout: number) {
    this.#masters = masters
    this.#names = names
    this.#timeout = timeout
    this.#ofUsers = new UserTickets(masters, names, timeout)
  }

  async #ask(key: string, ...command: Command): Promise<unknown> {
    const [reply] = await this.#masters.run(key, [command], this.#timeout, { patience: this.#timeout })
    if (isPushError(reply)) throw reply
    return reply
  }

  async nodes(): Promise<number> {
    const { nodes: channel } = this.#names
    const [, nodes] = (await this.#ask(channel, 'PUBSUB', 'NUMSUB', channel)) as unknown[]
    return Number(nodes)
  }

  async putTicket(token: string, identity: string, ttlSeconds: number, bound?: TicketBound): Promise<number> {
    const key = this.#names.ticket(token)
    await this.#ask(key, 'SET', key, identity, 'EX', ttlSeconds, 'NX')
    return bound ? this.#ofUsers.add(token, ttlSeconds, bound) : 0
  }

  async takeTicket(token: string): Promise<string | null> {
    try {
      const key = this.#names.ticket(token)
      return (await this.#ask(key, 'GETDEL', key)) as string | null
    } catch (cause) {
      throw new errors.BROKER_AWAY('the ticket cannot be looked up', { cause })
    }
  }
}
