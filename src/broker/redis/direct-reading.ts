import type { Redis } from 'ioredis'
import { Slice } from '../../protocol/slice.ts'
import type { Topic } from '../../protocol/topic.ts'
import type { Names } from './names.ts'
import { PushReader, type PushReaderEvents } from './push-reader.ts'
import type { ReadAhead } from './read-ahead.ts'
import type { TopicCache } from './topic-cache.ts'

/** Until our reader is there, and where it has given up. */
export function readThroughIoredis(client: Redis, names: Names, take: (topic: Topic, message: Slice) => void): void {
  const onMessage = (channel: Buffer, message: Buffer) => take(names.topic(channel.toString()), new Slice(message))
  // Only the Buffer events: with a 'message' listener ioredis would decode every message to a string.
  client.on('messageBuffer', onMessage)
  client.on('smessageBuffer', onMessage)
}

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
