/**
 * A demo to look at and to copy from: a page, a push API and the bridge between them.
 *
 *   npm start                                         one process, nothing else needed
 *   REDIS_URL=redis://127.0.0.1:6379 npm start        publications from any language; start as many as you like
 *
 * PORT (3000) · HOST (127.0.0.1) · REDIS_URL · PUSH_API_KEY (default: a new one at every start) · DEMO=1 to listen
 * beyond this machine, although anybody may call themselves anything · QUIET=1 to print nothing
 */
import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance, type FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import pushBridge, { clientHandler, isTopic, type PushConnection } from '../src/index.ts'
import { greet } from './greeting.ts'
import { publishLines } from './lines.ts'

const { PORT = '3000', HOST = '127.0.0.1', REDIS_URL, DEMO, QUIET } = process.env
const key = process.env.PUSH_API_KEY || randomBytes(24).toString('hex')
const redisPrefix = 'push:'

/** What `authenticate` keeps of the request. Only pages send an origin. */
interface Visitor {
  origin: string | undefined
  host: string
}

const Channel = Type.String({ pattern: '^channel:[^\\s{}]{1,200}$' })
const Topic = Type.String({ pattern: '^(all|(channel|user|connection):[^\\s{}]{1,200})$' })

async function createApp(): Promise<FastifyInstance> {
  const app = Fastify({ logger: { level: 'warn' } })
  await app.register(pushBridge, {
    path: '/ws',
    redis: REDIS_URL || false,
    redisPrefix,
    // More would need more descriptors than many machines allow a process.
    limits: { connections: 1000 },
    api: { path: '/push', keys: [key] },
    authenticate: identify,
    handlers: {
      // The page measures how long this takes to come back: through the broker, like every other message.
      probe: clientHandler(Type.Object({ sent: Type.Number() }), async (payload, connection) => {
        // While Redis is away the page notices by itself that nothing comes back.
        await app.push.publish(`connection:${connection.id}`, { type: 'probe', payload }).catch(() => {})
      }),
      publish: clientHandler(
        Type.Object({ topic: Channel, type: Type.String(), payload: Type.Unknown() }),
        ({ topic, type, payload }) => app.push.publish(topic, { type, payload, receipt: true }),
      ),
      broker: clientHandler(Type.Object({ topic: Topic }), ({ topic }, connection) => describe(topic, connection)),
    },
    // A page that was sent away comes back within this time: short, because a demo is restarted often.
    drain: { window: 1000 },
  })
  servePage(app, '/', 'index.html', 'text/html; charset=utf-8')
  servePage(app, '/page.js', 'page.js', 'text/javascript; charset=utf-8')
  return app
}

/** An application of your own looks at its session or token here and answers null to whoever has none. */
function identify(request: FastifyRequest) {
  const { user } = request.query as { user?: unknown }
  const data: Visitor = { origin: request.headers.origin, host: request.host }
  const visitor = { allow: ['channel:*'], data }
  if (user === undefined || user === '') return visitor
  return isTopic(`user:${user}`) ? { ...visitor, user: String(user) } : null
}

/** Which broker carries the messages, and lines to paste. Secrets are for pages of this machine alone. */
function describe(topic: string, connection: PushConnection) {
  const { origin, host } = connection.data as Visitor
  const isLocal = isLoopback(HOST) && origin !== undefined && isLoopback(new URL(origin).hostname)
  const source = { origin: origin ?? `http://${host}`, hasRedis: Boolean(REDIS_URL), redisPrefix }
  const secrets = isLocal ? { key, redis: REDIS_URL || undefined } : { key: undefined, redis: undefined }
  return {
    broker: REDIS_URL ? 'redis' : 'in-process',
    isLocal,
    lines: publishLines({ ...source, ...secrets }, topic),
  }
}

function servePage(app: FastifyInstance, url: string, file: string, type: string): void {
  app.get(url, async (_request, reply) => {
    reply.type(type).header('cache-control', 'no-cache').header('x-content-type-options', 'nosniff')
    return readFile(new URL(`page/${file}`, import.meta.url))
  })
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || /^(::1|\[::1\]|127(\.\d{1,3}){3})$/.test(host)
}

function fail(message: string): never {
  process.stderr.write(`${message}\n`)
  process.exit(1)
}

function stopOnSignals(app: FastifyInstance): void {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      app.close().then(
        () => process.exit(0),
        () => process.exit(1),
      )
    })
  }
}

if (!isLoopback(HOST) && DEMO !== '1') {
  fail(
    `HOST=${HOST} would open this demo to other machines, and in it anybody may call themselves anything.\n` +
      'Set DEMO=1 if that is what you want, or leave HOST alone.',
  )
}

const app = await createApp()
stopOnSignals(app)
try {
  await app.listen({ port: Number(PORT), host: HOST })
} catch (error) {
  fail(`cannot listen: ${(error as Error).message}. Another port is tried with PORT=3001 npm start`)
}
if (!QUIET) {
  const { address, port } = app.server.address() as AddressInfo
  const { connected } = await app.push.status()
  process.stdout.write(greet({ address, port, key, redis: REDIS_URL || undefined, redisPrefix, connected }))
}
