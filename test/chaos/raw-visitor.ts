import { WebSocket } from 'ws'
import type { PresenceMessage } from '../../src/protocol/presence.ts'
import { PresenceView } from './presence-view.ts'
import { RETRY, Visitor, type VisitorOptions } from './visitor.ts'

type Message =
  | { type: 'welcome'; payload: object }
  | { type: 'subscribed'; payload: { topic: string; presence?: PresenceMessage | null } }
  | { type: 'push.presence'; payload: PresenceMessage }
  | { type: 'error'; payload: { code: string; message: string } }

const PING_INTERVAL = 700
const SILENCE = 2500

/** Follows protocol.md by itself. */
export class RawVisitor extends Visitor {
  readonly #views = new Map<string, PresenceView>()
  #socket: WebSocket | undefined
  #watching: NodeJS.Timeout | undefined
  #heardAt = 0

  constructor(options: VisitorOptions) {
    super(options)
    this.open()
  }

  seen(topic: string): ReadonlyMap<string, number> | undefined {
    const view = this.#views.get(topic)
    return view?.isKnown ? view.members : undefined
  }

  get isClosed(): boolean {
    return !this.#socket || this.#socket.readyState === WebSocket.CLOSED
  }

  protected open(): void {
    const { url, user, random } = this.options
    this.attempted()
    const socket = new WebSocket(`${url()}/ws/visit?user=${user}`, { handshakeTimeout: 2000, perMessageDeflate: false })
    this.#socket = socket
    this.#heardAt = Date.now()
    socket.on('message', data => {
      // One that is closing slowly may bring what was sent before, when another has long taken its place.
      if (socket === this.#socket) this.#receive(JSON.parse(String(data)) as Message)
    })
    socket.on('error', () => {})
    socket.on('close', code => {
      if (socket !== this.#socket) return
      clearInterval(this.#watching)
      this.#views.clear()
      this.left(this.topics, code)
      if (this.isComing) setTimeout(() => this.#again(socket), random.between(...RETRY))
    })
    clearInterval(this.#watching)
    this.#watching = setInterval(() => {
      if (Date.now() - this.#heardAt > SILENCE) socket.terminate()
      else this.#send('ping', {})
    }, PING_INTERVAL)
  }

  /** Unless it went away meanwhile, or came back from there. */
  #again(socket: WebSocket): void {
    if (this.isComing && this.#socket === socket) this.open()
  }

  #send(type: string, payload: object): void {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify({ type, payload, ref: 1 }))
  }

  #ask(topic: string): void {
    this.#send('subscribe', { topic, presence: true })
  }

  #receive(message: Message): void {
    this.#heardAt = Date.now()
    if (message.type === 'welcome') {
      this.entered('all')
      for (const topic of this.topics) this.#ask(topic)
    } else if (message.type === 'subscribed') {
      const { topic, presence } = message.payload
      this.#views.set(topic, new PresenceView())
      this.note({ e: 'asked', topic })
      this.entered(topic)
      if (presence) this.#take(presence)
    } else if (message.type === 'push.presence') this.#take(message.payload)
    else if (message.type === 'error') this.#refused(message.payload)
  }

  #take(message: PresenceMessage): void {
    const view = this.#views.get(message.topic)
    if (!view) return
    this.told(message.topic, message)
    view.take(message)
    this.options.changed()
  }

  /** While Redis is away a topic cannot be asked for: a connection that did not get it is of no use. */
  #refused(payload: { code: string }): void {
    this.note({ e: 'error', payload })
    this.drop()
  }

  protected drop(): void {
    this.#socket?.terminate()
  }

  protected close(): void {
    this.#views.clear()
    this.#socket?.close(1000)
  }

  protected leaveLobby(): void {
    this.#views.delete(this.options.lobby)
    this.#send('unsubscribe', { topic: this.options.lobby })
  }

  protected enterLobby(): void {
    this.attempted()
    this.#ask(this.options.lobby)
  }
}
