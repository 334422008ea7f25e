import type { Topic } from '../../protocol/topic.ts'

/** Topics that one answer confirms: thousands of connections wait for a few groups. */
class Group {
  /** How many topics of the group are neither confirmed nor left. */
  open = 0
  resolve = () => {}
  readonly promise = new Promise<void>(resolve => {
    this.resolve = resolve
  })
}

/** Topics whose confirmation is awaited. */
export class Pending {
  readonly #groups = new Map<Topic, Group>()
  /** The group of the topics that the next command will name. */
  #gathering: Group | undefined

  topics(): Topic[] {
    return [...this.#groups.keys()]
  }

  add(topic: Topic): void {
    if (this.#groups.has(topic)) return
    this.#gathering ??= new Group()
    this.#join(this.#gathering, topic)
  }

  #join(group: Group, topic: Topic): void {
    group.open++
    this.#groups.set(topic, group)
  }

  /** A command has named all topics that were added so far. */
  cut(): void {
    this.#gathering = undefined
  }

  /** The topic is refused for now: topics that were asked for together with it do not wait for it. */
  part(topic: Topic): void {
    if (!this.#groups.has(topic)) return
    this.settle(topic)
    this.#join(new Group(), topic)
  }

  /** The topic is confirmed, or nobody wants it any more. */
  settle(topic: Topic): void {
    const group = this.#groups.get(topic)
    if (!group) return
    this.#groups.delete(topic)
    if (--group.open > 0) return
    group.resolve()
    if (group === this.#gathering) this.#gathering = undefined
  }

  /** Resolves when none of `topics` is awaited any more. */
  async over(topics: readonly Topic[]): Promise<void> {
    // Each promise may be stale: a topic that was left and joined again is in another group.
    const next = () => topics.find(topic => this.#groups.has(topic))
    for (let topic = next(); topic !== undefined; topic = next()) await this.#groups.get(topic)!.promise
  }
}
