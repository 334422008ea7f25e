import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startRedis } from '../../helpers/redis.ts'
import { connect, connected } from '../../helpers/redis-node.ts'
import { once, publishAhead, within } from '../../helpers/waiting.ts'
import { codeOf, envelope, FakeSubscriber, publishOne } from '../suite.ts'

const SLOW = { timeout: 120_000 }

test('redis: killed and started again: lost is told once, before the first new message', SLOW, async t => {
  const server = await startRedis(t)
  const { broker, subscriber, link, changes, clients } = await connected(t, server, { publishTimeout: 1000 })
  await subscriber.join('user:1')
  const { restorations } = subscriber
  const both = [clients.commands, clients.subscriber].map(client => once(client, 'close'))
  await server.kill()
  await Promise.all(both)
  const [refused] = await broker.publish([{ topic: 'channel:x', envelope: envelope(0) }])
  assert.equal(codeOf(refused), 'PUSH_ERR_BROKER_AWAY')
  const late = subscriber.join('channel:late')
  subscriber.leave('user:1')
  await server.start()
  await late
  await link(true)
  assert.equal(subscriber.restorations, restorations + 1)
  for (const n of [1, 2]) await publishOne(broker, 'channel:x', envelope(n))
  await publishOne(broker, 'channel:late', envelope(3))
  const events = [await subscriber.next(), await subscriber.next(), await subscriber.next(), await subscriber.next()]
  assert.deepEqual(events, [
    { lost: 'broker_link' },
    { topic: 'channel:x', text: envelope(1) },
    { topic: 'channel:x', text: envelope(2) },
    { topic: 'channel:late', text: envelope(3) },
  ])
  assert.deepEqual(
    changes.map(({ isUp }) => isUp),
    [true, false, true],
  )
  const channels = (await server.admin.pubsub('CHANNELS')) as string[]
  assert.deepEqual(channels.toSorted(), ['push:channel:late', 'push:channel:x', 'push:node:n1', 'push:nodes'])
})

test('redis: messages of a busy publisher come after lost, whenever the link returns', SLOW, async t => {
  const server = await startRedis(t)
  const { subscriber } = await connected(t, server)
  for (let round = 0; round < 5; round++) {
    let isOver = false
    let published = 0
    let lostUntil = 0
    const publish = (n: number) => {
      published = n
      return server.admin.publish('push:channel:x', envelope(round))
    }
    // Far less than the node keeps while it subscribes again.
    const ahead = { most: 10_000, read: () => lostUntil }
    const publishing = publishAhead(publish, () => isOver, ahead)
    const told = async () => {
      await server.admin.call('CLIENT', 'KILL', 'TYPE', 'pubsub')
      while (!('lost' in (await subscriber.next())));
      lostUntil = published
      return subscriber.next()
    }
    const event = await told().finally(() => {
      isOver = true
    })
    await publishing
    assert.deepEqual(event, { topic: 'channel:x', text: envelope(round) }, 'lost was told more than once')
    subscriber.clear()
  }
})

test('redis: frozen: publishing settles in time, and the node recovers', SLOW, async t => {
  const server = await startRedis(t)
  const { broker, subscriber, link, clients } = await connected(t, server, { publishTimeout: 1000 })
  const isLost = once(clients.subscriber, 'close')
  server.freeze()
  t.after(() => server.thaw())
  const start = performance.now()
  const publishing = broker.publish([{ topic: 'channel:x', envelope: envelope(0) }])
  const [early] = await within(publishing, 'an answer for a publish timeout of 1000', 1500)
  assert.equal(codeOf(early), 'PUSH_ERR_UNCONFIRMED')
  const settled = performance.now() - start
  assert.ok(settled > 900, `${settled} ms for a publish timeout of 1000`)
  await link(false)
  const asking = broker.publish([{ topic: 'channel:x', envelope: envelope(1), receipt: 'tok' }])
  const [away] = await within(asking, 'an answer for a publish timeout of 1000', 1500)
  assert.match(codeOf(away), /^PUSH_ERR_(BROKER_AWAY|UNCONFIRMED)$/)
  await isLost
  server.thaw()
  await link(true)
  await publishOne(broker, 'channel:x', envelope(2))
  assert.deepEqual(await subscriber.next(), { lost: 'broker_link' })
  let text = await subscriber.text()
  // Redis may carry out what it had not answered: that is what PUSH_ERR_UNCONFIRMED says.
  while (text !== envelope(2)) text = await subscriber.text()
})

test('redis: an idle node notices a frozen Redis by itself, on both of its links', SLOW, async t => {
  const server = await startRedis(t)
  const { link, changes, broker, clients } = await connected(t, server)
  const both = [clients.commands, clients.subscriber].map(client => once(client, 'close'))
  server.freeze()
  t.after(() => server.thaw())
  await within(Promise.all([link(false), ...both]), 'both links are given up', 10_000)
  assert.match(changes.at(-1)?.error?.message ?? '', /no answer (for \d+ ms|in time)/)
  await within(broker.close(), 'the end of the broker, which waits for nothing', 900)
})

