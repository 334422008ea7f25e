import type { Position } from '../protocol/position.ts'
import type { Topic } from '../protocol/topic.ts'

type Positions = ReadonlyMap<Topic, Position>

const NOWHERE: Positions = new Map()
const NOTHING: readonly Topic[] = []

/** What one shard says about the topics that it was asked to confirm together. */
export class Answer {
  readonly number: number
  /** Topics that are neither confirmed nor given up. */
  readonly #open = new Set<Topic>()
  /** Those of topics that were confirmed before the others. */
  #early: Map<Topic, Position> | undefined
  #positions = NOWHERE
  #finish = () => {}
  #step = () => {}
  #stepped: Promise<void> | undefined
  /** Resolves when every topic is confirmed, or given up. */
  readonly done = new Promise<void>(resolve => {
    this.#finish = resolve
  })

  /** `number`: what tells it from others. */
  constructor(number: number) {
    this.number = number
  }

  get isComplete(): boolean {
    return this.#open.size === 0
  }

  get open(): Topic[] {
    return [...this.#open]
  }

  isOpen(topic: Topic): boolean {
    return this.#open.has(topic)
  }

  add(topic: Topic): void {
    this.#open.add(topic)
  }

  /** The position of the topic if it is confirmed and has one. */
  get(topic: Topic): Position | undefined {
    return this.#positions.get(topic) ?? this.#early?.get(topic)
  }

  /** These topics are confirmed before the others: a slot that moves must not delay the topics of other slots. */
  confirm(topics: readonly Topic[], positions: Positions): void {
    this.#early ??= new Map()
    for (const topic of topics) {
      this.#open.delete(topic)
      const position = positions.get(topic)
      if (position) this.#early.set(topic, position)
    }
    this.#wake()
  }

  end(positions: Positions): void {
    this.#open.clear()
    this.#positions = positions
    this.#wake()
    this.#finish()
  }

  /** Resolves when the topic is confirmed, or given up. */
  async confirmed(topic: Topic): Promise<void> {
    while (this.#open.has(topic)) {
      this.#stepped ??= new Promise(resolve => {
        this.#step = resolve
      })
      await this.#stepped
    }
  }

  #wake(): void {
    this.#stepped = undefined
    this.#step()
  }
}

/** What is known about topics whose shards were asked at the same time. Each shard answers for itself. */
export class Answers {
  readonly #parts: readonly Answer[]
  /** Resolves when every topic is confirmed. Never rejects. */
  readonly whole: Promise<unknown>

  constructor(parts: readonly Answer[]) {
    this.#parts = parts
    this.whole = parts.length === 1 ? parts[0]!.done : Promise.all(parts.map(({ done }) => done))
  }

  /** The position of the topic if it is confirmed and has one. */
  get(topic: Topic): Position | undefined {
    for (const part of this.#parts) {
      const position = part.get(topic)
      if (position) return position
    }
    return undefined
  }

  /** Those of these topics that are not confirmed yet. */
  missing(topics: readonly Topic[]): readonly Topic[] {
    if (this.#parts.every(({ isComplete }) => isComplete)) return NOTHING
    return topics.filter(topic => this.#parts.some(part => part.isOpen(topic)))
  }

  /** Resolves when the topic is confirmed. Never rejects. */
  async confirmed(topic: Topic): Promise<void> {
    await this.#parts.find(part => part.isOpen(topic))?.confirmed(topic)
  }

  /** Those of these topics that are not confirmed yet, by the shard that is still to answer. */
  awaited(topics: readonly Topic[]): Map<Answer, Topic[]> {
    const awaited = this.#parts.map(part => [part, topics.filter(topic => part.isOpen(topic))] as const)
    return new Map(awaited.filter(([, open]) => open.length > 0) as [Answer, Topic[]][])
  }
}
