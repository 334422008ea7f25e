import { LoopLoad } from '../broker/loop-load.ts'
import { within } from '../broker/waiting.ts'
import type { Connection } from '../connection/connection.ts'
import type { Registry } from '../connection/registry.ts'
import type { Answer, Answers } from '../delivery/answers.ts'
import { type Known, knownOf, type Return, type Start } from '../delivery/recovery.ts'
import type { Topic } from '../protocol/topic.ts'

/** After this long, a client gets `welcome` or `subscribed` even without confirmation; a `gap` then follows. */
const CONFIRM_TIMEOUT = 1000

/** While the node itself is busy it waits up to this many times as long, to spare its clients the gaps. */
const MAX_TIMES = 5

/** Connections that wait for the same answers of the broker. */
interface Group {
  connections: Connection[]
  known: Promise<Known>
}

/** Waits for the broker to confirm topics, then sends what clients missed; a `gap` if it does not answer in time. */
export class Confirmation {
  readonly #registry: Pick<Registry<Connection>, 'has'>
  readonly #budget: number
  readonly #failed: (error: unknown) => void
  readonly #load = new LoopLoad()
  /** Connections with topics of different shards of a Cluster come together, too. */
  readonly #groups = new Map<Answers, Group>()

  /** `budget`: bytes that may be queued for one connection. */
  constructor(registry: Pick<Registry<Connection>, 'has'>, budget: number, failed: (error: unknown) => void) {
    this.#registry = registry
    this.#budget = budget
    this.#failed = failed
  }

  /**
   * What `welcome` or `subscribed` says about the topics: everything, or what the broker has answered in time. For a
   * command the time is not extended while the node is busy, since a publisher waits for the result.
   */
  known(connection: Connection, start: Start, isCommand = false): Promise<Known> {
    if (isCommand || start.returning.size > 0) {
      const { known, whole } = knownOf(start)
      return this.#within([connection], whole, isCommand).then(() => known)
    }
    const group = this.#groups.get(start.answers) ?? this.#newGroup(start.answers)
    group.connections.push(connection)
    return group.known
  }

  /** One timer and one promise for all connections that arrive together: there may be thousands. */
  #newGroup(answers: Answers): Group {
    const connections: Connection[] = []
    const known = this.#within(connections, answers.begun, false).then(() => {
      this.#groups.delete(answers)
      return answers
    })
    const group = { connections, known }
    this.#groups.set(answers, group)
    return group
  }

  /** The topics about which nothing is known in time. One that is held up on its own is waited for only here. */
  late({ topics, answers }: Start, known: Known): readonly Topic[] | Promise<readonly Topic[]> {
    const missing = known.missing(topics)
    if (missing.length === 0) return missing
    const left = CONFIRM_TIMEOUT - (performance.now() - answers.askedAt)
    return left > 0 ? within(left, answers.confirmed(...missing)).then(() => known.missing(topics)) : missing
  }

  #within(connections: readonly Connection[], answer: Promise<unknown>, isCommand: boolean): Promise<unknown> {
    const isBusy = () => this.#load.isHigh(performance.now())
    isBusy()
    // Publications are queued until the welcome: a slow node must not make a client exceed its budget.
    const unless = () => isBusy() && connections.every(({ buffered }) => buffered < this.#budget / 2)
    return within(CONFIRM_TIMEOUT, answer, { unless, times: isCommand ? 1 : MAX_TIMES })
  }

  /**
   * Sends what was missed as soon as the broker answers. The client was sent a `gap` for the topics of `late`, since the
   * answer did not come in time for `welcome` or `subscribed`: it gets their positions now.
   */
  follow(connection: Connection, { answers, returning }: Start, late: readonly Topic[]): void {
    for (const [topic, back] of returning) {
      back.then(found => this.#replay(connection, topic, found, !late.includes(topic))).catch(this.#failed)
    }
    if (late.length === 0) return
    for (const [answer, topics] of answers.awaited(late.filter(topic => !returning.has(topic)))) {
      this.#tellLate(connection, answer, topics).catch(this.#failed)
    }
  }

  async #tellLate(connection: Connection, answer: Answer, topics: readonly Topic[]): Promise<void> {
    for (let left = topics; left.length > 0; left = left.filter(topic => answer.isOpen(topic))) {
      await answer.anyOf(left)
      this.#tellPositions(
        connection,
        left.filter(topic => !answer.isOpen(topic)),
        answer,
      )
    }
  }

  async #replay(connection: Connection, topic: Topic, { gap, state, replay }: Return, isTold: boolean): Promise<void> {
    if (!this.#registry.has(connection, topic)) return
    const { id, seq = 0 } = state
    if (gap) connection.gap([topic], gap, isTold || id === undefined ? undefined : { [topic]: { id, seq } })
    await replay()
  }

  /** Without positions, a client that disconnects before the next message could not recover it. */
  #tellPositions(connection: Connection, topics: readonly Topic[], answer: Answer): void {
    const held = topics.filter(topic => answer.get(topic) && this.#registry.has(connection, topic))
    if (held.length === 0) return
    connection.gap(held, 'broker_away', Object.fromEntries(held.map(topic => [topic, answer.get(topic)!])))
  }
}
