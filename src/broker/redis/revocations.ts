import { errors, isPushError } from '../../protocol/errors.ts'
import type { Command } from './commands.ts'
import { type Masters, OneMaster } from './masters.ts'
import type { Names } from './names.ts'

/** When users were revoked: a key for each of them, which any backend can write as well. */
export class RedisRevocations {
  readonly #masters: Masters
  readonly #names: Names
  readonly #timeout: number

  constructor(masters: Masters, names: Names, timeout: number) {
    this.#masters = masters
    this.#names = names
    this.#timeout = timeout
  }

  async put(user: string, time: number, ttlSeconds: number): Promise<void> {
    const key = this.#names.revoked(user)
    const command: Command = ['SET', key, time, 'EX', ttlSeconds]
    const [reply] = await this.#masters.run(key, [command], this.#timeout, { patience: this.#timeout })
    if (isPushError(reply)) throw reply
  }

  /** At once, if the link is down: nobody should wait for that. */
  async of(users: readonly string[]): Promise<(number | undefined)[]> {
    if (users.length === 0) return []
    const keys = users.map(user => this.#names.revoked(user))
    if (keys.some(key => !this.#masters.of(key)?.commands.isUp)) {
      throw new errors.BROKER_AWAY('Redis cannot be asked who was revoked')
    }
    const replies = await this.#read(keys)
    return replies.map(reply => {
      if (isPushError(reply)) throw reply
      return timeIn(reply)
    })
  }

  async #read(keys: readonly string[]): Promise<unknown[]> {
    const commands = keys.map((key): Command => ['GET', key])
    // In a Cluster each key may have another master.
    if (this.#masters instanceof OneMaster) return this.#masters.run(keys[0]!, commands, this.#timeout)
    const replies = await Promise.all(keys.map((key, i) => this.#masters.run(key, [commands[i]!], this.#timeout)))
    return replies.flat()
  }
}

/** A mark that is no number was written by somebody who meant to revoke: it counts for what there is now. */
function timeIn(reply: unknown): number | undefined {
  if (reply === null || reply === undefined) return undefined
  const time = Number(reply)
  return Number.isFinite(time) && String(reply).trim() !== '' ? time : Date.now()
}
