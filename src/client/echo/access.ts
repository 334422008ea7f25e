import type { Client } from '../index.ts'
import { type Admission, ChannelError } from './options.ts'

const RETRY = 5000
/** Too slow, too early, too many: a later attempt may get another answer. */
const PASSING = [408, 425, 429]

/** What happens to the channels of a connector. */
export interface AccessEvents {
  /** The names of all channels that the page wants. */
  names(): string[]
  ask(channels: string[]): Promise<Admission>
  granted(name: string): void
  /** It is not heard on this connection. */
  denied(name: string, error: ChannelError): void
  /** Nobody could say whether it may be heard. */
  failed(name: string, error: ChannelError): void
  /** This connection cannot become what the backend says: another one is needed. */
  outgrown(code: string): void
}

/**
 * Which channels the present identity may hear. A connection begins with a ticket for all channels that there are by then;
 * what comes later is asked for together, and a ticket for all of them replaces the identity.
 */
export class Access {
  private client: Client
  private events: AccessEvents
  private granted = new Set<string>()
  /** Not asked for again on this connection. */
  private denied = new Set<string>()
  /** What the next welcome grants. */
  private coming: string[] = []
  private isScheduled = false
  private isRenewing = false
  private timer: ReturnType<typeof setTimeout> | undefined

  constructor(client: Client, events: AccessEvents) {
    this.client = client
    this.events = events
    client.listen('welcome', () => this.begin())
    client.listen('authenticated', ({ topics }) => this.check(topics))
    client.listen('state', ({ state }) => state !== 'open' && this.reset())
  }

  /** The option `ticket` of the client: for every connection, and before an identity expires. */
  async ticket(): Promise<string> {
    const names = this.events.names()
    try {
      const { ticket, denied } = await this.ask(names)
      this.coming = names.filter(name => !denied.has(name))
      return ticket
    } catch (error) {
      // The client says so as well, tries again, and knows nothing of channels.
      if (isRefusal(error)) for (const name of names) this.events.failed(name, error)
      throw error
    }
  }

  /** A channel is new. Those of one turn are asked for together. */
  want(): void {
    if (this.isScheduled || this.client.state !== 'open') return
    this.isScheduled = true
    queueMicrotask(() => {
      this.isScheduled = false
      void this.renew()
    })
  }

  forget(name: string): void {
    this.granted.delete(name)
    this.denied.delete(name)
  }

  end(): void {
    clearTimeout(this.timer)
  }

  private begin(): void {
    const names = new Set(this.events.names())
    for (const name of this.coming) if (names.has(name)) this.grant(name)
    this.want()
  }

  /** An identity that was asked for before a channel was new has taken it away again. */
  private check(topics: readonly string[]): void {
    for (const name of this.granted) if (!topics.includes(`channel:${name}`)) this.granted.delete(name)
    this.want()
  }

  private reset(): void {
    clearTimeout(this.timer)
    this.timer = undefined
    this.granted.clear()
    this.denied.clear()
  }

  private get missing(): string[] {
    return this.events.names().filter(name => !this.granted.has(name) && !this.denied.has(name))
  }

  private async renew(): Promise<void> {
    if (this.isRenewing || this.client.state !== 'open' || this.missing.length === 0) return
    this.isRenewing = true
    const { connection } = this.client.welcome!
    const isSame = () => this.client.state === 'open' && this.client.welcome?.connection === connection
    const names = this.events.names().filter(name => !this.denied.has(name))
    try {
      const { ticket, denied } = await this.ask(names)
      if (isSame()) await this.client.authenticate({ ticket })
      if (isSame()) for (const name of names) if (!denied.has(name)) this.grant(name)
    } catch (error) {
      if (isSame()) this.failed(error)
    }
    this.isRenewing = false
    if (this.timer === undefined) this.want()
  }

  /** Rejects with what the channels that are still missing are told. */
  private async ask(names: string[]): Promise<{ ticket: string; denied: Set<string> }> {
    const { ticket, denied = {} } = await this.events.ask(names)
    const refused = names.filter(name => Object.hasOwn(denied, name))
    for (const name of refused) this.deny(name, Number(denied[name]))
    return { ticket, denied: new Set(refused) }
  }

  private grant(name: string): void {
    // It may have been left meanwhile.
    if (this.granted.has(name) || !this.events.names().includes(name)) return
    this.granted.add(name)
    this.events.granted(name)
  }

  private deny(name: string, status: number): void {
    this.granted.delete(name)
    this.denied.add(name)
    this.events.denied(name, new ChannelError('the backend does not let this user hear the channel', { status }))
  }

  private failed(error: unknown): void {
    const { code, message } = error as { code?: string; message: string }
    if (code === 'PUSH_ERR_FORBIDDEN' || code === 'PUSH_ERR_UNSUPPORTED') return this.events.outgrown(code)
    const told = error instanceof ChannelError ? error : new ChannelError(message, { ...(code && { code }) })
    for (const name of this.missing) {
      if (isRefusal(told)) this.denied.add(name)
      this.events.failed(name, told)
    }
    if (!isRefusal(told)) this.timer = setTimeout(() => this.again(), RETRY * (0.5 + Math.random() / 2))
  }

  private again(): void {
    this.timer = undefined
    this.want()
  }
}

/** Another attempt would get the same answer. */
function isRefusal(error: unknown): error is ChannelError {
  const { status = 0 } = error instanceof ChannelError ? error : {}
  return status >= 400 && status < 500 && !PASSING.includes(status)
}
