import type { Position } from '../../protocol/position.ts'
import type { Topic } from '../../protocol/topic.ts'
import { Turns } from './turns.ts'

type Positions = ReadonlyMap<Topic, Position>

/** Topics of one call, which blocks Redis while it runs. */
const AT_ONCE = 500

/** Calls about very many topics that are under way: the last of hundreds would not be answered in time. */
const CALLS_AT_ONCE = 4

/**
 * Asks for the heads of topics, in one call for each turn of the event loop. When thousands of clients come at once, a
 * call for each of them would cost more than half as much as their upgrades.
 */
export class Heads {
  readonly #turns = new Turns(CALLS_AT_ONCE)
  readonly #read: (topics: readonly Topic[]) => Promise<Positions>
  #gathering: { topics: Set<Topic>; positions: Promise<Positions> } | undefined

  constructor(read: (topics: readonly Topic[]) => Promise<Positions>) {
    this.#read = read
  }

  /** The heads of these topics, and of others that were asked for in the same turn. */
  ask(topics: readonly Topic[]): Promise<Positions> {
    this.#gathering ??= { topics: new Set(), positions: this.#gather() }
    for (const topic of topics) this.#gathering.topics.add(topic)
    return this.#gathering.positions
  }

  async #gather(): Promise<Positions> {
    // After all promises that settle in this turn.
    await new Promise<void>(resolve => process.nextTick(resolve))
    const topics = [...this.#gathering!.topics]
    this.#gathering = undefined
    if (topics.length <= AT_ONCE) return this.#read(topics)
    const parts: Promise<Positions>[] = []
    for (let i = 0; i < topics.length; i += AT_ONCE)
      parts.push(this.#turns.take(() => this.#read(topics.slice(i, i + AT_ONCE))))
    return new Map((await Promise.all(parts)).flatMap(part => [...part]))
  }
}
