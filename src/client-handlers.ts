/**
 * `code`: the server's (`PUSH_ERR_…`), or `CLOSED`, `TIMEOUT`, `BUSY`, `UNSUBSCRIBED`, or with a `cause` `TICKET`
 * (ticket() failed), `CONNECT` (no WebSocket could be made), `HANDLER` (a handler failed).
 */
export class ClientError extends Error {
  readonly code: string
  constructor(code: string, message: string, cause?: unknown) {
    super(message, { cause })
    this.code = code
  }
}

export type Handler = (...args: never[]) => unknown

/** The handlers of the application, and what becomes of one that fails. */
export class Handlers {
  private byName = new Map<string, Set<Handler>>()

  add(name: string, handler: Handler): () => void {
    const handlers = this.byName.get(name) ?? new Set()
    this.byName.set(name, handlers.add(handler))
    return () => handlers.delete(handler)
  }

  /** Whether anybody listens. Inside a promise, so that what a handler throws or rejects with ends in one place. */
  emit(name: string, ...args: unknown[]): boolean {
    const handlers = [...(this.byName.get(name) ?? [])] as ((...args: unknown[]) => unknown)[]
    for (const handler of handlers) new Promise(done => done(handler(...args))).catch(cause => this.broke(name, cause))
    return handlers.length > 0
  }

  /** Not thrown on in a microtask: that would end a Node process for one odd payload. */
  private broke(name: string, cause: unknown): void {
    // A failing error handler would be called with its own failure for ever.
    if (name === 'event error') console.error(cause)
    else this.report(new ClientError('HANDLER', `the handler of the ${name} failed`, cause))
  }

  report(error: ClientError): void {
    if (!this.emit('event error', error)) console.error(error)
  }
}
