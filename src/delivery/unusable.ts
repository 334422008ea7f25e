import { decodeEnvelope } from '../protocol/envelope.ts'
import type { Slice } from '../protocol/slice.ts'

/** The answer to the receipt of what this node had to drop. */
export const OVERLOADED = {
  delivered: 0,
  skipped: 0,
  rejected: { reason: 'overload', message: 'more came in than this node could deal with' },
}

export const MISDIRECTED = {
  kind: 'rejected',
  reason: 'classic',
  message:
    'it was published with PUBLISH, which reaches nobody here: this Cluster uses sharded pub/sub, write SPUBLISH',
} as const

/** The receipt token of an envelope that is not decoded otherwise. */
export function receiptOf(envelope: Slice): string | undefined {
  const bytes = envelope.view()
  if (!bytes.includes('"receipt"')) return undefined
  return decodeEnvelope(bytes, bytes.length).receipt
}
