import type { WebSocket } from 'ws'
import { type Client, connect, type Roster } from '../../src/client/index.ts'
import { trackedIn } from './tracked-socket.ts'
import { Visitor, type VisitorOptions } from './visitor.ts'

/** A page whose client waits longer than this is opened anew: the library's own delays grow beyond a run. */
const PATIENCE = 500

/** Uses the project's own client library, which keeps the list over reconnects. */
export class LibraryVisitor extends Visitor {
  readonly #rosters = new Map<string, Roster>()
  readonly #sockets = new Set<WebSocket>()
  #client: Client | undefined

  constructor(options: VisitorOptions) {
    super(options)
    this.open()
  }

  seen(topic: string): ReadonlyMap<string, number> | undefined {
    const roster = this.#rosters.get(topic)
    if (!roster?.isKnown) return undefined
    return new Map(roster.members.map(({ user, connections }) => [user, connections]))
  }

  get isClosed(): boolean {
    return this.#sockets.size === 0
  }

  protected open(): void {
    const { url, user, lobby, changed } = this.options
    this.attempted()
    const client = connect(`${url()}/ws/visit?user=${user}`, { WebSocket: trackedIn(this.#sockets, changed) })
    this.#client = client
    for (const topic of this.topics) this.#look(client, topic)
    client.listen('welcome', () => {
      this.entered('all')
      if (!this.#rosters.has(lobby)) this.#look(client, lobby)
    })
    client.listen('subscribed', ({ topic }) => this.entered(topic))
    client.listen('error', ({ code, message }) => this.note({ e: 'library-error', code, message }))
    client.listen('unreachable', () => {})
    client.listen('state', ({ state, code, delay }) => {
      if (client !== this.#client) return
      if (state !== 'open') this.left(this.topics, code)
      if (state === 'connecting') this.attempted()
      if (state === 'waiting' && delay! > PATIENCE) this.#reopen(client)
      changed()
    })
  }

  #look(client: Client, topic: string): void {
    const roster = client.presence(topic)
    this.#rosters.set(topic, roster)
    this.note({ e: 'opened', topic })
    roster.listen(({ joined, left }) => {
      this.note({ e: 'changed', topic, joined: joined.map(({ user }) => user), left: left.map(({ user }) => user) })
      this.options.changed()
    })
  }

  #reopen(client: Client): void {
    client.close()
    setTimeout(() => {
      if (this.isComing && this.#client === client) this.open()
    }, PATIENCE * Math.random())
  }

  protected drop(): void {
    for (const socket of this.#sockets) socket.terminate()
  }

  protected close(): void {
    this.#client?.close()
  }

  protected leaveLobby(): void {
    this.#rosters.delete(this.options.lobby)
    this.#client?.unsubscribe(this.options.lobby)
  }

  protected enterLobby(): void {
    this.attempted()
    this.#look(this.#client!, this.options.lobby)
  }
}
