import { SHARDED } from './pub-sub.ts'

const KNOWN = /^((redis|valkey)s?:\/\/|unix:\/\/\/|\/)/
const CLUSTER = /^((?:redis|valkey)s?)\+cluster:\/\/([^@/]*@)?([^/?]+)\/?(?:\?sharded=(\w+))?$/
const IS_CLUSTER = /^\w+\+cluster:/
const BOOLEANS = new Map([
  ['true', true],
  ['false', false],
])

/** Why `url` cannot be the URL of a Redis; undefined when it can. */
export function urlProblem(url: string): string | undefined {
  if (KNOWN.test(url)) return undefined
  const cluster = clusterIn(url)
  if (cluster) return shardedProblem(cluster.sharded)
  return IS_CLUSTER.test(url)
    ? 'must be a URL such as "redis+cluster://10.0.0.1:6379,10.0.0.2:6379?sharded=true"'
    : 'must be a URL such as "redis://127.0.0.1:6379"'
}

/** The URLs of the servers in the URL of a Cluster, and what it says about pub/sub; undefined if it is none. */
export function clusterIn(url: string): { urls: string[]; sharded: unknown } | undefined {
  const [, scheme, user = '', hosts, sharded = 'false'] = CLUSTER.exec(url) ?? []
  const urls = hosts?.split(',').map(host => `${scheme}://${user}${host}`)
  return urls && { urls, sharded: BOOLEANS.get(sharded) ?? sharded }
}

export function shardedProblem(sharded: unknown): string | undefined {
  return SHARDED.includes(sharded)
    ? undefined
    : 'has a value for sharded that is not true, false, "receive" or "publish"'
}

/**
 * The same URL for ioredis, which knows redis://, rediss:// and paths. It takes any other scheme for a host: it would
 * look for the host "valkeys" for ever and log the rest of the URL, with the password, as a path.
 */
export function toIoredis(url: string): string {
  return url.replace(/^valkey(s?:\/\/)/, 'redis$1').replace(/^unix:\/\//, '')
}
