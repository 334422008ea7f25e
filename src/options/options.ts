import type { FastifyReply, FastifyRequest } from 'fastify'
import { type Static, type TSchema, Type } from 'typebox'
import type { RedisSource } from '../broker/redis/client.ts'
import type { PushConnection } from '../connection/identity.ts'
import type { Ingress } from '../ingress/ingress.ts'
import type { Action, KeyGrant } from '../protocol/rights.ts'
import { PREFIX_PATTERN, type Topic } from '../protocol/topic.ts'
import type { PublicationSchemas } from '../publish/schemas.ts'
import { ADMISSION_LIMITS } from './admission-limits.ts'
import type { ClientPublication, ClientPublicationRules } from './client-publications.ts'
import type { Compression, CompressionOption } from './compression.ts'
import type { EventsInput, EventsOptions } from './events.ts'
import type { ClientHandler } from './handlers.ts'
import { type Authenticators, ExpirySchema, RevocationSchema } from './identity.ts'
import type { HealthInput, HealthOptions, MetricsInput, MetricsOptions } from './monitoring.ts'
import type { PresenceOption, PresenceRules } from './presence.ts'
import type { Sse, SseOption } from './sse.ts'

export type { Authentication } from './identity.ts'

const milliseconds = (defaultValue: number, description: string, minimum = 1) =>
  Type.Integer({ minimum, maximum: 2 ** 31 - 1, default: defaultValue, description: `${description}, in milliseconds` })
const amount = (defaultValue: number, description: string, minimum = 1) =>
  Type.Integer({ minimum, maximum: Number.MAX_SAFE_INTEGER, default: defaultValue, description })
const group = <T extends Record<string, TSchema>>(properties: T, description: string) =>
  Type.Object(properties, { additionalProperties: false, default: {}, description })

/** The plain values among the options, with their defaults; `PushBridgeOptions` has all options. */
export const OptionsSchema = Type.Object(
  {
    path: Type.String({
      pattern: '^/[^\\s?#*:]*[^\\s?#*:/]$',
      description: 'path of the WebSocket route, for example "/ws"; required',
    }),
    name: Type.String({
      pattern: '^[A-Za-z_$][A-Za-z0-9_$]*$',
      default: 'push',
      description: 'name of the decorator (app.push); a second registration needs another name',
    }),
    redisPrefix: Type.String({
      pattern: PREFIX_PATTERN,
      default: 'push:',
      description: 'prefix of every Redis channel and key; without braces and white space',
    }),
    tickets: Type.Boolean({
      default: false,
      description: 'identify clients by ?ticket= in the URL (single use, short-lived)',
    }),
    origins: Type.Optional(
      Type.Array(Type.String({ pattern: '^(\\*|null|[a-z][a-z0-9+.-]*://[^/\\s]+)$' }), {
        description: 'origins whose pages may connect, such as "https://app.example.com"; default: the same host',
      }),
    ),
    expiry: ExpirySchema,
    revocation: RevocationSchema,
    publishTimeout: milliseconds(2000, 'time within which a publish returns or fails', 10),
    codecs: Type.Array(Type.Union([Type.Literal('json'), Type.Literal('msgpack'), Type.Literal('protobuf')]), {
      uniqueItems: true,
      contains: Type.Literal('json'),
      default: ['json'],
      description:
        'what clients may choose to speak, by subprotocol; with "msgpack", publishers may write MessagePack as well',
    }),
    slowConsumer: Type.Union([Type.Literal('close'), Type.Literal('drop')], {
      default: 'close',
      description:
        'what to do with a connection that stays over limits.buffer: "close" (4503) or "drop" its queued messages and send a gap',
    }),
    noteRejected: Type.Boolean({
      default: true,
      description: 'keep the first 200 characters of each rejected envelope in push:rejected',
    }),
    heartbeat: group(
      {
        interval: milliseconds(25_000, 'how long a connection may be silent before it is pinged', 20),
        timeout: milliseconds(10_000, 'how much longer it may be silent before it is closed with 4504', 20),
      },
      'how dead connections are detected',
    ),
    limits: group(
      {
        inbound: amount(
          64 * 1024,
          'maximum bytes of one client message, or of the body of a request for an event stream',
        ),
        publication: amount(256 * 1024, 'maximum bytes of one publication'),
        buffer: amount(1024 * 1024, 'bytes that may be queued for one connection; more only for limits.bufferTime'),
        bufferTime: milliseconds(10_000, 'how long a connection may have more than limits.buffer queued'),
        nodeBuffer: amount(256 * 1024 * 1024, 'bytes that may be queued on this node for slow connections'),
        connections: amount(50_000, 'maximum connections of this registration; further ones are refused with 503'),
        topics: amount(128, 'maximum topics of one connection besides its own (all, connection:ID and user:ID)'),
        messages: amount(
          100,
          'client messages per second, twice as many in a burst; a connection that sends more is closed with 4429',
        ),
        pending: amount(32, 'client messages of one connection that may be handled at the same time'),
        handshake: milliseconds(10_000, 'how long an upgrade may take'),
        ...ADMISSION_LIMITS,
      },
      'limits on clients and publishers',
    ),
    workers: group(
      {
        threads: Type.Integer({ minimum: 1, maximum: 128, default: 2, description: 'worker threads' }),
        queue: amount(100, 'messages that may wait for a thread; further ones are answered with PUSH_ERR_BUSY'),
      },
      'threads for handlers that have a worker',
    ),
    drain: group(
      {
        delay: milliseconds(0, 'wait before connections are closed, so that load balancers notice', 0),
        window: milliseconds(5000, 'time over which clients are asked to spread their reconnects', 0),
        timeout: milliseconds(5000, 'time after which connections that are still open are terminated'),
      },
      'how app.close() disconnects clients',
    ),
  },
  { additionalProperties: false },
)

