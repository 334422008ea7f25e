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
  #begin = () => {}
  #step = () => {}
  #stepped: Promise<void> | undefined
  /** Resolves when all topics are confirmed, or given up, but for those that are held up for reasons of their own. */
  readonly begun = new Promise<void>(resolve => {
    this.#begin = resolve
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

  /** These topics are confirmed before the others, which are refused, or whose slots have just moved. */
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
  }

  /** Resolves when at least one of these topics is confirmed, or given up. */
  async anyOf(topics: readonly Topic[]): Promise<void> {
    while (topics.every(topic => this.#open.has(topic))) {
      this.#stepped ??= new Promise(resolve => {
        this.#step = resolve
      })
      await this.#stepped
    }
  }

  #wake(): void {
    this.#stepped = undefined
    this.#begin()
    this.#step()
  }
}

/** What is known about topics whose shards were asked at the same time. Each shard answers for itself. */
export class Answers {
  readonly askedAt = performance.now()
  readonly #parts: readonly Answer[]
  /**
   * Resolves when each shard has answered: topics that are held up for reasons of their own may still be missing, since
   * nobody but the connections that have them is to wait for them. Never rejects.
   */
  readonly begun: Promise<unknown>

  constructor(parts: readonly Answer[]) {
    this.#parts = parts
    this.begun = parts.length === 1 ? parts[0]!.begun : Promise.all(parts.map(({ begun }) => begun))
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

  /** Resolves when these topics are confirmed. Never rejects. */
  async confirmed(...topics: readonly Topic[]): Promise<void> {
    for (const topic of topics) await this.#parts.find(part => part.isOpen(topic))?.anyOf([topic])
  }

  /** Those of these topics that are not confirmed yet, by the shard that is still to answer. */
  awaited(topics: readonly Topic[]): Map<Answer, Topic[]> {
    const awaited = this.#parts.map(part => [part, topics.filter(topic => part.isOpen(topic))] as const)
    return new Map(awaited.filter(([, open]) => open.length > 0) as [Answer, Topic[]][])
  }
}
