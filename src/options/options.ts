import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Redis, RedisOptions } from 'ioredis'
import { type Static, type TSchema, Type } from 'typebox'
import { Compile } from 'typebox/compile'
import { urlProblem } from '../broker/redis/url.ts'
import type { PushConnection } from '../connection/identity.ts'
import { errors } from '../protocol/errors.ts'
import { isReservedType, typeProblem } from '../protocol/messages.ts'
import { type Action, type Grant, grantProblem, type Right } from '../protocol/rights.ts'
import { PREFIX_PATTERN, type Topic } from '../protocol/topic.ts'
import { unknownKey } from '../protocol/unknown-keys.ts'
import { rulesProblem } from '../publish/history-rules.ts'
import type { PublicationSchemas } from '../publish/schemas.ts'
import { originProblem } from './origin.ts'
import { fail, isPlainObject, pick, refuse, withDefaults } from './values.ts'

const milliseconds = (defaultValue: number, description: string, minimum = 1) =>
  Type.Integer({ minimum, maximum: 2 ** 31 - 1, default: defaultValue, description: `${description}, in milliseconds` })
const amount = (defaultValue: number, description: string, minimum = 1) =>
  Type.Integer({ minimum, maximum: Number.MAX_SAFE_INTEGER, default: defaultValue, description })
const group = <T extends Record<string, TSchema>>(properties: T, description: string) =>
  Type.Object(properties, { additionalProperties: false, default: {}, description })

/** The options that are plain values, with their defaults. Functions, schemas and Redis clients are `PushBridgeOptions`. */
export const OptionsSchema = Type.Object(
  {
    path: Type.String({
      pattern: '^/[^\\s?#*:]*[^\\s?#*:/]$',
      description: 'path of the WebSocket route, for example "/ws"; required',
    }),
    name: Type.String({
      pattern: '^[A-Za-z_$][A-Za-z0-9_$]*$',
      default: 'push',
      description: 'name of the decorator: app.push; a second registration needs another',
    }),
    redisPrefix: Type.String({
      pattern: PREFIX_PATTERN,
      default: 'push:',
      description: 'begins every Redis channel and key; without braces and white space',
    }),
    tickets: Type.Boolean({ default: false, description: 'take the identity from ?ticket= (single use, short-lived)' }),
    origins: Type.Optional(
      Type.Array(Type.String({ pattern: '^(\\*|null|[a-z][a-z0-9+.-]*://[^/\\s]+)$' }), {
        description: 'origins whose pages may connect, such as "https://app.example.com"; default: the same host',
      }),
    ),
    publishTimeout: milliseconds(2000, 'how long a publish may take until it answers or fails', 10),
    slowConsumer: Type.Union([Type.Literal('close'), Type.Literal('drop')], {
      default: 'close',
      description:
        'what happens to a connection that stays over limits.buffer: "close" (4503) or "drop" (and tell it a gap)',
    }),
    noteRejected: Type.Boolean({
      default: true,
      description: 'keep the first 200 characters of envelopes that could not be used in push:rejected',
    }),
    heartbeat: group(
      {
        interval: milliseconds(25_000, 'silence after which a connection is probed', 20),
        timeout: milliseconds(10_000, 'further silence after which it is closed with 4504', 20),
      },
      'liveness of connections',
    ),
    limits: group(
      {
        inbound: amount(64 * 1024, 'bytes of one client message'),
        publication: amount(256 * 1024, 'bytes of one publication'),
        buffer: amount(1024 * 1024, 'bytes that may wait for one connection for long'),
        bufferTime: milliseconds(10_000, 'how long more than limits.buffer may wait for a connection'),
        nodeBuffer: amount(256 * 1024 * 1024, 'bytes that may wait on this node for slow connections'),
        connections: amount(50_000, 'connections of this registration; more are refused with 503'),
        topics: amount(128, 'topics of one connection beyond its own'),
        messages: amount(100, 'client messages a second, twice as many in a burst; more close with 4429'),
        pending: amount(32, 'client messages of one connection that may be in handlers at once'),
        handshake: milliseconds(10_000, 'how long an upgrade may take'),
      },
      'bounds of what clients and publishers may ask for',
    ),
    drain: group(
      {
        delay: milliseconds(0, 'wait before closing begins, for load balancers to notice', 0),
        window: milliseconds(5000, 'clients are asked to come back spread over this time', 0),
        timeout: milliseconds(5000, 'when connections that have not closed by then are terminated'),
      },
      'how app.close() takes leave of the clients',
    ),
  },
  { additionalProperties: false },
)

