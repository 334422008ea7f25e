import { setMaxListeners } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { RareLine } from '../broker/rare-line.ts'
import type { IngressParts } from './ingress.ts'
import type { Verdict } from './intake.ts'

/** Milliseconds between two attempts: the first wait, doubled each time, and the longest. */
const FIRST_WAIT = 200
const LONGEST_WAIT = 2000

/** What a message ended as. Undefined instead: it is still in its queue, and comes again. */
export type Settled = 'published' | DeadLetter

/** A message that will not be published, and why. */
export interface DeadLetter {
  code: string
  reason: string
}

/** Where dead letters go. */
interface Place {
  to: string
  put(): Promise<void>
}

/** Nothing is sent to a broker that is known to be away. */
const AWAY: Verdict = {
  outcome: 'failed',
  code: 'PUSH_ERR_BROKER_AWAY',
  message: 'the broker cannot be reached',
  isTemporary: true,
}

/** An `AbortSignal` on which any number of messages may wait: the road bounds how many it holds. */
export function waitingRoom(): AbortController {
  const controller = new AbortController()
  setMaxListeners(0, controller.signal)
  return controller
}

/** Resolves after a while, or at once when `signal` is aborted. */
export function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return sleep(milliseconds, undefined, { signal }).catch(() => {})
}

/** The next wait after one of `milliseconds`. */
export function longer(milliseconds: number, most = LONGEST_WAIT): number {
  return Math.min(milliseconds * 2, most)
}

/**
 * For queues whose messages stay where they are until they are acknowledged: a message is held, and tried again, until it
 * is known what becomes of it. So none is skipped, and memory has as many as the road takes at once.
 */
export class Settling {
  readonly #parts: IngressParts
  readonly #tries: number
  readonly #failures: RareLine
  readonly #deadLetters: RareLine
  /** Of each message that is held; any number may be at once. */
  readonly #problems = new Map<symbol, string>()

  /** `tries`: how often a message may fail by its own fault before it is a dead letter. */
  constructor(parts: IngressParts, { name, tries }: { name: string; tries: number }) {
    this.#parts = parts
    this.#tries = tries
    const { log } = parts
    this.#failures = new RareLine((fields, more) =>
      log.warn({ ingress: name, ...fields, more }, 'push: an ingress does not get on; it tries again'),
    )
    this.#deadLetters = new RareLine((fields, more) =>
      log.warn({ ingress: name, ...fields, more }, 'push: messages of an ingress are dead letters now'),
    )
  }

  /** Why messages are held: that of the first one. Undefined while all come through. */
  get problem(): string | undefined {
    const [first] = this.#problems.values()
    return first
  }

  /** Publishes a message, however long that takes. Undefined when `signal` ends it first. Never rejects. */
  async settle(body: Uint8Array | string, key: string, signal: AbortSignal): Promise<Settled | undefined> {
    const call = Symbol()
    try {
      return await this.#settle(call, { body, key }, signal)
    } finally {
      this.#problems.delete(call)
    }
  }

  async #settle(
    call: symbol,
    { body, key }: { body: Uint8Array | string; key: string },
    signal: AbortSignal,
  ): Promise<Settled | undefined> {
    let tries = 0
    for (let wait = FIRST_WAIT; !signal.aborted; wait = longer(wait)) {
      const verdict = this.#parts.broker.connected ? await this.#parts.intake.take(body, key) : AWAY
      if (verdict.outcome === 'published') return 'published'
      const { code, message: reason } = verdict
      if (verdict.outcome === 'refused') return { code, reason }
      if (!verdict.isTemporary && ++tries >= this.#tries) return { code, reason }
      this.#problems.set(call, `a message waits, since it could not be published: ${reason} (${code})`)
      this.#failures.tell({ code, reason })
      await pause(wait, signal)
    }
    return undefined
  }

  /**
   * Puts a dead letter where it goes, however often that fails first: until then it stays in its queue. False when `signal`
   * ends it. `to` names the place in the log.
   */
  async bury(letter: DeadLetter, place: Place, signal: AbortSignal): Promise<boolean> {
    const call = Symbol()
    try {
      return await this.#bury(call, { letter, ...place }, signal)
    } finally {
      this.#problems.delete(call)
    }
  }

  async #bury(
    call: symbol,
    { letter, to, put }: Place & { letter: DeadLetter },
    signal: AbortSignal,
  ): Promise<boolean> {
    for (let wait = FIRST_WAIT; !signal.aborted; wait = longer(wait)) {
      try {
        await put()
        this.#parts.intake.countDeadLetters()
        this.#deadLetters.tell({ ...letter, to })
        return true
      } catch (error) {
        const reason = (error as Error).message
        this.#problems.set(call, `a dead letter waits, since it could not be put into ${to}: ${reason}`)
        this.#failures.tell({ code: letter.code, reason: `${to} does not take the dead letter: ${reason}` })
        await pause(wait, signal)
      }
    }
    return false
  }
}

/** What an error of a library says, for a log line or a status. */
export function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  // Node gives no message to an error that stands for one at each address.
  const { message, errors } = error as AggregateError
  return message || (errors?.[0] instanceof Error ? errors[0].message : error.name)
}
