import assert from 'node:assert/strict'
import { test } from 'node:test'
import pushBridge from '../../src/index.ts'
import { createPublisher } from '../../src/publisher.ts'
import { buildApp, openConnection } from '../helpers/app.ts'
import { Program, path } from '../helpers/processes.ts'
import { startRedis } from '../helpers/redis.ts'
import { until } from '../helpers/waiting.ts'

test('jobs.php: accepted at once, done by a worker, and heard once although attempts fail', async t => {
  const redis = await startRedis(t)
  const { app } = await buildApp(t, app =>
    app.register(pushBridge, {
      path: '/ws',
      redis: redis.url,
      events: { messages: ['report.*'], stream: { include: ['message'] } },
      authenticate: ({ query }) => ({ user: (query as { user?: string }).user ?? null }),
    }),
  )
  const [ann, nobody, bob] = await Promise.all(
    ['?user=ann', '', '?user=bob'].map(query => openConnection(app, `/ws${query}`)),
  )
  const jobs: string[] = []
  for (const [connection, year] of [
    [ann, 2025],
    [ann, 'next'],
    [nobody, 2024],
  ] as const) {
    connection!.send('report.ask', { year }, 1)
    jobs.push(((await connection!.next('reply')).payload as { id: string }).id)
  }
  const [good, hopeless, anonymous] = jobs
  // What PHP cannot read must not keep it from the rest.
  bob!.send('report.ask', { year: '\ud800' }, 1)
  await bob!.next('reply')
  // Nobody works yet: what was accepted waits, and pushes go on.
  await app.push.publish('user:bob', { type: 'notice' })
  await bob!.next('notice')

  const env = { REDIS_HOST: '127.0.0.1', REDIS_PORT: String(redis.port), JOBS_WAIT: '1', FAIL: '1' }
  const worker = new Program(t, 'php', [path('example/php/jobs.php')], { env })
  assert.deepEqual((await nobody!.next('report.done')).payload, { job: anonymous, year: 2024, orders: 24 })
  const heard = [await ann!.next(), await ann!.next()].map(({ type, payload }) => [
    type,
    (payload as { job: string }).job,
  ])
  assert.deepEqual(heard.sort(), [
    ['report.done', good],
    ['report.failed', hopeless],
  ])
  const pending = async () => ((await redis.admin.xpending('push:events', 'reports')) as [number])[0]
  await until(
    async () => (await pending()) === 0,
    () => `all are done: ${worker.lines.join('\n')}`,
  )

  // What comes last would come after a second copy.
  const publisher = createPublisher({ redis: redis.url, history: { 'user:*': { size: 100, ttl: 3600 } } })
  t.after(() => publisher.end())
  await publisher.publish('user:ann', { type: 'last' })
  assert.equal((await ann!.next()).type, 'last')
  const line = (job: string | undefined, attempt: string) => `${job}, attempt ${attempt}`
  assert.deepEqual(
    worker.lines.filter(text => text.startsWith(`${good},`)),
    [
      line(good, '1: failed before it was published'),
      line(good, '2: failed after it was published'),
      line(good, '3: was published before'),
    ],
  )
})
