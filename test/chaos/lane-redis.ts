import { Cluster, Redis } from 'ioredis'

/** Whatever fails is known to fail at once: nothing is sent twice by itself. */
const OPTIONS = {
  commandTimeout: 1500,
  maxRetriesPerRequest: 0,
  autoResendUnfulfilledCommands: false,
  retryStrategy: () => 40,
  failoverDetector: true,
  reconnectOnError: ({ message }: Error) => message.startsWith('READONLY'),
}

interface Sentinels {
  sentinels: { host: string; port: number }[]
  name: string
}

/** A connection to the Redis of a run, by what its nodes are given as `redis`. */
export function connectTo(redis: string | object): Redis | Cluster {
  const connection = connectionTo(redis)
  connection.on('error', () => {})
  return connection
}

function connectionTo(redis: string | object): Redis | Cluster {
  if (typeof redis === 'string') return new Redis(redis, OPTIONS)
  if (!('cluster' in redis)) return new Redis({ ...(redis as Sentinels), ...OPTIONS })
  // Each wait has a deadline anyway.
  const cluster = new Cluster(redis.cluster as string[], {
    clusterRetryStrategy: () => 40,
    retryDelayOnFailover: 0,
    slotsRefreshInterval: 1000,
  })
  return cluster.on('+node', catchAsking)
}

/** A Cluster of ioredis sends ASKING by itself, and where that is rejected nobody catches it. */
function catchAsking(node: Redis): void {
  const ask = node.asking.bind(node) as () => Promise<'OK'>
  node.asking = () => {
    const asked = ask()
    asked.catch(() => {})
    return asked
  }
}
