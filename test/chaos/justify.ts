import type { FaultNote } from './facts.ts'
import type { FaultKind } from './schedule.ts'
import { BULK, SMALL } from './topics.ts'

/** How long after a fault its consequences may still be told. */
const AFTERMATH = 10_000

const REDIS: FaultKind[] = ['redis-stop', 'redis-kill', 'redis-rollback', 'failover', 'master-kill', 'master-stop']
const LINK: FaultKind[] = [
  ...REDIS,
  'link-cut',
  'link-hole',
  'link-delay',
  'link-throttle',
  'drop-reply',
  'client-kill-pubsub',
  'client-kill-normal',
  'pubsub-limit',
  'node-stop',
]
const READER: FaultKind[] = ['reader-stall', 'client-link-throttle', 'client-link-hole']
const BACKWARD: FaultKind[] = ['redis-rollback', 'failover', 'master-kill', 'master-stop']

interface Explanation {
  kinds: readonly FaultKind[]
  /** Whether it explains only what comes soon after it. */
  isPassing: boolean
}

const EXPLANATIONS: Record<string, Explanation> = {
  broker_link: { kinds: LINK, isPassing: true },
  broker_away: { kinds: LINK, isPassing: true },
  slow_consumer: { kinds: READER, isPassing: true },
  history_trimmed: { kinds: ['history-trim', 'history-expire'], isPassing: false },
  history_expired: { kinds: ['history-trim', 'history-expire', ...BACKWARD], isPassing: false },
  history_replaced: { kinds: BACKWARD, isPassing: false },
}

/** Whether something happened that explains why a client was told this gap then. */
export function isJustified(reason: string, topic: string, t: number, faults: readonly FaultNote[]): boolean {
  // These keep little: whoever is away for a while finds them trimmed.
  if (reason === 'history_trimmed' && (topic === SMALL || topic === BULK)) return true
  const explanation = EXPLANATIONS[reason]
  if (!explanation) return false
  return faults.some(fault => {
    if (!explanation.kinds.includes(fault.kind) || fault.t > t) return false
    if (fault.topic !== undefined && fault.topic !== topic) return false
    return !explanation.isPassing || t <= fault.end + AFTERMATH
  })
}

/** What a master acknowledged this soon before it was lost may not have reached its replica. */
const REPLICATION_LAG = 1000

const FAILOVER: FaultKind[] = ['failover', 'master-kill', 'master-stop']

/**
 * From when on a gap covers what was first tried at `tried`. What a master took after its replica was promoted is known
 * to nobody: whoever was told of the failover itself was told of that.
 */
export function coveredFrom(tried: number, faults: readonly FaultNote[]): number {
  const over = faults.filter(
    ({ kind, t, end }) => FAILOVER.includes(kind) && t - REPLICATION_LAG <= tried && tried <= end,
  )
  return Math.min(tried, ...over.map(({ t }) => t))
}

/** Whether what stood in a history between these times may be gone from it. */
export function mayBeUndone(from: number, until: number, faults: readonly FaultNote[]): boolean {
  return faults.some(({ kind, t, end }) => {
    const begin = FAILOVER.includes(kind) ? t - REPLICATION_LAG : t
    return BACKWARD.includes(kind) && begin <= until && end >= from
  })
}