/** Path, keys and guard of the HTTP push API. Without `keys` or `onRequest` there is no such door. */
export const ApiSchema = Type.Object(
  {
    path: Type.String({ pattern: '^/[^\\s?#*:]+$', default: '/push', description: 'path of the HTTP push API' }),
    keys: Type.Optional(
      Type.Array(Type.Unknown(), {
        minItems: 1,
        description: 'secrets, or { key, topics, actions } of what one may do',
      }),
    ),
  },
  { additionalProperties: false },
)

export type ParsedOptions = Static<typeof OptionsSchema>

/** Who a connection is and what it may hear. */
export interface Authentication {
  /** Identity shared by all connections of a person or a machine; left out for an anonymous connection. */
  user?: string | number | null
  /** Topics it is subscribed to from the start. */
  join?: readonly string[]
  /**
   * Topics, or patterns such as `channel:orders.*`, that it may subscribe to; `{ topics, actions }` for what else it may do
   * with them.
   */
  allow?: readonly Right[]
  /** Anything; `connection.data` for handlers and hooks. */
  data?: unknown
  /** When it is closed with 4502, to come back with a new identity: a Date, or milliseconds since 1970. */
  expires?: Date | number
}

export interface ClientHandler {
  /** TypeBox or any JSON schema of the payload; a message that does not match gets an `error` and goes no further. */
  schema: TSchema
  // biome-ignore lint/suspicious/noConfusingVoidType: a handler that answers nothing is an ordinary one
  handler(payload: never, connection: PushConnection): unknown | void
}

/** Types the payload of a client message by its schema. What the handler returns is the `reply`, if one was asked for. */
export function clientHandler<S extends TSchema>(
  schema: S,
  handler: (payload: Static<S>, connection: PushConnection) => unknown,
): ClientHandler {
  return { schema, handler: handler as ClientHandler['handler'] }
}

export type Authorization = boolean | readonly Action[]

/** A secret that opens the push API: by itself for everything, else for these actions on these topics. */
export type ApiKey = string | (Grant & { key: string })

type Given<T> = { [K in keyof T]?: T[K] | undefined }

export interface PushBridgeOptions extends Given<Omit<ParsedOptions, 'path' | 'heartbeat' | 'limits' | 'drain'>> {
  /** Path of the WebSocket route, for example `/ws`. Required. */
  path: string
  heartbeat?: Given<ParsedOptions['heartbeat']>
  limits?: Given<ParsedOptions['limits']>
  drain?: Given<ParsedOptions['drain']>
  /** URL, ioredis options, a client (it is duplicated), or true for the host's @fastify/redis. Absent: one node. */
  redis?: string | RedisOptions | Redis | boolean
  /** Runs in preHandler, after every hook of the host. null refuses. Absent: everybody is anonymous. */
  authenticate?(request: FastifyRequest): Authentication | null | Promise<Authentication | null>
  /**
   * What a connection may do with a topic: `true` for subscribing, which is also being sent what was missed since `since`;
   * or the list of all that it may; `false` for nothing. Default: what `allow` grants.
   */
  authorize?(
    connection: Pick<PushConnection, 'id' | 'user' | 'data' | 'topics'>,
    topic: Topic,
    context: { action: Action; since: string | undefined },
  ): Authorization | Promise<Authorization>
  /** Schema of the payload for each published type, enforced for every publisher. */
  schemas?: PublicationSchemas
  /** Which topics are recorded, by pattern; the first that fits decides: `{ 'channel:orders.*': { size, ttl } }`. */
  history?: Readonly<Record<string, { size: number; ttl: number }>>
  /** What to do with the messages of clients, by type. */
  handlers?: Record<string, ClientHandler>
  /** What to do with binary messages of clients. */
  onBinary?(bytes: Buffer, connection: PushConnection): unknown
  onConnect?(connection: PushConnection, request: FastifyRequest): unknown
  onDisconnect?(connection: PushConnection, code: number, reason: string): unknown
  /** Opens `POST /push`. `onRequest` is a guard of the host's own instead of keys: it answers, or throws, to refuse. */
  api?: {
    path?: string
    keys?: readonly ApiKey[]
    onRequest?(request: FastifyRequest, reply: FastifyReply): unknown
  }
}

const FUNCTIONS = ['authenticate', 'authorize', 'onConnect', 'onDisconnect', 'onBinary'] as const
const OBJECTS = ['schemas', 'handlers', 'history', 'api'] as const
const KEYS = [...Object.keys(OptionsSchema.properties), 'redis', ...FUNCTIONS, ...OBJECTS]

/** Options with every default filled in. */
export type Options = ParsedOptions & {
  redis: string | RedisOptions | Redis | boolean
  callbacks: Pick<PushBridgeOptions, (typeof FUNCTIONS)[number]>
  schemas: PublicationSchemas
  history: NonNullable<PushBridgeOptions['history']>
  handlers: Record<string, ClientHandler>
  api:
    | { path: string; keys: readonly ApiKey[]; onRequest: NonNullable<PushBridgeOptions['api']>['onRequest'] }
    | undefined
}

