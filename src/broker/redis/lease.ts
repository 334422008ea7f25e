import { isPushError } from '../../protocol/errors.ts'
import type { Command } from './commands.ts'
import type { Masters } from './masters.ts'

/** Milliseconds that Redis has for a command. */
const TIMEOUT = 2000

export interface LeaseOptions {
  key: string
  /** Who wants it; nobody else has this name. */
  owner: string
  /** Milliseconds after which it is free again unless it is asked for before. */
  ttl: number
}

/**
 * A key that one node has at a time. An owner that stands still for longer than the ttl may believe for a moment that it
 * still has it: what it protects must bear that.
 */
export class Lease {
  readonly #masters: Masters
  readonly #options: LeaseOptions

  constructor(masters: Masters, options: LeaseOptions) {
    this.#masters = masters
    this.#options = options
  }

  /** Takes it if it is free, keeps it if it is ours. `new`: somebody else may have had it since the last call. */
  async hold(): Promise<'no' | 'new' | 'still'> {
    const { key, owner, ttl } = this.#options
    if ((await this.#ask(['SET', key, owner, 'PX', ttl, 'NX'])) !== null) return 'new'
    if ((await this.#ask(['GET', key])) !== owner) return 'no'
    return (await this.#ask(['PEXPIRE', key, ttl])) === 1 ? 'still' : 'no'
  }

  async release(): Promise<void> {
    const { key, owner } = this.#options
    if ((await this.#ask(['GET', key])) === owner) await this.#ask(['UNLINK', key])
  }

  async #ask(command: Command): Promise<unknown> {
    const [reply] = await this.#masters.run(this.#options.key, [command], TIMEOUT)
    if (isPushError(reply)) throw reply
    return reply
  }
}
