import type { Topic } from '../../protocol/topic.ts'

/** The topics that Redis was told to send over the present connection, and whether it has confirmed them. */
export class ToldTopics {
  /** With the number of the command. */
  readonly #commands = new Map<Topic, number>()
  #last = 0
  /** The number of the last command that was answered. Answers come in the order of the commands. */
  #answered = 0

  /** Returns the number of the command that names these topics. */
  add(topics: readonly Topic[]): number {
    this.#last++
    for (const topic of topics) this.#commands.set(topic, this.#last)
    return this.#last
  }

  has(topic: Topic): boolean {
    return this.#commands.has(topic)
  }

  /** False if Redis was not told. */
  delete(topic: Topic): boolean {
    return this.#commands.delete(topic)
  }

  answered(command: number): void {
    this.#answered = command
  }

  isConfirmed(topic: Topic): boolean {
    const command = this.#commands.get(topic)
    return command !== undefined && command <= this.#answered
  }

  /** Those that no later command has named and that were not left since. */
  stillOf(command: number, topics: readonly Topic[]): Topic[] {
    return topics.filter(topic => this.#commands.get(topic) === command)
  }

  clear(): void {
    this.#commands.clear()
  }
}
