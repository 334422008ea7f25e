#!/usr/bin/env node
import { randomBytes } from 'node:crypto'
import { realpathSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import { tokenReader } from './node/jwt.ts'
import { REDIS_FLAGS, readPrefix, readRedis } from './node/redis-environment.ts'
import { usedSettings } from './node/serve-check.ts'
import { NO_CONFIG, readConfig } from './node/serve-config.ts'
import { registerOptions } from './node/serve-options.ts'
import { configPath, readFlags, readSettings, type ServeSettings, USAGE } from './node/serve-settings.ts'
import pushBridge from './plugin.ts'
import { createPublisher } from './publisher.ts'
import { openMetrics } from './routes/metrics.ts'
import { callUsage, EXIT, isCall, runCall } from './terminal/run.ts'
import { openTerminal } from './terminal/screen.ts'
import { table } from './terminal/table.ts'

/** How often connections whose requests do not come to an end are looked for, in milliseconds. */
const CHECK_EVERY = 1000

/** How long a request of the push API may take to arrive, in milliseconds: a batch may be large, and a line slow. */
const BODY_TIMEOUT = 30_000

/** The server of `serve`, not listening yet. `devTicket`: what identifies everybody under `--dev`. */
export async function createServer(settings: ServeSettings, devTicket?: string): Promise<FastifyInstance> {
  const { handshake } = settings
  const app = Fastify({
    trustProxy: settings.trustProxy,
    logger: { level: settings.logLevel },
    // While it drains, livez goes on answering 200: only readyz says that no client should come.
    return503OnClosing: false,
    // Who sends half a header and waits, or half a body, would otherwise keep a descriptor for a minute or for ever.
    http: { headersTimeout: handshake, connectionsCheckingInterval: Math.min(CHECK_EVERY, handshake) },
    requestTimeout: Math.max(BODY_TIMEOUT, handshake),
  })
  const metrics = settings.metrics && { ...(await openMetrics(app, settings.metrics)), ...prefixOf(settings) }
  const identification = devTicket
    ? { authenticate: (request: FastifyRequest) => devIdentity(request, devTicket) }
    : await identificationOf(settings)
  await app.register(pushBridge, registerOptions(settings, identification, metrics))
  return app
}

const prefixOf = ({ config: { server } }: ServeSettings) => server.metrics?.prefix && { prefix: server.metrics.prefix }

/** Tickets unless the file says otherwise; tokens, the first message or functions of the file, if the settings say so. */
async function identificationOf({ jwt, isByMessage, config }: ServeSettings) {
  const { authenticate, onAuthenticate, tickets = true } = config.options
  const own = typeof authenticate === 'function' && !isByMessage && { authenticate }
  const message = { tickets, ...own, ...(isByMessage && { authenticate: 'message' as const }) }
  if (!jwt) return { ...message, ...(onAuthenticate && { onAuthenticate }) }
  if (own || onAuthenticate) {
    throw new Error('jwt (JWT_…) and the functions of the file both say who connects: leave out one of them')
  }
  const read = await tokenReader(jwt)
  return {
    ...message,
    authenticate(request: FastifyRequest) {
      const token = tokenOf(request)
      if (token === undefined && isByMessage) return 'message' as const
      return read(token)
    },
    onAuthenticate: (payload: { token?: unknown } | null | undefined) => read(payload?.token),
  }
}

function tokenOf({ query, headers }: FastifyRequest): unknown {
  const { token } = query as { token?: unknown }
  return token ?? /^Bearer +(.+)$/i.exec(headers.authorization ?? '')?.[1]
}

async function serve(settings: ServeSettings): Promise<void> {
  const { dev, path } = settings
  const ticket = dev ? newSecret() : undefined
  const apiKey = settings.apiKey ?? (dev ? newSecret() : undefined)
  const apiPath = settings.config.options.api?.path ?? '/push'
  const app = await createServer({ ...settings, apiKey }, ticket)
  if (!apiKey && !settings.config.options.api)
    app.log.info('PUSH_API_KEY is not set: publishing goes through Redis only')
  if (dev) serveDevPage(app, path)
  const stop = (signal: NodeJS.Signals) => {
    app.log.info({ signal }, 'stopping')
    app.close().then(
      () => process.exit(0),
      () => process.exit(1),
    )
  }
  process.once('SIGTERM', stop).once('SIGINT', stop)
  try {
    const origin = await app.listen({ port: settings.port, host: settings.host })
    if (ticket && apiKey) {
      app.log.warn('--dev: without Redis, for this machine only; whoever has the printed ticket or key gets in')
      process.stderr.write(devLines(origin, { path, apiPath }, { ticket, key: apiKey }))
      if (settings.page)
        process.stderr.write(`  To look at the node, open ${origin}${apiPath}/page with the key ${apiKey}\n\n`)
    }
  } catch (error) {
    // The links to Redis would keep a process alive that serves nobody.
    await app.close()
    throw error
  }
}

const newSecret = () => randomBytes(24).toString('hex')

/** Unlike a real ticket this one lasts as long as the process: the page may be loaded again. */
function devIdentity({ query }: FastifyRequest, ticket: string) {
  return (query as { ticket?: unknown }).ticket === ticket ? { user: 'dev', allow: ['channel:*'] } : null
}

/** Shows the messages of channel:demo. Holds no secret: the ticket is in the address that was pasted. */
function serveDevPage(app: FastifyInstance, path: string): void {
  const page = `<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>serve --dev</title>
<style>:root { color-scheme: light dark } body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem }</style>
<h1>Messages of channel:demo</h1><p role="status">connecting</p><ol></ol>
<script>
  const [state, list] = document.querySelectorAll('p, ol')
  const socket = new WebSocket(location.origin.replace('http', 'ws') + ${JSON.stringify(`${path}/demo`)} + location.search)
  socket.onopen = () => { state.textContent = 'connected: paste the curl command into a terminal' }
  socket.onmessage = ({ data }) => {
    if (JSON.parse(data).topic) list.appendChild(document.createElement('li')).append(data)
  }
  socket.onclose = ({ code }) => { state.textContent = 'disconnected (' + code + '): open the address that serve printed last' }
</script></html>
`
  app.get('/', async (_request, reply) => reply.type('text/html; charset=utf-8').send(page))
}

function devLines(
  origin: string,
  { path, apiPath }: { path: string; apiPath: string },
  { ticket, key }: { ticket: string; key: string },
): string {
  const authorization = `Authorization: Bearer ${key.replaceAll("'", "'\\''")}`
  const body = '{"to":"channel:demo","type":"notice","payload":{"text":"hello"}}'
  return `
fastify-push-bridge serve --dev: one node without Redis, for this machine only

  1. Open this page:
     ${origin}/?ticket=${ticket}
  2. Paste this into another terminal and watch the message arrive:
     curl ${origin}${apiPath} -H '${authorization}' -H 'Content-Type: application/json' -d '${body}'

  A client of your own connects to ${origin.replace('http', 'ws')}${path}/demo?ticket=${ticket}

`
}

/** The commands besides `serve`, which go over Redis or look at a node as a client does. */
const CALL_PARTS = {
  flags: REDIS_FLAGS,
  env: process.env,
  way(flags: Readonly<Record<string, string | boolean | undefined>>) {
    const redis = readRedis(flags, process.env)
    if (!redis || redis === true) return undefined
    return { redis, redisPrefix: readPrefix(flags, process.env) }
  },
  open(flags: Readonly<Record<string, string | boolean | undefined>>) {
    const way = CALL_PARTS.way(flags)
    if (!way) throw new Error('REDIS_URL (--redis) is not set: the command goes through Redis')
    return createPublisher(way)
  },
}

/** More than any node takes as a publication. */
const MAX_INPUT = 16 * 1024 * 1024

async function readInput(): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > MAX_INPUT) throw new Error(`the standard input has more than ${MAX_INPUT} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString()
}

async function main(): Promise<void> {
  const argv = process.argv.slice(2)
  const [name, ...rest] = argv
  if (isCall(name) && !rest.includes('--help')) {
    const code = await runCall(name, rest, CALL_PARTS, openTerminal(readInput))
    process.exitCode ||= code
    return
  }
  const settings = isCall(name) ? 'help' : await settingsOf(argv)
  if (settings === 'help') process.stdout.write(`${USAGE}\n${CALLS_USAGE}`)
  else if (settings.check) process.exitCode = await check(settings, argv)
  else await serve(settings)
}

async function settingsOf(argv: readonly string[]) {
  const { values, positionals } = readFlags(argv)
  // Neither help nor a word that is not understood needs the file, which may be a module that runs.
  const isServe = positionals.length === 1 && positionals[0] === 'serve' && !values.help
  const path = isServe ? configPath(argv, process.env) : undefined
  return readSettings(argv, process.env, path === undefined ? NO_CONFIG : await readConfig(path))
}

/** Prints what `serve` would use. Nothing is connected, and nothing listens. */
async function check(settings: ServeSettings, argv: readonly string[]): Promise<number> {
  const { values: flags } = readFlags(argv)
  // Both refuse what they cannot use.
  Fastify({ trustProxy: settings.trustProxy, logger: { level: settings.logLevel } })
  const metrics = settings.metrics && { register: (await openMetrics(Fastify(), settings.metrics)).register }
  const options = registerOptions(settings, settings.dev ? {} : await identificationOf(settings), metrics)
  const rows = usedSettings(settings, options, { flags, env: process.env })
  process.stdout.write(`${flags.json ? JSON.stringify(rows) : table(rows as never)}\n`)
  return EXIT.done
}

const CALLS_USAGE = `Other commands, with the same settings for Redis; --json for programs
${callUsage()}
`

/** Not when a test imports this file. npm starts the command through a link. */
if (process.argv[1] && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  main().catch((error: Error & { code?: string }) => {
    process.stderr.write(`${error.message} (fastify-push-bridge --help shows the settings)\n`)
    const isCheck = process.argv.includes('--check')
    process.exitCode = isCheck && error.code?.startsWith('ERR_PARSE_ARGS') ? EXIT.usage : EXIT.failed
  })
}
