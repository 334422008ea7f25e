import { errors, isPushError } from '../../protocol/errors.ts'
import type { Broker } from '../broker.ts'
import type { Command } from './commands.ts'
import type { Masters } from './masters.ts'
import type { Names } from './names.ts'

/** What nodes and scripts do with commands that every backend has too: count nodes, write and take tickets. */
export class PlainCommands implements Pick<Broker, 'nodes' | 'putTicket' | 'takeTicket'> {
  readonly #masters: Masters
  readonly #names: Names
  readonly #timeout: number

  constructor(masters: Masters, names: Names, timeout: number) {
    this.#masters = masters
    this.#names = names
    this.#timeout = timeout
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

  async putTicket(token: string, identity: string, ttlSeconds: number): Promise<void> {
    const key = this.#names.ticket(token)
    await this.#ask(key, 'SET', key, identity, 'EX', ttlSeconds, 'NX')
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
