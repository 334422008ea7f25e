import type { Facts, FaultNote } from './facts.ts'
import type { NotedKind } from './schedule.ts'
import { firstHomeOf, NODE_TIMEOUT, slotOf } from './slots.ts'
import { BULK, SMALL } from './topics.ts'

/** So late a node looks by itself at which master has a slot: until then it may receive from the one that had it. */
const UNNOTICED = 5000

/** How long after a fault its consequences may still be told. */
const AFTERMATH = 10_000

/** A Cluster with a dead master takes no key of any other, from when that is taken for dead until it is replaced. */
const DEADLY: NotedKind[] = ['shard-kill', 'shard-stop', 'shard-split', 'shard-rollback', 'promotion']

/** A topic that is between two masters delays those that are asked for together with it, as far as they have the same. */
const MOVING: NotedKind[] = ['slot-move', 'master-join']

/** These end with a replica that may be behind, if it was promoted. */
const FAILOVER: NotedKind[] = [
  'failover',
  'master-kill',
  'master-stop',
  'shard-failover',
  'shard-kill',
  'shard-stop',
  'shard-split',
  'promotion',
]
const BACKWARD: NotedKind[] = [...FAILOVER, 'redis-rollback', 'shard-rollback']
const LINK: NotedKind[] = [
  ...BACKWARD,
  'redis-stop',
  'redis-kill',
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
const READER: NotedKind[] = ['reader-stall', 'client-link-throttle', 'client-link-hole']

interface Explanation {
  kinds: readonly NotedKind[]
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

type Past = Pick<Facts, 'faults' | 'homes'>

/** Whether the topic was where it happened, at any time in between. Outside of a Cluster it always was. */
function concerns(
  { shard }: Pick<FaultNote, 'shard'>,
  topic: string,
  span: [from: number, until: number],
  { homes }: Past,
): boolean {
  if (shard === undefined) return true
  const [from, until] = span
  const key = `push:${topic}`
  const known = homes.get(slotOf(key))
  if (!known) return firstHomeOf(key) === shard
  return known.some(home => home.shard === shard && home.from <= until && home.until >= from)
}

/** Whether the topic may have missed something because its slot moved: recorded topics never do. */
function hasMoved(topic: string, t: number, { homes }: Past): boolean {
  if (!topic.startsWith('connection:')) return false
  const known = homes.get(slotOf(`push:${topic}`)) ?? []
  return known.some(({ from }, i) => i > 0 && from <= t && t <= known[i - 1]!.until + AFTERMATH)
}

/** Whether the fault kept the whole Cluster from answering, or slots came and went at the master of the topic. */
function keepsFromAnswering({ kind, t: from, end }: FaultNote, topic: string, t: number, past: Past): boolean {
  if (from > t || t > end + AFTERMATH) return false
  if (DEADLY.includes(kind)) return kind === 'promotion' || t >= from + NODE_TIMEOUT
  if (!MOVING.includes(kind)) return false
  const isAt = (shard: number) => concerns({ shard }, topic, [from, t], past)
  return [...past.homes.values()].some(known => {
    const homes = known.filter(home => home.from <= Math.min(t, end) && home.until >= from)
    return homes.length > 1 && homes.some(({ shard }) => isAt(shard))
  })
}

/** Whether Redis may have less than it had. Of a failover that came to nothing that is certain: it has not. */
function isBackward({ kind, promoted }: FaultNote): boolean {
  return BACKWARD.includes(kind) && promoted !== false
}

/** Whether something happened that explains why a client was told this gap then. */
export function isJustified(reason: string, topic: string, t: number, past: Past): boolean {
  // These keep little: whoever is away for a while finds them trimmed.
  if (reason === 'history_trimmed' && (topic === SMALL || topic === BULK)) return true
  if (reason === 'broker_link' && hasMoved(topic, t, past)) return true
  if (reason === 'broker_away' && past.faults.some(fault => keepsFromAnswering(fault, topic, t, past))) return true
  const explanation = EXPLANATIONS[reason]
  if (!explanation) return false
  const { kinds, isPassing } = explanation
  return past.faults.some(fault => {
    if (!kinds.includes(fault.kind) || fault.t > t || (isPassing && t > fault.end + AFTERMATH)) return false
    if (fault.topic !== undefined && fault.topic !== topic) return false
    if (!isPassing && BACKWARD.includes(fault.kind) && !isBackward(fault)) return false
    return concerns(fault, topic, [fault.t - UNNOTICED, t], past)
  })
}

/** What a master acknowledged this soon before it was lost may not have reached its replica. */
const REPLICATION_LAG = 1000

/**
 * From when on a gap covers what was first tried at `tried`. What a master took after its replica was promoted is known
 * to nobody: whoever was told of the failover itself was told of that.
 */
export function coveredFrom(topic: string, tried: number, past: Past): number {
  const over = past.faults.filter(fault => {
    const { kind, t, end } = fault
    if (!FAILOVER.includes(kind) || tried < t - REPLICATION_LAG || end < tried) return false
    return concerns(fault, topic, [t - REPLICATION_LAG, end], past)
  })
  return Math.min(tried, ...over.map(({ t }) => t))
}

/** Whether what stood in the history of a topic between these times may be gone from it. */
export function mayBeUndone(topic: string, from: number, until: number, past: Past): boolean {
  return past.faults.some(fault => {
    const { kind, t, end } = fault
    const begin = FAILOVER.includes(kind) ? t - REPLICATION_LAG : t
    if (!isBackward(fault) || until < begin || end < from) return false
    return concerns(fault, topic, [begin, end], past)
  })
}

/** What may keep a node from its lease, or a client from what it is told, or take a part of the list away. */
const FLICKER: NotedKind[] = [
  'node-stop',
  'link-cut',
  'link-hole',
  'link-delay',
  'link-throttle',
  ...READER,
  ...BACKWARD,
]

/** Whether something happened that explains why a list showed for a while what was not so. */
export function mayFlicker(topic: string, t: number, past: Past): boolean {
  return past.faults.some(fault => {
    if (!FLICKER.includes(fault.kind) || fault.t > t || t > fault.end + AFTERMATH) return false
    if (BACKWARD.includes(fault.kind) && !isBackward(fault)) return false
    return concerns(fault, topic, [fault.t, t], past)
  })
}
