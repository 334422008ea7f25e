import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { register as globalRegister, Registry } from 'prom-client'
import { Type } from 'typebox'
import { COUNTERS, GAUGES } from '../../../src/node/monitoring/series.ts'
import { callApi } from '../../helpers/api.ts'
import { buildPush, KEY, openConnection, refusalOf } from '../../helpers/app.ts'
import { listenTo } from '../../helpers/listener.ts'
import { path } from '../../helpers/processes.ts'
import { startRedis } from '../../helpers/redis.ts'
import { startCluster } from '../../helpers/redis-cluster.ts'
import { until, within } from '../../helpers/waiting.ts'

/** The value of each series of a scrape. */
async function scrape(register: { metrics(): Promise<string> }): Promise<Map<string, number>> {
  const text = await within(register.metrics(), 'a scrape')
  const lines = text.split('\n').filter(line => line !== '' && !line.startsWith('#'))
  return new Map(lines.map(line => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]))
}

const OF = 'registration="push"'

test('metrics: what comes in, what goes out, by whom, and how fast', async t => {
  const register = new Registry()
  const { app, port } = await buildPush(t, { metrics: { register }, api: { keys: [KEY] } })
  const [one] = [await openConnection(app, '/ws/room?user=1'), await openConnection(app, '/ws/room?user=2')]
  await app.push.publish('channel:room', { type: 'a', payload: { n: 1 } })
  assert.equal((await callApi(port, '/push', { body: { to: 'channel:room', type: 'b' } })).status, 200)
  await app.push.subscribe('user:1', 'channel:other')
  await assert.rejects(app.push.publish('channel:room', { type: 'welcome' }))
  assert.equal((await callApi(port, '/push', { body: [{ to: 'nowhere', type: 'b' }] })).status, 200)
  assert.equal((await callApi(port, '/push', { body: '{' })).status, 400)
  for (const type of ['a', 'b']) await one.next(type)
  one.send('nobody-handles-this', {}, 1)
  await one.next('error')
  const latency = `push_publish_to_write_seconds_count{${OF}}`
  await until(async () => (await scrape(register)).get(latency), 'a round of writes')
  const values = await scrape(register)
  const get = (name: string, labels = '') => values.get(`push_${name}{${[OF, labels].filter(Boolean).join()}}`)
  assert.deepEqual(
    [get('connections'), get('connections_opened_total'), get('connected'), get('draining'), get('nodes')],
    [2, 2, 1, 0, 1],
  )
  assert.deepEqual([get('links', 'state="up"'), get('links', 'state="down"'), get('link_lag_seconds')], [0, 0, 0])
  const sources = ['app', 'http', 'client', 'command']
  assert.deepEqual(
    sources.map(source => get('publications_sent_total', `source="${source}"`)),
    [1, 1, 0, 1],
  )
  assert.deepEqual(
    ['PUSH_ERR_RESERVED_TYPE', 'PUSH_ERR_TOPIC'].map(code => get('publications_failed_total', `reason="${code}"`)),
    [1, 1],
  )
  assert.equal(get('api_refused_total', 'reason="PUSH_ERR_JSON"'), 1)
  assert.equal(get('messages_refused_total', 'reason="PUSH_ERR_UNKNOWN_TYPE"'), 1)
  assert.equal(get('publications_received_total'), 3)
  assert.equal(get('deliveries_total'), 4)
  assert.ok(get('publications_received_bytes_total')! > 40)
  assert.equal(
    get('messages_received_bytes_total'),
    Buffer.byteLength('{"type":"nobody-handles-this","payload":{},"ref":1}'),
  )
  // Two welcomes, two messages for each, one answer.
  assert.ok(get('written_bytes_total')! > 400)
  assert.equal(get('messages_dropped_total', 'reason="overload"'), 0)
  assert.equal(get('presence_topics'), undefined)
  const sum = values.get(`push_publish_to_write_seconds_sum{${OF}}`)!
  assert.ok(sum > 0 && sum < 60, `${sum} seconds`)
  assert.ok(values.get(`push_flush_bytes_sum{${OF}}`)! > 0)
  await until(
    async () => (await scrape(register)).get('push_event_loop_delay_seconds_count'),
    'a look at the event loop',
  )
})

test('metrics: publications of clients have their source, and those of others none', async t => {
  const redis = await startRedis(t)
  const { app } = await buildPush(t, {
    redis: redis.url,
    authenticate: () => ({ allow: [{ topics: 'channel:*', actions: ['subscribe', 'publish'] }] }),
    clientPublications: { said: { schema: Type.Object({}) } },
  })
  const one = await openConnection(app, '/ws/room')
  one.send('push.publish', { topic: 'channel:room', type: 'said', payload: {} }, 1)
  await one.next('said')
  await redis.admin.publish('push:channel:room', '{"type":"news"}')
  await one.next('news')
  const count = async (name: string) => (await app.push.status()).metrics[name]
  await until(async () => (await count('publications_received_total')) === 2, 'both are counted')
  assert.equal(await count('publications_sent_total{client}'), 1)
  const { metrics } = await app.push.status()
  const sent = Object.entries(metrics).filter(([name, n]) => name.startsWith('publications_sent_total') && n > 0)
  assert.deepEqual(sent, [['publications_sent_total{client}', 1]], 'nobody knows who wrote to Redis')
})

