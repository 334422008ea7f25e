import type { Client } from '../index.ts'
import { type Admission, ChannelError } from './options.ts'

/** As the client asks again for a topic: most failures last for a moment, and a channel should not be silent for longer. */
const RETRY = 1000
const MAX_RETRY = 60_000
/** Too slow, too early, too many: a later attempt may get another answer. */
const PASSING = [408, 425, 429]

/** What happens to the channels of a connector. */
export interface AccessEvents {
  /** The names of all channels that the page wants. */
  names(): string[]
  ask(channels: string[]): Promise<Admission>
  /** `isBehind`: it was heard before, and what came meanwhile was missed. */
  granted(name: string, isBehind: boolean): void
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
  /** Nobody could say whether they may be heard: `timer` asks again. */
  private failing = new Set<string>()
  /** Heard on this connection or an earlier one, and not left since. */
  private heard = new Set<string>()
  /** Heard before, and taken by the node: the client has dropped the position as well. */
  private interrupted = new Set<string>()
  /** What the next welcome grants. */
  private coming: string[] = []
  private isScheduled = false
  private isRenewing = false
  /** How many questions were asked: only the last one knows the present user and rights. */
  private questions = 0
  private isOver = false
  private timer: ReturnType<typeof setTimeout> | undefined
  private failures = 0

  constructor(client: Client, events: AccessEvents) {
    this.client = client
    this.events = events
    client.listen('welcome', () => this.begin())
    client.listen('authenticated', ({ topics }) => this.check(topics))
    client.listen('unsubscribed', ({ topic }) => this.interrupt(topic.replace(/^channel:/, '')))
    client.listen('state', ({ state }) => state !== 'open' && this.reset())
  }

  /** The option `ticket` of the client: for every connection, and before an identity expires. */
  async ticket(): Promise<string> {
    const names = this.events.names()
    const isLast = this.question()
    try {
      const { ticket, denied } = await this.ask(names)
      if (isLast()) {
        this.settle(denied)
        this.coming = names.filter(name => !denied.has(name))
      }
      return ticket
    } catch (error) {
      if (isLast() && this.concernsChannels(error)) for (const name of names) this.events.failed(name, error)
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
    for (const names of [this.granted, this.denied, this.failing, this.heard, this.interrupted]) names.delete(name)
  }

  /** Nothing is told any more, whatever is still asked. */
  end(): void {
    this.isOver = true
    clearTimeout(this.timer)
  }

  /** Begins one. Whether it is still the last: an older one may have been answered for another user. */
  private question(): () => boolean {
    const number = ++this.questions
    return () => number === this.questions && !this.isOver
  }

  /** The client says so as well, tries again, and knows nothing of channels. */
  private concernsChannels(error: unknown): error is ChannelError {
    if (isRefusal(error)) return true
    // An open connection still has its channels, and without an answer it is the page that is cut off.
    return this.client.state !== 'open' && error instanceof ChannelError && error.status !== undefined
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

  private interrupt(name: string): void {
    if (this.heard.has(name)) this.interrupted.add(name)
  }

  private reset(): void {
    clearTimeout(this.timer)
    this.timer = undefined
    this.failures = 0
    for (const names of [this.granted, this.denied, this.failing]) names.clear()
  }

  private get missing(): string[] {
    const isOpen = (name: string) => !this.granted.has(name) && !this.denied.has(name) && !this.failing.has(name)
    return this.events.names().filter(isOpen)
  }

  private async renew(): Promise<void> {
    if (this.isRenewing || this.client.state !== 'open' || this.missing.length === 0) return
    this.isRenewing = true
    const { connection } = this.client.welcome!
    const isSame = () => this.client.state === 'open' && this.client.welcome?.connection === connection
    const names = this.events.names().filter(name => !this.denied.has(name))
    const isLast = this.question()
    try {
      const { ticket, denied } = await this.ask(names)
      if (isSame() && isLast()) this.settle(denied)
      if (isSame()) await this.client.authenticate({ ticket })
      if (isSame()) this.took(names.filter(name => !denied.has(name)))
    } catch (error) {
      if (isSame()) this.failed(error)
    }
    this.isRenewing = false
    this.want()
  }

  /** Rejects with what the channels that are still missing are told. */
  private async ask(names: string[]): Promise<{ ticket: string; denied: Map<string, number> }> {
    const { ticket, denied = {} } = await this.events.ask(names)
    const refused = names.filter(name => Object.hasOwn(denied, name))
    return { ticket, denied: new Map(refused.map(name => [name, Number(denied[name])])) }
  }

  /** One callback of the backend that failed for a moment must not take a channel for the life of the connection. */
  private settle(denied: ReadonlyMap<string, number>): void {
    const names = this.events.names()
    // What was left meanwhile may be opened again, and is asked for then.
    const wanted = [...denied].filter(([name]) => names.includes(name))
    const failed = wanted.filter(([, status]) => isPassing(status))
    for (const [name, status] of wanted) if (!isPassing(status)) this.deny(name, status)
    for (const [name, status] of failed) {
      this.fail(name, new ChannelError('the backend failed to say whether the channel may be heard', { status }))
    }
    if (failed.length > 0) this.askLater()
  }

  /** The node has taken the new identity. Only now: a node that takes none is not asked ever again at the first pace. */
  private took(names: readonly string[]): void {
    for (const name of names) this.grant(name)
    if (this.failing.size === 0) this.failures = 0
  }

  private grant(name: string): void {
    this.failing.delete(name)
    // It may have been left meanwhile.
    if (this.granted.has(name) || !this.events.names().includes(name)) return
    this.granted.add(name)
    this.heard.add(name)
    this.events.granted(name, this.interrupted.delete(name))
  }

  private deny(name: string, status: number): void {
    this.forget(name)
    this.denied.add(name)
    this.events.denied(name, new ChannelError('the backend does not let this user hear the channel', { status }))
  }

  private fail(name: string, error: ChannelError): void {
    this.failing.add(name)
    // The node refuses it now. What an open connection has is taken with the new identity, and the node says so.
    if (!this.granted.has(name)) this.interrupt(name)
    this.events.failed(name, error)
  }

  private failed(error: unknown): void {
    const { code, message } = error as { code?: string; message: string }
    if (code === 'PUSH_ERR_FORBIDDEN' || code === 'PUSH_ERR_UNSUPPORTED') return this.events.outgrown(code)
    const told = error instanceof ChannelError ? error : new ChannelError(message, { ...(code && { code }) })
    for (const name of this.missing) {
      if (isRefusal(told)) this.denied.add(name)
      else this.failing.add(name)
      this.events.failed(name, told)
    }
    if (!isRefusal(told)) this.askLater()
  }

  /** At random, so that many pages do not ask together; at least half, because the cause may last. */
  private askLater(): void {
    const wait = Math.min(MAX_RETRY, RETRY * 2 ** this.failures++)
    clearTimeout(this.timer)
    this.timer = setTimeout(() => this.again(), wait * (0.5 + Math.random() / 2))
  }

  private again(): void {
    this.timer = undefined
    this.failing.clear()
    this.want()
  }
}

/** Another attempt would get the same answer. */
function isRefusal(error: unknown): error is ChannelError {
  const { status = 0 } = error instanceof ChannelError ? error : {}
  return status >= 400 && !isPassing(status)
}

function isPassing(status: number): boolean {
  return status >= 500 || PASSING.includes(status)
}
