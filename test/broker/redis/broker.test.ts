import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import type { Redis } from 'ioredis'
import type { Topic } from '../../../src/protocol/topic.ts'
import { FaultProxy } from '../../chaos/proxy.ts'
import { startRedis } from '../../helpers/redis.ts'
import { connect, connected } from '../../helpers/redis-node.ts'
import { within } from '../../helpers/waiting.ts'
import { presenceSuite } from '../presence-suite.ts'
import { brokerSuite, codeOf, envelope, type MakeNodes, publishOne } from '../suite.ts'

const makeNodes: MakeNodes = async (t, { publishTimeout }) => {
  const server = await startRedis(t)
  const nodes = ['n1', 'n2'].map(node => connect(t, server, { node, publishTimeout }).broker)
  await within(Promise.all(nodes.map(node => node.whenLive)), 'the nodes are live')
  const { admin } = server
  return {
    nodes,
    async passTime(seconds) {
      for (const key of [...(await admin.keys('push:ticket:*')), ...(await admin.keys('push:revoked:*'))])
        await admin.pexpire(key, (await admin.pttl(key)) - seconds * 1000)
    },
    async notes(count) {
      // The answer to a command of the same connection comes after the notes that were written before it.
      await nodes[0]!.takeTicket('none')
      const notes = await admin.lrange('push:rejected', 0, -1)
      assert.equal(notes.length, count)
      return notes.map(note => JSON.parse(note))
    },
    async held() {
      const channels = (await admin.pubsub('CHANNELS')) as string[]
      assert.ok(channels.includes('push:nodes'))
      return channels
        .filter(channel => channel !== 'push:nodes' && !channel.startsWith('push:node:'))
        .map(channel => channel.slice('push:'.length))
        .toSorted()
    },
  }
}

brokerSuite('redis', makeNodes)
presenceSuite('redis', makeNodes)

test('redis: a topic that is left before it is confirmed leaves nothing behind', async t => {
  const server = await startRedis(t)
  const { broker } = await connected(t, server)
  const calls = async () => Number(/cmdstat_fcall:calls=(\d+)/.exec(await server.admin.info('commandstats'))![1])
  const before = await calls()
  const joining = Array.from({ length: 200 }, (_, n) => {
    const joined = broker.subscribe([`user:${n}`])
    broker.unsubscribe(`user:${n}`)
    return joined
  })
  await Promise.all(joining)
  assert.ok((await calls()) - before < 50, 'places are asked for that nobody wants to know')
})

/** Resolves when a command that `act` caused has been written to Redis. The link sends a PING now and then. */
async function sent(client: Redis, act: () => void): Promise<void> {
  const send = client.sendCommand
  const isSent = new Promise<void>(resolve => {
    client.sendCommand = function (command, ...more) {
      const answer = send.call(this, command, ...more)
      if (command.name !== 'ping') resolve()
      return answer
    }
  })
  act()
  await within(isSent, 'a command to Redis').finally(() => {
    client.sendCommand = send
  })
}

test('redis: who left a topic and joined it again is not told before that is confirmed', async t => {
  const server = await startRedis(t)
  const proxy = await FaultProxy.start(server.port)
  t.after(() => proxy.close())
  const { broker, clients } = await connected(t, { ...server, url: `redis://127.0.0.1:${proxy.port}` })
  proxy.isHeld = true
  // So slow that one answer comes well before the next.
  proxy.rate = 2000
  const order: string[] = []
  const joining: Promise<unknown>[] = []
  const join = (topic: Topic, name: string) => void joining.push(broker.subscribe([topic]).then(() => order.push(name)))
  await sent(clients.subscriber, () => {
    join('user:1', 'before')
    join('user:2', 'confirmed by the same answer')
  })
  await sent(clients.subscriber, () => broker.unsubscribe('user:1'))
  await sent(clients.subscriber, () => join('user:1', 'after'))
  proxy.isHeld = false
  await within(Promise.all(joining), () => `three subscriptions, only ${order.join(', ')}`)
  assert.deepEqual(order, ['confirmed by the same answer', 'after', 'before'])
})

