import { type Cluster, Redis, type RedisOptions } from 'ioredis'
import { errors } from '../../protocol/errors.ts'
import type { Address } from './link.ts'
import { PubSub, type Sharded } from './pub-sub.ts'
import { clusterIn, shardedProblem, toIoredis, urlProblem } from './url.ts'

/** ioredis options for all servers of a Cluster. */
export interface ClusterSource extends RedisOptions {
  /** Its servers, of which at least one must be up at the start, or a client. */
  cluster: readonly (string | Partial<Address>)[] | Cluster
  sharded?: Sharded
}

/**
 * What the application may give: a URL, ioredis options, those of a Cluster, or a client, of which only the options are
 * used.
 */
export type RedisSource = SingleSource | ClusterSource | Cluster

/** What leads to one server, or by Sentinels to one at a time. */
export type SingleSource = string | RedisOptions | Redis

const RETRY_FIRST = 50
const RETRY_MAX = 1000

/**
 * Exponential with jitter: a restarted Redis is found within about a second, and not by all nodes at the same moment.
 */
function retryDelay(attempt: number): number {
  const ceiling = Math.min(RETRY_MAX, RETRY_FIRST * 2 ** Math.min(attempt - 1, 10))
  return ceiling / 2 + Math.random() * (ceiling / 2)
}

type OurOptions = RedisOptions & { replyMapping: 'legacy' }

const OURS: OurOptions = {
  lazyConnect: true,
  // The same form of replies with RESP2 and RESP3.
  replyMapping: 'legacy',
  // CommandLink handles deadlines and retries: ioredis might execute a publish twice or hold it for a minute.
  autoResendUnfulfilledCommands: false,
  autoResubscribe: false,
  enableOfflineQueue: false,
  maxRetriesPerRequest: 0,
  // An answer may come after seconds of messages.
  commandTimeout: undefined,
  // It would prefix keys but not channels.
  keyPrefix: '',
  connectTimeout: 3000,
  // A frozen Redis never answers a FIN: without this a lost link would stay "closing".
  disconnectTimeout: 100,
  retryStrategy: retryDelay,
  // A demoted master refuses writes on a connection that otherwise works.
  reconnectOnError: error => error.message.startsWith('READONLY'),
}

export function createClient(source: SingleSource, connectionName: string): Redis {
  const options: OurOptions = { ...OURS, connectionName }
  if (typeof source === 'string') return new Redis(toIoredis(source), options)
  const given = isClient(source) ? source.options : source
  // Without it a subscriber stays connected to a frozen master for ever (seen with Sentinel and SIGSTOP).
  const ours: OurOptions = { ...options, ...(given.sentinels && { failoverDetector: true }) }
  return isClient(source) ? source.duplicate(ours) : new Redis({ ...source, ...ours })
}

/** One Redis, or where to find a Cluster and what leads to one of its servers. */
export type Target =
  | { isCluster: false; one: SingleSource }
  | { isCluster: true; sharded: Sharded; seeds: Address[]; at(address: Address): RedisOptions }

export function targetOf(source: RedisSource): Target {
  const given = clusterGiven(source)
  if (!given) return { isCluster: false, one: source as SingleSource }
  const nodes = given.nodes.map(node => (typeof node === 'string' ? new Redis(toIoredis(node), PROBE).options : node))
  const { db: _, name: __, sentinels: ___, ...first } = nodes[0] as RedisOptions
  const seeds = nodes.map(({ host = '127.0.0.1', port = 6379 }) => ({ host, port: Number(port) }))
  const { sharded } = given
  return { isCluster: true, sharded, seeds, at: ({ host, port }) => ({ ...first, ...given.options, host, port }) }
}

const PROBE = { lazyConnect: true }

/** How publications are carried there. */
export function pubSubOf(target: Target): PubSub {
  return new PubSub(target.isCluster && target.sharded)
}

type ClusterNode = string | Partial<Address>

interface GivenCluster {
  nodes: readonly ClusterNode[]
  options: RedisOptions
  sharded: Sharded
}

function clusterGiven(source: RedisSource): GivenCluster | undefined {
  if (typeof source === 'string') {
    const given = clusterIn(source)
    return given && { nodes: given.urls, options: {}, sharded: given.sharded as Sharded }
  }
  if (isCluster(source)) return { ...partsOf(source), sharded: false }
  if (isClient(source) || !hasCluster(source)) return undefined
  const { cluster, sharded = false, ...options } = source
  if (!isCluster(cluster)) return { nodes: cluster, options, sharded }
  const parts = partsOf(cluster)
  return { nodes: parts.nodes, options: { ...parts.options, ...options }, sharded }
}

function partsOf(client: Cluster): Pick<GivenCluster, 'nodes' | 'options'> {
  const { startupNodes, options } = client as unknown as { startupNodes: ClusterNode[]; options: ClusterClientOptions }
  return { nodes: startupNodes, options: options.redisOptions ?? {} }
}

interface ClusterClientOptions {
  redisOptions?: RedisOptions
}

/** Identifies the Redis and the user of `source`: registrations with equal identities share their links. */
export function identityOf(source: RedisSource): string {
  const target = targetOf(source)
  const options = target.isCluster ? target.at(target.seeds[0]!) : optionsOf(target.one)
  const { host, port, path, db, username, password, sentinels, name, tls } = options
  const places = target.isCluster
    ? target.seeds.map(seed => `${seed.host}:${seed.port}`).toSorted()
    : (path ?? [host, port])
  const sharded = target.isCluster && target.sharded
  return JSON.stringify([places, db ?? 0, username, password, sentinels, name, Boolean(tls), sharded])
}

function optionsOf(source: SingleSource): RedisOptions {
  return isClient(source) ? source.options : createClient(source, 'probe').options
}

/** Throws PUSH_ERR_OPTIONS if no client can be created from `source`. */
export function checkSource(source: unknown): RedisSource {
  const problem = sourceProblem(source)
  if (problem) throw new errors.OPTIONS(`option redis ${problem}`)
  return source as RedisSource
}

function sourceProblem(source: unknown): string | undefined {
  if (typeof source === 'string') return urlProblem(source)
  if (typeof source !== 'object' || source === null || Array.isArray(source)) {
    return 'must be a URL, ioredis options or a client'
  }
  // A client has a method of this name.
  if (isClient(source as RedisSource)) return undefined
  if (!('cluster' in source)) return 'sharded' in source ? 'needs cluster for sharded pub/sub' : undefined
  const { cluster, sharded = false } = source as Record<string, unknown>
  const wrong = shardedProblem(sharded)
  if (wrong) return wrong
  if (typeof cluster === 'object' && cluster !== null && isCluster(cluster)) return undefined
  if (!Array.isArray(cluster) || cluster.length === 0) return 'cluster must be a list of URLs of servers of a Cluster'
  const problem = cluster.map(nodeProblem).find(Boolean)
  return problem && `cluster has a server that ${problem}`
}

function nodeProblem(node: unknown): string | undefined {
  if (typeof node === 'string') return urlProblem(node)
  const { host, port } = (node ?? {}) as Record<string, unknown>
  return typeof host === 'string' && Number.isInteger(port) ? undefined : 'must be a URL or have a host and a port'
}

function isCluster(source: object): source is Cluster {
  return 'isCluster' in source && source.isCluster === true
}

function hasCluster(source: RedisOptions | ClusterSource): source is ClusterSource {
  return 'cluster' in source
}

function isClient(source: RedisSource): source is Redis {
  return typeof source === 'object' && typeof (source as Partial<Redis>).duplicate === 'function'
}
