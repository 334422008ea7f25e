import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { after, before, test } from 'node:test'
import type { Connection } from 'rabbitmq-client'
import type { PushBridgeOptions, Status } from '../../src/index.ts'
import { type RabbitmqIngressOptions, rabbitmqIngress } from '../../src/ingress/rabbitmq/rabbitmq.ts'
import { buildPush, type TestApp } from '../helpers/app.ts'
import { blocksOf } from '../helpers/ingress-page.ts'
import { type Listener, listenTo } from '../helpers/listener.ts'
import { type Cleanup, cleanups, path, run, startInteropNode } from '../helpers/processes.ts'
import { RabbitmqServer } from '../helpers/rabbitmq.ts'
import { freePort, type RedisServer, startRedis } from '../helpers/redis.ts'
import { once, PATIENCE, until, within } from '../helpers/waiting.ts'

const all = cleanups()
let rabbitmq: RabbitmqServer
let redis: RedisServer
let admin: Connection

before(async () => {
  const starting = await Promise.all([RabbitmqServer.open(all), startRedis(all)])
  rabbitmq = starting[0]
  redis = starting[1]
  admin = rabbitmq.connect(all)
})
after(() => all.end())

let names = 0
/** A name that no other test uses, for queues and prefixes. */
const fresh = (what: string) => `${what}-${++names}`

const HISTORY = { 'channel:orders': { size: 2000, ttl: 3600 } }

interface Road extends TestApp {
  queue: string
  status(): Promise<Status['ingress'][number]>
  /** A counter of this road. */
  counted(name: string): Promise<number>
}

/** A node that takes from a queue of its own, on a Redis prefix of its own. */
async function openRoad(
  t: Cleanup,
  options: Partial<RabbitmqIngressOptions> = {},
  {
    redisUrl = redis.url,
    redisPrefix = `${fresh('push')}:`,
    history = HISTORY as NonNullable<PushBridgeOptions['history']>,
  } = {},
): Promise<Road> {
  const queue = options.queue ?? fresh('queue')
  const ingress = [rabbitmqIngress({ rabbitmq: rabbitmq.url, topics: ['channel:*', 'user:*'], ...options, queue })]
  const app = await buildPush(t, { redis: redisUrl, redisPrefix, history, ingress })
  const status = async () => (await app.app.push.status()).ingress[0]!
  const counted = async (name: string) => (await app.app.push.status()).metrics[`ingress_${name}{rabbitmq}`] ?? 0
  return { ...app, queue, status, counted }
}

const isOpen = (road: Road) => until(async () => (await road.status()).problem === undefined, 'the road is open')

/** Puts requests for a recorded topic into a queue, each with an id, and waits until RabbitMQ has stored them. */
async function send(t: Cleanup, queue: string, numbers: readonly number[], { to = 'channel:orders' } = {}) {
  const publisher = rabbitmq.connect(t).createPublisher({ confirm: true })
  for (const n of numbers) {
    const request = { to, type: 'parcel', payload: { n } }
    await publisher.send({ routingKey: queue, durable: true, messageId: `order-${n}` }, request)
  }
  await publisher.close()
}

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)

const numbersOf = (listener: Listener) =>
  listener.messages.filter(({ type }) => type === 'parcel').map(({ payload }) => (payload as { n: number }).n)

const hasAll = (listener: Listener, count: number) =>
  listener.until(() => new Set(numbersOf(listener)).size >= count, `${count} orders`)

const urlOf = ({ port }: { port: number }, topic = 'orders') => `ws://127.0.0.1:${port}/ws/${topic}`

test('php-amqplib: an order reaches its customer, and the same one again does not', async t => {
  const road = await openRoad(t, {}, { history: { 'user:*': { size: 100, ttl: 3600 } } })
  await isOpen(road)
  const customer = await listenTo(t, `ws://127.0.0.1:${road.port}/ws?user=42`)
  const php = (...args: string[]) =>
    run('php', [path('example/php/rabbitmq.php'), ...args], {
      env: { RABBITMQ_PORT: String(rabbitmq.port), RABBITMQ_QUEUE: road.queue },
    })
  // As a backend that does not know whether it had sent the first one; the last one comes behind what came twice.
  for (const order of ['1001', '1001', '1002']) {
    const { stdout, stderr } = await php('42', order)
    assert.deepEqual([stdout, stderr], [`order ${order}: RabbitMQ has it\n`, ''])
  }
  const came = [await customer.next('order.created'), await customer.next('order.created')]
  assert.deepEqual(
    came.map(({ topic, payload, seq }) => [topic, payload, seq]),
    [
      ['user:42', { id: 1001 }, 1],
      ['user:42', { id: 1002 }, 2],
    ],
  )
  // A client may have a message before the node knows that it was published.
  await until(async () => (await road.counted('published_total')) === 3, 'three were published')
})