test('redis: close settles calls that a frozen Redis will never answer', SLOW, async t => {
  const server = await startRedis(t)
  const { broker, subscriber } = await connected(t, server, { publishTimeout: 30_000 })
  server.freeze()
  t.after(() => server.thaw())
  const publishing = broker.publish([{ topic: 'channel:x', envelope: '1', receipt: 'tok' }])
  const joining = subscriber.join('channel:y')
  await new Promise(resolve => setImmediate(() => setImmediate(resolve)))
  const ended = Promise.all([publishing, joining, broker.close()])
  const [[sent]] = await within(ended, 'the end of what would wait for 30 s', 15_000)
  assert.match(codeOf(sent), /^PUSH_ERR_(UNCONFIRMED|CLOSED)$/)
})

test('redis: absent at the start: calls fail in time, and all is well when it comes', SLOW, async t => {
  const server = await startRedis(t, { isDown: true })
  const { broker, link } = connect(t, server, { publishTimeout: 1000 })
  const subscriber = new FakeSubscriber(broker)
  const joining = subscriber.join('channel:x')
  assert.equal(broker.connected, false)
  const asking = broker.publish([
    { topic: 'channel:x', envelope: '1' },
    { topic: 'all', envelope: '2', receipt: 't' },
  ])
  const results = await within(asking, 'an answer for a publish timeout of 1000', 1500)
  assert.deepEqual(results.map(codeOf), ['PUSH_ERR_BROKER_AWAY', 'PUSH_ERR_BROKER_AWAY'])
  assert.match((results[0] as Error).message, /^Redis cannot be reached: .*ECONNREFUSED/)
  await assert.rejects(broker.takeTicket('t'), { code: 'PUSH_ERR_BROKER_AWAY' })
  await assert.rejects(broker.putTicket('t', '{}', 30), { code: 'PUSH_ERR_BROKER_AWAY' })
  await assert.rejects(broker.nodes(), { code: 'PUSH_ERR_BROKER_AWAY' })
  const waiting = broker.publish([{ topic: 'user:1', envelope: 'later' }])
  await Promise.all([server.start(), waiting])
  await joining
  await link(true)
  await publishOne(broker, 'channel:x', envelope(1))
  assert.equal(await subscriber.text(), envelope(1))
})

test('redis: CLIENT KILL of the subscriber: lost, then messages flow again', SLOW, async t => {
  const server = await startRedis(t)
  const { broker, subscriber, link } = await connected(t, server)
  assert.ok(Number(await server.admin.call('CLIENT', 'KILL', 'TYPE', 'pubsub')) >= 1)
  assert.deepEqual(await subscriber.next(), { lost: 'broker_link' })
  await link(true)
  await publishOne(broker, 'channel:x', envelope(1))
  assert.deepEqual(await subscriber.next(), { topic: 'channel:x', text: envelope(1) })
})

test('redis: a subscriber that Redis drops for its output buffer is told', SLOW, async t => {
  const server = await startRedis(t, { args: ['--client-output-buffer-limit', 'pubsub', '32768', '0', '0'] })
  const { broker, subscriber, link } = await connected(t, server)
  await server.admin.publish('push:channel:x', 'x'.repeat(1_000_000))
  let event = await subscriber.next()
  while ('text' in event) event = await subscriber.next()
  assert.deepEqual(event, { lost: 'broker_link' })
  await link(true)
  await publishOne(broker, 'channel:x', envelope(1))
  assert.equal(await subscriber.text(), envelope(1))
})

/** Behind the write and before the answer is read; asleep, so that Redis can work even where there is one core. */
function sleepBehindWrite(): void {
  setImmediate(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1500))
}

test('redis: what came while a process was busy is an answer, also to whoever asks for a second only', async t => {
  const server = await startRedis(t)
  const { broker } = await connected(t, server)
  const asking = broker.inquiry.recorded('channel:none')
  sleepBehindWrite()
  assert.equal(await asking, undefined)
})

test('redis: a process that was busy does not take its own absence for that of Redis', async t => {
  const server = await startRedis(t)
  const { broker, changes } = await connected(t, server, { publishTimeout: 500 })
  const publishing = broker.publish([{ topic: 'channel:x', envelope: envelope(1) }])
  sleepBehindWrite()
  assert.deepEqual(await publishing, [{ nodes: 1 }])
  assert.deepEqual(
    changes.map(({ isUp }) => isUp),
    [true],
  )
})

test('redis: what was given to a connection that is being closed was surely not sent', async t => {
  const server = await startRedis(t)
  const { broker, clients } = await connected(t, server)
  clients.commands.disconnect(true)
  const [sent] = await broker.publish([{ topic: 'channel:x', envelope: envelope(1) }])
  assert.match(codeOf(sent), /^(sent to 1|PUSH_ERR_BROKER_AWAY)$/)
})
