/**
 * What takes long is done by a job. The client is told at once that its request was accepted; a worker, in a process of its
 * own, does the work and publishes the result. However many jobs wait, this node goes on pushing.
 *
 *   npm install bullmq ioredis
 *   REDIS_URL=redis://127.0.0.1:6379 npx tsx example/jobs/server.ts
 *   REDIS_URL=redis://127.0.0.1:6379 npx tsx example/jobs/worker.ts      as many as you like
 *
 * In a page that has connected to /ws?user=ann:
 *
 *   client.on('report.done', ({ job, orders }) => …)
 *   client.on('report.failed', ({ job, message }) => …)
 *   const { accepted } = await client.request('report', { year: 2025 })
 *
 * PORT (3000) · REDIS_URL · MAX_WAITING (1000)
 */
import { Queue } from 'bullmq'
import Fastify, { type FastifyRequest } from 'fastify'
import { Redis } from 'ioredis'
import { Type } from 'typebox'
import pushBridge, { clientHandler, isTopic } from '../../src/index.ts'
import { ATTEMPTS, HISTORY, QUEUE, type ReportJob } from './report.ts'

const { PORT = '3000', REDIS_URL, MAX_WAITING = '1000' } = process.env
if (!REDIS_URL) {
  console.error('REDIS_URL is not set: REDIS_URL=redis://127.0.0.1:6379 npx tsx example/jobs/server.ts')
  process.exit(1)
}

const app = Fastify({ logger: { level: 'warn' } })
// While Redis is away a request fails soon, instead of waiting in memory.
const redis = new Redis(REDIS_URL, { enableOfflineQueue: false, maxRetriesPerRequest: 1, commandTimeout: 2000 })
const queue = new Queue<ReportJob>(QUEUE, {
  connection: redis,
  defaultJobOptions: {
    attempts: ATTEMPTS,
    backoff: { type: 'exponential', delay: 500 },
    removeOnComplete: { count: 1000 },
    removeOnFail: { count: 1000 },
  },
})
// Not the whole error: it carries the command, and with it what a job is about.
queue.on('error', ({ message }) => app.log.error(`the queue: ${message}`))

await app.register(pushBridge, {
  path: '/ws',
  redis: REDIS_URL,
  history: HISTORY,
  authenticate: identify,
  handlers: {
    report: clientHandler(Type.Object({ year: Type.Integer({ minimum: 2000, maximum: 2100 }) }), ({ year }, { user }) =>
      accept({ user: user!, year }),
    ),
  },
  drain: { window: 1000 },
})
// Not queue.close(), which waits for an answer of Redis.
app.addHook('onClose', async () => redis.disconnect())

/** Anybody may call themselves anything here. An application of your own looks at its session. */
function identify({ query }: FastifyRequest) {
  const { user } = query as { user?: unknown }
  return typeof user === 'string' && isTopic(`user:${user}`) ? { user } : null
}

async function accept(data: ReportJob): Promise<{ accepted: string }> {
  // Requests that come at the same moment may go a little over it. What matters is that it does not grow without end.
  if ((await queue.count()) >= Number(MAX_WAITING)) {
    throw Object.assign(new Error('too many reports wait: try again later'), { statusCode: 429, code: 'REPORTS_FULL' })
  }
  // Who asks again while the report is being written gets the same job.
  const job = await queue.add('report', data, { deduplication: { id: `${data.user}:${data.year}` } })
  return { accepted: job.id! }
}

for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => app.close().then(() => process.exit(0)))
const origin = await app.listen({ port: Number(PORT), host: '127.0.0.1' })
process.stdout.write(`listening at ${origin}\n`)
