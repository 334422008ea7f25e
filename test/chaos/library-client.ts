import type { WebSocket } from 'ws'
import { type Client, connect } from '../../src/client/index.ts'
import type { Gap, TopicState, Welcome } from '../../src/protocol/messages.ts'
import { type ChaosClient, type ClientOptions, hashOf } from './client.ts'
import type { Payload } from './topics.ts'
import { trackedIn } from './tracked-socket.ts'

/** What both kinds of clients let their host do. */
export type Hosted = Pick<
  ChaosClient,
  'topics' | 'user' | 'last' | 'canaries' | 'isSubscribed' | 'isClosed' | 'churn' | 'drop' | 'end'
>

/** A page whose client waits longer than this is opened anew: the library's own delays grow beyond a run. */
const PATIENCE = 800

/** The project's own client library: it resumes unasked, and this notes what an application is told. */
export class LibraryClient implements Hosted {
  readonly last = new Map<string, string>()
  readonly canaries = new Set<string>()
  readonly #options: ClientOptions
  #client: Client
  #sockets = new Set<WebSocket>()
  #isEnding = false

  constructor(options: ClientOptions) {
    this.#options = options
    this.#client = this.#open({})
  }

  get user(): string {
    return this.#options.user
  }

  get topics(): string[] {
    const { user, room, topics } = this.#options
    return ['all', `user:${user}`, room, ...topics]
  }

  get isSubscribed(): boolean {
    return this.#client.state === 'open' && this.topics.every(topic => this.last.has(topic))
  }

  get isClosed(): boolean {
    return this.#client.state === 'closed' && this.#sockets.size === 0
  }

  #note(entry: object): void {
    this.#options.journal.note({ c: this.#options.name, ...entry })
  }

  #open(since: Record<string, string>): Client {
    const { user, room, url, topics, changed } = this.#options
    const client = connect(`${url()}/ws/${room.slice('channel:'.length)}?user=${user}`, {
      topics,
      since,
      WebSocket: trackedIn(this.#sockets, changed),
    })
    client.on('*', (_payload, message) => this.#take(message as never))
    client.listen('gap', gap => this.#gap(gap))
    client.listen('welcome', welcome => this.#welcomed(welcome))
    client.listen('subscribed', ({ topic, ...state }) => this.#started(topic, state))
    client.listen('error', error => this.#note({ e: 'library-error', code: error.code, message: error.message }))
    client.listen('unreachable', () => {})
    client.listen('state', ({ state, code, delay }) => {
      if (state === 'waiting') this.#note({ e: 'close', code, reason: '' })
      if (state === 'waiting' && delay! > PATIENCE && !this.#isEnding) this.#reopen(client)
      changed()
    })
    return client
  }

  /** As a page does that is loaded again and had kept the positions. */
  #reopen(client: Client): void {
    const { positions } = client
    client.close()
    setTimeout(() => {
      if (!this.#isEnding) this.#client = this.#open(positions)
    }, PATIENCE * Math.random())
  }

  #welcomed({ node, topics }: Welcome): void {
    this.#note({ e: 'welcome', node })
    for (const [topic, state] of Object.entries(topics)) {
      if (!topic.startsWith('connection:')) this.#started(topic, state)
    }
  }

  /** Where it already holds a position and nothing is said of recovery, the library goes on asking by itself. */
  #started(topic: string, state: TopicState): void {
    const since = state.recovered === undefined ? this.last.get(topic) : undefined
    this.#note({ e: 'sub', topic, since, ...state })
    if (state.id !== undefined && state.recovered !== true && since === undefined) this.last.set(topic, state.id)
    this.#options.changed()
  }

  #take({
    type,
    payload,
    topic,
    id,
    seq,
  }: Required<{ type: string; payload: Payload; topic: string; id: string; seq: number }>): void {
    this.#note({ e: 'msg', topic, id, seq, k: payload.k, h: hashOf(payload) })
    this.last.set(topic, id)
    if (type === 'canary') this.canaries.add(payload.k)
    this.#options.changed()
  }

  #gap({ topics, reason, positions }: Gap): void {
    this.#note({ e: 'gap', topics, reason, positions })
    for (const topic of topics) {
      const position = positions?.[topic]
      if (position) this.last.set(topic, position.id)
    }
    this.#options.changed()
  }

  churn(): void {}

  drop(): void {
    for (const socket of this.#sockets) socket.terminate()
  }

  end(): void {
    this.#isEnding = true
    this.#client.close()
  }
}
