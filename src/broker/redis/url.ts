const KNOWN = /^((redis|valkey)s?:\/\/|unix:\/\/\/|\/)/
const CLUSTER = /^((?:redis|valkey)s?)\+cluster:\/\/([^@/]*@)?([^/?]+)/

/** Why `url` cannot be the URL of a Redis; undefined when it can. */
export function urlProblem(url: string): string | undefined {
  return KNOWN.test(url) || CLUSTER.test(url) ? undefined : 'must be a URL such as "redis://127.0.0.1:6379"'
}

/** The URLs of the servers in the URL of a Cluster; undefined if it is that of a single Redis. */
export function clusterUrls(url: string): string[] | undefined {
  const [, scheme, user = '', hosts] = CLUSTER.exec(url) ?? []
  return hosts?.split(',').map(host => `${scheme}://${user}${host}`)
}

/**
 * The same URL for ioredis, which knows redis://, rediss:// and paths. It takes any other scheme for a host: it would
 * look for the host "valkeys" for ever and log the rest of the URL, with the password, as a path.
 */
export function toIoredis(url: string): string {
  return url.replace(/^valkey(s?:\/\/)/, 'redis$1').replace(/^unix:\/\//, '')
}
