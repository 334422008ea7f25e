import { io, type Socket } from 'socket.io-client'
import type { ClientOptions } from '../client.ts'
import type { Payload } from '../topics.ts'
import { host, PeerClient, RETRY } from './host.ts'

interface Message {
  type: string
  payload: Payload
  topic: string
}

class SocketIoClient extends PeerClient {
  readonly #socket: Socket

  constructor(options: ClientOptions) {
    super(options)
    this.#socket = io(options.url(), {
      transports: ['websocket'],
      forceNew: true,
      query: { topics: this.topics.join(',') },
      reconnectionDelay: RETRY,
      reconnectionDelayMax: RETRY * 2,
      timeout: 2000,
    })
    // As behind a balancer: each attempt may end at another node.
    this.#socket.io.on('reconnect_attempt', () => Object.assign(this.#socket.io, { uri: options.url() }))
    this.#socket.on('connect', () => this.#socket.recovered && this.subscribed(true))
    this.#socket.on('joined', () => this.subscribed(false))
    this.#socket.on('push', ({ type, payload, topic }: Message) => this.received(type, topic, payload.k))
    this.#socket.on('disconnect', reason => {
      this.lost(reason)
      if (reason === 'io server disconnect') this.#socket.connect()
    })
  }

  drop(): void {
    this.#socket.io.engine?.close()
  }
}

host(options => new SocketIoClient(options))
