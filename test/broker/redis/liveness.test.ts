import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { type TestContext, test } from 'node:test'
import type { Redis } from 'ioredis'
import type { Broker, Incoming } from '../../../src/broker/broker.ts'
import { createClient } from '../../../src/broker/redis/client.ts'
import { Link } from '../../../src/broker/redis/link.ts'
import type { GapReason } from '../../../src/protocol/messages.ts'
import type { Topic } from '../../../src/protocol/topic.ts'
import { FaultProxy } from '../../chaos/proxy.ts'
import { type RedisServer, startRedis } from '../../helpers/redis.ts'
import { connect, connected } from '../../helpers/redis-node.ts'
import { once, PATIENCE, until } from '../../helpers/waiting.ts'
import { envelope, FakeSubscriber } from '../suite.ts'

const SLOW = { timeout: 300_000 }

/** Without a limit Redis keeps all that a slow node has not read. */
const UNLIMITED = { args: ['--client-output-buffer-limit', 'pubsub', '0', '0', '0'] }

const TOPICS = 1000
const MESSAGES = 100_000
/** Microseconds that a message costs: 8 s in all, four times what a silent link is given. */
const COST = 80
/** No longer than that: where cores are busy all of it takes a minute or two, and then any link is given up. */
const SLOW_FOR = 8000
/** The same while they are being published, that enough of them are late however long that takes. */
const FIRST_COST = 1000

/** Of the numbers given; a script is one command, and does not wait for who is slow to read. */
const PUBLISH = `
for n = ARGV[1], ARGV[2] do
  redis.call('PUBLISH', 'push:user:' .. n % ${TOPICS}, '{"type":"a","payload":' .. string.format('%d', n) .. '}')
end`
const AT_ONCE = 2500

/** All messages, in short scripts, each after the answer to the one before: Redis is to answer others meanwhile. */
async function publishAll({ admin }: RedisServer, subscriber: SlowSubscriber): Promise<void> {
  for (let start = 1; start <= MESSAGES; start += AT_ONCE) {
    await admin.eval(PUBLISH, 0, start, start + AT_ONCE - 1)
  }
  subscriber.allPublished()
}

function busyFor(milliseconds: number): void {
  const end = performance.now() + milliseconds
  while (performance.now() < end);
}

/** Holds many topics, and is slower than Redis by a wide margin. */
class SlowSubscriber extends FakeSubscriber {
  received = 0
  outOfPlace: string | undefined
  /** `over`: when all have come, or there is a gap. */
  readonly events = new EventEmitter()
  #slowUntil: number | undefined

  allPublished(): void {
    this.#slowUntil = performance.now() + SLOW_FOR
  }

  static async join(broker: Broker): Promise<SlowSubscriber> {
    const subscriber = new SlowSubscriber(broker)
    const topics = Array.from({ length: TOPICS }, (_, n): Topic => `user:${n}`)
    for (const topic of topics) subscriber.held.add(topic)
    await broker.subscribe(topics)
    return subscriber
  }

