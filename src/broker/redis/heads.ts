import type { Position } from '../../protocol/position.ts'
import type { Topic } from '../../protocol/topic.ts'

type Positions = ReadonlyMap<Topic, Position>

/** Topics of one call: Redis does nothing else meanwhile. */
const AT_ONCE = 500

/**
 * Asks where topics stand: all that is asked in one turn of the event loop is one question. When thousands of clients
 * come at once, a call for each of them would cost more than half of what their upgrades do.
 */
export class Heads {
  readonly #read: (topics: readonly Topic[]) => Promise<Positions>
  #gathering: { topics: Set<Topic>; positions: Promise<Positions> } | undefined

  constructor(read: (topics: readonly Topic[]) => Promise<Positions>) {
    this.#read = read
  }

  /** The positions of these topics, and of others that were asked for together with them. */
  ask(topics: readonly Topic[]): Promise<Positions> {
    this.#gathering ??= { topics: new Set(), positions: this.#gather() }
    for (const topic of topics) this.#gathering.topics.add(topic)
    return this.#gathering.positions
  }

  async #gather(): Promise<Positions> {
    // Behind all the promises that this turn has yet to settle.
    await new Promise<void>(resolve => process.nextTick(resolve))
    const topics = [...this.#gathering!.topics]
    this.#gathering = undefined
    if (topics.length <= AT_ONCE) return this.#read(topics)
    const parts: Promise<Positions>[] = []
    for (let i = 0; i < topics.length; i += AT_ONCE) parts.push(this.#read(topics.slice(i, i + AT_ONCE)))
    return new Map((await Promise.all(parts)).flatMap(part => [...part]))
  }
}
