import { setTimeout as sleep } from 'node:timers/promises'
import type { Broker } from '../broker/broker.ts'
import { LoopLoad } from '../broker/loop-load.ts'
import { retrying } from '../broker/waiting.ts'
import type { Position } from '../protocol/position.ts'
import type { Topic } from '../protocol/topic.ts'
import { Answer, Answers } from './answers.ts'

type Asked = Pick<Broker, 'subscribe' | 'shardOf'>

const NOWHERE: ReadonlyMap<Topic, Position> = new Map()

/** How long a busy node gathers topics, in milliseconds: even thousands of clients arrive one after another. */
const GATHER = 10

/**
 * Asks the broker to confirm topics: once for all connections that arrive in one turn of the event loop or, on a busy
 * node, within a few milliseconds. Asking for each of thousands would cost more than their handshakes. Topics of
 * different shards are asked for one by one: a shard that is away must not delay the others.
 */
export class SubscribeBatcher {
  readonly #broker: Asked
  readonly #isHeld: (topic: Topic) => boolean
  readonly #load: Pick<LoopLoad, 'isHigh'>
  /** By shard. */
  readonly #gathering = new Map<unknown, Answer>()
  /** By the numbers of their parts: connections with topics of the same shards wait for the same promise. */
  readonly #shared = new Map<number | string, Answers>()
  #asked = 0

  constructor(broker: Asked, isHeld: (topic: Topic) => boolean, load: Pick<LoopLoad, 'isHigh'> = new LoopLoad()) {
    this.#broker = broker
    this.#isHeld = isHeld
    this.#load = load
  }

  /** What is known of these topics, and of others that are asked for together with them. */
  confirm(topics: readonly Topic[]): Answers {
    let first: Answer | undefined
    let others: Set<Answer> | undefined
    for (const topic of topics) {
      const part = this.#partOf(this.#broker.shardOf(topic))
      part.add(topic)
      first ??= part
      if (part === first) continue
      others ??= new Set()
      others.add(part)
    }
    return this.#answersOf(others ? [first!, ...others] : first ? [first] : [])
  }

  #answersOf(parts: readonly Answer[]): Answers {
    const key = parts.length === 1 ? parts[0]!.number : keyOf(parts)
    const known = this.#shared.get(key)
    if (known) return known
    const answers = new Answers(parts)
    this.#shared.set(key, answers)
    return answers
  }

  #partOf(shard: unknown): Answer {
    const gathering = this.#gathering.get(shard)
    if (gathering) return gathering
    const part = new Answer(++this.#asked)
    this.#gathering.set(shard, part)
    void this.#gather(shard, part)
    return part
  }

  async #gather(shard: unknown, part: Answer): Promise<void> {
    if (this.#load.isHigh(performance.now())) await sleep(GATHER)
    // After all promises that this turn still settles.
    else await new Promise<void>(resolve => process.nextTick(resolve))
    this.#gathering.delete(shard)
    this.#shared.clear()
    await this.#ask(part)
  }

  /** Retries until the broker answers, or no connection of this node holds any of the topics. */
  async #ask(part: Answer): Promise<void> {
    let wanted: readonly Topic[] = []
    const isWanted = () => {
      wanted = part.open.filter(this.#isHeld)
      return wanted.length > 0
    }
    const ask = () => this.#broker.subscribe(wanted, (topics, positions) => part.confirm(topics, positions))
    try {
      part.end((await retrying(isWanted, ask)) ?? NOWHERE)
    } catch {
      part.end(NOWHERE)
    }
  }
}

/** The same in whichever order their topics came. */
function keyOf(parts: readonly Answer[]): string {
  return parts
    .map(({ number }) => number)
    .toSorted((a, b) => a - b)
    .join()
}
