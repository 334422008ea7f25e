import { readFileSync, statSync } from 'node:fs'
import { basename, extname, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { Type } from 'typebox'
import { Compile } from 'typebox/compile'
import type { PushBridgeOptions } from '../options/options.ts'
import { OPTION_KEYS, parseOptions } from '../options/parse.ts'
import { isPlainObject, refuse } from '../options/values.ts'
import { unknownKey } from '../protocol/unknown-keys.ts'
import { readTls } from './redis-environment.ts'

/** What a file may have besides the options of `register`. `metrics` is that of `serve`, which has the register itself. */
const ServerSchema = Type.Object(
  {
    port: Type.Optional(Type.Integer({ minimum: 0, maximum: 65535, description: 'port to listen on' })),
    host: Type.Optional(Type.String({ minLength: 1, description: 'address to listen on, such as "127.0.0.1"' })),
    trustProxy: Type.Optional(
      Type.Union([Type.Boolean(), Type.String({ minLength: 1 })], {
        description: 'true, or the addresses of the proxies: "10.0.0.0/8, 127.0.0.1"',
      }),
    ),
    logLevel: Type.Optional(Type.String({ minLength: 1, description: 'debug, info, warn, error' })),
    metrics: Type.Optional(
      Type.Object(
        {
          path: Type.String({ description: 'path at which Prometheus reads metrics, such as "/metrics"' }),
          listen: Type.Optional(Type.String({ description: 'an address of their own, such as "127.0.0.1:9464"' })),
          key: Type.Optional(Type.String({ description: 'secret that Prometheus sends as a Bearer token' })),
          prefix: Type.Optional(Type.String({ description: 'begins the name of every metric, such as "push_"' })),
        },
        { additionalProperties: false, description: 'such as { path: "/metrics" }' },
      ),
    ),
    jwt: Type.Optional(
      Type.Object(
        {
          secret: Type.Optional(Type.String({ description: 'secret of HS256' })),
          publicKey: Type.Optional(Type.String({ description: 'file with the public key of RS256 or ES256' })),
          jwksUrl: Type.Optional(Type.String({ description: 'address of a JSON Web Key Set' })),
          issuer: Type.Optional(Type.String({ description: 'what "iss" must be' })),
          audience: Type.Optional(Type.String({ description: 'what "aud" must have' })),
          claim: Type.Optional(Type.String({ description: 'the claim with the rights, "push"' })),
        },
        { additionalProperties: false, description: 'such as { jwksUrl, issuer, audience }' },
      ),
    ),
  },
  { additionalProperties: false },
)

/** The keys that are no options of `register`, or others than there. */
export const SERVER_KEYS: readonly string[] = Object.keys(ServerSchema.properties)

const serverCheck = Compile(ServerSchema)

interface ServerSettings {
  port?: number
  host?: string
  trustProxy?: boolean | string
  logLevel?: string
  metrics?: { path: string; listen?: string; key?: string; prefix?: string }
  jwt?: Record<string, string | undefined>
}

/** What `--config` names, read and found to have no key that is unknown. */
export interface ServeConfig {
  server: ServerSettings
  options: Partial<Omit<PushBridgeOptions, 'metrics'>>
}

export const NO_CONFIG: ServeConfig = { server: {}, options: {} }

/** A file of settings is short; what is not one may be endless. */
const MAX_BYTES = 4 * 1024 * 1024

/** Throws with a sentence that names the file, and the key in it. */
export async function readConfig(path: string): Promise<ServeConfig> {
  const name = basename(path)
  try {
    return parseConfig(await load(resolve(path)))
  } catch (error) {
    throw new Error(`${name}: ${(error as Error).message}`, { cause: error })
  }
}

async function load(path: string): Promise<unknown> {
  const { size } = statSync(path)
  if (size > MAX_BYTES) throw new Error(`has ${size} bytes, and at most ${MAX_BYTES} are read`)
  if (extname(path) === '.json') return parseJson(readFileSync(path, 'utf8'))
  if (!/^\.[cm]?js$/.test(extname(path))) throw new Error('must end in .json, .js or .mjs')
  const module = (await import(pathToFileURL(path).href)) as { default?: unknown }
  if (module.default === undefined) throw new Error('has no default export: write export default { … }')
  return module.default
}

/** What JSON.parse says of an error quotes what stands beside it, which may be a secret without its quotes. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    const position = /at position (\d+)/.exec((error as Error).message)?.[1]
    const line = position && text.slice(0, Number(position)).split('\n').length
    throw new Error(`is not JSON: ${line ? `look at line ${line}` : 'a quote, a comma or a brace is missing'}`)
  }
}

export function parseConfig(given: unknown): ServeConfig {
  if (!isPlainObject(given)) throw new Error('must have an object, such as { "path": "/ws" }')
  const unknown = unknownKey(given, [...new Set([...OPTION_KEYS, ...SERVER_KEYS])])
  if (unknown) throw new Error(unknown)
  const entries = Object.entries(given).filter(([, value]) => value !== undefined)
  const server = Object.fromEntries(entries.filter(([key]) => SERVER_KEYS.includes(key)))
  if (!serverCheck.Check(server)) refuse(ServerSchema, serverCheck.Errors(server), server)
  const options = Object.fromEntries(entries.filter(([key]) => !SERVER_KEYS.includes(key))) as ServeConfig['options']
  if (options.redis === true) throw new Error('option redis cannot be true here: write the URL of your Redis')
  // What serve itself adds may make whole what is not: secrets come from the environment.
  const { events: _, api, ...whole } = options
  const isWhole = Boolean(api?.keys || api?.onRequest)
  parseOptions({ path: '/ws', ...whole, ...(isWhole && { api }), tickets: options.tickets ?? true })
  return { server: server as ServerSettings, options }
}

type Values = Readonly<Record<string, string | boolean | undefined>>

/** The environment, with what the file says where it says nothing. What is empty says nothing. */
export function withConfig(
  { server, options }: ServeConfig,
  values: Values,
  env: NodeJS.ProcessEnv,
): NodeJS.ProcessEnv {
  const set = Object.entries(env).filter(([, value]) => value)
  const isSet = (...names: string[]) => names.some(name => env[name] || values[flagOf(name)])
  const { port, host, logLevel, metrics = {}, jwt = {} } = server as Partial<ServerSettings>
  const isRedisSet = isSet('REDIS_URL', 'REDIS_SENTINELS') || values.redis || values.dev
  const file: Record<string, unknown> = {
    PORT: port,
    HOST: host,
    LOG_LEVEL: logLevel,
    WS_PATH: options.path,
    ORIGINS: options.origins?.join(','),
    REDIS_PREFIX: options.redisPrefix,
    REDIS_URL: isRedisSet || typeof options.redis !== 'string' ? undefined : options.redis,
    PRESENCE: options.presence && JSON.stringify(options.presence),
    AUTHENTICATE: options.authenticate === 'message' ? 'message' : undefined,
    HANDSHAKE: options.limits?.handshake,
    REVOCATION_TTL: options.revocation?.ttl,
    ...upper('METRICS', metrics as object, { path: 'METRICS' }),
    ...upper('JWT', isSet('JWT_SECRET', 'JWT_PUBLIC_KEY', 'JWT_JWKS_URL') ? withoutSigner(jwt) : jwt, {
      jwksUrl: 'JWT_JWKS_URL',
    }),
  }
  const given = Object.entries(file).filter(([, value]) => value !== undefined)
  return { ...Object.fromEntries(given.map(([name, value]) => [name, String(value)])), ...Object.fromEntries(set) }
}

const flagOf = (variable: string) =>
  variable
    .toLowerCase()
    .replace(/^redis_sentinels$/, 'sentinels')
    .replaceAll('_', '-')

const withoutSigner = ({ secret: _, publicKey: __, jwksUrl: ___, ...others }: Record<string, string | undefined>) =>
  others

/** `publicKey` of `jwt` is JWT_PUBLIC_KEY. */
function upper(prefix: string, given: object, others: Record<string, string>): Record<string, unknown> {
  const nameOf = (key: string) => others[key] ?? `${prefix}_${key.replace(/[A-Z]/g, '_$&').toUpperCase()}`
  return Object.fromEntries(Object.entries(given).map(([key, value]) => [nameOf(key), value]))
}

/** The redis of the file where neither flag nor environment has one; passwords and TLS may still be in the environment. */
export function redisOf(
  { options: { redis } }: ServeConfig,
  values: Values,
  env: NodeJS.ProcessEnv,
): PushBridgeOptions['redis'] {
  // A client of ioredis has what it needs.
  if (!isPlainObject(redis) || 'duplicate' in redis) return redis
  const given = redis as Record<string, unknown>
  const { url, sentinels } = given
  const isNamed = typeof url === 'string' && url.includes('@')
  const tls = readTls(values, env)
  if (tls && typeof url === 'string' && !/^(redis|valkey)s(\+cluster)?:/.test(url)) {
    throw new Error('REDIS_TLS… is set, but redis.url does not begin with rediss://: nothing would be encrypted')
  }
  return {
    ...given,
    ...(!isNamed && env.REDIS_USERNAME && { username: env.REDIS_USERNAME }),
    ...(!isNamed && env.REDIS_PASSWORD && { password: env.REDIS_PASSWORD }),
    ...(sentinels !== undefined && env.REDIS_SENTINEL_USERNAME && { sentinelUsername: env.REDIS_SENTINEL_USERNAME }),
    ...(sentinels !== undefined && env.REDIS_SENTINEL_PASSWORD && { sentinelPassword: env.REDIS_SENTINEL_PASSWORD }),
    ...(tls && { tls, ...(sentinels !== undefined && { sentinelTLS: tls }) }),
  } as PushBridgeOptions['redis']
}
