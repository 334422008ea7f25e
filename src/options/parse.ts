import { existsSync } from 'node:fs'
import { isAbsolute } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Static } from 'typebox'
import { Compile } from 'typebox/compile'
import { urlProblem } from '../broker/redis/url.ts'
import { errors } from '../protocol/errors.ts'
import { keyGrantProblem } from '../protocol/rights.ts'
import { unknownKey } from '../protocol/unknown-keys.ts'
import { rulesProblem } from '../publish/history-rules.ts'
import type { PublicationSchemas } from '../publish/schemas.ts'
import { parseClientPublications } from './client-publications.ts'
import { parseCompression } from './compression.ts'
import { parseEvents } from './events.ts'
import { parseAuthenticate } from './identity.ts'
import { parseHealth, parseMetrics } from './monitoring.ts'
import {
  type ApiKey,
  ApiSchema,
  CALLBACKS,
  type ClientHandler,
  type Options,
  OptionsSchema,
  type ParsedOptions,
} from './options.ts'
import { originProblem } from './origin.ts'
import { type PresenceOption, parsePresence } from './presence.ts'
import { parseSse } from './sse.ts'
import { fail, isPlainObject, pick, refuse, refuseType, withDefaults } from './values.ts'

const OBJECTS = ['schemas', 'handlers', 'clientPublications', 'history', 'presence', 'api', 'events'] as const
/** Every option that there is. */
export const OPTION_KEYS: readonly string[] = [
  ...Object.keys(OptionsSchema.properties),
  'redis',
  ...CALLBACKS,
  ...OBJECTS,
  'compression',
  'sse',
  'metrics',
  'health',
]

const optionsCheck = Compile(OptionsSchema)
const apiCheck = Compile(ApiSchema)

/** Fills in the defaults. Throws PUSH_ERR_OPTIONS, which names the wrong option and says what to write instead. */
export function parseOptions(input: unknown): Options {
  if (input !== undefined && input !== null && !isPlainObject(input))
    throw new errors.OPTIONS('options must be an object such as { path: "/ws" }')
  const given = { ...(input as Record<string, unknown> | undefined) }
  refuseKeys(given)
  const plain = withDefaults(OptionsSchema, pick(given, Object.keys(OptionsSchema.properties)))
  if (!optionsCheck.Check(plain)) refuse(OptionsSchema, optionsCheck.Errors(plain), plain)
  // An origin that no browser sends would go unnoticed until a page of it is refused.
  const badOrigin = (plain as ParsedOptions).origins?.map(originProblem).find(found => found !== undefined)
  if (badOrigin) fail('origins', badOrigin)
  const { tickets } = plain as ParsedOptions
  given.authenticate = parseAuthenticate(given.authenticate, { tickets, onAuthenticate: given.onAuthenticate })
  for (const key of CALLBACKS) {
    if (given[key] !== undefined && typeof given[key] !== 'function') fail(key, 'must be a function')
  }
  for (const key of OBJECTS) {
    if (given[key] !== undefined && !isPlainObject(given[key])) fail(key, 'must be an object')
  }
  const options = {
    ...(plain as ParsedOptions),
    redis: parseRedis(given),
    callbacks: pick(given, CALLBACKS) as Options['callbacks'],
    schemas: parseSchemas((given.schemas ?? {}) as Record<string, unknown>),
    history: parseHistory(given.history ?? {}),
    compression: parseCompression(given.compression, fail),
    sse: parseSse(given.sse),
    presence: parsePresence((given.presence ?? {}) as PresenceOption, fail),
    handlers: parseHandlers((given.handlers ?? {}) as Record<string, unknown>),
    clientPublications: parseClientPublications((given.clientPublications ?? {}) as Record<string, unknown>),
    metrics: parseMetrics(given.metrics),
    health: parseHealth(given.health),
    api: given.api === undefined ? undefined : parseApi(given.api as Record<string, unknown>, given.path),
  }
  const { events } = given
  return {
    ...options,
    events: events === undefined ? undefined : parseEvents(events as Record<string, unknown>, options),
  }
}

function refuseKeys(given: Record<string, unknown>): void {
  if ('prefix' in given) {
    fail(
      'prefix',
      'is an option of Fastify itself and does nothing here: write path: "/v1/ws", register inside a context that has the prefix, or set redisPrefix for the names in Redis',
    )
  }
  const unknown = unknownKey(given, OPTION_KEYS)
  if (unknown) throw new errors.OPTIONS(unknown)
  if (given.path === undefined) fail('path', 'is missing: write for example path: "/ws"')
}

