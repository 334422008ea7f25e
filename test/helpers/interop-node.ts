import { readFile } from 'node:fs/promises'
import Fastify from 'fastify'
import { Type } from 'typebox'
import pushBridge, { clientHandler } from '../../src/index.ts'
import { kafkaIngress } from '../../src/ingress/kafka/kafka.ts'
import { rabbitmqIngress } from '../../src/ingress/rabbitmq/rabbitmq.ts'
import { streamsIngress } from '../../src/ingress/streams/streams.ts'

/**
 * A node for the interop tests: any user by `?user=`, nobody for `?user=nobody`, any channel, tickets, a push API.
 * GET /status has also the upgrade requests by URL and how many requests came for /readyz, GET /page runs SCRIPT, or the file SCRIPT_FILE. Prints its address as the first line and its log behind it. HEARTBEAT: `interval,timeout` in milliseconds.
 * HISTORY and CODECS: the options, as JSON. INGRESS_STREAMS, INGRESS_RABBITMQ and INGRESS_KAFKA: the options of these roads, as JSON.
 * DRAIN_DELAY: for how long it drains before it closes connections. PRESENCE: the option, as JSON. PAGE=1: with the page to look at the nodes.
 */
const {
  REDIS_URL,
  PORT,
  HEARTBEAT = '25000,10000',
  LOG_LEVEL = 'warn',
  TRUST_PROXY,
  API_KEY,
  SCRIPT,
  SCRIPT_FILE,
  DRAIN_DELAY,
  PRESENCE,
  HISTORY,
  CODECS,
  PAGE,
  INGRESS_STREAMS,
  INGRESS_RABBITMQ,
  INGRESS_KAFKA,
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
  api: { keys: [API_KEY!], page: PAGE === '1' },
  authenticate(request) {
    const { user } = request.query as { user?: string }
    if (user === 'nobody') return null
    const { ip, protocol, host } = request
    const allow = [{ topics: 'channel:*', actions: ['subscribe', 'presence'] as const }]
    return { allow, data: { ip, protocol, host }, ...(user !== undefined && { user }) }
  },
  handlers: { whoami: clientHandler(Type.Unknown(), (_payload, { data }) => data) },
  drain: { window: 1000, delay: Number(DRAIN_DELAY ?? 0) },
  health: true,
  ...(PRESENCE && { presence: JSON.parse(PRESENCE) }),
  ...(HISTORY && { history: JSON.parse(HISTORY) }),
  ...(CODECS && { codecs: JSON.parse(CODECS) }),
  ingress: [
    ...(INGRESS_STREAMS ? [streamsIngress(JSON.parse(INGRESS_STREAMS))] : []),
    ...(INGRESS_RABBITMQ ? [rabbitmqIngress(JSON.parse(INGRESS_RABBITMQ))] : []),
    ...(INGRESS_KAFKA ? [kafkaIngress(JSON.parse(INGRESS_KAFKA))] : []),
  ],
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
  reply
    .type('text/html')
    .send(
      `<!doctype html><meta charset="utf-8"><body><script type="module">${SCRIPT ?? "import '/script.js'"}</script>`,
    ),
)
app.get('/script.js', async (_request, reply) => reply.type('text/javascript').send(await readFile(SCRIPT_FILE!)))
process.once('SIGTERM', () => app.close().then(() => process.exit(0)))
await app.listen({ port: Number(PORT ?? 0), host: '127.0.0.1' })
process.stdout.write(`${JSON.stringify(app.server.address())}\n`)
