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
  of(users: readonly string[]): readonly Promise<number | undefined>[] {
    const keys = users.map(user => this.#names.revoked(user))
    // In a Cluster each key may have another master. Elsewhere one command for all takes a tenth of the time.
    if (!(this.#masters instanceof OneMaster)) return keys.map(key => this.#one(key))
    const all = this.#readAll(keys)
    return keys.map(async (_, i) => timeIn((await all)[i]))
  }

  async #one(key: string): Promise<number | undefined> {
    return timeIn(await this.#read(key, ['GET', key]))
  }

  async #readAll(keys: readonly string[]): Promise<readonly unknown[]> {
    return keys.length === 0 ? [] : ((await this.#read(keys[0]!, ['MGET', ...keys])) as unknown[])
  }

  async #read(key: string, command: Command): Promise<unknown> {
    if (!this.#masters.of(key)?.commands.isUp) throw new errors.BROKER_AWAY('Redis cannot be asked who was revoked')
    const [reply] = await this.#masters.run(key, [command], this.#timeout)
    if (isPushError(reply)) throw reply
    return reply
  }
}

/** A mark that is no number was written by somebody who meant to revoke: it counts for what there is now. */
function timeIn(reply: unknown): number | undefined {
  if (reply === null || reply === undefined) return undefined
  const time = Number(reply)
  return Number.isFinite(time) && String(reply).trim() !== '' ? time : Date.now()
}
