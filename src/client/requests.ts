import { ClientError } from './handlers.ts'

const REPLY_WITHIN = 10_000
const MAX_REQUESTS = 256
/** setTimeout takes no more; beyond it the timer would fire at once. */
export const MAX_TIMER = 2 ** 31 - 1

/** A promise with its handles, for an answer that comes, or fails, later. */
export interface Answer<T = unknown> {
  promise: Promise<T>
  resolve(payload: T): void
  reject(error: ClientError): void
}

/** What was asked on the present connection and waits for an answer with its ref. */
export class Requests {
  private pending = new Map<unknown, Answer>()
  private lastRef = 0

  get isFull(): boolean {
    return this.pending.size >= MAX_REQUESTS
  }

  nextRef(): number {
    return ++this.lastRef
  }

  get(ref: unknown): Answer | undefined {
    return this.pending.get(ref)
  }

  /** `write` sends the text and says whether it could. */
  async ask(
    write: (text: string) => boolean,
    type: string,
    payload: unknown,
    timeout: number = REPLY_WITHIN,
  ): Promise<never> {
    const ref = this.nextRef()
    const answer = defer<never>()
    if (!write(JSON.stringify({ type, payload, ref }))) throw lost()
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

  /** The connection is gone, and the answers with it. */
  fail(): void {
    for (const answer of this.pending.values()) answer.reject(lost())
  }
}

/** Nobody need wait for the promise: a loss that is mended by itself must not become an unhandled rejection. */
export function defer<T>(): Answer<T> {
  const answer = {} as Answer<T>
  answer.promise = new Promise<T>((resolve, reject) => Object.assign(answer, { resolve, reject }))
  answer.promise.catch(() => {})
  return answer
}

export function lost(): ClientError {
  return new ClientError('CLOSED', 'the client is not connected')
}
