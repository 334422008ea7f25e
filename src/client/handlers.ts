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

/** What nobody should miss: the first of each goes to the console when nobody listens. */
const TO_LISTEN_FOR = {
  gap: 'messages were or may have been missed: listen for "gap" and fetch again what the page shows of these topics',
  invalid:
    'the server sent what is no message of the protocol: check the URL, and listen for "invalid" to see them all',
}

export type Handler = (...args: never[]) => unknown

/** The handlers of the application, and what becomes of one that fails. */
export class Handlers {
  private byName = new Map<string, Set<Handler>>()
  private warned = new Set<string>()

  add(name: string, handler: Handler): () => void {
    const handlers = this.byName.get(name) ?? new Set()
    this.byName.set(name, handlers.add(handler))
    return () => handlers.delete(handler)
  }

  /** Whether anybody listens. */
  emit(name: string, ...args: unknown[]): boolean {
    return this.run(name, args).length > 0
  }

  /** Calls the handlers of a published message; true when there are any and all have succeeded. */
  async deliver(message: { type: string; payload: unknown }): Promise<boolean> {
    const runs = [message.type, '*'].flatMap(type => this.run(`message ${type}`, [message.payload, message]))
    return runs.length > 0 && !(await Promise.all(runs)).includes(false)
  }

  /** Inside promises, so that what a handler throws or rejects with ends in one place; each says whether it succeeded. */
  private run(name: string, args: unknown[]): Promise<boolean>[] {
    const handlers = [...(this.byName.get(name) ?? [])] as ((...args: unknown[]) => unknown)[]
    return handlers.map(handler =>
      new Promise(done => done(handler(...args))).then(
        () => true,
        cause => this.broke(name, cause),
      ),
    )
  }

  /** Not thrown on in a microtask: that would end a Node process for one odd payload. */
  private broke(name: string, cause: unknown): false {
    // A failing error handler would be called with its own failure for ever.
    if (name === 'event error') console.error(cause)
    else this.report(new ClientError('HANDLER', `the handler of the ${name} failed`, cause))
    return false
  }

  tell(event: keyof typeof TO_LISTEN_FOR, detail: object): void {
    if (this.emit(`event ${event}`, detail) || this.warned.has(event)) return
    this.warned.add(event)
    console.warn(TO_LISTEN_FOR[event], detail)
  }

  report(error: ClientError): void {
    if (!this.emit('event error', error)) console.error(error)
  }
}
