import { isPushError } from '../../protocol/errors.ts'
import type { QueuedMessage } from '../stream-queue.ts'

/** A message that a consumer has, as XPENDING says. */
export type Pending = [id: string, consumer: string, idle: number, tries: number]

type Entry = [id: Buffer, fields: Buffer[] | null]

/** The answer to XAUTOCLAIM. `removed`: entries that are gone, which Redis has forgotten by that; before version 7 it says nothing of them. */
export interface Claimed {
  cursor: string
  messages: Omit<QueuedMessage, 'tries'>[]
  removed: string[]
  /** Before version 7: there are entries that are gone, and it does not say which. */
  hasNameless: boolean
}

const BODY = Buffer.from('body')

/** RESP2 has a list of streams, RESP3 a map; there is one in either. Null: nothing came in time. */
export function entriesOfStream(reply: unknown): unknown {
  if (!Array.isArray(reply)) return []
  const [first, second] = reply as unknown[]
  return Array.isArray(first) ? first[1] : second
}

/** An entry that was deleted is null, or has no fields. */
export function messagesIn(entries: unknown): Omit<QueuedMessage, 'tries'>[] {
  return ((entries ?? []) as (Entry | null)[]).flatMap(entry => {
    if (!entry) return []
    const [id, fields] = entry
    return [{ id: String(id), body: fields ? bodyIn(fields) : undefined }]
  })
}

export function claimedIn(reply: unknown): Claimed {
  const [cursor, entries, removed] = reply as [Buffer, (Entry | null)[], Buffer[]?]
  return {
    cursor: String(cursor),
    messages: messagesIn(entries),
    removed: (removed ?? []).map(String),
    hasNameless: entries.includes(null),
  }
}

function bodyIn(fields: readonly Buffer[]): Buffer | undefined {
  const at = fields.findIndex((field, i) => i % 2 === 0 && field.equals(BODY))
  return at < 0 ? undefined : fields[at + 1]
}

/** UNBLOCKED: the stream was removed while a read waited. */
export function isWithoutGroup(error: unknown): boolean {
  return /^(NOGROUP|UNBLOCKED|ERR no such key)/.test(saidBy(error))
}

/** What Redis said, if it said something. */
export function saidBy(error: unknown): string {
  return isPushError(error) && error.cause instanceof Error ? error.cause.message : ''
}
