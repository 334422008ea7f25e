/**
 * Does the jobs of server.ts, in a process of its own, and publishes what comes of them. Start as many as you like, on any
 * machine; none of them holds connections.
 *
 *   REDIS_URL=redis://127.0.0.1:6379 npx tsx example/jobs/worker.ts
 *
 * FAIL=1 to see what becomes of failures: the first attempt at every job fails before it has published, the second one after.
 */
import { setTimeout as sleep } from 'node:timers/promises'
import { type Job, Worker } from 'bullmq'
import { createPublisher } from '../../src/publisher.ts'
import { ATTEMPTS, HISTORY, QUEUE, type ReportJob } from './report.ts'

const { REDIS_URL, FAIL } = process.env
if (!REDIS_URL) {
  console.error('REDIS_URL is not set: REDIS_URL=redis://127.0.0.1:6379 npx tsx example/jobs/worker.ts')
  process.exit(1)
}

/** A job that hangs must not keep its place for ever. Also how long a worker that is asked to end waits for its jobs. */
const JOB_TIME = 60_000

const publisher = createPublisher({ redis: REDIS_URL, history: HISTORY })
const worker = new Worker<ReportJob>(QUEUE, handle, {
  connection: { url: REDIS_URL, maxRetriesPerRequest: null },
  concurrency: 4,
})
worker.on('error', error => console.error(error.message))
worker.on('failed', (job, error) => console.log(`job ${job?.id}, attempt ${job?.attemptsMade}: ${error.message}`))

/** If this throws, the job is tried again; after ATTEMPTS it counts as failed. */
async function handle(job: Job<ReportJob>): Promise<void> {
  const attempt = job.attemptsMade + 1
  try {
    const report = await write(job.data, AbortSignal.timeout(JOB_TIME))
    if (FAIL && attempt === 1) throw new Error('failed before it was published')
    const again = await tell(job, 'report.done', report)
    if (FAIL && attempt === 2) throw new Error('failed after it was published')
    console.log(`job ${job.id}, attempt ${attempt}: ${again ? 'was published before' : 'published'}`)
  } catch (error) {
    if (attempt >= ATTEMPTS) await tell(job, 'report.failed', { message: 'the report cannot be written' })
    throw error
  }
}

/**
 * The key names the job, so whatever is published for it twice arrives once: a repeat, and also a failure that comes
 * although the result had been published. Says whether it was a repeat.
 */
async function tell({ id, data }: Job<ReportJob>, type: string, payload: object): Promise<boolean> {
  const message = { type, payload: { job: id, ...data, ...payload }, idempotencyKey: `report-${id}` }
  const { duplicate } = await publisher.publish(`user:${data.user}`, message)
  return duplicate === true
}

/** Stands for the slow work. */
async function write({ year }: ReportJob, signal: AbortSignal): Promise<{ orders: number }> {
  await sleep(100, undefined, { signal })
  if (year > new Date().getFullYear()) throw new Error(`there are no orders of ${year} yet`)
  return { orders: year % 100 }
}

async function stop(): Promise<void> {
  setTimeout(() => process.exit(1), JOB_TIME).unref()
  await worker.close()
  await publisher.end()
  process.exit(0)
}

process.once('SIGTERM', stop).once('SIGINT', stop)
await worker.waitUntilReady()
console.log('waiting for jobs')
