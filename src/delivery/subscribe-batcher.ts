import { setTimeout as sleep } from 'node:timers/promises'
import type { Broker } from '../broker/broker.ts'
import { LoopLoad } from '../broker/loop-load.ts'
import { retrying } from '../broker/waiting.ts'
import type { Position } from '../protocol/position.ts'
import type { Topic } from '../protocol/topic.ts'

type Positions = ReadonlyMap<Topic, Position>

const NOWHERE: Positions = new Map()

/** How long a busy node gathers topics, in milliseconds: even thousands of clients arrive one after another. */
const GATHER = 10

/**
 * Asks the broker to confirm topics: once for all connections that arrive in one turn of the event loop or, on a busy
 * node, within a few milliseconds. Asking for each of thousands would cost more than their handshakes.
 */
export class SubscribeBatcher {
  readonly #broker: Pick<Broker, 'subscribe'>
  readonly #isHeld: (topic: Topic) => boolean
  readonly #load: Pick<LoopLoad, 'isHigh'>
  #topics = new Set<Topic>()
  #confirmed: Promise<Positions> | undefined

  constructor(
    broker: Pick<Broker, 'subscribe'>,
    isHeld: (topic: Topic) => boolean,
    load: Pick<LoopLoad, 'isHigh'> = new LoopLoad(),
  ) {
    this.#broker = broker
    this.#isHeld = isHeld
    this.#load = load
  }

  /** The positions of these topics, and of others in the same batch. Never rejects. */
  confirm(topics: readonly Topic[]): Promise<Positions> {
    for (const topic of topics) this.#topics.add(topic)
    this.#confirmed ??= this.#gather()
    return this.#confirmed
  }

  async #gather(): Promise<Positions> {
    if (this.#load.isHigh(performance.now())) await sleep(GATHER)
    // After all promises that this turn still settles.
    else await new Promise<void>(resolve => process.nextTick(resolve))
    const topics = [...this.#topics]
    this.#topics = new Set()
    this.#confirmed = undefined
    return this.#ask(topics)
  }

  /** Retries until the broker answers, or no connection of this node holds any of the topics. */
  async #ask(topics: readonly Topic[]): Promise<Positions> {
    let wanted = topics
    const isWanted = () => {
      wanted = topics.filter(this.#isHeld)
      return wanted.length > 0
    }
    try {
      return (await retrying(isWanted, () => this.#broker.subscribe(wanted))) ?? NOWHERE
    } catch {
      return NOWHERE
    }
  }
}
