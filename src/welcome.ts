import type { Connection } from './connection.ts'
import type { Welcome } from './protocol.ts'
import type { Known } from './recovery.ts'
import type { Topic } from './topic.ts'

/** The message that a client gets first. What is the same for all of a node is encoded once. */
export class Welcomes {
  readonly #ofNode: string

  constructor(ofNode: Pick<Welcome, 'node' | 'heartbeat'>) {
    // Without its opening brace: it stands in the middle.
    this.#ofNode = JSON.stringify(ofNode).slice(1, -1)
  }

  encode({ id, user }: Pick<Connection, 'id' | 'user'>, topics: readonly Topic[], known: Known | undefined): string {
    let states = ''
    for (const topic of topics) {
      const state = known?.get(topic)
      states += `${states && ','}${JSON.stringify(topic)}:${state ? JSON.stringify(state) : '{}'}`
    }
    const who = `"connection":"${id}","user":${JSON.stringify(user)}`
    return `{"type":"welcome","payload":{${who},${this.#ofNode},"topics":{${states}}}}`
  }
}
