import type { EncodedEvent, EventWriter } from '../../protocol/event.ts'
import type { Backend } from './backend.ts'
import { EventQueue, type Fate, type QueueParts } from './queue.ts'

/** What a backend takes at once without being set up for it: nginx takes bodies of 1 MiB. */
const BATCH = { count: 100, bytes: 256 * 1024 }

const MAX_PAUSE = 10_000

/** The backend will never take these: the batch is at fault, or what is in it. */
const REFUSALS = new Set([400, 413, 422])

/** Events over HTTP, a batch at a time. */
export function batchesTo(
  backend: Backend,
  writer: EventWriter,
  parts: Omit<QueueParts, 'batch' | 'maxPause' | 'send'>,
): EventQueue {
  const send = async (events: readonly EncodedEvent[]): Promise<Fate> => {
    try {
      const { status } = await backend.call('events', writer.batch(events))
      if (status >= 200 && status < 300) return 'written'
      backend.failure('events', 'status', new Error(`the answer to a batch of events has the status ${status}`))
      return REFUSALS.has(status) ? 'refused' : 'again'
    } catch {
      // Counted and logged where it failed.
      return 'again'
    }
  }
  return new EventQueue({ ...parts, batch: BATCH, maxPause: MAX_PAUSE, send })
}
