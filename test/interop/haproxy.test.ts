import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { createPublisher, type ScriptPublisher } from '../../src/publisher.ts'
import { startHaProxy } from '../helpers/haproxy.ts'
import { type Listener, listenTo } from '../helpers/listener.ts'
import { cleanups, startInteropNode } from '../helpers/processes.ts'
import { type RedisServer, startRedis } from '../helpers/redis.ts'
import { PATIENCE, until } from '../helpers/waiting.ts'

const all = cleanups()
let redis: RedisServer
let publisher: ScriptPublisher

before(async () => {
  redis = await startRedis(all)
  publisher = createPublisher({ redis: redis.url, publishTimeout: PATIENCE })
  all.after(() => publisher.end())
})
after(() => all.end())

const nodesOf = (listeners: readonly Listener[]) => new Set(listeners.map(({ welcome }) => welcome.node))

test('HAProxy takes a draining node out, whose clients stay until it closes them', async t => {
  const start = () => startInteropNode(t, redis.url, { TRUST_PROXY: '127.0.0.1', DRAIN_DELAY: '600000' })
  const [stay, leave] = await Promise.all([start(), start()])
  const proxy = await startHaProxy(t, [stay.port, leave.port])
  const listeners: Listener[] = []
  for (let n = 0; n < 6; n++) listeners.push(await listenTo(t, `${proxy.url}/lobby`, { origin: proxy.origin }))
  const { node: leaving } = await leave.status()
  const { node: staying } = await stay.status()
  assert.deepEqual(nodesOf(listeners), new Set([leaving, staying]))

  leave.program.process.kill('SIGTERM')
  await proxy.program.line(/node2 is DOWN.*503/)
  const of = async (url: string) => {
    const response = await fetch(`${leave.origin}${url}`)
    return [response.status, ((await response.json()) as { status: string }).status]
  }
  assert.deepEqual(
    [await of('/readyz'), await of('/livez')],
    [
      [503, 'draining'],
      [200, 'ok'],
    ],
  )
  const late: Listener[] = []
  for (let n = 0; n < 6; n++) late.push(await listenTo(t, `${proxy.url}/lobby`, { origin: proxy.origin }))
  assert.deepEqual(nodesOf(late), new Set([staying]))
  const sent = await publisher.publish('channel:lobby', { type: 'news', receipt: true })
  assert.deepEqual([sent.delivered, sent.complete], [12, true])
  for (const listener of [...listeners, ...late]) await listener.next('news')
})

test('HAProxy leaves nodes that lost Redis where they are', async t => {
  const own = await startRedis(t)
  const nodes = await Promise.all([0, 1].map(() => startInteropNode(t, own.url, { TRUST_PROXY: '127.0.0.1' })))
  const proxy = await startHaProxy(
    t,
    nodes.map(({ port }) => port),
  )
  await own.kill()
  const stateOf = async (origin: string) => (await (await fetch(`${origin}/readyz`)).json()) as { status: string }
  const states = () => Promise.all(nodes.map(({ origin }) => stateOf(origin)))
  await until(async () => (await states()).every(({ status }) => status === 'degraded'), 'two nodes without Redis')
  // Each is asked more often than HAProxy would have to hear a 503 from it.
  for (const node of nodes) {
    const { probes } = await node.status()
    await until(async () => (await node.status()).probes >= probes + 4, 'four checks of a node without Redis')
  }
  const listener = await listenTo(t, `${proxy.url}/lobby`, { origin: proxy.origin })
  assert.equal((await listener.next('gap')).type, 'gap')
  assert.ok(!proxy.program.lines.some(line => /is DOWN/.test(line)), proxy.program.lines.join('\n'))
})
