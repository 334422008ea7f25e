import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MemoryBroker } from '../../../src/broker/memory/broker.ts'
import type { Connection } from '../../../src/connection/connection.ts'
import type { Delivery } from '../../../src/delivery/delivery.ts'
import type { Explanation } from '../../../src/node/monitoring/report-schemas.ts'
import { buildPush, openConnection, refusalOf } from '../../helpers/app.ts'
import { openStream, topicsOf } from '../../helpers/event-stream.ts'

/** What the only node says it did, and what a person is told of it. */
function told({ nodes, findings }: Explanation) {
  return { dropped: nodes[0]!.dropped, refusals: nodes[0]!.refusals, findings: findings.join('\n') }
}

test('rate: a client that sends too much is closed, and explain says so for its topics', async t => {
  const { app } = await buildPush(t, { limits: { messages: 1 } })
  await openConnection(app, '/ws/a?user=1')
  const loud = await openConnection(app, '/ws/a?user=2')
  for (let n = 0; n < 100; n++) loud.send('x', {})
  assert.equal((await loud.closed).code, 4429)
  for (const topic of ['channel:a', 'user:2'] as const) {
    const { dropped, findings } = told(await app.push.explain(topic))
    assert.deepEqual(dropped, { rate: 1 }, topic)
    assert.match(
      findings,
      /^Lately node \S+ closed 1 connections of the topic that sent too many messages \(rate\)\.$/m,
    )
  }
  assert.deepEqual(told(await app.push.explain('user:1')).dropped, {}, 'the other one has done nothing')
})

test('user_connections: one too many is refused, and explain of the user says so', async t => {
  const { app, port } = await buildPush(t, { limits: { userConnections: 1 } })
  await openConnection(app, '/ws?user=1')
  const { status, body } = await refusalOf(`ws://127.0.0.1:${port}/ws?user=1`)
  assert.deepEqual([status, body!.code], [429, 'PUSH_ERR_USER_CONNECTIONS'])
  const { dropped, findings } = told(await app.push.explain('user:1'))
  assert.deepEqual(dropped, { user_connections: 1 })
  assert.match(
    findings,
    /^Lately node \S+ refused 1 connections of the user, which had too many \(user_connections\)\.$/m,
  )
})

/** Milliseconds: longer than the slice of a turn in which clients are told of a gap. */
const LONG = 20

test('overload: what comes while clients are being told of a gap is dropped beyond the bound, and explain says so', async t => {
  const attached: Delivery[] = []
  const attach = MemoryBroker.prototype.attach
  t.mock.method(MemoryBroker.prototype, 'attach', function (this: MemoryBroker, delivery: Delivery) {
    attached.push(delivery)
    attach.call(this, delivery)
  })
  const { app } = await buildPush(t, { limits: { nodeBuffer: 1000 } })
  const clients = await Promise.all(Array.from({ length: 5 }, () => openConnection(app, '/ws/a')))
  // Each takes a turn of its own, so that publications arrive between the first and the last.
  for (const connection of app.push.connections.of('channel:a') as Iterable<Connection>) {
    const tell = connection.gap.bind(connection)
    connection.gap = (...gap) => {
      for (const end = performance.now() + LONG; performance.now() < end; );
      tell(...gap)
    }
  }
  // As a broker does after an outage.
  attached[0]!.lost('broker_link', new Map([['channel:a', undefined]]))
  const published = Array.from({ length: 20 }, () =>
    app.push.publish('channel:a', { type: 'note', payload: 'x'.repeat(200) }),
  )
  await Promise.all(published)
  const { dropped, findings } = told(await app.push.explain('channel:a'))
  const { metrics } = await app.push.status()
  assert.ok(dropped.overload! > 0 && dropped.overload! < 20, JSON.stringify(dropped))
  assert.equal(dropped.overload, metrics['messages_dropped_total{overload}'])
  assert.match(
    findings,
    new RegExp(`^Lately node \\S+ dropped ${dropped.overload} publications of the topic, since more came`, 'm'),
  )
  for (const client of clients) {
    const reasons = [await client.next('gap'), await client.next('gap')].map(
      it => (it.payload as { reason: string }).reason,
    )
    assert.deepEqual(reasons, ['broker_link', 'overload'])
  }
})

/** A connection whose `subscribe` was refused with the code. */
async function refuse(connection: Awaited<ReturnType<typeof openConnection>>, payload: object, code: string) {
  connection.send('subscribe', payload, 1)
  assert.equal(((await connection.next('error')).payload as { code: string }).code, code)
}

