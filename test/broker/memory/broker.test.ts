import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MemoryBroker } from '../../../src/broker/memory/broker.ts'
import { Slice } from '../../../src/protocol/slice.ts'
import { presenceSuite } from '../presence-suite.ts'
import { brokerSuite, codeOf, envelope, FakeSubscriber, type MakeNodes, publishOne } from '../suite.ts'

const makeNodes: MakeNodes = async (t, { publishTimeout }) => {
  const broker = new MemoryBroker({ node: 'n1', publishTimeout })
  t.after(() => broker.close())
  return {
    nodes: [broker],
    async passTime(seconds) {
      const now = Date.now() + seconds * 1000
      t.mock.method(Date, 'now', () => now)
    },
    notes: async () => broker.rejected.toReversed(),
  }
}

brokerSuite('memory', makeNodes)
presenceSuite('memory', makeNodes)

test('memory: it says what it is', async () => {
  const broker = new MemoryBroker({ node: 'n1', publishTimeout: 100 })
  assert.deepEqual([broker.kind, broker.node, broker.connected], ['memory', 'n1', true])
  await broker.close()
  assert.equal(broker.connected, false)
})

test('memory: a publisher hears its own publication before publish returns', async t => {
  const broker = new MemoryBroker({ node: 'n1', publishTimeout: 100 })
  t.after(() => broker.close())
  const subscriber = new FakeSubscriber(broker)
  await subscriber.join('all')
  await publishOne(broker, 'all', envelope(1))
  assert.equal(subscriber.bytes.length, 1)
})

test('memory: notes and tickets are bounded', async t => {
  const broker = new MemoryBroker({ node: 'n1', publishTimeout: 100 })
  t.after(() => broker.close())
  for (let i = 0; i < 150; i++) broker.note({ topic: 'all', reason: 'json', message: '', envelope: Buffer.alloc(i) })
  assert.deepEqual([broker.rejected.length, broker.rejected[0]?.size], [100, 50])
  // Whatever the time is that the machine takes for so many.
  const now = Date.now()
  t.mock.method(Date, 'now', () => now)
  for (let i = 0; i < 10_000; i++) await broker.putTicket(`t${i}`, '{}', 30)
  await assert.rejects(broker.putTicket('more', '{}', 30), { code: 'PUSH_ERR_BUSY', statusCode: 503 })
  t.mock.method(Date, 'now', () => now + 31_000)
  await broker.putTicket('more', '{}', 30)
  assert.equal(await broker.takeTicket('more'), '{}')
})

test('memory: an answer that nobody asked for, or that comes too late, is left alone', async t => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const broker = new MemoryBroker({ node: 'n1', publishTimeout: 100 })
  const subscriber = new FakeSubscriber(broker)
  await subscriber.join('all')
  const incoming = { topic: 'all' as const, envelope: new Slice(Buffer.from('{}')), sharers: 1 }
  broker.answer(incoming, 'nobody', { delivered: 1, skipped: 0 })
  subscriber.isMute = true
  const sending = publishOne(broker, 'all', envelope(1, 'tok'), 'tok')
  t.mock.timers.tick(100)
  assert.deepEqual(await sending, { nodes: 1, answers: [], complete: false })
  broker.answer(incoming, 'tok', { delivered: 1, skipped: 0 })
  await broker.close()
  assert.equal(codeOf((await broker.publish([{ topic: 'all', envelope: '1' }]))[0]), 'PUSH_ERR_CLOSED')
})

test('memory: there are no streams of events, since nobody could read them', async t => {
  const broker = new MemoryBroker({ node: 'n1', publishTimeout: 100 })
  t.after(() => broker.close())
  const events = ['a', 'b'].map(id => ({ id, kind: 'connect' as const, json: '{}' }))
  const results = await broker.appendEvents('events', events)
  assert.deepEqual(
    results.map(({ code }) => code),
    ['PUSH_ERR_UNSUPPORTED', 'PUSH_ERR_UNSUPPORTED'],
  )
})
