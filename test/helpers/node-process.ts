import Fastify from 'fastify'
import { Type } from 'typebox'
import pushBridge from '../../src/index.ts'
import { streamsIngress } from '../../src/ingress/streams/streams.ts'

/** One node in a process of its own: `REDIS_URL=… node --import tsx node-process.ts` prints its port as JSON. */
const app = Fastify({ logger: { level: process.env.LOG_LEVEL ?? 'silent' } })
await app.register(pushBridge, {
  path: '/ws',
  redis: process.env.REDIS_URL!,
  publishTimeout: Number(process.env.PUBLISH_TIMEOUT ?? 2000),
  codecs: ['json', 'msgpack', 'protobuf'],
  history: { 'channel:chat*': { size: 100, ttl: 60 } },
  clientPublications: { said: { schema: Type.Object({ text: Type.String() }), rate: 1000 } },
  ingress: process.env.INGRESS ? [streamsIngress(JSON.parse(process.env.INGRESS))] : [],
  schemas: { order: Type.Object({ id: Type.Integer() }) },
  api: { keys: ['0123456789abcdef'] },
  presence: { users: { grace: 300 }, lease: 1500, 'channel:room.*': { info: true, grace: 300 } },
  tickets: true,
  sse: true,
  authenticate: request => {
    const { user } = request.query as { user?: string }
    const room = { topics: ['channel:room.*', 'all'], actions: ['subscribe', 'presence'] as const }
    const chat = { topics: 'channel:chat*', actions: ['subscribe', 'publish', 'history'] as const }
    return { allow: ['channel:*', room, chat], ...(user !== undefined && { user }) }
  },
})
app.get('/status', () => app.push.status())
process.once('SIGTERM', () => app.close().then(() => process.exit(0)))
await app.listen({ port: Number(process.env.PORT ?? 0), host: '127.0.0.1' })
process.stdout.write(`${JSON.stringify(app.server.address())}\n`)
