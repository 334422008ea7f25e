import { createHash } from 'node:crypto'
import { type Cluster, Redis, type RedisOptions } from 'ioredis'
import { errors } from '../../protocol/errors.ts'
import type { Address } from './link.ts'
import { PubSub, type Sharded } from './pub-sub.ts'
import { SentinelConnector } from './sentinel-connector.ts'
import { entriesOf, type SentinelSource, sentinelProblem, withServerName } from './sentinels.ts'
import { clusterIn, shardedProblem, toIoredis, urlProblem } from './url.ts'

/** ioredis options for all servers of a Cluster. */
export interface ClusterSource extends RedisOptions {
  /** Its servers, of which at least one must be up at the start, or a client. */
  cluster: readonly (string | Partial<Address>)[] | Cluster
  sharded?: Sharded
}

/** A URL, and ioredis options that it does not contain, such as `tls`. */
export interface UrlSource extends RedisOptions {
  url: string
}

/**
 * What the application may give: a URL, ioredis options, those of a Cluster or of Sentinels, or a client, of which only
 * the options are used.
 */
export type RedisSource = SingleSource | ClusterSource | Cluster

/** What leads to one server, or by Sentinels to one at a time. */
export type SingleSource = string | UrlSource | SentinelSource | RedisOptions | Redis

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
  // A Redis that reads its data is asked again before Link takes it for dead.
  maxLoadingRetryTime: 500,
  // A frozen Redis never answers a FIN: without this a lost link would stay "closing".
  disconnectTimeout: 100,
  retryStrategy: retryDelay,
  // A demoted master refuses writes on a connection that otherwise works.
  reconnectOnError: error => error.message.startsWith('READONLY'),
}

export function createClient(source: SingleSource, connectionName: string): Redis {
  const given = givenIn(source)
  const ours: OurOptions = { ...OURS, connectionName, ...wayTo(given) }
  return isClient(source) ? source.duplicate(ours) : new Redis({ ...given, ...ours })
}

/** The ioredis options in a source. */
function givenIn(source: SingleSource): RedisOptions {
  if (typeof source === 'string') return new Redis(toIoredis(source), PROBE).options
  if (isClient(source)) return source.options
  if (!hasUrl(source)) return source as RedisOptions
  const { url, ...options } = source
  return { ...givenIn(url), ...options }
}

/** What ioredis does not do by itself: ask all Sentinels, and name the server in TLS. */
function wayTo({ sentinels, tls, host, path, enableTLSForSentinelMode }: RedisOptions) {
  // Without enableTLSForSentinelMode ioredis would connect without TLS, whatever `tls` says.
  if (sentinels) {
    return { Connector: SentinelConnector, enableTLSForSentinelMode: enableTLSForSentinelMode || Boolean(tls) }
  }
  // A text is the name of a profile of ioredis.
  return tls && !path && typeof tls !== 'string' ? { tls: withServerName(tls, host) } : {}
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
  if (hasUrl(source)) {
    const { url, ...options } = source
    const given = clusterIn(url)
    return given && { nodes: given.urls, options, sharded: given.sharded as Sharded }
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
    : sentinels
      ? entriesOf(sentinels)
          .map(at => [at.host, at.port, at.username, at.password].join(':'))
          .toSorted()
      : (path ?? [host, port])
  const { sentinelUsername, sentinelPassword, sentinelTLS } = options
  const asked = sentinels ? [name, sentinelUsername, sentinelPassword, sentinelTLS && digestOf(sentinelTLS)] : []
  const sharded = target.isCluster && target.sharded
  return JSON.stringify([places, db ?? 0, username, password, tls && digestOf(tls), sharded, ...asked])
}

/** Links with another certificate or authority are other links. */
function digestOf(tls: object | true): string {
  return createHash('sha1').update(JSON.stringify(tls)).digest('hex')
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
  const several = WAYS.filter(way => ((source as Record<string, unknown>)[way] ?? undefined) !== undefined)
  if (several.length > 1) return `has ${several.join(' and ')}: give one of them`
  if ('url' in source) return typeof source.url === 'string' ? urlProblem(source.url) : 'url must be a string'
  if ('sentinels' in source && source.sentinels !== null) return sentinelProblem(source as Record<string, unknown>)
  if (!('cluster' in source)) return 'sharded' in source ? 'needs cluster for sharded pub/sub' : undefined
  const { cluster, sharded = false } = source as Record<string, unknown>
  const wrong = shardedProblem(sharded)
  if (wrong) return wrong
  if (typeof cluster === 'object' && cluster !== null && isCluster(cluster)) return undefined
  if (!Array.isArray(cluster) || cluster.length === 0) return 'cluster must be a list of URLs of servers of a Cluster'
  const problem = cluster.map(nodeProblem).find(Boolean)
  return problem && `cluster has a server that ${problem}`
}

/** Each of them alone says where Redis is. */
const WAYS = ['url', 'sentinels', 'cluster']

function nodeProblem(node: unknown): string | undefined {
  if (typeof node === 'string') return urlProblem(node)
  const { host, port } = (node ?? {}) as Record<string, unknown>
  return typeof host === 'string' && Number.isInteger(port) ? undefined : 'must be a URL or have a host and a port'
}

function isCluster(source: object): source is Cluster {
  return 'isCluster' in source && source.isCluster === true
}

function hasCluster(source: SingleSource | ClusterSource): source is ClusterSource {
  return typeof source === 'object' && 'cluster' in source && source.cluster !== undefined
}

function hasUrl(source: RedisSource): source is UrlSource {
  return typeof source === 'object' && 'url' in source && typeof source.url === 'string'
}

function isClient(source: RedisSource): source is Redis {
  return typeof source === 'object' && typeof (source as Partial<Redis>).duplicate === 'function'
}
