import Fastify from 'fastify'
import { Type } from 'typebox'
import pushBridge, { clientHandler } from '../../src/index.ts'

/**
 * A node for the interop tests: any user by `?user=`, nobody for `?user=nobody`, any channel, tickets, a push API.
 * GET /status has also the upgrade requests by URL and how many requests came for /readyz, GET /page runs SCRIPT. Prints its address as the first line and its log behind it. HEARTBEAT: `interval,timeout` in milliseconds.
 * DRAIN_DELAY: for how long it drains before it closes connections. PRESENCE: the option, as JSON.
 */
const {
  REDIS_URL,
  PORT,
  HEARTBEAT = '25000,10000',
  LOG_LEVEL = 'warn',
  TRUST_PROXY,
  API_KEY,
  SCRIPT,
  DRAIN_DELAY,
  PRESENCE,
} = process.env
const [interval, timeout] = HEARTBEAT.split(',').map(Number) as [number, number]
const upgrades: Record<string, number> = {}

const app = Fastify({ logger: { level: LOG_LEVEL }, trustProxy: TRUST_PROXY ?? false, return503OnClosing: false })
await app.register(pushBridge, {
  path: '/ws',
  redis: REDIS_URL!,
  heartbeat: { interval, timeout },
  tickets: true,
  sse: true,
  history: { 'channel:kept*': { size: 100, ttl: 60 } },
  schemas: { order: Type.Object({ id: Type.Integer() }) },
  api: { keys: [API_KEY!] },
  authenticate(request) {
    const { user } = request.query as { user?: string }
    if (user === 'nobody') return null
    const { ip, protocol, host } = request
    return { allow: ['channel:*'], data: { ip, protocol, host }, ...(user !== undefined && { user }) }
  },
  handlers: { whoami: clientHandler(Type.Unknown(), (_payload, { data }) => data) },
  drain: { window: 1000, delay: Number(DRAIN_DELAY ?? 0) },
  health: true,
  ...(PRESENCE && { presence: JSON.parse(PRESENCE) }),
})
app.server.on('upgrade', ({ url = '' }) => {
  upgrades[url] = (upgrades[url] ?? 0) + 1
})
let probes = 0
app.server.on('request', ({ url }) => {
  if (url === '/readyz') probes++
})
app.get('/status', async () => ({ ...(await app.push.status()), upgrades, probes }))
app.get('/page', (_request, reply) =>
  reply.type('text/html').send(`<!doctype html><meta charset="utf-8"><body><script type="module">${SCRIPT}</script>`),
)
process.once('SIGTERM', () => app.close().then(() => process.exit(0)))
await app.listen({ port: Number(PORT ?? 0), host: '127.0.0.1' })
process.stdout.write(`${JSON.stringify(app.server.address())}\n`)
