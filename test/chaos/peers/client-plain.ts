import { WebSocket } from 'ws'
import type { ClientOptions } from '../client.ts'
import type { Payload } from '../topics.ts'
import { host, PeerClient, RETRY } from './host.ts'

interface Message {
  type: string
  payload: Payload
  topic?: string
}

/** A WebSocket that is opened again when it closes. */
class PlainClient extends PeerClient {
  readonly #address: () => string
  #socket!: WebSocket

  constructor(options: ClientOptions) {
    super(options)
    this.#address = () => `${options.url()}/ws?topics=${this.topics}`
    this.#connect()
  }

  #connect(): void {
    this.#socket = new WebSocket(this.#address(), { handshakeTimeout: 2000 })
    this.#socket.on('message', data => this.#take(JSON.parse(String(data)) as Message))
    this.#socket.on('error', () => {})
    this.#socket.on('close', code => {
      this.lost(`${code}`)
      setTimeout(() => this.#connect(), RETRY * (0.5 + Math.random()))
    })
  }

  #take({ type, payload, topic }: Message): void {
    if (topic === undefined) this.subscribed(false)
    else this.received(type, topic, payload.k)
  }

  drop(): void {
    this.#socket.terminate()
  }
}

host(options => new PlainClient(options))
