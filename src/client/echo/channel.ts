import type { Client, PublishedMessage } from '../index.ts'
import { CLIENT, eventOf, NOTIFICATION, typeOf, WHISPER } from './events.ts'
import { ChannelError } from './options.ts'

// biome-ignore lint/complexity/noBannedTypes: what Echo's own channels take
type Callback = Function

/** What a channel needs of its connector. */
export interface ChannelHome {
  readonly namespace: string | false
  readonly client: Client
  /** Messages of `type` are wanted on the channel, or all with `*`. */
  hear(channel: PushChannel, type: string): void
  ignore(channel: PushChannel, type: string): void
  missed(topics: readonly string[]): void
}

/** Kinds of callback that are no types of messages. */
const [SUBSCRIBED, FAILED, MISSED] = ['#subscribed', '#error', '#missed']
const ALL = '*'

/** A channel of Laravel: the topic `channel:` and its name. */
export class PushChannel {
  readonly name: string
  readonly topic: string
  protected readonly home: ChannelHome
  private readonly callbacks = new Map<string, Set<Callback>>()

  constructor(home: ChannelHome, name: string) {
    this.home = home
    this.name = name
    this.topic = `channel:${name}`
  }

  /** `OrderShipped` of the namespace, or `.order.shipped` as it is. */
  listen(event: string, callback: Callback): this {
    return this.on(typeOf(event, this.home.namespace), callback)
  }

  /** Calls `callback(event, data)` for every event. */
  listenToAll(callback: Callback): this {
    return this.on(ALL, callback)
  }

  listenForWhisper(event: string, callback: Callback): this {
    return this.on(CLIENT + event, callback)
  }

  notification(callback: Callback): this {
    return this.listen(NOTIFICATION, callback)
  }

  stopListening(event: string, callback?: Callback): this {
    return this.off(typeOf(event, this.home.namespace), callback)
  }

  stopListeningToAll(callback?: Callback): this {
    return this.off(ALL, callback)
  }

  stopListeningForNotification(callback?: Callback): this {
    return this.stopListening(NOTIFICATION, callback)
  }

  stopListeningForWhisper(event: string, callback?: Callback): this {
    return this.off(CLIENT + event, callback)
  }

  /** Called for every connection on which the channel is heard. */
  subscribed(callback: Callback): this {
    return this.add(SUBSCRIBED, callback)
  }

  /** Called with a ChannelError, whose `status` is 403 where the user may not hear the channel. */
  error(callback: Callback): this {
    return this.add(FAILED, callback)
  }

  /** Called when events were or may have been missed: load again what the page shows. Echo has no such callback. */
  missed(callback: Callback): this {
    return this.add(MISSED, callback)
  }

  /** Calls `callback(payload)` for messages of a type as it is. */
  on(type: string, callback: Callback): this {
    this.home.hear(this, sentAs(type))
    return this.add(type, callback)
  }

  /** The channel is left: see `Echo.leave`. */
  unsubscribe(): void {
    this.home.client.unsubscribe(this.topic)
  }

  /** The connection may hear the channel. `isBehind`: what came since it was heard last was missed. */
  join(isBehind = false): void {
    const { client } = this.home
    client.subscribe(this.topic).then(
      () => {
        this.emit(SUBSCRIBED)
        // Not before: what is loaded now has all that came until the channel was heard again.
        if (isBehind) this.home.missed([this.topic])
      },
      ({ code, message }: { code: string; message: string }) => {
        // What is lost with the connection, or is tried again, is no refusal.
        if (code.startsWith('PUSH_ERR_')) this.fail(new ChannelError(message, { code }))
      },
    )
  }

  fail(error: ChannelError): void {
    if (!this.emit(FAILED, error)) console.warn(`${this.name}: ${error.message}`, error.status ?? error.code ?? '')
  }

  /** True if somebody wants to know. */
  miss(): boolean {
    return this.emit(MISSED)
  }

  /** Throws what a callback has thrown: the message is not acknowledged then. */
  receive(message: PublishedMessage): void {
    const [type, payload] = contentOf(message)
    throwFirst(this.call(type, [payload]))
  }

  receiveAny(message: PublishedMessage): void {
    const [type, payload] = contentOf(message)
    throwFirst(this.call(ALL, [eventOf(type, this.home.namespace), payload]))
  }

  protected add(kind: string, callback: Callback): this {
    const callbacks = this.callbacks.get(kind) ?? new Set()
    this.callbacks.set(kind, callbacks.add(callback))
    return this
  }

  protected off(kind: string, callback: Callback | undefined): this {
    const callbacks = this.callbacks.get(kind)
    if (callback) callbacks?.delete(callback)
    if (!callback || callbacks?.size === 0) this.callbacks.delete(kind)
    const type = sentAs(kind)
    if (![...this.callbacks.keys()].some(kind => sentAs(kind) === type)) this.home.ignore(this, type)
    return this
  }

  /** False if nobody wants to know. */
  protected emit(kind: string, ...args: unknown[]): boolean {
    for (const failure of this.call(kind, args)) console.error(failure)
    return Boolean(this.callbacks.get(kind)?.size)
  }

  /** Calls all of a kind, also when one of them throws; returns what was thrown. */
  private call(kind: string, args: unknown[]): unknown[] {
    const failures: unknown[] = []
    for (const callback of [...(this.callbacks.get(kind) ?? [])]) {
      try {
        callback(...args)
      } catch (failure) {
        failures.push(failure)
      }
    }
    return failures
  }
}

/** Whispers of all kinds are messages of one type. */
const sentAs = (type: string): string => (type.startsWith(CLIENT) ? WHISPER : type)

function throwFirst(failures: unknown[]): void {
  if (failures.length > 0) throw failures[0]
}

/** A whisper is what clients publish: it has a sender, whom they cannot choose. */
function contentOf({ type, payload, from }: PublishedMessage): [type: string, payload: unknown] {
  if (type !== WHISPER || from === undefined) return [type, payload]
  const { event, data } = Object(payload) as { event?: unknown; data?: unknown }
  return [CLIENT + String(event), data]
}

/** A channel that routes/channels.php guards. */
export class PushPrivateChannel extends PushChannel {
  /** Tells the others on the channel, without Laravel. The nodes and the driver must allow whispers. */
  whisper(event: string, data: unknown = {}): this {
    const said = this.home.client.publish(this.topic, WHISPER, { event, data }, { echo: false })
    said.catch(({ code, message }: { code: string; message: string }) => {
      // A sign that somebody types may get lost with the connection.
      if (code.startsWith('PUSH_ERR_')) this.fail(new ChannelError(`whisper: ${message}`, { code }))
    })
    return this
  }
}
