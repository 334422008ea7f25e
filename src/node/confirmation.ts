import { LoopLoad } from '../broker/loop-load.ts'
import { within } from '../broker/waiting.ts'
import type { Connection } from '../connection/connection.ts'
import type { Registry } from '../connection/registry.ts'
import { type Known, knownOf, type Return, type Start } from '../delivery/recovery.ts'
import type { Position } from '../protocol/position.ts'
import type { Topic } from '../protocol/topic.ts'

/** After this long, a client gets `welcome` or `subscribed` even without confirmation; a `gap` then follows. */
const CONFIRM_TIMEOUT = 1000

/** While the node itself is busy it waits up to this many times as long, to spare its clients the gaps. */
const MAX_TIMES = 5

/** Connections that wait for the same answer of the broker. */
interface Group {
  confirmed: Start['confirmed']
  connections: Connection[]
  known: Promise<Known | undefined>
}

/** Waits for the broker to confirm topics, then sends what clients missed; a `gap` if it does not answer in time. */
export class Confirmation {
  readonly #registry: Pick<Registry<Connection>, 'has'>
  readonly #budget: number
  readonly #failed: (error: unknown) => void
  readonly #load = new LoopLoad()
  #group: Group | undefined

  /** `budget`: bytes that may be queued for one connection. */
  constructor(registry: Pick<Registry<Connection>, 'has'>, budget: number, failed: (error: unknown) => void) {
    this.#registry = registry
    this.#budget = budget
    this.#failed = failed
  }

  /**
   * What `welcome` or `subscribed` says about the topics; undefined when the broker did not answer in time. For a command
   * the time is not extended while the node is busy, since a publisher waits for the result.
   */
  known(connection: Connection, start: Start, isCommand = false): Promise<Known | undefined> {
    if (isCommand || start.returning.size > 0) return this.#within([connection], knownOf(start), isCommand)
    if (this.#group?.confirmed !== start.confirmed) this.#group = this.#newGroup(start.confirmed)
    this.#group.connections.push(connection)
    return this.#group.known
  }

  /** One timer and one promise for all connections that arrive together: there may be thousands. */
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
    // Publications are queued until the welcome: a slow node must not make a client exceed its budget.
    const unless = () => isBusy() && connections.every(({ buffered }) => buffered < this.#budget / 2)
    return within(CONFIRM_TIMEOUT, known, { unless, times: isCommand ? 1 : MAX_TIMES })
  }

  /**
   * Sends what was missed as soon as the broker answers. `isTold`: its answer came in time for `welcome` or `subscribed`;
   * otherwise the client was sent a `gap`, and now gets the positions of its topics.
   */
  follow(connection: Connection, { fresh, confirmed, returning }: Start, isTold: boolean): void {
    for (const [topic, back] of returning) {
      back.then(found => this.#replay(connection, topic, found, isTold)).catch(this.#failed)
    }
    if (!isTold) confirmed.then(positions => this.#tellPositions(connection, fresh, positions)).catch(this.#failed)
  }

  async #replay(connection: Connection, topic: Topic, { gap, state, replay }: Return, isTold: boolean): Promise<void> {
    if (!this.#registry.has(connection, topic)) return
    const { id, seq = 0 } = state
    if (gap) connection.gap([topic], gap, isTold || id === undefined ? undefined : { [topic]: { id, seq } })
    await replay()
  }

  /** Without positions, a client that disconnects before the next message could not recover it. */
  #tellPositions(connection: Connection, fresh: readonly Topic[], positions: ReadonlyMap<Topic, Position>): void {
    const held = fresh.filter(topic => positions.has(topic) && this.#registry.has(connection, topic))
    if (held.length === 0) return
    connection.gap(held, 'broker_away', Object.fromEntries(held.map(topic => [topic, positions.get(topic)!])))
  }
}
