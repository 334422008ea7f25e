import type { Hosted } from './library-client.ts'
import { LOBBIES } from './topics.ts'
import type { Visitor } from './visitor.ts'

/** Connections of each user. */
type Counts = ReadonlyMap<string, number>

/** Who is there in truth, as the clients themselves know, and how what they were told differs from it. */
export class Who {
  readonly #clients: readonly Hosted[]
  readonly #visitors: readonly Visitor[]

  constructor(clients: readonly Hosted[], visitors: readonly Visitor[]) {
    this.#clients = clients
    this.#visitors = visitors
  }

  #on(topic: string): Counts {
    const there = this.#visitors.filter(({ held }) => held.has(topic)).map(({ options }) => options.user)
    if (topic === 'all') there.push(...this.#clients.filter(client => client.isSubscribed).map(({ user }) => user))
    const counts = new Map<string, number>()
    for (const user of there) counts.set(user, (counts.get(user) ?? 0) + 1)
    return counts
  }

  /** Everybody is where they mean to be, and everybody who looks sees it. */
  get isKnown(): boolean {
    return this.#visitors.every(({ isThere, isComing, isClosed }) => (isComing ? isThere : isClosed)) && !this.#any()
  }

  #any(): boolean {
    return this.differences().length > 0
  }

  differences(): { invariant: 'ghost' | 'absent'; what: string }[] {
    return ['all', ...LOBBIES].flatMap(topic => {
      const truth = this.#on(topic)
      return this.#visitors
        .filter(({ isComing, topics }) => isComing && topics.includes(topic))
        .flatMap(visitor => differencesOf(`${visitor.options.name} on ${topic}`, visitor.seen(topic), truth))
    })
  }
}

function differencesOf(where: string, seen: Counts | undefined, truth: Counts): ReturnType<Who['differences']> {
  if (!seen) return [{ invariant: 'absent', what: `${where}: has no list` }]
  const users = [...new Set([...seen.keys(), ...truth.keys()])]
  return users.flatMap(user => {
    const [shown, there] = [seen.get(user) ?? 0, truth.get(user) ?? 0]
    if (shown === there) return []
    const invariant = shown > there ? 'ghost' : 'absent'
    return [{ invariant, what: `${where}: sees ${shown} connections of ${user}, there are ${there}` } as const]
  })
}
