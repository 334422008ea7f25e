import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { Registry } from 'prom-client'
import { createPublisher } from '../../src/publisher.ts'
import { buildPush, openConnection } from '../helpers/app.ts'
import { listenTo } from '../helpers/listener.ts'
import { Program, path, run } from '../helpers/processes.ts'
import { findProgram } from '../helpers/programs.ts'
import { startPrometheus } from '../helpers/prometheus.ts'
import { freePort, startRedis } from '../helpers/redis.ts'
import { PATIENCE, START, until } from '../helpers/waiting.ts'

const MONITORING = path('example/monitoring')
const promtool = (args: readonly string[], input = '') =>
  run(findProgram('promtool')!, args, { cwd: MONITORING, input }, START)

test('promtool takes the alerts and the configuration, and each alert comes when it should', async () => {
  for (const args of [
    ['check', 'rules', 'rules.yml'],
    ['check', 'config', 'prometheus.yml'],
    ['test', 'rules', 'rules.test.yml'],
  ]) {
    const { code, stdout, stderr } = await promtool(args)
    assert.equal(code, 0, `${args.join(' ')}: ${stdout}${stderr}`)
  }
  const rules = readFileSync(`${MONITORING}/rules.yml`, 'utf8').match(/(?<=alert: )\w+/g)!
  const tests = readFileSync(`${MONITORING}/rules.test.yml`, 'utf8')
  const untested = rules.filter(rule => !new RegExp(`alertname: ${rule}\\b`).test(tests))
  assert.deepEqual(untested, [])
})

test('promtool has nothing to say about names, types and help of our metrics', async t => {
  const register = new Registry()
  const { app } = await buildPush(t, { metrics: { register }, presence: { users: true } })
  const connection = await openConnection(app, '/ws/room?user=1')
  await app.push.publish('channel:room', { type: 'a' })
  await connection.next('a')
  const { code, stdout, stderr } = await promtool(['check', 'metrics'], await register.metrics())
  assert.deepEqual([code, stdout, stderr], [0, '', ''])
})

test('a real Prometheus scrapes a real node, and every panel of the dashboard has an answer', async t => {
  const redis = await startRedis(t)
  const [port, metricsPort] = [await freePort(), await freePort()]
  const METRICS_KEY = 'the-key-of-prometheus'
  const node = new Program(t, process.execPath, ['--import', 'tsx', path('src/cli.ts'), 'serve'], {
    env: {
      REDIS_URL: redis.url,
      PORT: `${port}`,
      METRICS: '/metrics',
      METRICS_LISTEN: `127.0.0.1:${metricsPort}`,
      METRICS_KEY,
      PRESENCE: '{"users":true}',
      EVENTS_STREAM: 'events',
    },
    stopWith: 'SIGTERM',
  })
  await node.line(new RegExp(`listening at http://127.0.0.1:${port}`), START)
  assert.equal((await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).status, 401)
  const ticket = 'ab'.repeat(24)
  await redis.admin.set(`push:ticket:${ticket}`, '{"user":"42"}', 'EX', 600)
  const listener = await listenTo(t, `ws://127.0.0.1:${port}/ws?ticket=${ticket}`)
  const publisher = createPublisher({ redis: redis.url, publishTimeout: PATIENCE })
  t.after(() => publisher.end())

  const prometheus = await startPrometheus(t, `127.0.0.1:${metricsPort}`, METRICS_KEY)
  const one = async (expression: string) => (await prometheus.query(expression))[0]
  const seen = () => prometheus.program.lines.slice(-5).join('\n')
  await until(async () => (await one('push_connections'))?.value === 1, seen)
  const { labels } = (await one('push_connections'))!
  assert.deepEqual([labels.registration, labels.job, labels.instance], ['push', 'push', `127.0.0.1:${metricsPort}`])
  assert.equal((await one('push_connected'))?.value, 1)
  // One look takes longer than a second now and then, and counts as none.
  const isUp = async () => (await one('up'))?.value === 1
  await until(isUp, 'a node that answers')
  await publisher.publish('user:42', { type: 'a', payload: 'hello' })
  await redis.admin.publish('push:user:42', 'junk')
  await listener.next('a')
  await until(async () => (await one('push_deliveries_total'))?.value === 1, 'the delivery')
  await until(async () => (await one('push_publications_rejected_total{reason="json"}'))?.value === 1, 'the rejection')
  await until(async () => (await one('push_publish_to_write_seconds_count'))?.value, 'a round of writes')

  const { data } = (await prometheus.get('/api/v1/rules')) as {
    data: { groups: { rules: { name: string; health: string; lastError?: string }[] }[] }
  }
  assert.deepEqual(
    data.groups.flatMap(({ rules }) => rules).filter(({ lastError }) => lastError),
    [],
  )
  for (const expression of panelsOf(readFileSync(`${MONITORING}/grafana.json`, 'utf8'))) {
    await until(
      async () => (await prometheus.query(expression)).length > 0 || MAY_BE_EMPTY.test(expression),
      `an answer to ${expression}`,
    )
  }

  await redis.kill()
  await until(async () => (await one('push_connected'))?.value === 0, 'a node without Redis')
  await until(async () => (await one('push_links{state="down"}'))?.value === 1, 'a link that is down')
  await until(isUp, 'a node that answers without Redis')
})

/** Series that begin with what they count: a refusal, an event over HTTP, a failed call. */
const MAY_BE_EMPTY =
  /push_(upgrades_refused|requests_refused|messages_refused|api_refused|publications_failed|events_sent|backend_calls)_total/

/** Every expression of the dashboard, as Grafana asks it. */
function panelsOf(dashboard: string): string[] {
  const { panels } = JSON.parse(dashboard) as { panels: { targets?: { expr: string }[] }[] }
  const expressions = panels.flatMap(({ targets }) => (targets ?? []).map(({ expr }) => expr))
  assert.ok(expressions.length > 40)
  return expressions.map(expr =>
    expr.replaceAll(/\$(instance|registration)/g, '.*').replaceAll('$__rate_interval', '5s'),
  )
}
