import type { Command } from './commands.ts'
import type { Masters } from './masters.ts'

/** Milliseconds that Redis has for a command. */
const TIMEOUT = 2000

export interface RemovedEntriesParts {
  masters: Masters
  key: string
  /** They will not be published by anybody. */
  lost(ids: readonly string[]): void
}

/**
 * Entries that somebody removed from the stream (XADD with MAXLEN, XTRIM, XDEL) before they were acknowledged. Redis 6.2 goes
 * on giving them to one node after the other, with neither body nor id. From version 7 on it forgets whose an entry is when
 * it is claimed, even by the node that is publishing it.
 */
export class RemovedEntries {
  readonly #parts: RemovedEntriesParts
  /** This node has read them and is at work on them, and Redis knows nothing of that any more. */
  readonly #held = new Set<string>()
  /** Done with since a claim began: what is acknowledged and trimmed in between is not claimed either. */
  readonly #settled = new Set<string>()
  #claims = 0

  constructor(parts: RemovedEntriesParts) {
    this.#parts = parts
  }

  /** Those of `ids` whose entries are gone. */
  async among(ids: readonly string[]): Promise<string[]> {
    if (ids.length === 0) return []
    const { masters, key } = this.#parts
    const commands = ids.map((id): Command => ['XRANGE', key, id, id, 'COUNT', 1])
    const replies = await masters.run(key, commands, TIMEOUT)
    // What Redis refuses to say is not taken for lost.
    return ids.filter((_id, i) => Array.isArray(replies[i]) && replies[i].length === 0)
  }

  /** Around everything that finds out which messages are this node's and claims those. */
  async during<T>(act: () => Promise<T>): Promise<T> {
    this.#claims++
    try {
      return await act()
    } finally {
      if (--this.#claims === 0) this.#settled.clear()
    }
  }

  /** This node claimed `ids`, which were its own, and Redis gave it `claimed`. */
  async note(ids: readonly string[], claimed: unknown): Promise<void> {
    const given = new Set((claimed as unknown[]).map(String))
    const gone = await this.among(ids.filter(id => !given.has(id)))
    for (const id of gone) if (!this.#settled.has(id)) this.#held.add(id)
  }

  /** Nobody else can have it: this node goes on with it. */
  has(id: string): boolean {
    return this.#held.has(id)
  }

  /** They are done with. */
  settle(ids: readonly string[]): void {
    for (const id of ids) {
      this.#held.delete(id)
      if (this.#claims > 0) this.#settled.add(id)
    }
  }

  tell(ids: readonly string[]): void {
    if (ids.length > 0) this.#parts.lost(ids)
  }

  /** This node does not go on with those that it has. */
  giveUp(): void {
    const ids = [...this.#held]
    this.#held.clear()
    this.tell(ids)
  }
}