/** The plain values of the option `api`: without the option there is no HTTP push API. */
export const ApiSchema = Type.Object(
  {
    path: Type.String({ pattern: '^/[^\\s?#*:]+$', default: '/push', description: 'path of the HTTP push API' }),
    keys: Type.Optional(
      Type.Array(Type.Unknown(), {
        minItems: 1,
        description: 'secrets, or { key, topics, actions } for a key with limited rights',
      }),
    ),
    rate: Type.Integer({
      minimum: 1,
      maximum: Number.MAX_SAFE_INTEGER,
      default: 1000,
      description: 'requests a second of each key, twice as many in a burst',
    }),
    page: Type.Boolean({ default: false, description: 'serve a page to look at the nodes, at <api.path>/page' }),
  },
  { additionalProperties: false },
)

export type ParsedOptions = Static<typeof OptionsSchema>

export type Authorization = boolean | readonly Action[]

/** A key of the push API: a string may do everything, an object only its `actions` on its `topics`. */
export type ApiKey = string | KeyGrant

type Given<T> = { [K in keyof T]?: T[K] | undefined }

type Groups = 'path' | 'heartbeat' | 'limits' | 'workers' | 'drain' | 'expiry' | 'revocation'

export interface PushBridgeOptions extends Given<Omit<ParsedOptions, Groups>> {
  /** Path of the WebSocket route, for example `/ws`. Required. */
  path: string
  heartbeat?: Given<ParsedOptions['heartbeat']>
  limits?: Given<ParsedOptions['limits']>
  workers?: Given<ParsedOptions['workers']>
  drain?: Given<ParsedOptions['drain']>
  expiry?: Given<ParsedOptions['expiry']>
  revocation?: Given<ParsedOptions['revocation']>
  /**
   * URL, ioredis options, a URL with options (`{ url, tls }`), those of Sentinels (`{ sentinels: ['host:port'], name }`)
   * or of a Cluster (`{ cluster: [urls] }`), a client (only its options are used), or true for the host's
   * @fastify/redis. Default: no Redis.
   */
  redis?: RedisSource | boolean
  /**
   * Runs in preHandler, after all hooks of the host; `null` refuses, `'message'` lets the first message decide. Default:
   * every connection is anonymous.
   */
  authenticate?: 'message' | Authenticators['authenticate']
  /**
   * Who sent an `authenticate` message: the first one, or one that replaces an identity before it expires. `null` refuses.
   * With `tickets` a payload such as `{ ticket }` needs no function.
   */
  onAuthenticate?: Authenticators['onAuthenticate']
  /**
   * What a connection may do with a topic: `true` lets it subscribe and recover what it missed after `since`, a list names
   * all allowed actions, `false` allows nothing. Default: what `allow` grants.
   */
  authorize?(
    connection: Pick<PushConnection, 'id' | 'user' | 'data' | 'topics'>,
    topic: Topic,
    context: { action: Action; since: string | undefined },
  ): Authorization | Promise<Authorization>
  /** Payload schemas by published type, enforced for every publisher. */
  schemas?: PublicationSchemas
  /** Which topics are recorded: `{ 'channel:orders.*': { size, ttl } }`. The first matching pattern decides. */
  history?: Readonly<Record<string, { size: number; ttl: number }>>
  /** Who is on which topics, and `users: true` for who is online: `{ 'channel:room.*': { info: true } }`. Default: none. */
  presence?: PresenceOption
  /** Compresses large messages, once for all clients that offer permessage-deflate. Default: false. See SECURITY.md. */
  compression?: CompressionOption
  /** Event streams at `<path>/-/events`, for networks and clients without WebSocket. Default: false. */
  sse?: SseOption
  /** Handlers of client messages, by type. */
  handlers?: Record<string, ClientHandler>
  /** Types that clients may publish, where the action `publish` is granted to them. Default: none. */
  clientPublications?: Readonly<Record<string, ClientPublication>>
  /** Called for binary client messages. Without it they are refused. */
  onBinary?(bytes: Buffer, connection: PushConnection): unknown
  /** Called after the welcome was sent. */
  onConnect?(connection: PushConnection, request: FastifyRequest): unknown
  onDisconnect?(connection: PushConnection, code: number, reason: string): unknown
  /** Enables the HTTP push API. `onRequest` replaces `keys` by a check of your own: it replies or throws to refuse. */
  api?: {
    path?: string
    keys?: readonly ApiKey[]
    rate?: number
    /** Serve a page to look at the nodes, at `<api.path>/page`. */
    page?: boolean
    onRequest?(request: FastifyRequest, reply: FastifyReply): unknown
  }
  /** What backends are told of, in streams or over HTTP, and what they are asked. */
  events?: EventsInput
  /** Queues from which publications come in: `[streamsIngress({ topics })]` of `fastify-push-bridge/ingress-streams`. */
  ingress?: readonly Ingress[]
  /** Puts the metrics of this registration into a register of prom-client, which must be installed. */
  metrics?: MetricsInput
  /** Answers `livez` and `readyz`, for load balancers and Kubernetes. */
  health?: HealthInput
}

/** The options that are functions, without those of `api`. */
export const CALLBACKS = [
  'authenticate',
  'onAuthenticate',
  'authorize',
  'onConnect',
  'onDisconnect',
  'onBinary',
] as const

type Callbacks = Pick<PushBridgeOptions, Exclude<(typeof CALLBACKS)[number], 'authenticate'>>

/** Options with every default filled in. */
export type Options = ParsedOptions & {
  redis: RedisSource | boolean
  callbacks: Callbacks & { authenticate?: Authenticators['authenticate'] }
  schemas: PublicationSchemas
  history: NonNullable<PushBridgeOptions['history']>
  presence: PresenceRules
  compression: Compression | undefined
  sse: Sse | undefined
  handlers: Record<string, ClientHandler>
  clientPublications: ClientPublicationRules
  api:
    | {
        path: string
        keys: readonly ApiKey[]
        rate: number
        page: boolean
        onRequest: NonNullable<PushBridgeOptions['api']>['onRequest']
      }
    | undefined
  events: EventsOptions | undefined
  ingress: readonly Ingress[]
  metrics: MetricsOptions | undefined
  health: HealthOptions | undefined
}
