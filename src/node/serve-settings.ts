import { parseArgs } from 'node:util'
import { REVOCATION_TTL } from '../options/identity.ts'
import type { PushBridgeOptions } from '../options/options.ts'
import type { PresenceOption } from '../options/presence.ts'
import { EVENT_FLAGS, EVENT_USAGE, readEvents } from './events/environment.ts'
import { INGRESS_FLAGS, INGRESS_USAGE, readIngress } from './ingress-environment.ts'
import { JWT_FLAGS, JWT_USAGE, readJwt } from './jwt-environment.ts'
import { METRICS_FLAGS, METRICS_USAGE, readMetrics } from './monitoring/environment.ts'
import { isOn, REDIS_FLAGS, REDIS_USAGE, readPrefix, readRedis } from './redis-environment.ts'
import { NO_CONFIG, redisOf, type ServeConfig, withConfig } from './serve-config.ts'

export const USAGE = `fastify-push-bridge serve: WebSocket push for backends that cannot hold sockets

  REDIS_URL     --redis URL      Redis; required unless REDIS_SENTINELS or --dev is given
  PORT          --port 3000      port to listen on
  HOST          --host 127.0.0.1 address to listen on
  WS_PATH       --path /ws       path of the WebSocket route
  PUSH_API_KEY  --api-key KEY    secret of 16 characters or more; opens POST /push and its other routes
  PAGE          --page           a page to look at the nodes with that key, at /push/page
  ORIGINS       --origins LIST   origins whose pages may connect, separated by commas; default: the same host
  REDIS_PREFIX  --prefix push:   begins every Redis channel and key
  PRESENCE      --presence JSON  who is on which topics: '{"users":true,"channel:room.*":{"info":true}}'
  AUTHENTICATE  --authenticate message  who has no ticket in the URL says in the first message who it is
  REVOCATION_TTL  --revocation-ttl 86400  seconds for which revoked users are kept out
  TRUST_PROXY   --trust-proxy    believe X-Forwarded-* of a proxy in front
  LOG_LEVEL     --log-level info debug, info, warn, error
  HANDSHAKE     --handshake 10000  milliseconds that the header of a request, or an upgrade, may take
  PUSH_CONFIG   --config FILE    JSON, or an ES module with a default export: these settings and all options of register
                --check          says what is wrong, or what would be used (--json), and ends
                --dev            try it on this machine without Redis: prints an address and a command to paste

A flag wins over the environment, the environment over the file, and the file over the default.

${REDIS_USAGE}${EVENT_USAGE}${INGRESS_USAGE}${METRICS_USAGE}${JWT_USAGE}
Settings that go together
  to try it             --dev, and no REDIS_URL
  to run it             REDIS_URL, which your backend must reach too: it writes tickets and publishes there
  to publish over HTTP  PUSH_API_KEY as well, for backends that do not reach Redis or need the answer
  behind a proxy        TRUST_PROXY=1 if the proxy sets X-Forwarded-*, and no HOST if it runs on the same machine
  without a proxy       HOST=0.0.0.0
  pages of other hosts  ORIGINS=https://www.example.com
  a Redis Cluster       REDIS_URL=redis+cluster://10.0.0.1:6379,10.0.0.2:6379
  Sentinels             REDIS_SENTINELS=10.0.0.1:26379,10.0.0.2:26379,10.0.0.3:26379 and REDIS_SENTINEL_NAME=mymaster
  Redis with TLS        REDIS_URL=rediss://…, and REDIS_TLS_CA=ca.pem for a certificate of your own authority
  one Redis for several REDIS_PREFIX=app1: and then app1: instead of push: in all that your backend writes
  the way back          EVENTS_STREAM=events for a worker, or BACKEND_URL=https://… and BACKEND_SECRET for a web backend

A ticket identifies the connecting user: your backend writes
  SET push:ticket:<48 hex> '{"user":"42","allow":["channel:orders"]}' EX 30 NX
and the page connects to ws://HOST:PORT/ws?ticket=<48 hex>. Nobody connects without a ticket,
unless BACKEND_CALLS has connect: then the backend says who connects without one.
With JWT_…, ?token=, "Authorization: Bearer" or {"type":"authenticate","payload":{"token":"…"}} does as well.
`

const MIN_KEY_LENGTH = 16

