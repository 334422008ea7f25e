#!/usr/bin/env node
import { realpathSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import Fastify, { type FastifyInstance } from 'fastify'
import pushBridge from './plugin.ts'

const USAGE = `fastify-push-bridge serve: WebSocket push for backends that cannot hold sockets

  REDIS_URL     --redis URL      Redis; without it one node on its own
  PORT          --port 3000      port to listen on
  HOST          --host 127.0.0.1 address to listen on
  WS_PATH       --path /ws       path of the WebSocket route
  PUSH_API_KEY  --api-key KEY    opens POST /push for this key; without it there is no such door
  ORIGINS       --origins LIST   origins whose pages may connect, separated by commas; default: the same host
  REDIS_PREFIX  --prefix push:   begins every Redis channel and key
  TRUST_PROXY   --trust-proxy    believe X-Forwarded-* of a proxy in front
  LOG_LEVEL     --log-level info debug, info, warn, error

Who connects is told by tickets: your backend writes
  SET push:ticket:<48 hex> '{"user":"42","allow":["channel:orders"]}' EX 30 NX
and the page connects to ws://HOST:PORT/ws?ticket=<48 hex>. Without a ticket nobody gets in.
`

export interface ServeSettings {
  redis: string | undefined
  port: number
  host: string
  path: string
  apiKey: string | undefined
  origins: string[] | undefined
  prefix: string
  trustProxy: boolean
  logLevel: string
}

/**
 * Flags win over the environment, and what is empty counts as not set: an empty HOST would listen on every interface.
 * Only an empty REDIS_URL is refused further on, since a node without Redis hears nothing. Throws with a sentence that
 * names the flag.
 */
export function readSettings(argv: readonly string[], env: NodeJS.ProcessEnv): ServeSettings | 'help' {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      redis: { type: 'string' },
      port: { type: 'string' },
      host: { type: 'string' },
      path: { type: 'string' },
      'api-key': { type: 'string' },
      origins: { type: 'string' },
      prefix: { type: 'string' },
      'trust-proxy': { type: 'boolean' },
      'log-level': { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help || positionals.length === 0) return 'help'
  if (positionals[0] !== 'serve' || positionals.length > 1) {
    throw new Error(`unknown command "${positionals.join(' ')}": there is only serve`)
  }
  const origins = values.origins || env.ORIGINS || undefined
  return {
    redis: values.redis ?? env.REDIS_URL,
    port: readPort(values.port || env.PORT || '3000'),
    host: values.host || env.HOST || '127.0.0.1',
    path: values.path || env.WS_PATH || '/ws',
    apiKey: values['api-key'] || env.PUSH_API_KEY || undefined,
    origins: origins?.split(',').map(origin => origin.trim()),
    prefix: values.prefix || env.REDIS_PREFIX || 'push:',
    trustProxy: values['trust-proxy'] ?? ['1', 'true'].includes(env.TRUST_PROXY ?? ''),
    logLevel: values['log-level'] || env.LOG_LEVEL || 'info',
  }
}

function readPort(text: string): number {
  const port = Number(text)
  if (Number.isInteger(port) && port >= 0 && port <= 65535) return port
  throw new Error(`PORT (--port) is "${text}": it must be a number from 0 to 65535`)
}

/** The server of `serve`, not listening yet. */
export async function createServer(settings: ServeSettings): Promise<FastifyInstance> {
  const app = Fastify({ trustProxy: settings.trustProxy, logger: { level: settings.logLevel } })
  const { redis, apiKey } = settings
  await app.register(pushBridge, {
    path: settings.path,
    redis: redis === undefined ? false : redis,
    redisPrefix: settings.prefix,
    tickets: true,
    ...(settings.origins && { origins: settings.origins }),
    ...(apiKey && { api: { path: '/push', keys: [apiKey] } }),
  })
  app.get('/health', async (_request, reply) => {
    const { connected, draining, node, nodes, connections } = await app.push.status()
    reply.code(connected && !draining ? 200 : 503)
    return { connected, draining, node, nodes, connections }
  })
  return app
}

async function serve(settings: ServeSettings): Promise<void> {
  const app = await createServer(settings)
  if (!settings.apiKey) app.log.info('PUSH_API_KEY is not set: publishing goes through Redis only')
  if (!settings.redis) app.log.warn('REDIS_URL is not set: tickets and publications from other programs need Redis')
  const stop = (signal: NodeJS.Signals) => {
    app.log.info({ signal }, 'stopping')
    app.close().then(
      () => process.exit(0),
      () => process.exit(1),
    )
  }
  process.once('SIGTERM', stop).once('SIGINT', stop)
  try {
    await app.listen({ port: settings.port, host: settings.host })
  } catch (error) {
    // The links to Redis would keep a process alive that serves nobody.
    await app.close()
    throw error
  }
}

async function main(): Promise<void> {
  const settings = readSettings(process.argv.slice(2), process.env)
  if (settings === 'help') process.stdout.write(USAGE)
  else await serve(settings)
}

/** Not when a test imports this file. npm starts the command through a link. */
if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  main().catch((error: Error) => {
    process.stderr.write(`${error.message}\nfastify-push-bridge --help shows what there is\n`)
    process.exitCode = 1
  })
}
