import type { Topic } from '../../protocol/topic.ts'

/** Topics that one answer confirms: thousands of connections wait for a few groups. */
class Group {
  /** How many topics of the group are neither confirmed nor left. */
  open = 0
  /** Nobody knows for how long. */
  readonly isRefused: boolean
  resolve = () => {}
  readonly promise = new Promise<void>(resolve => {
    this.resolve = resolve
  })

  constructor(isRefused: boolean) {
    this.isRefused = isRefused
  }
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
    this.#gathering ??= new Group(false)
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
    this.#join(new Group(true), topic)
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

  /** Resolves when none of `topics` is awaited any more. `held` is called when only refused ones still are. */
  async over(topics: readonly Topic[], held?: (refused: readonly Topic[]) => void): Promise<void> {
    await this.#none(topics, topic => this.#groups.get(topic)?.isRefused === false)
    const isAwaited = (topic: Topic) => this.#groups.has(topic)
    const refused = topics.filter(isAwaited)
    if (refused.length === 0) return
    held?.(refused)
    await this.#none(refused, isAwaited)
  }

  async #none(topics: readonly Topic[], isAwaited: (topic: Topic) => boolean): Promise<void> {
    // Each promise may be stale: a topic that was left and joined again is in another group.
    const next = () => topics.find(isAwaited)
    for (let topic = next(); topic !== undefined; topic = next()) await this.#groups.get(topic)!.promise
  }
}