test('the publisher of the documents in Node', async t => {
  const road = await openRoad(t)
  await isOpen(road)
  const customer = await listenTo(t, `ws://127.0.0.1:${road.port}/ws?user=42`)
  const [, block] = blocksOf('RabbitMQ', 'js')
  const code = `import { Connection } from 'rabbitmq-client'
    const order = { id: 1001, customer: '42' }
    ${block!.replace('push-ingress', road.queue)}
    process.exit()`
  const env = { RABBITMQ_URL: rabbitmq.url }
  const { stderr } = await run(process.execPath, ['--input-type=module', '-e', code], { cwd: path('.'), env })
  assert.equal(stderr, '')
  assert.deepEqual((await customer.next('order.created')).payload, { id: 1001 })
})

test('messages with an id come once on a recorded topic, in the order of the queue', async t => {
  const road = await openRoad(t)
  const listener = await listenTo(t, urlOf(road))
  await isOpen(road)
  await send(t, road.queue, [...range(0, 200), ...range(0, 200)])
  await hasAll(listener, 200)
  await until(async () => (await road.counted('published_total')) === 400, 'all are handled')
  await send(t, road.queue, [200])
  await hasAll(listener, 201)
  assert.deepEqual(numbersOf(listener), range(0, 201))
})

test('without an id a repeat is published again, also on a recorded topic', async t => {
  const road = await openRoad(t)
  const listener = await listenTo(t, urlOf(road))
  await isOpen(road)
  for (const n of [1, 1, 2])
    await publish(t, { routingKey: road.queue }, { to: 'channel:orders', type: 'parcel', payload: { n } })
  await hasAll(listener, 2)
  assert.deepEqual(numbersOf(listener), [1, 1, 2])
})

async function publish(t: Cleanup, envelope: Record<string, unknown>, body: unknown): Promise<void> {
  const publisher = rabbitmq.connect(t).createPublisher({ confirm: true })
  await publisher.send({ durable: true, ...envelope }, body)
  await publisher.close()
}

test('an exchange passes on what its patterns cover', async t => {
  const exchange = fresh('exchange')
  const road = await openRoad(t, { exchange, patterns: ['order.*', 'notice'] })
  await isOpen(road)
  const listener = await listenTo(t, urlOf(road))
  const keys = ['order.created', 'invoice.created', 'notice', 'order.a.b', 'order.paid']
  for (const [n, routingKey] of keys.entries()) {
    await publish(t, { exchange, routingKey }, { to: 'channel:orders', type: 'parcel', payload: { n } })
  }
  await hasAll(listener, 3)
  assert.deepEqual(numbersOf(listener), [0, 2, 4])
})

