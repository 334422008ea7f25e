import type { IngressKind } from './ingress.ts'
import { Random } from './random.ts'
import { isCluster, type Topology } from './store.ts'

/** Every kind of fault, and how often it is drawn. */
const WEIGHTS = {
  'node-kill': 3,
  'node-term': 2,
  'node-stop': 2,
  'redis-stop': 2,
  'redis-kill': 2,
  'redis-rollback': 3,
  'link-cut': 3,
  'link-hole': 3,
  'link-delay': 1,
  'link-throttle': 1,
  'drop-reply': 3,
  'client-kill-pubsub': 3,
  'client-kill-normal': 2,
  'pubsub-limit': 2,
  'reader-stall': 3,
  'mass-disconnect': 3,
  'client-link-hole': 1,
  'client-link-throttle': 1,
  'history-trim': 2,
  'history-expire': 2,
} as const

const SENTINEL_WEIGHTS = { failover: 4, 'master-kill': 3, 'master-stop': 3 } as const
const CLUSTER_WEIGHTS = {
  'shard-failover': 5,
  'shard-kill': 5,
  'shard-stop': 5,
  'shard-split': 6,
  'shard-rollback': 4,
  'slot-move': 14,
  'master-join': 5,
  'library-flush': 4,
} as const
const RABBITMQ_WEIGHTS = { 'rabbitmq-kill': 3, 'rabbitmq-stop': 2, 'rabbitmq-cut': 4, 'rabbitmq-hole': 2 } as const
const KAFKA_WEIGHTS = { 'kafka-stop': 2, 'kafka-cut': 4, 'kafka-hole': 4 } as const
/** Of one Redis alone: with a replica they are other faults. */
const SINGLE_ONLY = ['redis-stop', 'redis-kill', 'redis-rollback'] as const

export type ClusterFaultKind = keyof typeof CLUSTER_WEIGHTS | 'stream-move'
export type QueueFaultKind = keyof typeof RABBITMQ_WEIGHTS | keyof typeof KAFKA_WEIGHTS
export type FaultKind = keyof typeof WEIGHTS | keyof typeof SENTINEL_WEIGHTS | ClusterFaultKind | QueueFaultKind

/** What the judge is told of: faults, and what the servers of a Cluster did without one. */
export type NotedKind = FaultKind | 'promotion'

export interface Fault {
  kind: FaultKind
  /** Milliseconds after the beginning. */
  at: number
  duration: number
  /** Decides what it hits. */
  aim: number
}

export interface Schedule {
  faults: Fault[]
  isOverlapping: boolean
}

const [SHORTEST, LONGEST] = [200, 3000]
const PER_SECOND = 1.4
/** Those of a queue, besides. */
const OF_QUEUE_PER_SECOND = 0.4

export interface ScheduleOptions {
  seed: number
  seconds: number
  topology: Topology
  ingress?: readonly IngressKind[]
  /** Only these kinds; default: all of the topology and of the queues. */
  kinds?: readonly FaultKind[] | undefined
}

/** Two runs of three have faults that overlap; the others have one kind after the other, which is easier to read. */
export function scheduleOf({ seed, seconds, topology, ingress = [], kinds }: ScheduleOptions): Schedule {
  const random = new Random(seed)
  const isOverlapping = random.next() < 2 / 3
  const weights = kinds ? Object.fromEntries(kinds.map(kind => [kind, 1])) : weightsOf(topology)
  const draw = (at: number, longest: number): Fault => ({
    kind: random.weighted(weights as Record<FaultKind, number>),
    at: Math.round(at),
    duration: Math.round(random.between(SHORTEST, longest)),
    aim: random.next(),
  })
  const end = seconds * 1000
  const faults: Fault[] = []
  if (isOverlapping) {
    for (let i = 0; i < seconds * PER_SECOND; i++) faults.push(draw(random.between(0, end - SHORTEST), LONGEST))
  } else {
    for (let at = 0; at < end - SHORTEST; ) {
      const fault = draw(at, LONGEST / 2)
      faults.push(fault)
      at += fault.duration + random.between(100, 600)
    }
  }
  // A run in which nobody comes back shows nothing.
  faults.push({ ...draw(end * random.between(0.3, 0.8), LONGEST), kind: 'mass-disconnect' })
  // Drawn last: with and without queues, all the others stay what the seed makes of them.
  for (const of of kinds ? [] : ingress) {
    const count = Math.ceil(seconds * OF_QUEUE_PER_SECOND)
    for (const kind of queueFaults(random, of, { topology, count })) {
      faults.push({ ...draw(random.between(0, end - SHORTEST), LONGEST), kind })
    }
  }
  return { faults: faults.sort((a, b) => a.at - b.at), isOverlapping }
}

/** The stream is in Redis, and has its faults. On a Cluster its slot moves, too. */
function queueFaults(
  random: Random,
  of: IngressKind,
  { topology, count }: { topology: Topology; count: number },
): FaultKind[] {
  if (of === 'streams') return isCluster(topology) ? ['stream-move'] : []
  const weights: Partial<Record<QueueFaultKind, number>> = of === 'rabbitmq' ? RABBITMQ_WEIGHTS : KAFKA_WEIGHTS
  return Array.from({ length: count }, () => random.weighted(weights))
}

function weightsOf(topology: Topology): Partial<Record<FaultKind, number>> {
  if (topology === 'single' || topology === 'nginx') return WEIGHTS
  const more = topology === 'sentinel' ? SENTINEL_WEIGHTS : CLUSTER_WEIGHTS
  const weights: Partial<Record<FaultKind, number>> = { ...WEIGHTS, ...more }
  for (const kind of SINGLE_ONLY) delete weights[kind]
  return weights
}
