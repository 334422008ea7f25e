import { isIP } from 'node:net'
import type { ConnectionOptions } from 'node:tls'
import type { RedisOptions } from 'ioredis'
import { unknownKey } from '../../protocol/unknown-keys.ts'

/** A Sentinel: `host:port`, a URL, or an address; what a URL says of user, password and TLS goes before the options. */
export type SentinelGiven = string | { host?: string | undefined; port?: number | undefined }

/** Sentinels that know the master `name`, and ioredis options for the servers that they lead to. */
export interface SentinelSource extends Omit<RedisOptions, 'sentinels'> {
  sentinels: readonly SentinelGiven[]
  name: string
}

/** Where a Sentinel is, and how to get in. */
export interface SentinelEntry {
  host: string
  port: number
  username?: string
  password?: string
  /** False if a URL says that this one has none. */
  tls?: ConnectionOptions | false
}

export const SENTINEL_PORT = 26379

const PLACE = /^(?:(?:redis|valkey)(s?)(:\/\/)(?:([^@/]*)@)?)?(\[[0-9a-f:.]+\]|[^\s:/?#,@[\]]+)(?::(\d{1,5}))?\/?$/i

/** Undefined if nobody can be reached there. */
function entryOf(given: unknown): SentinelEntry | undefined {
  if (typeof given !== 'string') {
    const { host, port = SENTINEL_PORT, ...rest } = (given ?? {}) as Partial<SentinelEntry>
    return typeof host === 'string' && host !== '' && isPort(port) ? { ...rest, host, port } : undefined
  }
  const found = PLACE.exec(given)
  if (!found) return undefined
  const [, secure, isUrl, user = '', host = '', digits = SENTINEL_PORT] = found
  const port = Number(digits)
  if (!isPort(port)) return undefined
  const credentials = decoded(user)
  if (!credentials) return undefined
  const [username = '', password = ''] = credentials
  return {
    host: host.replace(/^\[|\]$/g, ''),
    port,
    ...(username && { username }),
    ...(password && { password }),
    ...(isUrl && { tls: secure ? {} : false }),
  }
}

/** User and password; undefined if they are not encoded as a URL needs it. */
function decoded(user: string): string[] | undefined {
  try {
    return user.split(/:(.*)/s).map(decodeURIComponent)
  } catch {
    return undefined
  }
}

function isPort(port: unknown): boolean {
  return Number.isInteger(port) && Number(port) > 0 && Number(port) <= 65535
}

export function entriesOf(given: readonly unknown[]): SentinelEntry[] {
  return given.map(entryOf).filter(entry => entry !== undefined)
}

const KEYS = [
  'sentinels',
  'sentinelUsername',
  'sentinelPassword',
  'sentinelTLS',
  'sentinelCommandTimeout',
  'sentinelRetryStrategy',
  'sentinelReconnectStrategy',
  'sentinelMaxConnections',
]
const TEXTS = ['sentinelUsername', 'sentinelPassword', 'username', 'password']

/** Why these options lead to no Sentinel; undefined if they do. */
export function sentinelProblem(given: Record<string, unknown>): string | undefined {
  const { sentinels, name, role } = given
  if (!Array.isArray(sentinels) || sentinels.length === 0) {
    return 'sentinels must be a list such as ["10.0.0.1:26379", "10.0.0.2:26379", "10.0.0.3:26379"]'
  }
  const wrong = sentinels.findIndex(sentinel => !entryOf(sentinel))
  if (wrong >= 0) return `sentinels.${wrong} must be "host:port", a URL or { host, port }`
  if (typeof name !== 'string' || name === '') {
    return 'has sentinels but no name: write the name of the master from "sentinel monitor NAME …", often "mymaster"'
  }
  if (role !== undefined && role !== 'master') return 'role must be "master": a replica takes no publications'
  const text = TEXTS.find(key => given[key] !== undefined && given[key] !== null && typeof given[key] !== 'string')
  if (text) return `${text} must be a string`
  const unknown = unknownKey(pickSentinelKeys(given), KEYS)
  return unknown && `has sentinels and an ${unknown}`
}

function pickSentinelKeys(given: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(given).filter(([key]) => key.startsWith('sentinel')))
}

/** Node sends the name of a server in TLS only if it is told to, and what stands before several needs it to choose. */
export function withServerName(tls: RedisOptions['tls'] | true, host: string | undefined): ConnectionOptions {
  const given = typeof tls === 'object' ? tls : {}
  return host && isIP(host) === 0 ? { servername: host, ...given } : given
}