test('limits.topics: a topic too many is refused, to a client and to a command, and explain says to whom', async t => {
  const { app } = await buildPush(t, { limits: { topics: 1 } })
  const one = await openConnection(app, '/ws/a?user=1')
  const anonymous = await openConnection(app, '/ws/a')
  for (let n = 0; n < 2; n++) await refuse(one, { topic: 'channel:b' }, 'PUSH_ERR_LIMIT')
  await refuse(anonymous, { topic: 'channel:b' }, 'PUSH_ERR_LIMIT')
  const { refusals, findings } = told(await app.push.explain('channel:b'))
  assert.deepEqual(
    refusals!.map(({ user, connection, code, times }) => [user, connection, code, times]),
    [
      [null, anonymous.welcome.connection, 'PUSH_ERR_LIMIT', 1],
      ['1', one.welcome.connection, 'PUSH_ERR_LIMIT', 2],
    ],
  )
  assert.match(findings, /^No node has the topic: nobody is subscribed\.$/m)
  assert.match(
    findings,
    /^Node \S+ refused the topic to user 1 2 times lately, the last time at \d{4}-\S+: a connection may have 1 topics \(limits\.topics\) \(PUSH_ERR_LIMIT\)\.$/m,
  )
  assert.match(findings, new RegExp(`to the anonymous connection ${anonymous.welcome.connection} at`))
  assert.equal((await app.push.subscribe('user:1', 'channel:c')).delivered, 0)
  assert.match(
    told(await app.push.explain('channel:c')).findings,
    /refused the topic to user 1 at .*\(limits\.topics\)/,
  )
  assert.equal(told(await app.push.explain('channel:a')).refusals, undefined)
  one.send('unsubscribe', { topic: 'channel:a' })
  one.send('subscribe', { topic: 'channel:b' })
  await one.next('subscribed')
  assert.deepEqual(
    told(await app.push.explain('channel:b')).refusals!.map(({ user }) => user),
    [null],
    'who has got the topic since is not among them',
  )
})

const refuseSecret = { authorize: (_connection: unknown, topic: string) => !topic.startsWith('channel:secret') }

test('authorize: who is refused is told, with the reason, also at the upgrade and to an event stream', async t => {
  const { app, port } = await buildPush(t, { ...refuseSecret, sse: true })
  const one = await openConnection(app, '/ws?user=1')
  await refuse(one, { topic: 'channel:secret.1' }, 'PUSH_ERR_FORBIDDEN')
  const findingsOn = async (topic: string) => told(await app.push.explain(topic)).findings
  assert.match(
    await findingsOn('channel:secret.1'),
    /^Node \S+ refused the topic to user 1 at \d{4}-\S+: channel:secret\.1 was refused by authorize\(\) \(PUSH_ERR_FORBIDDEN\)\.$/m,
  )
  assert.equal((await refusalOf(`ws://127.0.0.1:${port}/ws/secret.2?user=2`)).status, 403)
  const [visit] = told(await app.push.explain('channel:secret.2')).refusals!
  assert.deepEqual([visit!.user, visit!.connection], ['2', undefined])
  const stream = await openStream(t, port, `${topicsOf('channel:secret.3')}&user=3`)
  await stream.welcomed()
  assert.match(await findingsOn('channel:secret.3'), /to user 3 at .*was refused by authorize\(\)/)
})

for (const [what, isAnswered] of [
  ['an answer that comes when the client was told that it took too long', true],
  ['no answer at all', false],
] as const) {
  test(`authorize: ${what}`, async t => {
    let answer = (_isGranted: boolean) => {}
    const answered = new Promise<boolean>(resolve => {
      answer = resolve
    })
    const { app } = await buildPush(t, { limits: { handlerTime: 1 }, authorize: () => answered })
    const one = await openConnection(app, '/ws?user=1')
    await refuse(one, { topic: 'channel:a' }, 'PUSH_ERR_TIMEOUT')
    if (isAnswered) answer(true)
    await refuse(one, { topic: 'channel:b c' }, 'PUSH_ERR_TOPIC')
    const { findings, refusals } = told(await app.push.explain('channel:a'))
    assert.match(findings, /to user 1 at .*: authorize\(\) took longer than limits\.handlerTime \(PUSH_ERR_TIMEOUT\)/)
    assert.deepEqual(
      refusals!.map(({ times }) => times),
      [1],
    )
  })
}

test('allow, and an authorize that fails', async t => {
  const { app } = await buildPush(t, { authenticate: () => ({ user: '1', allow: ['channel:a'] }) })
  const one = await openConnection(app, '/ws')
  await refuse(one, { topic: 'channel:b' }, 'PUSH_ERR_FORBIDDEN')
  assert.match(
    told(await app.push.explain('channel:b')).findings,
    /to user 1 at .*channel:b is not among the topics that authenticate\(\) allowed/,
  )
  const failing = await buildPush(t, {
    authorize: (_connection, topic) => {
      if (topic === 'channel:broken') throw new Error('secret of the database')
      throw Object.assign(new Error('you have not paid'), { statusCode: 402, code: 'UNPAID' })
    },
  })
  const two = await openConnection(failing.app, '/ws?user=2')
  await refuse(two, { topic: 'channel:broken' }, 'PUSH_ERR_HANDLER')
  await refuse(two, { topic: 'channel:paid' }, 'UNPAID')
  const broken = told(await failing.app.push.explain('channel:broken'))
  assert.match(
    broken.findings,
    /to user 2 at .*: authorize\(\) failed: the log of the node says why \(PUSH_ERR_HANDLER\)\.$/m,
  )
  assert.ok(!JSON.stringify(broken).includes('database'))
  assert.match(told(await failing.app.push.explain('channel:paid')).findings, /: you have not paid \(UNPAID\)\.$/m)
})
