import { ClientError } from './handlers.ts'

const REPLY_WITHIN = 10_000
const MAX_REQUESTS = 256
/** The limit of setTimeout: with more, the timer would fire at once. */
export const MAX_TIMER = 2 ** 31 - 1

/** A promise for a later answer, with its resolve and reject. */
export interface Answer<T = unknown> {
  promise: Promise<T>
  resolve(payload: T): void
  reject(error: ClientError): void
}

/** Requests on the present connection that wait for an answer with their ref. */
export class Requests {
  private say: (message: object) => boolean
  private pending = new Map<unknown, Answer>()
  private lastRef = 0

  /** `say` sends a message and returns false if it cannot. */
  constructor(say: (message: object) => boolean) {
    this.say = say
  }

  get isFull(): boolean {
    return this.pending.size >= MAX_REQUESTS
  }

  nextRef(): number {
    return ++this.lastRef
  }

  get(ref: unknown): Answer | undefined {
    return this.pending.get(ref)
  }

  /** `sent` is called as soon as the message was written: from then on it may be handled. */
  async ask(type: string, payload: unknown, timeout: number = REPLY_WITHIN, sent = () => {}): Promise<never> {
    const ref = this.nextRef()
    const answer = defer<never>()
    if (!this.say({ type, payload, ref })) throw lost()
    sent()
    const late = () => answer.reject(new ClientError('TIMEOUT', `no answer to ${type} in ${timeout} ms`))
    const timer = setTimeout(late, Math.min(timeout, MAX_TIMER))
    this.pending.set(ref, answer)
    try {
      return await answer.promise
    } finally {
      clearTimeout(timer)
      this.pending.delete(ref)
    }
  }

  /** The connection is lost, and no answer will come. */
  fail(): void {
    for (const answer of this.pending.values()) answer.reject(lost())
  }
}

/** Nobody has to await the promise: a loss that the client repairs itself must not be an unhandled rejection. */
export function defer<T>(): Answer<T> {
  const answer = {} as Answer<T>
  answer.promise = new Promise<T>((resolve, reject) => Object.assign(answer, { resolve, reject }))
  answer.promise.catch(() => {})
  return answer
}

export function lost(): ClientError {
  return new ClientError('CLOSED', 'the client is not connected')
}
