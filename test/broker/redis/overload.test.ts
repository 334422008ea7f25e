import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FaultProxy } from '../../chaos/proxy.ts'
import { startRedis } from '../../helpers/redis.ts'
import { connect } from '../../helpers/redis-node.ts'
import { once, until } from '../../helpers/waiting.ts'
import { FakeSubscriber } from '../suite.ts'

const TOPIC = 'channel:recorded'
const MIB = 1024 * 1024

test('redis: while a topic is filled, each message without room is handed on as dropped, with one gap in their place', async t => {
  const server = await startRedis(t)
  const proxy = await FaultProxy.start(server.port)
  t.after(() => proxy.close())
  // The history is read over a link of its own.
  const url = `redis://127.0.0.1:${proxy.port}`
  const { broker, clients, link } = connect(t, { ...server, url }, { subscriberUrl: server.url })
  await link(true)
  const subscriber = new FakeSubscriber(broker)
  await subscriber.join(TOPIC)
  await broker.publish([{ topic: TOPIC, envelope: '{"type":"a"}', history: { size: 10, ttl: 60 } }])
  assert.equal(await subscriber.text(), '{"type":"a"}')
  proxy.isHeld = true
  const isCut = once(clients.subscriber, 'close')
  await server.admin.call('CLIENT', 'KILL', 'TYPE', 'pubsub')
  await isCut
  await until(() => broker.filling === 1, 'the topic waits to be compared with its history')
  const envelopes = Array.from({ length: 17 }, (_, n) => `{"type":"b","payload":"${n}${'x'.repeat(MIB)}"}`)
  const publish = async (envelope: string) => (await server.admin.publish(`push:${TOPIC}`, envelope)) === 1
  for (const envelope of envelopes) await until(() => publish(envelope), 'the node is subscribed again')
  for (let n = 15; n < 17; n++) assert.deepEqual(await subscriber.next(), { dropped: TOPIC })
  proxy.isHeld = false
  for (const envelope of envelopes.slice(0, 15)) assert.ok((await subscriber.text()) === envelope)
  assert.deepEqual(await subscriber.next(), { lost: 'overload' })
})
