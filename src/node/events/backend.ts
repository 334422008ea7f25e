import type { Metrics } from '../../broker/metrics.ts'
import { RareLine } from '../../broker/rare-line.ts'
import type { BackendOptions } from '../../options/events.ts'
import { errors, type PushError } from '../../protocol/errors.ts'
import type { Pass } from './circuit.ts'
import { Lane } from './lane.ts'
import { type Answer, CallFailure, Poster } from './post.ts'
import { SIGNATURE_HEADER, sign } from './signature.ts'

/** The part of the application's log that is used here. */
export interface Log {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
}

export type CallKind = 'connect' | 'subscribe' | 'message' | 'events'

/** What a gateway says of a backend behind it that does not work; 500 is a mistake in one call and says nothing of others. */
const DOWN = new Set([502, 503, 504])

/** The backend that the operator has configured: signed calls to one address, each of which ends in time. */
export class Backend {
  readonly #options: BackendOptions
  readonly #metrics: Metrics
  readonly #log: Log
  readonly #secrets: readonly string[]
  readonly #poster: Poster
  readonly #lanes: Record<CallKind, Lane>
  readonly #failed: RareLine

  constructor(options: BackendOptions, metrics: Metrics, log: Log) {
    const { url, secret, maxAnswer, concurrency } = options
    this.#options = options
    this.#metrics = metrics
    this.#log = log
    this.#secrets = [secret].flat()
    this.#poster = new Poster(new URL(url), maxAnswer, concurrency)
    const lane = () => new Lane(concurrency)
    // Batches of events come one after the other, or their order would be lost.
    this.#lanes = { connect: lane(), subscribe: lane(), message: lane(), events: new Lane(1) }
    this.#failed = new RareLine((fields, more) => log.warn({ ...fields, more }, 'push: a call to the backend failed'))
  }

  /** Rejects with PUSH_ERR_BACKEND_AWAY or PUSH_ERR_BACKEND_UNCONFIRMED, within the timeout. */
  async call(kind: CallKind, body: string): Promise<Answer> {
    this.#metrics.count('backend_calls_total', 1, kind)
    const deadline = performance.now() + this.#options.timeout
    const lane = this.#lanes[kind]
    // Before it waits for its turn as well: it would wait in vain.
    if (!lane.circuit.mayEnter(performance.now())) throw this.#refused('circuit', AWAY)
    const entry = await lane.enter(this.#options.timeout)
    if (entry !== 'in') throw this.#refused('busy', WHY[entry])
    try {
      const pass = this.#pass(kind, lane)
      if (!pass) throw this.#refused('circuit', AWAY)
      return await this.#send(kind, pass, body, deadline)
    } finally {
      lane.leave()
    }
  }

  /** Events have no circuit: their queue sends one batch at a time, with pauses that grow. */
  #pass(kind: CallKind, { circuit }: Lane): Pass | undefined {
    return kind === 'events' ? { isProbe: false } : circuit.enter(performance.now())
  }

  async #send(kind: CallKind, pass: Pass, body: string, deadline: number): Promise<Answer> {
    try {
      const bytes = Buffer.from(body)
      const headers = { 'content-type': 'application/json', [SIGNATURE_HEADER]: sign(this.#secrets, bytes, Date.now()) }
      const milliseconds = Math.max(1, deadline - performance.now())
      const answer = await this.#poster.post({ body: bytes, headers, milliseconds })
      if (DOWN.has(answer.status)) throw new StatusFailure(answer.status)
      this.#works(kind, pass)
      return answer
    } catch (error) {
      throw this.#unanswered(kind, pass, error as CallFailure | StatusFailure)
    }
  }

  #works(kind: CallKind, pass: Pass): void {
    if (kind === 'events' || !this.#lanes[kind].circuit.succeeded(pass)) return
    this.#log.info({ kind }, 'push: the backend answers again')
  }

  #unanswered(kind: CallKind, pass: Pass, error: CallFailure | StatusFailure): PushError {
    const isOpening = kind !== 'events' && this.#lanes[kind].circuit.failed(pass, performance.now())
    if (isOpening) this.#log.warn({ kind, err: error }, 'push: the backend does not answer; it is asked now and then')
    return this.failure(kind, error.reason, error)
  }

  /** Counts and logs that an answer could not be used, or did not come. */
  failure(kind: CallKind, reason: 'timeout' | 'network' | 'answer' | 'status', error: Error): PushError {
    this.#metrics.count('backend_failures_total', 1, reason)
    this.#failed.tell({ kind, err: error })
    const isKnown = error instanceof CallFailure || error instanceof StatusFailure
    return isKnown && !error.wasSent
      ? new errors.BACKEND_AWAY('the backend cannot be reached: try again later')
      : new errors.BACKEND_UNCONFIRMED('the backend gave no usable answer: it may or may not have handled this')
  }

  #refused(reason: 'busy' | 'circuit', message: string): PushError {
    this.#metrics.count('backend_failures_total', 1, reason)
    return new errors.BACKEND_AWAY(message)
  }

  close(): void {
    for (const lane of Object.values(this.#lanes)) lane.close()
    this.#poster.close()
  }
}

const AWAY = 'the backend does not answer at present: try again later'

const WHY = {
  full: 'too many calls are already waiting for the backend: try again later',
  late: 'the backend had too much to do: try again later',
  closed: 'this node is closing',
}

/** A gateway answered for a backend that does not work. */
class StatusFailure extends Error {
  readonly reason = 'status'
  readonly wasSent: boolean

  constructor(status: number) {
    super(`the answer has the status ${status}`)
    this.wasSent = status !== 503
  }
}
