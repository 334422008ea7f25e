import { readdirSync } from 'node:fs'
import Fastify from 'fastify'
import { Type } from 'typebox'
import pushBridge, { clientHandler } from '../../src/index.ts'
import { UNSEEN } from './target.ts'

/** The node that is attacked, in a process of its own. Its limits on rates are far away: inputs are to get in. */
const FAR = 1_000_000_000

const app = Fastify({
  logger: { level: 'error' },
  http: { headersTimeout: 5000, connectionsCheckingInterval: 500 },
  requestTimeout: 5000,
})

/** What is seen here apart from the counters of the bridge. */
const notes: Record<string, number> = {}
const note = (what: string) => {
  notes[what] = (notes[what] ?? 0) + 1
}

// Node's parser refuses what comes behind a request before that is answered: the answer finds no socket.
app.addHook('onSend', (request, { statusCode }, payload, done) => {
  const [, code] = /"code":"(PUSH_ERR_\w+)"/.exec(typeof payload === 'string' ? payload : '') ?? []
  if (statusCode >= 400 && code && request.raw.socket.destroyed) note(`${UNSEEN}${code}`)
  done(null, payload)
})
app.server.on('clientError', (error: NodeJS.ErrnoException) => note(error.code ?? error.name))

await app.register(pushBridge, {
  path: '/ws',
  redis: process.env.REDIS_URL!,
  tickets: true,
  sse: true,
  codecs: ['json', 'msgpack', 'protobuf'],
  authenticate: request => {
    const { user } = request.query as { user?: string }
    if (user === 'nobody') return null
    if (user === 'canary') return { user }
    if (user === 'later') return 'message'
    const talk = { topics: 'channel:*', actions: ['publish', 'history', 'presence'] as const }
    // As an application would: what comes from outside is no name of a user before it was looked at.
    const known = Buffer.from(String(user ?? ''))
      .toString('hex')
      .slice(0, 50)
    return { allow: ['channel:*', talk], ...(known && { user: known }) }
  },
  schemas: { order: Type.Object({ id: Type.Integer() }) },
  history: { 'channel:kept*': { size: 20, ttl: 60 } },
  presence: { users: true, 'channel:room*': { info: true } },
  clientPublications: { said: { schema: Type.Object({ text: Type.String() }), rate: 10_000 } },
  handlers: {
    echo: clientHandler(Type.Object({ text: Type.String() }), ({ text }) => ({ text })),
    fails: clientHandler(Type.Object({}), () => {
      throw Object.assign(new Error('no'), { statusCode: 422, code: 'NO' })
    }),
  },
  onBinary: () => {},
  api: { keys: [process.env.API_KEY!], rate: FAR },
  compression: true,
  // Short, for peers that stay away: each of them costs a deadline.
  heartbeat: { interval: 3000, timeout: 7000 },
  limits: {
    messages: FAR,
    upgrades: FAR,
    pendingUpgrades: FAR,
    userConnections: FAR,
    handshake: 5000,
    bufferTime: 1000,
  },
})
await app.listen({ port: 0, host: '127.0.0.1' })

/** What is used at rest, after all garbage is gone. */
async function usage() {
  for (let i = 0; i < 3; i++) {
    globalThis.gc!()
    await new Promise(resolve => setImmediate(resolve))
  }
  const { heapUsed, arrayBuffers } = process.memoryUsage()
  return { bytes: heapUsed + arrayBuffers, descriptors: readdirSync('/proc/self/fd').length }
}

process.on('message', async () => process.send!({ usage: await usage(), status: await app.push.status(), notes }))
process.once('disconnect', () => process.exit(0))
process.send!({ port: (app.server.address() as { port: number }).port })