test('metrics: the lag of each master of a Cluster', async t => {
  const { masters, urls } = await startCluster(t)
  const register = new Registry()
  const { app } = await buildPush(t, { metrics: { register }, redis: { cluster: urls } })
  await until(async () => (await app.push.status()).connected, 'the node is connected')
  const values = [...(await scrape(register))].filter(([name]) => name.startsWith('push_master_lag_seconds'))
  assert.deepEqual(
    values.map(([name]) => name).toSorted(),
    masters.map(({ port }) => `push_master_lag_seconds{${OF},master="127.0.0.1:${port}"}`).toSorted(),
  )
  assert.ok(
    values.every(([, lag]) => lag >= 0 && lag < 3600),
    JSON.stringify(values),
  )
  const { read } = GAUGES.master_lag_seconds!
  assert.deepEqual(read({ broker: { lags: { a: 1500, b: 0 } } } as never), { a: 1.5, b: 0 })
})

test('metrics: presence and events are there when the options are', async t => {
  const register = new Registry()
  const redis = await startRedis(t)
  const { app } = await buildPush(t, {
    metrics: { register },
    redis: redis.url,
    presence: { users: true, 'channel:room': {} },
    events: { stream: {} },
  })
  await openConnection(app, '/ws/room?user=1')
  const value = async (name: string) => (await scrape(register)).get(name)
  assert.equal(await value(`push_presence_topics{${OF}}`), 2)
  assert.equal(await value(`push_presence_members{${OF}}`), 2)
  assert.equal(await value(`push_links{${OF},state="up"}`), 1)
  await until(async () => (await value(`push_events_sent_total{${OF},way="stream"}`)) === 1, 'an event in Redis')
  assert.equal(await value(`push_events_waiting{${OF},way="stream"}`), 0)
  // What Redis does not answer is left out, and the scrape does not wait for long.
  redis.freeze()
  t.after(() => redis.thaw())
  assert.equal(await within(value(`push_nodes{${OF}}`), 'a scrape without Redis', 20_000), undefined)
})

test('metrics: registrations share a register, and take with them what is theirs', async t => {
  const register = new Registry()
  const first = await buildPush(t, { metrics: { register } })
  const second = await buildPush(t, { metrics: { register }, name: 'other' as 'push' })
  const third = await buildPush(t, { metrics: { register } })
  for (const { app } of [first, second, third]) await openConnection(app, '/ws/room')
  const connections = async (name: string) => (await scrape(register)).get(`push_connections{registration="${name}"}`)
  assert.deepEqual([await connections('push'), await connections('other')], [2, 1])
  const limit = `push_connections_limit{${OF}}`
  assert.equal((await scrape(register)).get(limit), 100_000)
  const listed = register.getMetricsAsArray().length
  await within(first.app.close(), 'the end of the first')
  assert.deepEqual([await connections('push'), await connections('other')], [1, 1])
  assert.equal(register.getMetricsAsArray().length, listed)
  await within(third.app.close(), 'the end of the third')
  assert.equal(await connections('push'), undefined)
  await within(second.app.close(), 'the end of the second')
  assert.deepEqual(register.getMetricsAsArray(), [])
  await buildPush(t, { metrics: { register } })
  assert.equal(await connections('push'), 0)
})

test('metrics: true means the global register, and a prefix is the beginning of every name', async t => {
  globalRegister.clear()
  t.after(() => globalRegister.clear())
  await buildPush(t, { metrics: true })
  assert.equal((await scrape(globalRegister)).get(`push_connections{${OF}}`), 0)
  const register = new Registry()
  await buildPush(t, { metrics: { register, prefix: 'shop_push_' } })
  const names = register.getMetricsAsArray().map(({ name }) => name)
  assert.ok(names.length > 40)
  assert.deepEqual(
    names.filter(name => !name.startsWith('shop_push_')),
    [],
  )
})