test('redis: a topic that Redis refuses is confirmed to nobody before Redis agrees', async t => {
  const server = await startRedis(t)
  const rules = ['on', '>pw', '~*', '+@all', 'resetchannels', '&push:node*', '&push:channel:*']
  await server.admin.call('ACL', 'SETUSER', 'node', ...rules)
  const made = await connected(t, { ...server, url: server.url.replace('//', '//node:pw@') })
  const confirmed: string[] = []
  const join = (topic: Topic, name: string) => made.broker.subscribe([topic]).then(() => confirmed.push(name))
  const first = join('user:1', 'first')
  await join('channel:y', 'allowed, though named in the same command')
  let second: Promise<unknown> | undefined
  await sent(made.clients.subscriber, () => {
    made.broker.unsubscribe('user:1')
    second = join('user:1', 'second')
  })
  await join('channel:z', 'allowed too')
  assert.deepEqual(confirmed, ['allowed, though named in the same command', 'allowed too'])
  await server.admin.call('ACL', 'SETUSER', 'node', '&push:*')
  await Promise.all([first, second])
  assert.equal(made.changes.length, 1)
})

test('redis: topics that come a few at a time while a node is busy share commands', async t => {
  const server = await startRedis(t)
  const { broker } = await connected(t, server)
  const callsOf = async (command: string) =>
    Number(new RegExp(`cmdstat_${command}:calls=(\\d+)`).exec(await server.admin.info('commandstats'))![1])
  const before = { subscribe: await callsOf('subscribe'), fcall: await callsOf('fcall') }
  const TURNS = 200
  const began = performance.now()
  const joining: ReturnType<typeof broker.subscribe>[] = []
  for (let turn = 0; turn < TURNS; turn++) {
    const until = performance.now() + 1
    while (performance.now() < until);
    joining.push(broker.subscribe([`user:${turn}`]))
    await setImmediate()
  }
  const positions = await Promise.all(joining)
  for (const [turn, position] of positions.entries()) assert.equal(position.get(`user:${turn}`)?.seq, 0)
  // Every ten milliseconds once the node is known to be busy, however long a turn takes on this machine.
  const most = (performance.now() - began) / 10 + 30
  for (const [command, calls] of Object.entries(before)) {
    const made = (await callsOf(command)) - calls
    assert.ok(made <= most, `${command} ${made} times in ${TURNS} turns, wanted at most ${most}`)
  }
})

test('redis: any program can publish bytes, and they arrive as they are', async t => {
  const server = await startRedis(t)
  const { subscriber } = await connected(t, server)
  const bytes = Buffer.from([0, 255, 128, 13, 10, 0xed, 0xa0, 0x80])
  assert.equal(await server.admin.publish('push:channel:x', bytes), 1)
  await subscriber.next()
  assert.ok(bytes.equals(subscriber.bytes[0]!))
})

test('redis: what section 4 of the contract says can be asked of Redis is so', async t => {
  const server = await startRedis(t)
  const { broker, subscriber } = await connected(t, server)
  const second = await connected(t, server, { node: 'n2' })
  await subscriber.join('user:42')
  assert.deepEqual(await server.admin.pubsub('NUMSUB', 'push:nodes', 'push:user:42', 'push:user:43'), [
    'push:nodes',
    2,
    'push:user:42',
    1,
    'push:user:43',
    0,
  ])
  assert.equal(await broker.nodes(), 2)
  assert.equal(await server.admin.publish('push:nodes', 'hello'), 2)
  assert.equal(await server.admin.publish('push:channel:x', envelope(1, 'tok')), 2)
  const answers = await Promise.all([1, 2].map(() => server.admin.blpop('push:receipt:tok', 60)))
  assert.deepEqual(answers.map(answer => JSON.parse(answer![1]).node).toSorted(), ['n1', 'n2'])
  assert.equal(await second.subscriber.text(), envelope(1, 'tok'))
  assert.equal(await server.admin.set('push:ticket:abc', '{"user":"42"}', 'EX', 30, 'NX'), 'OK')
  assert.equal(await broker.takeTicket('abc'), '{"user":"42"}')
  await publishOne(broker, 'user:42', envelope(2, 'tok2'), 'tok2')
  const ttl = await server.admin.ttl('push:receipt:tok2')
  assert.ok(ttl > 50 && ttl <= 60, `${ttl}`)
})

test('redis: a debugging PSUBSCRIBE counts as a node in PUBLISH and holds no receipt up', async t => {
  const server = await startRedis(t)
  const { broker } = await connected(t, server)
  const watcher = server.admin.duplicate()
  t.after(() => watcher.disconnect())
  await watcher.psubscribe('*')
  const sent = await publishOne(broker, 'channel:x', envelope(1, 'tok'), 'tok')
  assert.deepEqual(sent, { nodes: 2, answers: [{ node: 'n1', delivered: 1, skipped: 0 }], complete: true })
})