/** The flags of `serve`, for `parseArgs`. */
export const SERVE_FLAGS = {
  ...REDIS_FLAGS,
  port: { type: 'string' },
  host: { type: 'string' },
  path: { type: 'string' },
  'api-key': { type: 'string' },
  page: { type: 'boolean' },
  origins: { type: 'string' },
  presence: { type: 'string' },
  'trust-proxy': { type: 'boolean' },
  'log-level': { type: 'string' },
  handshake: { type: 'string' },
  dev: { type: 'boolean' },
  ...EVENT_FLAGS,
  ...INGRESS_FLAGS,
  ...METRICS_FLAGS,
  ...JWT_FLAGS,
  authenticate: { type: 'string' },
  'revocation-ttl': { type: 'string' },
  config: { type: 'string' },
  check: { type: 'boolean' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const

export function readFlags(argv: readonly string[]) {
  return parseArgs({ args: [...argv], allowPositionals: true, options: SERVE_FLAGS })
}

/** The file that is named, read before everything else. */
export function configPath(argv: readonly string[], env: NodeJS.ProcessEnv): string | undefined {
  const { values } = parseArgs({ args: [...argv], strict: false, options: { config: { type: 'string' } } })
  return (typeof values.config === 'string' && values.config) || env.PUSH_CONFIG || undefined
}

export type ServeSettings = Exclude<ReturnType<typeof readSettings>, 'help'>

/**
 * Flags win over the environment, and what is empty counts as not set: an empty HOST would listen on every interface.
 * Throws with a sentence that names the setting and the flag.
 */
export function readSettings(argv: readonly string[], environment: NodeJS.ProcessEnv, config: ServeConfig = NO_CONFIG) {
  const { values, positionals } = readFlags(argv)
  if (values.help || positionals.length === 0) return 'help'
  if (positionals[0] !== 'serve' || positionals.length > 1) {
    throw new Error(`unknown command "${positionals.join(' ')}"`)
  }
  const env = withConfig(config, values, environment)
  const origins = values.origins || env.ORIGINS || undefined
  const settings = {
    /** Undefined with `dev` alone. */
    redis: readRedis(values, env) ?? (values.dev ? undefined : redisOf(config, values, env)),
    port: readPort(values.port || env.PORT || '3000'),
    host: values.host || env.HOST || '127.0.0.1',
    path: values.path || env.WS_PATH || '/ws',
    apiKey: values['api-key'] || env.PUSH_API_KEY || undefined,
    /** Undefined where only the file may say something. */
    page: values.page ?? (env.PAGE ? isOn(env.PAGE) : undefined),
    origins: origins?.split(',').map(origin => origin.trim()),
    prefix: readPrefix(values, env),
    presence: readPresence(values.presence || env.PRESENCE || undefined),
    trustProxy: values['trust-proxy'] ?? (env.TRUST_PROXY ? isOn(env.TRUST_PROXY) : config.server.trustProxy) ?? false,
    logLevel: values['log-level'] || env.LOG_LEVEL || 'info',
    handshake: readHandshake(values.handshake || env.HANDSHAKE || '10000'),
    dev: values.dev ?? false,
    events: readEvents(values, env, config.options.events),
    ingress: readIngress(values, env),
    metrics: readMetrics(values, env),
    jwt: readJwt(values, env),
    isByMessage: readAuthenticate(values.authenticate || env.AUTHENTICATE),
    revocationTtl: readTtl(values['revocation-ttl'] || env.REVOCATION_TTL),
    check: values.check ?? false,
    config,
  }
  const problem = problemOf(settings)
  if (problem) throw new Error(problem)
  return settings
}

/** What does not go together. Without Redis there are no tickets, and then nobody could ever connect. */
function problemOf({ redis, host, apiKey, page, config, dev, ingress }: ServeSettings): string | undefined {
  if (redis === undefined && !dev)
    return 'REDIS_URL (--redis) is not set: set it to the URL of your Redis, or try it without with --dev'
  if (redis && dev) return '--dev runs without Redis: leave out --dev, or REDIS_URL (--redis)'
  if (dev && ingress.length > 0)
    return 'INGRESS_STREAMS_TOPICS (--ingress-streams-topics) needs Redis, which --dev runs without: leave out one of them'
  if (dev && !isLoopback(host)) return `HOST (--host) is "${host}": --dev listens on 127.0.0.1, ::1 or localhost only`
  if (apiKey && apiKey.length < MIN_KEY_LENGTH) {
    return `PUSH_API_KEY (--api-key) has ${apiKey.length} characters and can be guessed: use ${MIN_KEY_LENGTH} or more`
  }
  if (page && !apiKey && !config.options.api && !dev)
    return 'PAGE (--page) is set, but not PUSH_API_KEY (--api-key): it shows nothing without'
  return undefined
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || /^127(\.\d{1,3}){3}$/.test(host)
}

function readPresence(text: string | undefined): PushBridgeOptions['presence'] {
  try {
    const presence: unknown = JSON.parse(text ?? '{}')
    if (typeof presence === 'object' && presence !== null && !Array.isArray(presence)) return presence as PresenceOption
  } catch {
    // Said below, together with what is JSON and no object.
  }
  throw new Error(
    `PRESENCE (--presence) is ${text}: it must be JSON such as {"users":true,"channel:room.*":{"info":true}}`,
  )
}

function readAuthenticate(text: string | undefined): boolean {
  if (!text || text === 'message') return text === 'message'
  throw new Error(`AUTHENTICATE (--authenticate) is "${text}": it can only be "message"`)
}

function readTtl(text: string | undefined): number {
  const ttl = Number(text || REVOCATION_TTL.default)
  if (Number.isInteger(ttl) && ttl >= REVOCATION_TTL.minimum && ttl <= REVOCATION_TTL.maximum) return ttl
  throw new Error(`REVOCATION_TTL (--revocation-ttl) is "${text}": it must be a number of seconds, at least a minute`)
}

function readHandshake(text: string): number {
  const milliseconds = Number(text)
  if (Number.isInteger(milliseconds) && milliseconds >= 1 && milliseconds < 2 ** 31) return milliseconds
  throw new Error(`HANDSHAKE (--handshake) is "${text}": it must be milliseconds, such as 10000`)
}

function readPort(text: string): number {
  const port = Number(text)
  if (Number.isInteger(port) && port >= 0 && port <= 65535) return port
  throw new Error(`PORT (--port) is "${text}": it must be a number from 0 to 65535`)
}