test('metrics: a register may speak OpenMetrics, and scrapes may come together', async t => {
  const register = new Registry<typeof Registry.OPENMETRICS_CONTENT_TYPE>()
  register.setContentType(Registry.OPENMETRICS_CONTENT_TYPE)
  const { app } = await buildPush(t, { metrics: { register } })
  const texts = await Promise.all([register.metrics(), register.metrics()])
  for (const text of texts) {
    assert.match(text, /^push_connections_opened_total\{registration="push"\} 0$/m)
    assert.match(text, /^push_nodes\{registration="push"\} 1$/m)
    assert.match(text, /# EOF\n$/)
  }
  await within(app.close(), 'the end of the application')
  assert.deepEqual(register.getMetricsAsArray(), [])
})

test('metrics: a name that is taken already stops the registration and leaves nothing behind', async t => {
  const { Gauge } = await import('prom-client')
  const register = new Registry()
  const own = new Gauge({ name: 'push_topics', help: 'of the application', registers: [register] })
  await assert.rejects(async () => buildPush(t, { metrics: { register } }), {
    code: 'PUSH_ERR_OPTIONS',
    message: /option metrics\.prefix: .*push_topics/,
  })
  assert.deepEqual(register.getMetricsAsArray(), [own])
})

test('metrics: wrong options say what to write', async t => {
  const wrong: [unknown, RegExp][] = [
    ['/metrics', /option metrics must be true or an object/],
    [{ register: {} }, /option metrics\.register is no Registry of prom-client/],
    [{ prefix: 'Push' }, /option metrics\.prefix must match/],
    [{ registry: new Registry() }, /metrics: .*registry.*register/],
  ]
  for (const [metrics, message] of wrong) {
    await assert.rejects(async () => buildPush(t, { metrics: metrics as never }), { code: 'PUSH_ERR_OPTIONS', message })
  }
  await buildPush(t, { metrics: false })
})

test('metrics: names and labels follow the conventions, and no label is a topic, a user or an address', async t => {
  for (const name of Object.keys(COUNTERS)) assert.match(name, /^[a-z_]+_total$/)
  for (const name of Object.keys(GAUGES)) assert.doesNotMatch(name, /_total$|_count$|_ms$|milliseconds/)
  const register = new Registry()
  const { app, port } = await buildPush(t, { metrics: { register }, authenticate: () => ({ user: 'secret-user' }) })
  const connection = await openConnection(app, '/ws')
  await app.push.publish('user:secret-user', { type: 'a' })
  await connection.next('a')
  await refusalOf(`ws://127.0.0.1:${port}/ws/secret-topic`)
  const { metrics } = { metrics: await register.metrics() }
  assert.doesNotMatch(metrics, /secret|127\.0\.0\.1/)
  const labels = new Set([...metrics.matchAll(/[{,](\w+)="/g)].map(([, label]) => label))
  const known = ['registration', 'code', 'reason', 'source', 'result', 'way', 'kind', 'state', 'le']
  assert.deepEqual(
    [...labels].filter(label => !known.includes(label!)),
    [],
  )
})

test('metrics: a client cannot make new series', async t => {
  const register = new Registry()
  const { port } = await buildPush(t, { metrics: { register } })
  for (const code of [4123, 3999, 4999]) {
    const listener = await listenTo(t, `ws://127.0.0.1:${port}/ws`)
    listener.socket.close(code)
    await listener.closed
  }
  const other = `push_connections_closed_total{${OF},code="other"}`
  await until(async () => (await scrape(register)).get(other) === 3, 'three closed connections')
  const codes = [...(await scrape(register)).keys()].filter(name => /code="(3|4[0-3]|49)/.test(name))
  assert.deepEqual(codes, [])
})

const MONITORING = ['example/monitoring/grafana.json', 'example/monitoring/rules.yml']

for (const file of MONITORING) {
  test(`${file}: every metric that it names is one of a node, with the labels that it asks for`, async t => {
    const register = new Registry()
    await buildPush(t, { metrics: { register } })
    const known = new Map<string, string[]>()
    for (const { name, type } of await register.getMetricsAsJSON()) {
      const { labelNames } = register.getSingleMetric(name) as unknown as { labelNames: string[] }
      const parts = String(type) === 'histogram' ? ['_bucket', '_sum', '_count'] : ['']
      for (const part of parts) known.set(name + part, part === '_bucket' ? [...labelNames, 'le'] : labelNames)
    }
    const text = readFileSync(path(file), 'utf8').replaceAll('\\"', '"')
    const named = [...text.matchAll(/\b(push_\w+)(?:\{([^}]*)\})?/g)].filter(([name]) => !/^push_nodes$/.test(name))
    assert.ok(named.length > 10)
    for (const [, name, selector = ''] of named) {
      assert.ok(known.has(name!), `${file} names ${name}`)
      const asked = [...selector.matchAll(/(\w+)=~?"/g)].map(([, label]) => label!)
      for (const label of asked) assert.ok(['instance', ...known.get(name!)!].includes(label), `${name}{${label}}`)
    }
  })
}

test('grafana.json: every panel has its place, its own id and the chosen data source', () => {
  const { panels } = JSON.parse(readFileSync(path('example/monitoring/grafana.json'), 'utf8')) as {
    panels: { id: number; type: string; datasource?: { uid: string }; gridPos: Record<'x' | 'y' | 'w' | 'h', number> }[]
  }
  assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length)
  const cells = new Set<string>()
  for (const { type, datasource, gridPos } of panels) {
    if (type !== 'row') assert.equal(datasource?.uid, ['$', '{datasource}'].join(''))
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++) {
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        assert.ok(x < 24 && !cells.has(`${x},${y}`), `${x},${y}`)
        cells.add(`${x},${y}`)
      }
    }
  }
})
