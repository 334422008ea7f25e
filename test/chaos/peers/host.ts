import type { ClientOptions } from '../client.ts'
import type { ClientsConfig } from '../clients.ts'
import { Journal } from '../journal.ts'
import { Random } from '../random.ts'
import { CHANNELS, ROOMS, USERS } from '../topics.ts'

/** As long as ours waits, for all. */
export const RETRY = 150

export type HostCommand =
  | { e: 'drop'; share: number }
  /** Says so when all are subscribed. */
  | { e: 'gather' }
  /** Says so when all have these: keys by topic. */
  | { e: 'await'; canaries: Record<string, string> }
  | { e: 'end' }

/** What the host needs of a client; `ChaosClient` has it. */
interface Hosted {
  readonly topics: readonly string[]
  readonly isSubscribed: boolean
  readonly canaries: ReadonlySet<string>
  drop(): void
}

/** A client of a peer: notes what it is told in the words of `ChaosClient`, and when it was told that it missed something. */
export abstract class PeerClient implements Hosted {
  readonly canaries = new Set<string>()
  isSubscribed = false
  readonly #options: ClientOptions
  /** Since when it has known that it was not connected. */
  #lostAt: number | undefined

  constructor(options: ClientOptions) {
    this.#options = options
  }

  abstract drop(): void

  get topics(): string[] {
    const { user, room, topics } = this.#options
    return ['all', `user:${user}`, room, ...topics]
  }

  #note(entry: object): void {
    this.#options.journal.note({ c: this.#options.name, ...entry })
  }

  protected subscribed(isRecovered: boolean): void {
    this.isSubscribed = true
    for (const topic of this.topics) this.#note({ e: 'sub', topic, recovered: isRecovered })
    // The first time there is nothing that it could have missed.
    if (!isRecovered && this.#lostAt !== undefined) this.#note({ e: 'told', from: this.#lostAt })
    this.#lostAt = undefined
    this.#options.changed()
  }

  protected lost(reason = ''): void {
    if (!this.isSubscribed) return
    this.isSubscribed = false
    this.#lostAt = Date.now()
    this.#note({ e: 'close', reason })
  }

  protected received(type: string, topic: string, k: string): void {
    this.#note({ e: 'msg', topic, k })
    if (type !== 'canary') return
    this.canaries.add(k)
    this.#options.changed()
  }
}

/** The process of the clients: who they are is the same for every peer. */
export function host(create: (options: ClientOptions) => Hosted): void {
  const config = JSON.parse(process.env.CONFIG!) as ClientsConfig
  const journal = new Journal(config.journal)
  const random = new Random(config.seed)
  let look = () => {}
  const clients = Array.from({ length: config.count }, (_, i) => {
    const topics = [CHANNELS[i % CHANNELS.length]!, CHANNELS[(i * 7 + 3) % CHANNELS.length]!]
    return create({
      name: `c${i}`,
      url: () => random.pick(config.urls),
      user: USERS[i % USERS.length]!.slice('user:'.length),
      room: ROOMS[i % ROOMS.length]!,
      topics: [...new Set(topics)],
      journal,
      changed: () => look(),
    })
  })
  const until = (check: (client: Hosted) => boolean, word: string) => {
    const say = () => {
      if (!clients.every(check)) return
      look = () => {}
      process.send!({ e: word })
    }
    look = say
    say()
  }

  process.on('message', message => {
    const command = message as HostCommand
    if (command.e === 'drop') for (const client of clients) if (Math.random() < command.share) client.drop()
    if (command.e === 'gather') until(client => client.isSubscribed, 'gathered')
    if (command.e === 'await') until(client => has(client, command.canaries), 'up-to-date')
    if (command.e === 'end') {
      clients.forEach((client, i) => void journal.note({ c: `c${i}`, e: 'end', isSubscribed: client.isSubscribed }))
      journal.close()
      process.send!({ e: 'ended' }, () => process.exit(0))
    }
  })
  process.on('disconnect', () => process.exit(0))
  process.on('SIGTERM', () => process.exit(1))
  until(client => client.isSubscribed, 'ready')
}

function has(client: Hosted, canaries: Record<string, string>): boolean {
  return client.isSubscribed && client.topics.every(topic => client.canaries.has(canaries[topic]!))
}
