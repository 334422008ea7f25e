import type { Redis } from 'ioredis'
import { PushReader, type PushReaderEvents } from './push-reader.ts'
import type { ReadAhead } from './read-ahead.ts'
import type { TopicCache } from './topic-cache.ts'

/**
 * Puts our reader between the socket and the decoder of ioredis, which gets everything except messages. Once every
 * command is answered, no RESP element is incomplete, so both readers start at the beginning of one.
 */
export async function readDirectly(
  client: Redis,
  topics: TopicCache,
  readAhead: ReadAhead,
  eventsNow: () => Omit<PushReaderEvents, 'other'>,
): Promise<void> {
  await client.ping().catch(() => {})
  const { stream } = client
  const listeners = stream.listeners('data') as ((chunk: Buffer) => void)[]
  if (client.commandQueue.length > 0 || listeners.length === 0) return
  const reader = new PushReader(topics, {
    ...eventsNow(),
    other: bytes => {
      // The answer of an older connection would be taken for one of the present connection.
      if (client.stream === stream) for (const listener of listeners) listener.call(stream, bytes)
    },
  })
  for (const listener of listeners) stream.off('data', listener)
  stream.on('data', (chunk: Buffer) => readAhead.add(stream, reader, chunk))
}
