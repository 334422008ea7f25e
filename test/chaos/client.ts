import { createHash } from 'node:crypto'
import { WebSocket } from 'ws'
import type { Gap, TopicState, Welcome } from '../../src/protocol/messages.ts'
import { shouldReconnect } from '../../src/protocol/messages.ts'
import type { Journal } from './journal.ts'
import type { Payload } from './topics.ts'

interface Message {
  type: string
  payload: unknown
  topic?: string
  id?: string
  seq?: number
  ref?: number
}

export interface ClientOptions {
  name: string
  /** The next address to try. */
  url(): string
  user: string
  room: string
  /** Topics it subscribes to itself. */
  topics: readonly string[]
  journal: Journal
  changed(): void
}

const RETRY = 150
const PING_INTERVAL = 700
const SILENCE = 2500
const CHURN_PAUSE = 400

export function hashOf(payload: unknown): string {
  return createHash('md5').update(JSON.stringify(payload)).digest('base64url').slice(0, 10)
}

/** A small client that keeps the last id of every topic, resumes from it, and notes all it is told. */
export class ChaosClient {
  /** The last id held, by topic. */
  readonly last = new Map<string, string>()
  /** Where topics go on after a gap that is announced. */
  readonly #next = new Map<string, string>()
  /** Canaries that came, and positions a gap led to. */
  readonly canaries = new Set<string>()
  readonly #options: ClientOptions
  readonly #joined = new Set<string>()
  #socket: WebSocket | undefined
  #timer: NodeJS.Timeout | undefined
  #heardAt = 0
  #isEnding = false

  constructor(options: ClientOptions) {
    this.#options = options
    this.#connect()
  }

  get user(): string {
    return this.#options.user
  }

  get topics(): string[] {
    const { user, room, topics } = this.#options
    return ['all', `user:${user}`, room, ...topics]
  }

  get isSubscribed(): boolean {
    return this.topics.every(topic => this.#joined.has(topic))
  }

  #note(entry: object): void {
    this.#options.journal.note({ c: this.#options.name, ...entry })
  }

  #connect(): void {
    const { user, room, url } = this.#options
    const own = ['all', `user:${user}`, room].filter(topic => this.last.has(topic))
    const since = Object.fromEntries(own.map(topic => [topic, this.last.get(topic)!]))
    const query = own.length > 0 ? `&since=${encodeURIComponent(JSON.stringify(since))}` : ''
    const base = url()
    const socket = new WebSocket(`${base}/ws/${room.slice('channel:'.length)}?user=${user}${query}`, {
      handshakeTimeout: 2000,
      perMessageDeflate: false,
    })
    this.#socket = socket
    this.#heardAt = Date.now()
    this.#note({ e: 'connect', base })
    socket.on('message', data => this.#receive(JSON.parse(String(data)) as Message, since))
    socket.on('error', () => {})
    socket.on('close', (code, reason) => this.#onClose(code, String(reason)))
    this.#watch(socket)
  }

  /** A half-open connection is found by silence. */
  #watch(socket: WebSocket): void {
    clearInterval(this.#timer)
    this.#timer = setInterval(() => {
      if (Date.now() - this.#heardAt > SILENCE) socket.terminate()
      else if (socket.readyState === WebSocket.OPEN) this.#send('ping', {})
    }, PING_INTERVAL)
  }

  #onClose(code: number, reason: string): void {
    clearInterval(this.#timer)
    this.#joined.clear()
    this.#note({ e: 'close', code, reason })
    if (this.#isEnding) return this.#options.changed()
    if (!shouldReconnect(code)) return this.#note({ e: 'stays-closed', code, reason })
    setTimeout(() => this.#connect(), RETRY * (0.5 + Math.random()))
  }

  #send(type: string, payload: unknown, ref?: number): void {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify({ type, payload, ref }))
  }

  #subscribe(topic: string): void {
    const since = this.last.get(topic)
    this.#note({ e: 'ask', topic, since })
    this.#send('subscribe', { topic, ...(since !== undefined && { since }) }, 1)
  }

  #receive(message: Message, since: Record<string, string>): void {
    this.#heardAt = Date.now()
    if (message.topic !== undefined) return this.#take(message as Required<Message>)
    if (message.type === 'welcome') this.#welcomed(message.payload as Welcome, since)
    else if (message.type === 'subscribed') {
      const { topic, ...state } = message.payload as TopicState & { topic: string }
      this.#started(topic, state, this.last.get(topic))
    } else if (message.type === 'unsubscribed') this.#left((message.payload as { topic: string }).topic)
    else if (message.type === 'gap') this.#gap(message.payload as Gap)
    else if (message.type === 'error') this.#note({ e: 'error', payload: message.payload })
  }

  #welcomed({ node, topics }: Welcome, since: Record<string, string>): void {
    this.#note({ e: 'welcome', node })
    this.#next.clear()
    for (const [topic, state] of Object.entries(topics)) {
      if (!topic.startsWith('connection:')) this.#started(topic, state, since[topic])
    }
    for (const topic of this.#options.topics) this.#subscribe(topic)
  }

  #started(topic: string, state: TopicState, since: string | undefined): void {
    this.#note({ e: 'sub', topic, since, ...state })
    this.#joined.add(topic)
    // With what was missed still to come, the client holds no more than it did.
    if (state.id !== undefined && state.recovered === undefined) this.last.set(topic, state.id)
    // What it holds stays until the gap is told that is announced by this.
    if (state.id !== undefined && state.recovered === false) this.#next.set(topic, state.id)
    this.#options.changed()
  }

  #take({ type, payload, topic, id, seq }: Required<Message>): void {
    const { k } = payload as Payload
    this.#note({ e: 'msg', topic, id, seq, k, h: hashOf(payload) })
    if (id !== undefined) this.last.set(topic, id)
    this.#next.delete(topic)
    if (type !== 'canary') return
    this.canaries.add(k)
    this.#options.changed()
  }

  #gap({ topics, reason, positions }: Gap): void {
    this.#note({ e: 'gap', topics, reason, positions })
    for (const topic of topics) {
      const id = positions?.[topic]?.id ?? this.#next.get(topic)
      if (id !== undefined) this.last.set(topic, id)
      this.#next.delete(topic)
    }
    this.#options.changed()
  }

  /** Leaves one of its topics and comes back to it soon, from where it was. */
  churn(topic: string): void {
    if (!this.#options.topics.includes(topic) || !this.#joined.delete(topic)) return
    this.#note({ e: 'churn', topic })
    this.#send('unsubscribe', { topic })
  }

  #left(topic: string): void {
    const socket = this.#socket
    setTimeout(() => socket === this.#socket && this.#subscribe(topic), Math.random() * CHURN_PAUSE)
  }

  /** The connection is gone without a word. */
  drop(): void {
    this.#socket?.terminate()
  }

  end(): void {
    this.#isEnding = true
    this.#socket?.close(1000)
  }

  get isClosed(): boolean {
    return this.#socket?.readyState === WebSocket.CLOSED
  }
}
