import { type Client, type ClientState, connect, type PublishedMessage } from '../index.ts'
import { Access } from './access.ts'
import { askBackend } from './admission.ts'
import { PushChannel, PushPrivateChannel } from './channel.ts'
import { type Admission, ChannelError, type PushConnectorOptions } from './options.ts'
import { PushPresenceChannel } from './presence-channel.ts'

export type { Admission, PushConnectorOptions }
export { ChannelError, PushChannel, PushPresenceChannel, PushPrivateChannel }

/** As Echo calls them. `failed`: closed by the server for good. */
export type ConnectionStatus = 'connected' | 'disconnected' | 'connecting' | 'reconnecting' | 'failed'

const NORMAL = 1000
const KINDS = ['', 'private-', 'private-encrypted-', 'presence-']

/**
 * The connector for Laravel Echo 2: `new Echo({ broadcaster: PushConnector, url: '/ws' })`. What a page may hear is decided
 * by routes/channels.php, over the driver `push` of the Composer package.
 */
export class PushConnector {
  readonly options: PushConnectorOptions
  /** By their full names. */
  readonly channels: Record<string, PushChannel> = {}
  /** The client of the present connection. Another user on the page needs another one. */
  client!: Client
  readonly namespace: string | false
  private access!: Access
  /** By channel and type: what ends the handler that the present client has for it. */
  private readonly heard = new Map<PushChannel, Map<string, () => void>>()
  private readonly statusCallbacks = new Set<(status: ConnectionStatus) => void>()
  private status: ConnectionStatus = 'connecting'
  private stop = () => {}

  constructor(options: PushConnectorOptions) {
    this.options = options
    this.namespace = options.namespace ?? 'App.Events'
    this.connect()
  }

  /** Also after `disconnect`, with all channels. */
  connect(since?: Readonly<Record<string, string>>): void {
    this.stop()
    if (this.status === 'failed' || this.status === 'disconnected') this.tell('connecting')
    const { url = '/ws', WebSocket } = this.options
    const ticket = () => this.access.ticket()
    const client: Client = connect(url, { ticket, ...(WebSocket && { WebSocket }), ...(since && { since }) })
    this.client = client
    this.access = new Access(client, {
      names: () => Object.keys(this.channels),
      ask: channels => askBackend(this.options, channels),
      granted: (name, isBehind) => this.channels[name]?.join(isBehind),
      denied: (name, error) => this.deny(name, error),
      failed: (name, error) => this.channels[name]?.fail(error),
      outgrown: code => this.connect(code === 'PUSH_ERR_UNSUPPORTED' ? client.positions : undefined),
    })
    for (const [channel, types] of this.heard) for (const type of types.keys()) this.attach(channel, type)
    client.listen('gap', ({ topics }) => this.missed(topics))
    const stopListening = client.listen('state', ({ state, code }) => this.tell(statusOf(state, code, this.status)))
    this.stop = () => {
      stopListening()
      this.access.end()
      if (client.state !== 'closed') client.close()
    }
  }

  disconnect(): void {
    this.stop()
    this.tell('disconnected')
  }

  listen(name: string, event: string, callback: CallableFunction): PushChannel {
    return this.channel(name).listen(event, callback)
  }

  channel(name: string): PushChannel {
    return this.open(name, PushChannel)
  }

  privateChannel(name: string): PushPrivateChannel {
    return this.open(`private-${name}`, PushPrivateChannel)
  }

  presenceChannel(name: string): PushPresenceChannel {
    return this.open(`presence-${name}`, PushPresenceChannel)
  }

  /** The channel, and the private and presence channels of that name. */
  leave(name: string): void {
    for (const kind of KINDS) this.leaveChannel(kind + name)
  }

  leaveChannel(name: string): void {
    const channel = this.channels[name]
    channel?.unsubscribe()
    for (const stop of this.heard.get(channel!)?.values() ?? []) stop()
    this.heard.delete(channel!)
    delete this.channels[name]
    this.access.forget(name)
  }

  /** For the header X-Socket-ID, by which Laravel knows whom `toOthers` leaves out. */
  socketId(): string | undefined {
    return this.client.state === 'open' ? this.client.welcome?.connection : undefined
  }

  connectionStatus(): ConnectionStatus {
    return this.status
  }

  /** Returns a function that ends it. */
  onConnectionChange(callback: (status: ConnectionStatus) => void): () => void {
    this.statusCallbacks.add(callback)
    return () => this.statusCallbacks.delete(callback)
  }

  /**
   * For channels: messages of a type are wanted. One handler for each channel, and only while it has callbacks: what no
   * handler takes is not acknowledged.
   */
  hear(channel: PushChannel, type: string): void {
    if (this.channels[channel.name] !== channel || this.heard.get(channel)?.has(type)) return
    this.attach(channel, type)
  }

  /** For channels: they are not wanted any more. */
  ignore(channel: PushChannel, type: string): void {
    const types = this.heard.get(channel)
    types?.get(type)?.()
    types?.delete(type)
    if (types?.size === 0) this.heard.delete(channel)
  }

  /** For channels and the client: messages of these topics were or may have been missed. */
  missed(topics: readonly string[]): void {
    const channels = topics.flatMap(topic => this.channels[topic.replace(/^channel:/, '')] ?? [])
    const unheard = channels.filter(channel => !channel.miss()).map(({ name }) => name)
    if (unheard.length > 0) console.warn('events were or may have been missed: see missed() of', unheard.join(', '))
  }

  private open<C extends PushChannel>(name: string, Kind: new (home: PushConnector, name: string) => C): C {
    const known = this.channels[name]
    if (known) return known as C
    const channel = new Kind(this, name)
    this.channels[name] = channel
    this.access.want()
    return channel
  }

  private attach(channel: PushChannel, type: string): void {
    const deliver = (_payload: unknown, message: PublishedMessage) =>
      type === '*' ? channel.receiveAny(message) : channel.receive(message)
    const types = this.heard.get(channel) ?? new Map<string, () => void>()
    this.heard.set(channel, types.set(type, this.client.on(type, deliver, { topic: channel.topic })))
  }

  private deny(name: string, error: ChannelError): void {
    const channel = this.channels[name]
    if (!channel) return
    // Or the next connection would ask the node in vain.
    channel.unsubscribe()
    channel.fail(error)
  }

  private tell(status: ConnectionStatus): void {
    if (status === this.status) return
    this.status = status
    for (const callback of [...this.statusCallbacks]) callback(status)
  }
}

function statusOf(state: ClientState, code: number | undefined, before: ConnectionStatus): ConnectionStatus {
  if (state === 'open') return 'connected'
  if (state === 'closed') return code === NORMAL ? 'disconnected' : 'failed'
  return before === 'connected' || before === 'reconnecting' ? 'reconnecting' : 'connecting'
}
