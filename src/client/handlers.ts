/**
 * `code`: a code of the server (`PUSH_ERR_…`), or `CLOSED`, `TIMEOUT`, `BUSY`, `UNSUBSCRIBED`, or, with a `cause`,
 * `TICKET` (ticket() failed), `CONNECT` (the WebSocket could not be created) or `HANDLER` (a handler failed). With the
 * option `fallback` also `SSE` (over an event stream nothing can be sent) and `BUFFERED` (a proxy holds the stream back).
 */
export class ClientError extends Error {
  readonly code: string
  constructor(code: string, message: string, cause?: unknown) {
    super(message, { cause })
    this.code = code
  }
}

/** Events that nobody should miss: without a listener the first of each is logged to the console. */
const TO_LISTEN_FOR = {
  gap: 'messages were or may have been missed: listen for "gap" and fetch again what the page shows of these topics',
  invalid:
    'the server sent something that is not a message of the protocol: check the URL; listen for "invalid" to see each',
}

export type Handler = (...args: never[]) => unknown

/** The handlers of the application. An error in one does not affect the others. */
export class Handlers {
  private byName = new Map<string, Set<Handler>>()
  private warned = new Set<string>()

  add(name: string, handler: Handler): () => void {
    const handlers = this.byName.get(name) ?? new Set()
    this.byName.set(name, handlers.add(handler))
    return () => handlers.delete(handler)
  }

  /** Calls the handlers; true if there are any. */
  emit(name: string, ...args: unknown[]): boolean {
    return this.run(name, args).length > 0
  }

  /** Calls the handlers of a published message; true if there are any and all succeeded. */
  async deliver(message: { type: string; payload: unknown }): Promise<boolean> {
    const runs = [message.type, '*'].flatMap(type => this.run(`message ${type}`, [message.payload, message]))
    return runs.length > 0 && !(await Promise.all(runs)).includes(false)
  }

  /** Promises catch thrown errors and rejections alike. Each resolves with whether its handler succeeded. */
  private run(name: string, args: unknown[]): Promise<boolean>[] {
    const handlers = [...(this.byName.get(name) ?? [])] as ((...args: unknown[]) => unknown)[]
    return handlers.map(handler =>
      new Promise(done => done(handler(...args))).then(
        () => true,
        cause => this.broke(name, cause),
      ),
    )
  }

  /** Reported, not thrown again: an unhandled rejection would end a Node process because of one odd payload. */
  private broke(name: string, cause: unknown): false {
    // A failing error handler would be called with its own error for ever.
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

  /** `last`: how the last of so many attempts ended. Logged if nobody listens. */
  unreachable({ origin, pathname }: URL, attempts: number, last: string): void {
    const message =
      `no welcome from ${origin}${pathname} in ${attempts} attempts (the last: ${last.trim()}). ` +
      'Check that it is the path option of the plugin, that the server runs, that the proxy passes Upgrade and ' +
      'Connection, and that the origins option admits this page. 401: authenticate() refused; 500: it failed, see the ' +
      'log of the server. The client keeps trying.'
    if (!this.emit('event unreachable', { attempts, message })) console.warn(message)
  }
}
