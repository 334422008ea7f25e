import Fastify from 'fastify'
import pushBridge from '../../src/index.ts'
import type { IngressConfig } from './ingress.ts'
import { Journal } from './journal.ts'
import { roadsOf } from './roads.ts'
import { API_KEY, GRACE, HISTORY, LEASE } from './topics.ts'

/** A node of the chaos runs. CONFIG: where Redis and the queues are, what becomes of slow consumers, and where to write. */
export interface NodeConfig {
  redis: string | object
  ingress: IngressConfig
  slowConsumer: 'close' | 'drop'
  journal: string
}

const config = JSON.parse(process.env.CONFIG!) as NodeConfig
const journal = new Journal(config.journal)

for (const event of ['unhandledRejection', 'uncaughtException', 'warning'] as const) {
  process.on(event, (error: unknown) => journal.write({ e: 'unhandled', event, error: String((error as Error).stack) }))
}
const stream = { write: (line: string) => journal.write({ e: 'log', ...pick(JSON.parse(line)) }) }
const app = Fastify({ logger: { level: 'warn', stream }, forceCloseConnections: true })

function pick({ level, msg, err }: { level: number; msg: string; err?: { message: string; stack: string } }): object {
  return { level, msg, ...(err && { error: err.message, stack: level >= 50 ? err.stack : undefined }) }
}

await app.register(pushBridge, {
  path: '/ws',
  redis: config.redis as string,
  heartbeat: { interval: 1000, timeout: 1500 },
  slowConsumer: config.slowConsumer,
  limits: { buffer: 512 * 1024, bufferTime: 300 },
  drain: { window: 500, timeout: 3000 },
  history: HISTORY,
  ingress: roadsOf(config.ingress),
  api: { keys: [API_KEY] },
  authenticate: request => ({
    user: (request.query as { user?: string }).user ?? null,
    allow: ['channel:*', { topics: ['all', 'channel:lobby*'], actions: ['presence'] }],
  }),
  presence: { users: { grace: GRACE }, 'channel:lobby*': { grace: GRACE }, lease: LEASE },
})

async function state() {
  const sockets = process.getActiveResourcesInfo().filter(name => name === 'TCPSocketWrap').length
  return { ...(await app.push.status()), sockets, rss: process.memoryUsage.rss() }
}

process.on('message', async () => process.send!({ e: 'state', ...(await state()) }))
process.on('disconnect', () => process.exit(1))
process.once('SIGTERM', async () => {
  await app.close()
  journal.close()
  process.exit(0)
})
await app.listen({ port: 0, host: '127.0.0.1' })
process.send!({
  e: 'ready',
  port: (app.server.address() as { port: number }).port,
  node: (await app.push.status()).node,
})