test('redis: junk in a receipt list is left out', async t => {
  const server = await startRedis(t)
  const { broker, subscriber } = await connected(t, server)
  await server.admin.rpush('push:receipt:tok', 'junk', '{}', 'null', '{"node":"x","delivered":"1","skipped":0}', '7')
  const sent = await publishOne(broker, 'channel:x', envelope(1, 'tok'), 'tok')
  assert.deepEqual(sent.answers, [{ node: 'n1', delivered: 1, skipped: 0 }])
  assert.equal(await subscriber.text(), envelope(1, 'tok'))
})

test('redis: two prefixes do not hear each other', async t => {
  const server = await startRedis(t)
  const a = await connected(t, server, { prefix: 'a:' })
  const b = await connected(t, server, { prefix: 'b:' })
  assert.deepEqual(await publishOne(a.broker, 'channel:x', envelope('a')), { nodes: 1 })
  assert.deepEqual(await publishOne(b.broker, 'channel:x', envelope('b')), { nodes: 1 })
  assert.equal(await a.subscriber.text(), envelope('a'))
  assert.equal(await b.subscriber.text(), envelope('b'))
  assert.equal(await a.broker.nodes(), 1)
  await a.broker.putTicket('t', 'a', 30)
  assert.equal(await b.broker.takeTicket('t'), null)
  const channels = (await server.admin.pubsub('CHANNELS')) as string[]
  const held = ['channel:x', 'node:n1', 'nodes']
  assert.deepEqual(channels.toSorted(), [...held.map(name => `a:${name}`), ...held.map(name => `b:${name}`)])
})

test('redis: push:rejected holds 100 notes for a day, the beginning of each only where allowed', async t => {
  const server = await startRedis(t)
  const { broker } = await connected(t, server)
  const quiet = await connected(t, server, { node: 'n2', noteRejected: false })
  await server.admin.rpush('push:rejected', ...Array(150).fill('old'))
  broker.note({
    topic: 'all',
    reason: 'json',
    message: 'broken',
    envelope: Buffer.from(`${'é'.repeat(150)}${'x'.repeat(500)}`),
  })
  await broker.takeTicket('none')
  quiet.broker.note({ topic: 'all', reason: 'json', message: 'broken', envelope: Buffer.from('secret') })
  await quiet.broker.takeTicket('none')
  const [unsaid, note] = (await server.admin.lrange('push:rejected', 0, 1)).map(text => JSON.parse(text))
  assert.equal(note.sample, `${'é'.repeat(150)}${'x'.repeat(50)}`)
  assert.deepEqual([note.node, note.topic, note.reason, note.message, note.size], ['n1', 'all', 'json', 'broken', 800])
  assert.ok(Math.abs(Date.parse(note.time) - Date.now()) < 60_000)
  assert.equal('sample' in unsaid, false)
  assert.equal(await server.admin.llen('push:rejected'), 100)
  const ttl = await server.admin.ttl('push:rejected')
  assert.ok(ttl > 86_000 && ttl <= 86_400, `${ttl}`)
})

test('redis: a thousand bad envelopes a second are not a thousand notes', async t => {
  const server = await startRedis(t)
  const { broker } = await connected(t, server)
  const second = () => Math.floor(performance.now() / 1000)
  const began = second()
  for (let i = 0; i < 1000; i++) broker.note({ topic: 'all', reason: 'json', message: '', envelope: Buffer.from('x') })
  const seconds = second() - began + 1
  await broker.takeTicket('none')
  const notes = await server.admin.llen('push:rejected')
  assert.ok(notes >= 20 && notes <= 20 * seconds, `${notes} notes in ${seconds} seconds`)
})

test('redis: a refused command says why, and was surely not carried out', async t => {
  const server = await startRedis(t)
  const { broker } = await connected(t, server)
  await server.admin.call('ACL', 'SETUSER', 'default', '-publish')
  const [refused, other] = await broker.publish([
    { topic: 'channel:x', envelope: '1' },
    { topic: 'channel:x', envelope: '2', receipt: 't' },
  ])
  assert.deepEqual([refused, other].map(codeOf), ['PUSH_ERR_BROKER_AWAY', 'PUSH_ERR_BROKER_AWAY'])
  assert.match((refused as Error).message, /^Redis refused: NOPERM/)
})
