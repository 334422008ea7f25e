import type { Connection } from '../connection/connection.ts'
import type { Control } from '../protocol/envelope.ts'
import type { Topic } from '../protocol/topic.ts'

/** The part of the hub that commands use. */
export interface CommandTarget {
  join(connection: Connection, topic: Topic): boolean
  confirm(connection: Connection, topic: Topic, how: { isNew: boolean; isCommand: true }): Promise<void>
  unsubscribe(connection: Connection, topic: Topic): void
}

/** Applies the commands of any node or backend to connections of this node: close, subscribe, unsubscribe. */
export class Commands {
  readonly #target: CommandTarget
  readonly #failed: (error: unknown) => void

  constructor(target: CommandTarget, failed: (error: unknown) => void) {
    this.#target = target
    this.#failed = failed
  }

  /** Resolves with the number of connections that obeyed. */
  async obey(connections: readonly Connection[], control: Control): Promise<number> {
    if (control.kind === 'close') {
      for (const connection of connections) connection.close(control.code, control.reason)
      return connections.length
    }
    const moved = await Promise.all(connections.map(connection => this.#move(connection, control)))
    return moved.filter(Boolean).length
  }

  async #move(connection: Connection, control: { kind: 'subscribe' | 'unsubscribe'; topic: Topic }): Promise<boolean> {
    try {
      if (control.kind === 'unsubscribe') this.#target.unsubscribe(connection, control.topic)
      else {
        const isNew = this.#target.join(connection, control.topic)
        await this.#target.confirm(connection, control.topic, { isNew, isCommand: true })
      }
      return true
    } catch (error) {
      this.#failed(error)
      return false
    }
  }
}
