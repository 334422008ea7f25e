import { Redis } from 'ioredis'
import { backToUsual, caughtUp } from '../lib/catching-up.ts'
import { burst, connect, number, type Outcome, type Run, type Scenario, stats } from '../lib/scenario.ts'
import { MESSAGE_BYTES } from '../lib/stamp.ts'
import type { Arrivals } from '../load.ts'
import type { Published } from '../publisher.ts'

const CONNECTIONS = 1000
const WARM_UP = 5000
/** Of these, the server shows what it can take. */
const SAMPLE = 300_000
const TIMES = 1.5
const SECONDS = 180
const QUICK_SECONDS = 5
/** What has not arrived that many milliseconds after the last publication is lost. */
const PATIENCE = 180_000
const LOOK_EVERY = 1000
const NO_LIMIT = 'no limit'

/** More than the server can deliver, for minutes: what waits where, what is lost, and how soon all is as usual again. */
export const scenario: Scenario = {
  id: 'o',
  title: `overload: for ${SECONDS} s, ${TIMES} times as many messages to ${CONNECTIONS} users as the server delivers`,
  variants: ['default limit', NO_LIMIT],
  deadline: 60 + SECONDS + PATIENCE / 1000,
  columns: [
    { key: 'could', label: 'it delivers/s', digits: 0 },
    { key: 'published', label: 'published/s', digits: 0 },
    { key: 'delivered', label: 'delivered %', digits: 1 },
    { key: 'gaps', label: 'gaps/connection', digits: 1 },
    { key: 'p50', label: 'late: p50 s', digits: 2 },
    { key: 'latest', label: 'at most s', digits: 2 },
    { key: 'rss', label: 'most RSS MB', digits: 0 },
    { key: 'redis', label: 'most in Redis MB', digits: 0 },
    { key: 'back', label: 'as usual after ms', digits: 0 },
    { key: 'backP99', label: 'then p99 ms', digits: 1 },
  ],
  async run(run, variant) {
    const redis = new Redis(run.redisPort)
    try {
      if (variant === NO_LIMIT) await redis.config('SET', 'client-output-buffer-limit', 'pubsub 0 0 0')
      return await measure(run, redis)
    } finally {
      redis.disconnect()
    }
  },
}

async function measure(run: Run, redis: Redis): Promise<Outcome> {
  const users = Array.from({ length: CONNECTIONS }, (_, index) => number('u', index))
  await connect(
    run,
    users.map(user => ({ topics: [], user })),
  )
  const topics = users.map(user => `user:${user}`)
  const sample = { topics, count: SAMPLE, size: MESSAGE_BYTES, pick: 'random' } as const
  const could = (await burst(run, sample, WARM_UP)).metrics.rate!
  const { published, arrivals, rss, memory } = await overload(run, redis, topics, could * TIMES)
  const then = await backToUsual(run, topics[0]!, published.lastAt)
  const seconds = (published.lastAt - published.firstAt) / 1e6
  const { got, total, missing, extra, disorder, gaps, p50, max } = arrivals
  return {
    metrics: {
      complete: Number(missing + extra + disorder + gaps === 0),
      could,
      published: total / seconds,
      delivered: (100 * got) / total,
      gaps: gaps / CONNECTIONS,
      p50: p50 / 1000,
      latest: max / 1000,
      rss: rss / 1e6,
      redis: memory / 1e6,
      back: then.metrics.back!,
      backP99: then.metrics.p99!,
    },
    notes: [
      ...(extra + disorder > 0 ? [`${run.peer.name}: ${extra} too many, ${disorder} out of order`] : []),
      ...Object.entries(arrivals.others).map(([what, count]) => `${run.peer.name}: ${count} × ${what}`),
      ...then.notes,
    ],
  }
}

async function overload(run: Run, redis: Redis, topics: string[], rate: number) {
  const seconds = run.quick ? QUICK_SECONDS : SECONDS
  const plan = { kind: run.peer.kind, topics, size: MESSAGE_BYTES, rate, seconds }
  const { perTopic } = await run.publisher.request<{ perTopic: Record<string, number> }>('plan', plan)
  await run.load.request('expect', { perTopic, size: MESSAGE_BYTES, stamped: true })
  const most = watch(run, redis)
  try {
    const [published, arrivals] = await Promise.all([
      run.publisher.request<Published>('last').then(async done => {
        await caughtUp(run, PATIENCE)
        await run.load.request('finish')
        return done
      }),
      run.load.request<Arrivals>('wait', { timeout: run.timeLeft() - 10_000 }),
    ])
    return { published, arrivals, rss: most.rss, memory: most.memory }
  } finally {
    most.stop()
  }
}

/** The most memory that the server and Redis have, in bytes, looked at once a second. */
function watch(run: Run, redis: Redis) {
  const most = { rss: 0, memory: 0, stop: () => clearInterval(timer) }
  const look = async () => {
    const [{ rss }, info] = await Promise.all([stats(run), redis.info('memory')])
    most.rss = Math.max(most.rss, rss)
    most.memory = Math.max(most.memory, Number(/^used_memory:(\d+)/m.exec(info)![1]))
  }
  // Who is too busy to answer is looked at again.
  const timer = setInterval(() => void look().catch(() => {}), LOOK_EVERY)
  return most
}
