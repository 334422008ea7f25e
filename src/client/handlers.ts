/**
 * `code`: a code of the server (`PUSH_ERR_…`), or `CLOSED`, `TIMEOUT`, `BUSY`, `UNSUBSCRIBED`; of a request that was queued
 * also `EXPIRED`, `UNCONFIRMED` or `OTHER_USER`; with the option `fallback` also `SSE` (over an event stream nothing can be
 * sent), `BUFFERED` (a proxy holds the stream back) and `TOO_LONG` (no stream may name so many topics); or, with a `cause`,
 * `TICKET` (ticket() failed), `CONNECT` (the WebSocket could not be created), `HANDLER` (a handler failed) or `POSITIONS`
 * (positions could not be loaded or saved).
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

/** Under this name stand the handlers of the messages of a type: of one topic, or of all of them. */
export function messageName(type: string, topic?: string): string {
  return topic === undefined ? `message ${type}` : `message ${type} of ${topic}`
}

/** The handlers of the application. An error in one does not affect the others. */
export class Handlers {
  private byName = new Map<string, Set<Handler>>()
  private warned = new Set<string>()

  add(name: string, handler: Handler): () => void {
    const handlers = this.byName.get(name) ?? new Set()
    this.byName.set(name, handlers.add(handler))
    return () => {
      handlers.delete(handler)
      // A page that has seen ten thousand topics would keep as many empty sets.
      if (handlers.size === 0 && this.byName.get(name) === handlers) this.byName.delete(name)
    }
  }

  /** Calls the handlers; true if there are any. */
  emit(name: string, ...args: unknown[]): boolean {
    return this.run(name, args).length > 0
  }

  /** Calls the handlers of a published message; true if there are any and all succeeded. */
  async deliver(message: { type: string; payload: unknown; topic?: unknown }): Promise<boolean> {
    const { type, payload, topic } = message
    const names = [messageName(type), messageName('*')]
    // From outside: an object need not have a text.
    if (typeof topic === 'string') names.push(messageName(type, topic), messageName('*', topic))
    const runs = names.flatMap(name => this.run(name, [payload, message]))
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
