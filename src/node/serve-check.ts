import { checkSource } from '../broker/redis/client.ts'
import type { PushBridgeOptions } from '../options/options.ts'
import { parseOptions } from '../options/parse.ts'
import { isPlainObject } from '../options/values.ts'
import { compilePayloadCheck, SchemaTable } from '../publish/schemas.ts'
import type { ServeSettings } from './serve-settings.ts'

/** A setting as it would be used, and where it comes from. */
export interface UsedSetting {
  setting: string
  value: string
  from: 'flag' | 'environment' | 'file' | 'default'
}

type Values = Readonly<Record<string, string | boolean | undefined>>

/** Which flag and which variable say an option. One that ends in a star stands for all that begin so. */
const SOURCES: readonly (readonly [option: string, flag: string, variable: string])[] = [
  ['redis', 'redis', 'REDIS_URL'],
  ['redis', 'sentinels', 'REDIS_SENTINELS'],
  ['port', 'port', 'PORT'],
  ['host', 'host', 'HOST'],
  ['path', 'path', 'WS_PATH'],
  ['api.keys', 'api-key', 'PUSH_API_KEY'],
  ['api.page', 'page', 'PAGE'],
  ['origins', 'origins', 'ORIGINS'],
  ['redisPrefix', 'prefix', 'REDIS_PREFIX'],
  ['presence', 'presence', 'PRESENCE'],
  ['authenticate', 'authenticate', 'AUTHENTICATE'],
  ['revocation.ttl', 'revocation-ttl', 'REVOCATION_TTL'],
  ['trustProxy', 'trust-proxy', 'TRUST_PROXY'],
  ['logLevel', 'log-level', 'LOG_LEVEL'],
  ['limits.handshake', 'handshake', 'HANDSHAKE'],
  ['metrics', 'metrics', 'METRICS'],
  ['jwt', 'jwt-*', 'JWT_*'],
  ['events', 'events-*', 'EVENTS_*'],
  ['events', 'backend-*', 'BACKEND_*'],
  ['ingress', 'ingress-*', 'INGRESS_*'],
]

/**
 * Every setting with what it would be, without a secret. Throws with a sentence if the server could not start with them.
 * Nothing is connected and nothing listens.
 */
export function usedSettings(
  settings: ServeSettings,
  options: PushBridgeOptions,
  given: { flags: Values; env: NodeJS.ProcessEnv },
): UsedSetting[] {
  const { port, host, trustProxy, logLevel, metrics, jwt, config } = settings
  const { callbacks, redis, metrics: _, ...parsed } = parseOptions(options)
  if (typeof redis === 'string' || isPlainObject(redis)) checkSource(redis)
  new SchemaTable(parsed.schemas)
  for (const [type, { schema }] of Object.entries(parsed.handlers)) compilePayloadCheck(`handlers["${type}"]`, schema)
  const ingress = parsed.ingress.map(({ name, topics }) => ({ name, topics }))
  const named = { schemas: namesOf(parsed.schemas), handlers: namesOf(parsed.handlers), ingress }
  const file = { ...config.server, ...config.options }
  const all = { port, host, trustProxy, logLevel, redis, ...parsed, ...named, ...callbacks, metrics, jwt }
  return leaves(all).map(([setting, value]) => ({
    setting,
    value: shown(setting, value),
    from: sourceOf(setting, file, given),
  }))
}

const namesOf = (table: object): string[] => Object.keys(table)

/** What has no value is not shown. A client, a certificate and the like are one value: their inside is nobody's business. */
function leaves(value: unknown, at = ''): [string, unknown][] {
  if (value === undefined) return []
  if (!isPlainObject(value) || !isLiteral(value) || Object.keys(value).length === 0) return at ? [[at, value]] : []
  return Object.entries(value).flatMap(([key, part]) => leaves(part, at ? `${at}.${key}` : key))
}

const isLiteral = (value: object) => [Object.prototype, null].includes(Object.getPrototypeOf(value))

const SECRET = /(key|keys|secret|password|passphrase|pfx|token)$/i

function shown(setting: string, value: unknown): string {
  if (typeof value === 'function') return 'a function'
  if (setting.split('.').some(name => SECRET.test(name))) {
    return Array.isArray(value) ? `${value.length} that are not shown` : 'not shown'
  }
  if (Buffer.isBuffer(value)) return `${value.length} bytes`
  if (isPlainObject(value) && !isLiteral(value)) return 'an object'
  const text = typeof value === 'string' ? value : JSON.stringify(value, (key, part) => (SECRET.test(key) ? '…' : part))
  return withoutSecrets(text)
}

/** User and password of a URL, up to the last @ of them, and its query, which may be a token. */
function withoutSecrets(text: string): string {
  return text.replaceAll(/:\/\/[^/?#\n]*@/g, '://…@').replaceAll(/(:\/\/[^\s"?]*)\?[^\s"]*/g, '$1?…')
}

function sourceOf(
  setting: string,
  file: object,
  { flags, env }: { flags: Values; env: NodeJS.ProcessEnv },
): UsedSetting['from'] {
  const sources = SOURCES.filter(([option]) => setting === option || setting.startsWith(`${option}.`))
  if (sources.some(([, flag]) => isSet(flags, flag))) return 'flag'
  if (sources.some(([, , variable]) => isSet(env, variable))) return 'environment'
  return isIn(file, setting.split('.')) ? 'file' : 'default'
}

function isSet(values: Readonly<Record<string, unknown>>, name: string): boolean {
  if (!name.endsWith('*')) return Boolean(values[name])
  return Object.entries(values).some(([key, value]) => value && key.startsWith(name.slice(0, -1)))
}

function isIn(file: unknown, [key, ...rest]: readonly string[]): boolean {
  if (key === undefined) return true
  if (!isPlainObject(file)) return file !== undefined
  return Object.hasOwn(file, key) && isIn(file[key], rest)
}
