import { setTimeout as sleep } from 'node:timers/promises'
import { isPushError } from '../../protocol/errors.ts'
import type { CommandLink } from './commands.ts'

/** Milliseconds that a mark has to come over the bus. A server that takes longer is about to be declared dead. */
const TIMEOUT = 1000

const MARK = 'bus '

/**
 * Waits for what the servers of a Cluster have published and one of them has not received yet. The bus keeps the order
 * between two servers, so a mark that each of them publishes to the node's own channel comes after it. Without this a
 * publication that was delivered over one link could come once more over the next one, when a slot moves.
 */
export class BusBarrier {
  readonly #channel: string
  readonly #awaited = new Map<string, () => void>()
  #marks = 0

  /** `channel`: the one that the link is subscribed to for itself. */
  constructor(channel: string) {
    this.#channel = channel
  }

  async passed(servers: readonly CommandLink[]): Promise<void> {
    await Promise.all(servers.map(server => this.#mark(server)))
  }

  async #mark(server: CommandLink): Promise<void> {
    const mark = `${MARK}${++this.#marks}`
    const isHeard = new Promise<void>(resolve => this.#awaited.set(mark, resolve))
    const isPublished = server.run([['PUBLISH', this.#channel, mark]], TIMEOUT)
    const isLost = isPublished.then(([reply]) => (isPushError(reply) ? undefined : isHeard))
    await Promise.race([isLost, sleep(TIMEOUT, undefined, { ref: false })])
    this.#awaited.delete(mark)
  }

  /** A message on the own channel. Any program can publish there: an unknown mark has no effect. */
  heard(message: string): void {
    if (message.startsWith(MARK)) this.#awaited.get(message)?.()
  }
}
