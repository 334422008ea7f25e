import { LoopLoad } from '../broker/loop-load.ts'
import { within } from '../broker/waiting.ts'
import type { Connection } from '../connection/connection.ts'
import type { Registry } from '../connection/registry.ts'
import { type Known, knownOf, type Return, type Start } from '../delivery/recovery.ts'
import type { Position } from '../protocol/position.ts'
import type { Topic } from '../protocol/topic.ts'

/** A client is told at the latest after this long that it is subscribed; a `gap` says that it may not be yet. */
const CONFIRM_TIMEOUT = 1000

/** Where the node itself is busy, so many times as long: its clients need no gaps on top of that. */
const MAX_TIMES = 5

/** Clients that wait for the same answer of the broker. */
interface Group {
  confirmed: Start['confirmed']
  connections: Connection[]
  known: Promise<Known | undefined>
}

/** What a client hears of its topics beside `welcome` and `subscribed`: in time what it missed, else a `gap` as well. */
export class Confirmation {
  readonly #registry: Pick<Registry<Connection>, 'has'>
  readonly #budget: number
  readonly #failed: (error: unknown) => void
  readonly #load = new LoopLoad()
  #group: Group | undefined

  /** `budget`: bytes that may wait for one connection. */
  constructor(registry: Pick<Registry<Connection>, 'has'>, budget: number, failed: (error: unknown) => void) {
    this.#registry = registry
    this.#budget = budget
    this.#failed = failed
  }

  /**
   * What `welcome` or `subscribed` says of the topics; undefined when the broker did not answer in time. A publisher whose
   * command this is does not wait for longer, however busy the node is.
   */
  known(connection: Connection, start: Start, isCommand = false): Promise<Known | undefined> {
    if (isCommand || start.returning.size > 0) return this.#within([connection], knownOf(start), isCommand)
    if (this.#group?.confirmed !== start.confirmed) this.#group = this.#newGroup(start.confirmed)
    this.#group.connections.push(connection)
    return this.#group.known
  }

  /** One timer and one promise for all that come together: thousands may. */
  #newGroup(confirmed: Start['confirmed']): Group {
    const connections: Connection[] = []
    const known = this.#within(connections, confirmed, false)
    const group = { confirmed, connections, known }
    known.then(() => {
      if (this.#group === group) this.#group = undefined
    })
    return group
  }

  #within(connections: readonly Connection[], known: Promise<Known>, isCommand: boolean): Promise<Known | undefined> {
    const isBusy = () => this.#load.isHigh(performance.now())
    isBusy()
    // Until the welcome what is published waits in memory: a client must not be cut off for a node that is slow.
    const unless = () => isBusy() && connections.every(({ buffered }) => buffered < this.#budget / 2)
    return within(CONFIRM_TIMEOUT, known, { unless, times: isCommand ? 1 : MAX_TIMES })
  }

  /** Told or not, what was missed follows as soon as the broker can be asked. */
  follow(connection: Connection, { fresh, confirmed, returning }: Start, isTold: boolean): void {
    for (const [topic, back] of returning) {
      back.then(found => this.#replay(connection, topic, found, isTold)).catch(this.#failed)
    }
    if (!isTold) confirmed.then(places => this.#tellPlaces(connection, fresh, places)).catch(this.#failed)
  }

  async #replay(connection: Connection, topic: Topic, { gap, state, replay }: Return, isTold: boolean): Promise<void> {
    if (!this.#registry.has(connection, topic)) return
    const { id, seq = 0 } = state
    if (gap) connection.gap([topic], gap, isTold || id === undefined ? undefined : { [topic]: { id, seq } })
    await replay()
  }

  /** Without a place to go on from, a client that leaves before the next message would miss that one in silence. */
  #tellPlaces(connection: Connection, fresh: readonly Topic[], places: ReadonlyMap<Topic, Position>): void {
    const held = fresh.filter(topic => places.has(topic) && this.#registry.has(connection, topic))
    if (held.length === 0) return
    const positions = Object.fromEntries(held.map(topic => [topic, places.get(topic)!]))
    connection.gap(held, 'broker_away', positions)
  }
}
