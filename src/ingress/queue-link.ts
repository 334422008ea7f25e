import type { FastifyBaseLogger } from 'fastify'
import { RareLine } from '../broker/rare-line.ts'

/** Whether a road reaches its queue: told in the log when it changes, and in `problem`. */
export class QueueLink {
  readonly #name: string
  readonly #log: Pick<FastifyBaseLogger, 'info'>
  readonly #losses: RareLine
  #problem: string | undefined

  /** `system` is what keeps the queue, in a sentence. */
  constructor(name: string, system: string, log: Pick<FastifyBaseLogger, 'info' | 'warn'>) {
    this.#name = name
    this.#log = log
    this.#problem = `${system} has not answered yet`
    this.#losses = new RareLine((fields, more) =>
      log.warn({ ingress: name, ...fields, more }, 'push: an ingress does not get on; it tries again'),
    )
  }

  get problem(): string | undefined {
    return this.#problem
  }

  lost(problem: string): void {
    this.#problem = problem
    this.#losses.tell({ reason: problem })
  }

  found(): void {
    if (this.#problem === undefined) return
    this.#problem = undefined
    this.#log.info({ ingress: this.#name }, 'push: an ingress takes messages from its queue')
  }
}
