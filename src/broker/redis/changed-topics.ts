import type { Topic } from '../../protocol/topic.ts'
import { LoopLoad } from '../loop-load.ts'

/** For this many milliseconds a busy node collects topics for one command: clients arrive a few at a time. */
const GATHER = 10

/** Topics that were joined or left since Redis was told, which happens once in a turn of the event loop. */
export class ChangedTopics {
  readonly #tell: (topics: readonly Topic[]) => void
  readonly #topics = new Set<Topic>()
  readonly #load = new LoopLoad()
  #scheduled: NodeJS.Timeout | NodeJS.Immediate | undefined

  constructor(tell: (topics: readonly Topic[]) => void) {
    this.#tell = tell
  }

  add(topic: Topic): void {
    this.#topics.add(topic)
    const flush = () => this.#flush()
    this.#scheduled ??= this.#load.isHigh(performance.now()) ? setTimeout(flush, GATHER) : setImmediate(flush)
  }

  #flush(): void {
    this.#scheduled = undefined
    const topics = [...this.#topics]
    this.#topics.clear()
    this.#tell(topics)
  }

  close(): void {
    // This does not cancel an immediate, but that will find nothing.
    clearTimeout(this.#scheduled as NodeJS.Timeout)
    this.#topics.clear()
  }
}
