import { setTimeout as sleep } from 'node:timers/promises'
import { RareLine } from '../../broker/rare-line.ts'
import type { IngressParts } from '../ingress.ts'

/** Milliseconds before something is tried again: the first time, and at most. */
const RETRY_FIRST = 250
const RETRY_MAX = 5000

const AWAY = 'Redis is away: what waits in the stream stays there'

/** What a road that does not get on does: it says why, waits, and tries again until it closes. */
export class Patience {
  readonly #broker: IngressParts['broker']
  readonly #stuck: RareLine
  readonly #closing = new AbortController()
  #problem: string | undefined

  constructor({ broker, log }: Pick<IngressParts, 'broker' | 'log'>, ingress: string) {
    this.#broker = broker
    this.#stuck = new RareLine((fields, more) =>
      log.warn({ ingress, ...fields, more }, 'push: an ingress does not get on; it tries again'),
    )
  }

  /** Why nothing comes in, for the status. */
  get problem(): string | undefined {
    return this.#problem
  }

  get isOver(): boolean {
    return this.#closing.signal.aborted
  }

  /** Nothing waits any more. */
  end(): void {
    this.#closing.abort()
  }

  /** It gets on. */
  clear(): void {
    this.#problem = undefined
  }

  tell(problem: string): void {
    if (this.isOver) return
    this.#problem = problem
    this.#stuck.tell({ reason: problem })
  }

  /** Does it again and again until it succeeds, or the road closes. Never rejects. */
  async persist(act: () => Promise<void>): Promise<void> {
    for (const pause of pauses()) {
      try {
        return await act()
      } catch (error) {
        if (this.isOver) return
        this.tell((error as Error).message)
      }
      await this.wait(pause)
      if (this.isOver) return
    }
  }

  /** At least for so many milliseconds, and while Redis is away. */
  async wait(milliseconds: number): Promise<void> {
    const { signal } = this.#closing
    do {
      await sleep(milliseconds, undefined, { signal, ref: false }).catch(() => {})
      if (!this.#broker.connected) this.#problem = AWAY
    } while (!this.isOver && !this.#broker.connected)
  }
}

/** Milliseconds to wait before one attempt after the other. Never ends. */
export function* pauses(): Generator<number, never> {
  for (let pause = RETRY_FIRST; ; pause = Math.min(pause * 2, RETRY_MAX)) yield pause
}
