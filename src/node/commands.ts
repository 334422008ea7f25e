import type { Connection } from '../connection/connection.ts'
import type { Command } from '../protocol/envelope.ts'
import type { Topic } from '../protocol/topic.ts'

/** The part of the hub that commands use. */
interface CommandTarget {
  join(connection: Connection, topic: Topic): boolean
  confirm(connection: Connection, topic: Topic, how: { isNew: boolean; isCommand: true }): Promise<void>
  unsubscribe(connection: Connection, topic: Topic): void
}

/** Applies the command of any node or backend to connections of this node. Resolves with how many obeyed. */
export async function executeControl(
  connections: readonly Connection[],
  command: Command,
  target: CommandTarget,
  failed: (error: unknown) => void,
): Promise<number> {
  if (command.kind === 'close') {
    for (const connection of connections) connection.close(command.code, command.reason)
    return connections.length
  }
  const move = async (connection: Connection): Promise<boolean> => {
    try {
      if (command.kind === 'unsubscribe') target.unsubscribe(connection, command.topic)
      else {
        const isNew = target.join(connection, command.topic)
        await target.confirm(connection, command.topic, { isNew, isCommand: true })
      }
      return true
    } catch (error) {
      failed(error)
      return false
    }
  }
  const moved = await Promise.all(connections.map(move))
  return moved.filter(Boolean).length
}
