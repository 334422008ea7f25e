import { readFileSync } from 'node:fs'
import type { ConnectionOptions } from 'node:tls'
import type { PushBridgeOptions } from '../options/options.ts'

/** The way to Redis, for every command. */
export const REDIS_FLAGS = {
  redis: { type: 'string' },
  prefix: { type: 'string' },
  sentinels: { type: 'string' },
  'sentinel-name': { type: 'string' },
  'redis-tls': { type: 'boolean' },
  'redis-tls-ca': { type: 'string' },
  'redis-tls-cert': { type: 'string' },
  'redis-tls-key': { type: 'string' },
  'redis-tls-servername': { type: 'string' },
} as const

export const REDIS_USAGE = `  REDIS_SENTINELS         --sentinels LIST       host:port of the Sentinels, separated by commas, instead of REDIS_URL
  REDIS_SENTINEL_NAME     --sentinel-name NAME   name of the master, as in "sentinel monitor NAME"
  REDIS_SENTINEL_USERNAME, REDIS_SENTINEL_PASSWORD   for the Sentinels, if they ask
  REDIS_USERNAME, REDIS_PASSWORD                 for Redis, if the URL has none
  REDIS_TLS               --redis-tls            TLS to Redis and its Sentinels; rediss:// in REDIS_URL says so too
  REDIS_TLS_CA            --redis-tls-ca FILE    certificate of your own authority
  REDIS_TLS_CERT          --redis-tls-cert FILE  certificate of this node, if Redis asks for one
  REDIS_TLS_KEY           --redis-tls-key FILE   and its key
  REDIS_TLS_SERVERNAME    --redis-tls-servername NAME  name in the certificate of Redis, if that is not its host
`

type Values = Readonly<Record<string, string | boolean | undefined>>

export const isOn = (value: string | undefined): boolean => ['1', 'true'].includes(value ?? '')

export function readPrefix(values: Values, env: NodeJS.ProcessEnv): string {
  return (values.prefix as string) || env.REDIS_PREFIX || 'push:'
}

/** Secrets come from the environment alone: what stands in a command is seen by every user of the machine. */
export function readRedis(values: Values, env: NodeJS.ProcessEnv): PushBridgeOptions['redis'] {
  const text = (flag: string, variable: string) => (values[flag] as string) || env[variable] || undefined
  const url = text('redis', 'REDIS_URL')
  const list = text('sentinels', 'REDIS_SENTINELS')
  const name = text('sentinel-name', 'REDIS_SENTINEL_NAME')
  const tls = readTls(values, env)
  if (!url && !list) {
    if (name) throw new Error('REDIS_SENTINEL_NAME (--sentinel-name) is set, but not REDIS_SENTINELS (--sentinels)')
    return undefined
  }
  const { REDIS_USERNAME: username, REDIS_PASSWORD: password } = env
  const user = { ...(username && { username }), ...(password && { password }) }
  if (!list) return readUrl(url!, /@/.test(url!) ? {} : user, tls)
  if (url) throw new Error('REDIS_URL (--redis) and REDIS_SENTINELS (--sentinels) are both set: keep one of them')
  if (!name) {
    throw new Error('REDIS_SENTINEL_NAME (--sentinel-name) is not set: write the name of the master, often mymaster')
  }
  return {
    sentinels: list.split(',').map(sentinel => sentinel.trim()),
    name,
    ...user,
    ...(env.REDIS_SENTINEL_USERNAME && { sentinelUsername: env.REDIS_SENTINEL_USERNAME }),
    ...(env.REDIS_SENTINEL_PASSWORD && { sentinelPassword: env.REDIS_SENTINEL_PASSWORD }),
    ...(tls && { tls, sentinelTLS: tls }),
  }
}

function readUrl(url: string, user: object, tls: ConnectionOptions | undefined): PushBridgeOptions['redis'] {
  if (tls && !/^(redis|valkey)s(\+cluster)?:/.test(url)) {
    throw new Error(
      'REDIS_TLS… is set, but REDIS_URL (--redis) does not begin with rediss://: nothing would be encrypted',
    )
  }
  return tls || Object.keys(user).length > 0 ? { url, ...user, ...(tls && { tls }) } : url
}

export function readTls(values: Values, env: NodeJS.ProcessEnv): ConnectionOptions | undefined {
  const text = (flag: string, variable: string) => (values[flag] as string) || env[variable] || undefined
  const read = (flag: string, variable: string) => {
    const path = text(flag, variable)
    try {
      return path && readFileSync(path)
    } catch (error) {
      throw new Error(`${variable} (--${flag}) is "${path}": ${(error as Error).message}`)
    }
  }
  const ca = read('redis-tls-ca', 'REDIS_TLS_CA')
  const cert = read('redis-tls-cert', 'REDIS_TLS_CERT')
  const key = read('redis-tls-key', 'REDIS_TLS_KEY')
  const servername = text('redis-tls-servername', 'REDIS_TLS_SERVERNAME')
  if (Boolean(cert) !== Boolean(key)) {
    throw new Error('REDIS_TLS_CERT (--redis-tls-cert) and REDIS_TLS_KEY (--redis-tls-key) go together: set both')
  }
  const tls = { ...(ca && { ca }), ...(cert && key && { cert, key }), ...(servername && { servername }) }
  const isWanted = values['redis-tls'] ?? isOn(env.REDIS_TLS)
  return isWanted || Object.keys(tls).length > 0 ? tls : undefined
}