test('a body is taken whatever its content type says, and what is refused is a dead letter at once', async t => {
  const deadLetters = fresh('dead')
  const road = await openRoad(t, { deadLetters, topics: ['channel:orders'] })
  await isOpen(road)
  const listener = await listenTo(t, urlOf(road))
  const good = JSON.stringify({ to: 'channel:orders', type: 'parcel', payload: { n: 1 } })
  const bodies = [
    [{ routingKey: road.queue, contentType: 'application/json' }, Buffer.from(good.replace('1', '2'))],
    [{ routingKey: road.queue, messageId: 'broken', contentType: 'application/json' }, Buffer.from('{"to":')],
    [
      { routingKey: road.queue, headers: { tenant: 'a' } },
      { to: 'channel:secret', type: 'parcel', payload: { pin: '4711' } },
    ],
    [{ routingKey: road.queue }, Buffer.from([0xff, 0xfe])],
    [{ routingKey: road.queue }, { to: 'channel:orders', type: 'parcel', payload: {}, tpye: 1 }],
    [{ routingKey: road.queue }, good],
  ] as const
  for (const [envelope, body] of bodies) await publish(t, envelope, body)
  await hasAll(listener, 2)
  assert.deepEqual(numbersOf(listener), [2, 1])
  await until(async () => (await rabbitmq.count(admin, deadLetters)) === 4, 'four dead letters')
  const letters = []
  for (let i = 0; i < 4; i++) letters.push((await admin.basicGet(deadLetters))!)
  const codes = letters.map(({ headers }) => headers!['x-push-code'])
  assert.deepEqual(codes, ['PUSH_ERR_JSON', 'PUSH_ERR_FORBIDDEN', 'PUSH_ERR_JSON', 'PUSH_ERR_UNKNOWN_KEY'])
  assert.deepEqual([String(letters[0]!.body), letters[0]!.messageId], ['{"to":', 'broken'])
  assert.deepEqual(letters[1]!.body, { to: 'channel:secret', type: 'parcel', payload: { pin: '4711' } })
  assert.deepEqual([letters[1]!.headers!.tenant, letters[1]!.headers!['x-push-queue']], ['a', road.queue])
  assert.match(letters[3]!.headers!['x-push-reason'] as string, /tpye/)
  assert.equal(await road.counted('dead_letters_total'), 4)
  assert.equal((await admin.basicGet(road.queue)) ?? undefined, undefined)
  // The log says that there are dead letters, and nothing of what is in them.
  assert.ok(road.log.some(({ msg }) => msg === 'push: messages of an ingress are dead letters now'))
  assert.doesNotMatch(JSON.stringify(road.log), /tenant|4711/)
})

test('without a queue of its own a dead letter goes where the queue sends it', async t => {
  const [exchange, dead, queue] = [fresh('dlx'), fresh('dead'), fresh('queue')]
  const channel = await admin.acquire()
  t.after(() => channel.close())
  await channel.exchangeDeclare({ exchange, type: 'fanout', durable: true })
  await channel.queueDeclare({ queue: dead, durable: true })
  await channel.queueBind({ queue: dead, exchange })
  const road = await openRoad(t, { queue, arguments: { 'x-dead-letter-exchange': exchange } })
  await isOpen(road)
  await publish(t, { routingKey: queue, messageId: 'no type' }, { to: 'channel:orders' })
  await until(async () => (await rabbitmq.count(admin, dead)) === 1, 'the dead letter')
  assert.equal((await channel.basicGet({ queue: dead, noAck: true }))!.messageId, 'no type')
  assert.equal(await road.counted('dead_letters_total'), 1)
})

test('while Redis is away messages stay in RabbitMQ, up to prefetch of them with the node, and none is lost', async t => {
  const own = await startRedis(t)
  const road = await openRoad(t, { prefetch: 8 }, { redisUrl: own.url })
  await isOpen(road)
  const listener = await listenTo(t, urlOf(road))
  await send(t, road.queue, range(0, 5))
  await hasAll(listener, 5)
  await own.kill()
  await until(async () => !(await road.app.push.status()).connected, 'Redis is missed')
  await send(t, road.queue, range(5, 105))
  const problem = /^a message waits, since it could not be published: .*PUSH_ERR_BROKER_AWAY/
  await until(async () => problem.test((await road.status()).problem ?? ''), 'the status says so')
  await until(async () => (await rabbitmq.count(admin, road.queue)) === 92, 'all but prefetch wait in RabbitMQ')
  await own.start()
  await hasAll(listener, 105)
  assert.deepEqual(numbersOf(listener), range(0, 105))
  await isOpen(road)
  assert.equal(await road.counted('dead_letters_total'), 0)
})

test('RabbitMQ is killed and comes back: the node takes again, nothing is lost and nothing comes twice', async t => {
  const queue = fresh('queue')
  const road = await openRoad(t, { queue })
  await isOpen(road)
  const listener = await listenTo(t, urlOf(road))
  await send(t, queue, range(0, 300))
  await hasAll(listener, 1)
  await rabbitmq.kill()
  await until(async () => (await road.status()).problem !== undefined, 'the loss is noticed')
  assert.match((await road.status()).problem!, /^RabbitMQ gives no messages: /)
  await rabbitmq.start()
  await send(t, queue, range(300, 310))
  await hasAll(listener, 310)
  assert.deepEqual(numbersOf(listener), range(0, 310))
  await isOpen(road)
  await until(async () => (await rabbitmq.count(admin, queue)) === 0, 'the queue is empty')
})

