import { ownText } from '../../connection/identity.ts'
import { isPushError } from '../../protocol/errors.ts'
import type { Topic } from '../../protocol/topic.ts'

/** Topics of which refusals are remembered: the others are those on which the last one is longest ago. */
const MAX_TOPICS = 1000

/** Clients of one topic that are remembered. */
export const MAX_REFUSALS = 5

/** Milliseconds after which nobody asks for it any more. */
const KEPT = 10 * 60_000

/** Characters: an application may throw an error with any message. */
const MAX_MESSAGE = 300
const MAX_CODE = 100

/** Who asked for a topic. */
export interface Refused {
  readonly user: string | null
  /** Its connection; missing if there is none yet. */
  readonly id?: string | undefined
}

export interface Refusal {
  /** The last time, as `performance.now()`. */
  at: number
  user: string | null
  connection: string | undefined
  code: string
  message: string
  times: number
}

/**
 * Who asked for which topic lately and did not get it. Without it, whoever asks why something did not arrive is told only
 * that nobody is subscribed.
 */
export class RefusalNotes {
  /** Of each topic the newest first. Topics with a new refusal come last. */
  readonly #notes = new Map<Topic, Refusal[]>()

  /** Ends as `granting` does. A rejection is noted. */
  async watch(who: Refused, topic: Topic, granting: Promise<void>): Promise<void> {
    try {
      await granting
    } catch (error) {
      this.add(who, topic, error)
      throw error
    }
  }

  add({ user, id }: Refused, topic: Topic, error: unknown, at = performance.now()): void {
    const { code, message } = told(error)
    const before = this.of(topic, at)
    // A client that tries again and again must not push out the others.
    const isSame = (it: Refusal) => it.code === code && it.user === user && (user !== null || it.connection === id)
    const times = (before.find(isSame)?.times ?? 0) + 1
    const newest = { at, user, connection: id, code, message, times }
    this.#notes.delete(topic)
    const rest = before.filter(it => !isSame(it)).slice(0, MAX_REFUSALS - 1)
    this.#notes.set(ownText(topic), [newest, ...rest])
    if (this.#notes.size > MAX_TOPICS) this.#notes.delete(this.#notes.keys().next().value!)
  }

  /** Those of the last ten minutes, the newest first. */
  of(topic: Topic, now = performance.now()): readonly Refusal[] {
    return this.#notes.get(topic)?.filter(({ at }) => now - at < KEPT) ?? []
  }
}

/** As the client was told. */
function told(error: unknown): Pick<Refusal, 'code' | 'message'> {
  if (!isForClients(error)) {
    return { code: 'PUSH_ERR_HANDLER', message: 'authorize() failed: the log of the node says why' }
  }
  const { code, message } = error
  const name = typeof code === 'string' ? code : 'PUSH_ERR_HANDLER'
  return { code: ownText(name.slice(0, MAX_CODE)), message: ownText(message.slice(0, MAX_MESSAGE)) }
}

/** Any other error is that of a server, and in its log only. */
function isForClients(error: unknown): error is Error & { code?: unknown } {
  if (isPushError(error)) return true
  const { statusCode } = (error ?? {}) as { statusCode?: unknown }
  return error instanceof Error && typeof statusCode === 'number' && statusCode < 500
}
