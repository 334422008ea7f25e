import { errors } from '../../protocol/errors.ts'
import type { Functions } from './functions.ts'
import type { Timeline } from './timeline.ts'

/** Refuses an answer unless the timeline was checked since the link came up: Redis may have gone back in time. */
export class CheckedAnswers {
  readonly #functions: Pick<Functions, 'isSupported'>
  readonly #timeline: () => Pick<Timeline, 'tick' | 'knownSince'>

  constructor(functions: Pick<Functions, 'isSupported'>, timeline: () => Pick<Timeline, 'tick' | 'knownSince'>) {
    this.#functions = functions
    this.#timeline = timeline
  }

  async to<T>(ask: () => Promise<T>): Promise<T> {
    if (!this.#isKnownSince(performance.now())) await this.#timeline().tick()
    const askedAt = performance.now()
    this.#requireKnownSince(askedAt)
    const answer = await ask()
    // The question may have waited for a new link and been sent before the timeline was checked there.
    this.#requireKnownSince(askedAt)
    return answer
  }

  #requireKnownSince(time: number): void {
    if (!this.#isKnownSince(time)) throw new errors.BROKER_AWAY('Redis cannot be reached, or has only just come back')
  }

  #isKnownSince(time: number): boolean {
    return !this.#functions.isSupported || time >= this.#timeline().knownSince
  }
}