  override receive({ topic, envelope }: Incoming): void {
    if (this.#slowUntil === undefined) busyFor(FIRST_COST / 1000)
    else if (performance.now() < this.#slowUntil) busyFor(COST / 1000)
    this.received++
    const text = envelope.view().toString()
    const isInPlace = topic === `user:${this.received % TOPICS}` && text.endsWith(`:${this.received}}`)
    if (!isInPlace) this.outOfPlace ??= `${topic} ${text} as number ${this.received}`
    if (this.received === MESSAGES) this.events.emit('over')
  }

  override lost(reason: GapReason): void {
    this.outOfPlace ??= `gap ${reason} after number ${this.received}`
    this.events.emit('over')
  }
}

test(
  'redis: a node that is seconds behind gets everything, in order, over a link that it does not give up',
  SLOW,
  async t => {
    const server = await startRedis(t, UNLIMITED)
    const { broker, clients, lags, link } = connect(t, server)
    await link(true)
    const subscriber = await SlowSubscriber.join(broker)
    const { stream } = clients.subscriber
    // Seconds of work for one core, of which other programs may leave it little.
    const over = once(subscriber.events, 'over', 4 * PATIENCE)
    await publishAll(server, subscriber)
    await over
    assert.equal(subscriber.outOfPlace, undefined)
    assert.equal(clients.subscriber.stream, stream)
    await until(
      () => broker.lag === 0,
      () => `the node is still ${broker.lag} ms behind`,
    )
    assert.deepEqual(
      lags.map(({ isBehind }) => isBehind),
      [true, false],
    )
    for (const { milliseconds } of lags) assert.ok(milliseconds >= 3000, `${milliseconds}`)
  },
)

test('redis: frozen with a full pipe: noticed within seconds of the last byte', SLOW, async t => {
  const server = await startRedis(t, UNLIMITED)
  const { broker, clients, link } = connect(t, server)
  await link(true)
  const subscriber = await SlowSubscriber.join(broker)
  const counting = looksUntilLost(t, clients.subscriber, () => subscriber.received)
  await publishAll(server, subscriber)
  server.freeze()
  t.after(() => server.thaw())
  const looks = await counting
  assert.ok(subscriber.received > 0)
  assert.ok(looks <= 4, `noticed after ${looks} looks`)
})

/** The link that subscribes has a proxy of its own. */
async function behindProxy(t: TestContext, server: RedisServer) {
  const proxy = await FaultProxy.start(server.port)
  t.after(() => proxy.close())
  return { proxy, node: await connected(t, server, { subscriberUrl: `redis://127.0.0.1:${proxy.port}` }) }
}

/**
 * How often this process, once a second, can look at its links before the one that subscribes is given up, from the last
 * change of `received` on. Looks are counted, for a machine may pause for seconds.
 */
async function looksUntilLost(t: TestContext, client: Redis, received = () => 0): Promise<number> {
  let [looks, before] = [0, received()]
  const look = () => {
    looks = received() === before ? looks + 1 : 0
    before = received()
  }
  const timer = setInterval(() => setImmediate(look), 1000)
  t.after(() => clearInterval(timer))
  // Behind seconds of work for one core.
  await once(client, 'close', 4 * PATIENCE)
  return looks
}

for (const direction of ['down', 'up'] as const) {
  test(`redis: a proxy that lets nothing through (${direction}) is noticed within seconds`, SLOW, async t => {
    const server = await startRedis(t)
    const { proxy, node } = await behindProxy(t, server)
    // A link that is used all the time, by others than the node.
    const publishing = setInterval(() => void server.admin.publish('push:channel:x', envelope(1)).catch(() => {}), 10)
    t.after(() => clearInterval(publishing))
    proxy.stall(() => true, direction)
    const looks = await looksUntilLost(t, node.clients.subscriber)
    assert.ok(looks <= 4, `noticed after ${looks} looks`)
    await node.link(true)
  })
}

test(
  'redis: one that answers and publishes nothing to the node is noticed, however busy the link is',
  SLOW,
  async t => {
    const server = await startRedis(t)
    const { clients, link, changes } = await connected(t, server)
    const other = server.admin.duplicate()
    t.after(() => other.disconnect())
    // So that somebody hears the ticks.
    await other.subscribe('push:node:n1')
    const publishing = setInterval(() => void server.admin.publish('push:channel:x', envelope(1)).catch(() => {}), 10)
    t.after(() => clearInterval(publishing))
    const counting = looksUntilLost(t, clients.subscriber)
    await clients.subscriber.unsubscribe('push:node:n1')
    const looks = await counting
    assert.ok(looks <= 5, `noticed after ${looks} looks`)
    await link(true)
    assert.match(changes.find(({ isUp }) => !isUp)?.error?.message ?? '', /does not receive/)
  },
)

test('redis: where functions are forbidden a node notices as well that it hears nothing', SLOW, async t => {
  const server = await startRedis(t)
  await server.admin.call('ACL', 'SETUSER', 'node', 'on', '>pw', '~*', '&*', '+@all', '-@scripting')
  const { broker, clients } = await connected(t, { ...server, url: server.url.replace('//', '//node:pw@') })
  assert.equal(broker.canRecord, false)
  const other = server.admin.duplicate()
  t.after(() => other.disconnect())
  await other.subscribe('push:node:n1')
  const counting = looksUntilLost(t, clients.subscriber)
  await clients.subscriber.unsubscribe('push:node:n1')
  const looks = await counting
  assert.ok(looks <= 6, `noticed after ${looks} looks`)
})

test('redis: an answer that came while the process was away is read before it is missed', SLOW, async t => {
  const server = await startRedis(t)
  const client = createClient(server.url, 'test')
  const pings = new EventEmitter()
  const ping = client.ping.bind(client)
  let count = 0
  client.ping = (() => {
    // Redis answers after the first look; when the second is due the process has not had the time to read that.
    if (++count === 1) {
      server.freeze()
      setTimeout(setImmediate, 1100, () => {
        server.thaw()
        busyFor(1500)
      })
    }
    pings.emit('ping')
    return ping()
  }) as typeof client.ping
  const ups: string[] = []
  const link = new Link(client, { up: () => ups.push('up'), down: () => ups.push('down') })
  t.after(() => link.close())
  await once(pings, 'ping')
  await once(pings, 'ping')
  assert.deepEqual(ups, ['up'])
})

/** A link that is looked at with each call of `look`, and whose PINGs are answered by `answer`. */
function looked(t: TestContext) {
  t.mock.timers.enable({ apis: ['setInterval', 'setImmediate'] })
  const stream = { bytesRead: 0, isPaused: () => false }
  const lost: (Error | undefined)[] = []
  const answers: (() => void)[] = []
  const client = Object.assign(new EventEmitter(), {
    status: 'ready',
    stream,
    connect: async () => {},
    ping: () => new Promise<void>(resolve => answers.push(resolve)),
    disconnect: () => {},
  })
  const link = new Link(client as unknown as Redis, { up() {}, down: error => lost.push(error) })
  t.after(() => link.close())
  return { link, stream, lost, look: () => t.mock.timers.tick(1000), answer: () => answers.shift()!() }
}

test('a link over which bytes trickle and no answer comes is given up after two minutes', t => {
  const { stream, lost, look } = looked(t)
  let looks = 0
  for (look(); lost.length === 0 && looks < 1000; looks++) {
    stream.bytesRead++
    look()
  }
  assert.equal(looks, 120)
  assert.equal(lost[0]?.message, 'no answer for 120000 ms')
})

test('a link that is silent for two looks is given up, and one that is not read is not silent', t => {
  const { stream, lost, look } = looked(t)
  stream.isPaused = () => true
  for (let n = 0; n < 10; n++) look()
  stream.isPaused = () => false
  look()
  assert.equal(lost.length, 0)
  look()
  assert.equal(lost.length, 1)
})

test('an answer that was overtaken is waited for no longer, unless it came in the same read', async t => {
  const { link, lost, look, answer } = looked(t)
  // What the link calls setImmediate is for the test to call.
  const immediates = () => t.mock.timers.tick(0)
  for (const isAnswered of [true, false]) {
    look()
    const later = performance.now() + 1000
    if (isAnswered) answer()
    link.overtaken(later)
    await Promise.resolve()
    immediates()
    assert.equal(lost.length, isAnswered ? 0 : 1)
  }
})