const optionsCheck = Compile(OptionsSchema)
const apiCheck = Compile(ApiSchema)

/** Fills in defaults, or throws PUSH_ERR_OPTIONS with the path of what is wrong and what to write instead. */
export function parseOptions(input: unknown): Options {
  if (input !== undefined && input !== null && !isPlainObject(input))
    throw new errors.OPTIONS('options must be an object such as { path: "/ws" }')
  const given = (input ?? {}) as Record<string, unknown>
  refuseKeys(given)
  const plain = withDefaults(OptionsSchema, pick(given, Object.keys(OptionsSchema.properties)))
  if (!optionsCheck.Check(plain)) refuse(OptionsSchema, optionsCheck.Errors(plain), plain)
  // One that can never match would refuse every page of that origin, long after the registration.
  const badOrigin = (plain as ParsedOptions).origins?.map(originProblem).find(found => found !== undefined)
  if (badOrigin) fail('origins', badOrigin)
  for (const key of FUNCTIONS) {
    if (given[key] !== undefined && typeof given[key] !== 'function') fail(key, 'must be a function')
  }
  for (const key of OBJECTS) {
    if (given[key] !== undefined && !isPlainObject(given[key])) fail(key, 'must be an object')
  }
  return {
    ...(plain as ParsedOptions),
    redis: parseRedis(given),
    callbacks: pick(given, FUNCTIONS) as Options['callbacks'],
    schemas: parseSchemas((given.schemas ?? {}) as Record<string, unknown>),
    history: parseHistory(given.history ?? {}),
    handlers: parseHandlers((given.handlers ?? {}) as Record<string, unknown>),
    api: given.api === undefined ? undefined : parseApi(given.api as Record<string, unknown>),
  }
}

function refuseKeys(given: Record<string, unknown>): void {
  if ('prefix' in given) {
    fail(
      'prefix',
      'is a word of Fastify\'s own and does nothing here: write path: "/v1/ws", register inside a context that has the prefix, or set redisPrefix for the names in Redis',
    )
  }
  const unknown = unknownKey(given, KEYS)
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
    const { schema, handler } = (entry ?? {}) as Partial<ClientHandler>
    refuseType(`handlers["${type}"]`, type)
    if (!isPlainObject(schema) || typeof handler !== 'function') {
      fail(`handlers["${type}"]`, 'must be { schema, handler(payload, connection) }')
    }
  }
  return handlers as Options['handlers']
}

function parseSchemas(schemas: Record<string, unknown>): PublicationSchemas {
  for (const type of Object.keys(schemas)) refuseType(`schemas["${type}"]`, type)
  return schemas as PublicationSchemas
}

function refuseType(path: string, type: string): void {
  const problem =
    typeProblem(type) ?? (isReservedType(type) ? 'type is reserved for the protocol: choose another' : undefined)
  if (problem) fail(path, `cannot be: ${problem}`)
}

function keyProblem(key: unknown): string | undefined {
  if (typeof key === 'string') return key ? undefined : 'is empty: write a secret of 16 characters or more'
  if (!isPlainObject(key)) return 'must be a string or { key, topics, actions }'
  if (typeof key.key !== 'string' || !key.key) return 'has no key: write { key, topics, actions }'
  const problem = grantProblem(key, ['key'])
  return problem && `cannot be used: ${problem}`
}

function parseApi(given: Record<string, unknown>): NonNullable<Options['api']> {
  const unknown = unknownKey(given, ['path', 'keys', 'onRequest'])
  if (unknown) throw new errors.OPTIONS(`api: ${unknown}`)
  const { onRequest } = given
  const plain = withDefaults(ApiSchema, pick(given, ['path', 'keys']))
  if (!apiCheck.Check(plain)) refuse(ApiSchema, apiCheck.Errors(plain), plain, 'api.')
  if (onRequest !== undefined && typeof onRequest !== 'function') fail('api.onRequest', 'must be a function')
  const { path, keys } = plain as Static<typeof ApiSchema>
  for (const [i, key] of (keys ?? []).entries()) {
    const problem = keyProblem(key)
    if (problem) fail(`api.keys.${i}`, problem)
  }
  if (keys && onRequest) fail('api', 'has keys and onRequest: give one of them, or check the key in onRequest')
  if (!keys && !onRequest) fail('api', 'needs keys or onRequest: an open push door is never the default')
  return { path, keys: (keys ?? []) as ApiKey[], onRequest: onRequest as NonNullable<Options['api']>['onRequest'] }
}
