import { ClientError, type Handlers } from './handlers.ts'
import type { ClientOptions } from './options.ts'

/** What the application gives to prove who it is. */
export class Credentials {
  private options: Pick<ClientOptions, 'ticket' | 'authenticate'>
  private handlers: Handlers
  private ask: (payload: object) => Promise<unknown>
  private isRenewing = false

  /** `ask` sends an `authenticate` message on the present connection. */
  constructor(
    options: Pick<ClientOptions, 'ticket' | 'authenticate'>,
    handlers: Handlers,
    ask: (payload: object) => Promise<unknown>,
  ) {
    this.options = options
    this.handlers = handlers
    this.ask = ask
  }

  get areGiven(): boolean {
    return Boolean(this.options.ticket || this.options.authenticate)
  }

  /** Puts a ticket into the URL, and returns the first message, if the application has the one or the other. */
  async prepare(url: URL): Promise<object | undefined> {
    const { ticket, authenticate } = this.options
    if (authenticate) return { type: 'authenticate', payload: await authenticate() }
    if (ticket) url.searchParams.set('ticket', usable(await ticket()))
    return undefined
  }

  /** The identity of this connection will expire. Without a new one the server closes it, and the next attempt asks. */
  async renew(): Promise<void> {
    const { ticket, authenticate } = this.options
    if (this.isRenewing || !this.areGiven) return
    this.isRenewing = true
    try {
      await this.ask(authenticate ? await authenticate() : { ticket: usable(await ticket!()) })
    } catch (cause) {
      this.failed(cause)
    }
    this.isRenewing = false
  }

  private failed(cause: unknown): void {
    if (!(cause instanceof ClientError)) this.handlers.report(new ClientError('TICKET', 'ticket() failed', cause))
    // If the connection is lost, the next attempt asks for another one.
    else if (cause.code !== 'CLOSED') this.handlers.report(cause)
  }
}

/** A ticket `undefined` would be sent as that word and refused with 4401, and the client would stay closed. */
function usable(ticket: string): string {
  if (typeof ticket !== 'string' || !ticket) throw new TypeError('ticket() did not return a string')
  return ticket
}
