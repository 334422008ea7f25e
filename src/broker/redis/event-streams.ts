import { isPushError, type PushError } from '../../protocol/errors.ts'
import type { EncodedEvent } from '../../protocol/event.ts'
import type { StreamLimits } from '../broker.ts'
import type { Command } from './commands.ts'
import type { Masters } from './masters.ts'

/** Milliseconds that Redis has for a batch. What is not confirmed by then is appended again, with the same ids. */
const TIMEOUT = 2000

/** What is too old is removed at most once in this many milliseconds. */
const TRIM_INTERVAL = 1000

/** Appends events to streams of their own. */
export class EventAppender {
  readonly #masters: Masters
  /** By the clock of Redis, which is in the ids of entries: when something was last appended, and what is too old removed. */
  readonly #clocks = new Map<string, { now: number; trimmedAt: number }>()

  constructor(masters: Masters) {
    this.#masters = masters
  }

  /** One result for each event: undefined if it was appended. `key`: one of a few, since each is remembered. */
  async append(key: string, events: readonly EncodedEvent[], limits: StreamLimits): Promise<(PushError | undefined)[]> {
    const commands = events.map(
      ({ id, kind, json }): Command => [
        'XADD',
        key,
        'MAXLEN',
        '~',
        limits.maxLength,
        '*',
        'id',
        id,
        'kind',
        kind,
        'event',
        json,
      ],
    )
    const replies = await this.#masters.run(key, [...commands, ...this.#trim(key, limits)], TIMEOUT)
    for (const reply of replies.slice(0, events.length)) if (!isPushError(reply)) this.#appended(key, String(reply))
    return events.map((_, i) => {
      const reply = replies[i]
      return isPushError(reply) ? reply : undefined
    })
  }

  /** XADD takes one limit only. By our own clock, a node whose clock is ahead would remove what nobody has read. */
  #trim(key: string, { maxAge }: StreamLimits): Command[] {
    const clock = this.#clocks.get(key)
    if (!clock || clock.now - clock.trimmedAt < TRIM_INTERVAL) return []
    clock.trimmedAt = clock.now
    return [['XTRIM', key, 'MINID', Math.max(0, clock.now - maxAge)]]
  }

  #appended(key: string, id: string): void {
    const now = Number(id.split('-', 1)[0])
    const clock = this.#clocks.get(key)
    if (clock) clock.now = now
    else this.#clocks.set(key, { now, trimmedAt: 0 })
  }
}