test('a node is killed with messages in its hands: the next one gets them, and clients see each once', async t => {
  const queue = fresh('queue')
  // On one prefix, which nodes of the other tests do not have: theirs are all different.
  const hearing = await openRoad(t, { queue: fresh('queue') }, { redisPrefix: 'push:' })
  const listener = await listenTo(t, urlOf(hearing))
  const options = { rabbitmq: rabbitmq.url, topics: ['channel:orders'], queue, prefetch: 100, concurrency: 20 }
  await admin.queueDeclare({ queue, durable: true })
  await send(t, queue, range(0, 1000))
  const env = { INGRESS_RABBITMQ: JSON.stringify(options), HISTORY: JSON.stringify(HISTORY) }
  const dying = await startInteropNode(t, redis.url, env)
  await hasAll(listener, 50)
  await dying.program.stop('SIGKILL')
  await startInteropNode(t, redis.url, env)
  await hasAll(listener, 1000)
  await until(async () => (await rabbitmq.count(admin, queue)) === 0, 'the queue is empty')
  assert.deepEqual(
    numbersOf(listener).toSorted((a, b) => a - b),
    range(0, 1000),
  )
})

test('a node that closes finishes what it has begun and leaves the rest', async t => {
  const queue = fresh('queue')
  const redisPrefix = `${fresh('push')}:`
  const hearing = await openRoad(t, { queue: fresh('queue') }, { redisPrefix })
  const listener = await listenTo(t, urlOf(hearing, 'live'))
  await admin.queueDeclare({ queue, durable: true })
  await send(t, queue, range(0, 500), { to: 'channel:live' })
  const road = await openRoad(t, { queue, prefetch: 50 }, { redisPrefix })
  await hasAll(listener, 20)
  await within(road.app.close(), 'the end of the node')
  // Published, and acknowledged as well: an unrecorded topic would get it again otherwise.
  await openRoad(t, { queue, prefetch: 50 }, { redisPrefix })
  await hasAll(listener, 500)
  await until(async () => (await rabbitmq.count(admin, queue)) === 0, 'the queue is empty')
  assert.deepEqual(numbersOf(listener), range(0, 500))
})

test('a connection of the application is used, and stays open', async t => {
  const connection = rabbitmq.connect(t)
  await connection.onConnect(PATIENCE)
  const listeners = connection.listenerCount('error')
  const road = await openRoad(t, { rabbitmq: connection })
  await isOpen(road)
  const listener = await listenTo(t, urlOf(road))
  await send(t, road.queue, [1])
  await hasAll(listener, 1)
  // What fails on another channel of the application is its own affair.
  const failed = once(connection, 'error')
  const channel = await connection.acquire()
  channel.basicAck({ deliveryTag: 99 })
  await failed
  assert.equal((await road.status()).problem, undefined)
  await road.app.close()
  assert.equal(connection.ready, true)
  assert.equal(connection.listenerCount('error'), listeners)
  await send(t, road.queue, [2])
  assert.equal(await rabbitmq.count(connection, road.queue), 1)
})

test('a queue that cannot be used is told in words, and tried again until it can', async t => {
  const queue = fresh('queue')
  const road = await openRoad(t, { queue, declare: false })
  await until(async () => /NOT_FOUND/.test((await road.status()).problem ?? ''), 'the queue is missing')
  await admin.queueDeclare({ queue, durable: true, arguments: { 'x-max-length': 10 } })
  await isOpen(road)
  const other = await openRoad(t, { queue })
  await until(async () => /declare: false/.test((await other.status()).problem ?? ''), 'its arguments are others')
})

test('RabbitMQ is not there: the node runs, says so, and closes at once', async t => {
  const road = await openRoad(t, { rabbitmq: `amqp://user:secret-${randomUUID()}@127.0.0.1:${await freePort()}` })
  await until(async () => /ECONNREFUSED/.test((await road.status()).problem ?? ''), 'the problem')
  assert.equal((await road.status()).lag, undefined)
  assert.doesNotMatch(JSON.stringify(road.log), /secret-/)
  await within(road.app.close(), 'the end of the node')
})

test('lag is what waits in the queue, without what the node holds', async t => {
  const queue = fresh('queue')
  await admin.queueDeclare({ queue, durable: true })
  await send(t, queue, range(0, 30))
  const { url } = await startRedis(t, { isDown: true })
  const road = await openRoad(t, { queue, prefetch: 1 }, { redisUrl: url })
  await until(async () => (await road.status()).lag === 29, 'the lag')
})