function parseRedis(given: Record<string, unknown>): Options['redis'] {
  if (!('redis' in given)) return false
  const { redis } = given
  if (redis === undefined || redis === null || redis === '') {
    fail('redis', 'is there but empty: REDIS_URL not set? Pass false for one node without Redis')
  }
  const problem = typeof redis === 'string' ? urlProblem(redis) : undefined
  if (problem) fail('redis', problem)
  if (!['string', 'boolean', 'object'].includes(typeof redis) || Array.isArray(redis)) {
    fail('redis', 'must be a URL, ioredis options, a client, true for @fastify/redis, or false')
  }
  return redis as Options['redis']
}

function parseHistory(rules: unknown): Options['history'] {
  const problem = rulesProblem(rules)
  if (problem) fail('history', problem)
  return rules as Options['history']
}

function parseHandlers(handlers: Record<string, unknown>): Options['handlers'] {
  for (const [type, entry] of Object.entries(handlers)) {
    const { schema, handler, worker } = (entry ?? {}) as Partial<ClientHandler>
    const at = `handlers["${type}"]`
    refuseType(at, type)
    if (!isPlainObject(schema) || (typeof handler === 'function') === (worker !== undefined)) {
      fail(at, 'must be { schema, handler(payload, connection) }, or { schema, worker }')
    }
    const problem = worker === undefined ? undefined : fileProblem(worker)
    if (problem) fail(`${at}.worker`, problem)
  }
  return handlers as Options['handlers']
}

/** One that is not there would be found out by the first client. */
function fileProblem(file: unknown): string | undefined {
  const path = file instanceof URL ? pathOf(file) : file
  if (typeof path !== 'string' || !isAbsolute(path))
    return "must be new URL('./file.js', import.meta.url), or a whole path"
  return existsSync(path) ? undefined : `is not there: ${path}`
}

/** Undefined for a URL of another machine, and of what is no file. */
function pathOf(url: URL): string | undefined {
  try {
    return fileURLToPath(url)
  } catch {
    return undefined
  }
}

function parseSchemas(schemas: Record<string, unknown>): PublicationSchemas {
  for (const type of Object.keys(schemas)) refuseType(`schemas["${type}"]`, type)
  return schemas as PublicationSchemas
}

function keyProblem(key: unknown): string | undefined {
  if (typeof key === 'string') return key ? undefined : 'is empty: write a secret of 16 characters or more'
  if (!isPlainObject(key)) return 'must be a string or { key, topics, actions }'
  if (typeof key.key !== 'string' || !key.key) return 'has no key: write { key, topics, actions }'
  const problem = keyGrantProblem(key)
  return problem && `cannot be used: ${problem}`
}

function parseApi(given: Record<string, unknown>, socketPath: unknown): NonNullable<Options['api']> {
  const unknown = unknownKey(given, ['path', 'keys', 'rate', 'page', 'onRequest'])
  if (unknown) throw new errors.OPTIONS(`api: ${unknown}`)
  const { onRequest } = given
  const plain = withDefaults(ApiSchema, pick(given, ['path', 'keys', 'rate', 'page']))
  if (!apiCheck.Check(plain)) refuse(ApiSchema, apiCheck.Errors(plain), plain, 'api.')
  if (onRequest !== undefined && typeof onRequest !== 'function') fail('api.onRequest', 'must be a function')
  const { path, keys, rate, page } = plain as Static<typeof ApiSchema>
  // A channel in the URL could have the name of a route.
  if (path.replace(/\/$/, '') === socketPath) fail('api.path', 'is the path of the WebSocket route: choose another')
  for (const [i, key] of (keys ?? []).entries()) {
    const problem = keyProblem(key)
    if (problem) fail(`api.keys.${i}`, problem)
  }
  if (keys && onRequest) fail('api', 'has keys and onRequest: give one of them, or check the key in onRequest')
  if (!keys && !onRequest) fail('api', 'needs keys or onRequest: the push API is never open to everybody by default')
  if (onRequest && given.rate !== undefined) fail('api.rate', 'is that of each key: limit the rate in onRequest')
  const guard = onRequest as NonNullable<Options['api']>['onRequest']
  return { path, keys: (keys ?? []) as ApiKey[], rate, page, onRequest: guard }
}
