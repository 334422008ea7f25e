import type { Topic } from '../../protocol/topic.ts'

/** Topics that one answer confirms: thousands of connections wait for a few groups. */
interface Group {
  /** How many topics of the group are neither confirmed nor left. */
  open: number
  promise: Promise<void>
  resolve(): void
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
    this.#gathering ??= newGroup()
    this.#gathering.open++
    this.#groups.set(topic, this.#gathering)
  }

  /** A command has named all topics that were added so far. */
  cut(): void {
    this.#gathering = undefined
  }

  /** The topic is refused for now: topics that were asked for together with it do not wait for it. */
  part(topic: Topic): void {
    if (!this.#groups.has(topic)) return
    this.settle(topic)
    this.#groups.set(topic, { ...newGroup(), open: 1 })
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

function newGroup(): Group {
  let resolve = () => {}
  const promise = new Promise<void>(done => {
    resolve = done
  })
  return { open: 0, promise, resolve }
}
