import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import { createPublisher } from '../src/publisher.ts'
import { type Listener, listenTo } from './helpers/listener.ts'
import { Program, path } from './helpers/processes.ts'
import { type RedisServer, startRedis } from './helpers/redis.ts'
import { PATIENCE, START, until } from './helpers/waiting.ts'

function start(t: TestContext, file: string, env: Record<string, string>): Program {
  return new Program(t, process.execPath, ['--import', 'tsx', path(`example/jobs/${file}`)], { env })
}

/** Who asks, and gets nothing that is not in `listener.messages`. */
async function ask(listener: Listener, year: number, ref: number): Promise<Record<string, string>> {
  const answer = () => listener.messages.find(message => message.ref === ref)
  listener.send('report', { year }, ref)
  await listener.until(() => answer() !== undefined, `the answer to ${ref}`)
  return answer()!.payload as Record<string, string>
}

const typesOf = ({ messages }: Listener) => messages.map(({ type }) => type)

async function startServer(t: TestContext, redis: RedisServer): Promise<{ server: Program; url: string }> {
  const server = start(t, 'server.ts', { REDIS_URL: redis.url, PORT: '0', MAX_WAITING: '2' })
  const line = await server.line(/^listening at /, START)
  return { server, url: `${line.slice('listening at '.length).replace('http', 'ws')}/ws` }
}

test('jobs: accepted at once, done by a worker, and heard once although attempts fail', {
  timeout: 400_000,
}, async t => {
  const redis = await startRedis(t)
  const { server, url } = await startServer(t, redis)
  const publisher = createPublisher({ redis: redis.url, publishTimeout: PATIENCE })
  t.after(() => publisher.end())
  const ann = await listenTo(t, `${url}?user=ann`)
  const bob = await listenTo(t, `${url}?user=bob`)

  // Nobody works yet: what was accepted waits, and pushes go on.
  const { accepted } = await ask(ann, 2025, 1)
  assert.equal((await ask(ann, 2025, 2)).accepted, accepted)
  const { accepted: hopeless } = await ask(ann, 2100, 3)
  assert.equal((await ask(ann, 2024, 4)).code, 'REPORTS_FULL')
  assert.equal((await ask(ann, 1999, 5)).code, 'PUSH_ERR_SCHEMA')
  await publisher.publish('user:bob', { type: 'notice', payload: 1 })
  assert.equal((await bob.next('notice')).payload, 1)
  assert.deepEqual(typesOf(ann), ['welcome', 'reply', 'reply', 'reply', 'error', 'error'])

  const worker = start(t, 'worker.ts', { REDIS_URL: redis.url, FAIL: '1' })
  const done = (await ann.next('report.done')).payload
  assert.deepEqual(done, { job: accepted, user: 'ann', year: 2025, orders: 25 })
  assert.equal(((await ann.next('report.failed')).payload as { job: string }).job, hopeless)
  await worker.line(new RegExp(`^job ${accepted}, attempt 3: was published before$`))
  await worker.line(new RegExp(`^job ${hopeless}, attempt 3: there are no orders of 2100 yet$`))
  for (const attempt of ['1: failed before it was published', '2: failed after it was published']) {
    await worker.line(new RegExp(`^job ${accepted}, attempt ${attempt}$`))
  }

  // What comes last would come after a second copy.
  await publisher.publish('user:ann', { type: 'last' })
  await ann.next('last')
  assert.deepEqual(typesOf(ann).slice(6), ['report.done', 'report.failed', 'last'])

  await worker.stop()
  assert.equal(await worker.exited, 0)

  // While Redis is away a request is refused in time, and the node can stop.
  await redis.kill()
  await until(async () => (await ask(ann, 2025, 6)).code === 'PUSH_ERR_HANDLER', 'an error')
  await server.stop()
  assert.equal(await server.exited, 0, server.lines.join('\n'))
})
