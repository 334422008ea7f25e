const KNOWN = /^((redis|valkey)s?:\/\/|unix:\/\/\/|\/)/

/** Why `url` cannot be the URL of a Redis; undefined when it can. */
export function urlProblem(url: string): string | undefined {
  return KNOWN.test(url) ? undefined : 'must be a URL such as "redis://127.0.0.1:6379"'
}

/**
 * The same server in the words of ioredis, which knows redis://, rediss:// and paths. Of any other scheme it makes a
 * host: it would look for the host "valkeys" for ever, and write the rest, the password too, into the log as a path.
 */
export function toIoredis(url: string): string {
  return url.replace(/^valkey(s?:\/\/)/, 'redis$1').replace(/^unix:\/\//, '')
}
