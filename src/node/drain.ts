import { setImmediate as nextTurn } from 'node:timers/promises'
import { within } from '../broker/waiting.ts'
import type { Connection } from '../connection/connection.ts'
import { CLOSE } from '../protocol/messages.ts'

/** Connections closed in one turn of the event loop. */
const BATCH = 250

/** Tells clients when to reconnect and closes them. Resolves when all are gone or the time is up. */
export async function closeAll(
  connections: readonly Connection[],
  gone: Promise<void>,
  { window, timeout }: { window: number; timeout: number },
): Promise<void> {
  if (connections.length === 0) return
  const deadline = performance.now() + timeout
  // A few clients reconnect at once; many spread over the window, about one per millisecond.
  const spread = Math.min(window, connections.length)
  for (const [i, connection] of connections.entries()) {
    if (i % BATCH === BATCH - 1) await nextTurn()
    if (performance.now() >= deadline) return
    connection.send('reconnect', { after: Math.floor(Math.random() * spread) })
    connection.close(CLOSE.RESTART, 'restart')
  }
  await within(deadline - performance.now(), gone)
}
