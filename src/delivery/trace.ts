import type { Incoming } from '../broker/broker.ts'
import { tracing } from '../broker/tracing.ts'
import type { Connection } from '../connection/connection.ts'
import type { Registry } from '../connection/registry.ts'
import type { Decoded } from '../protocol/envelope.ts'
import type { Decoder, Plain } from './decoder.ts'

/** An envelope has come from the broker, and nobody has looked into it yet. */
export function traceReceive({ topic, envelope, position }: Incoming): void {
  tracing.receive.publish({ topic, ...position, bytes: envelope.length })
}

/** A publication goes to its connections, or an envelope cannot be used. Commands and presence are no publications. */
export function traceDeliver(
  { topic, envelope, position }: Incoming,
  taken: Decoded | Plain,
  { registry, decoder }: { registry: Registry<Connection>; decoder: Decoder },
): void {
  const about = { topic, ...position, bytes: envelope.length }
  if (taken.kind === 'rejected') return tracing.deliver.publish({ ...about, connections: 0, rejected: taken.reason })
  const connections = registry.countOn(topic)
  if (taken.kind === 'plain') tracing.deliver.publish({ ...about, connections, type: decoder.plainType })
  if (taken.kind === 'publication') {
    const { type, ext } = taken
    tracing.deliver.publish({ ...about, connections, type, ...(ext && { ext }) })
  }
}
