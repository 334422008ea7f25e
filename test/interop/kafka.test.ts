import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { after, before, test } from 'node:test'
import { type ConsumerConfig, type ISocketFactory, Kafka, logLevel } from 'kafkajs'
import type { Status } from '../../src/index.ts'
import { type KafkaIngressOptions, kafkaIngress } from '../../src/ingress/kafka/kafka.ts'
import { buildPush, type TestApp } from '../helpers/app.ts'
import { blocksOf } from '../helpers/ingress-page.ts'
import { KafkaCluster } from '../helpers/kafka.ts'
import { type Listener, listenTo } from '../helpers/listener.ts'
import { type Cleanup, cleanups, path, run, startInteropNode } from '../helpers/processes.ts'
import { findProgram } from '../helpers/programs.ts'
import { freePort, type RedisServer, startRedis } from '../helpers/redis.ts'
import { Inbox, START, until, within } from '../helpers/waiting.ts'

const all = cleanups()
let cluster: KafkaCluster
let redis: RedisServer

before(async () => {
  const starting = await Promise.all([KafkaCluster.open(all), startRedis(all)])
  cluster = starting[0]
  redis = starting[1]
})
after(() => all.end())

let names = 0
/** A name that no other test uses, for topics, groups and prefixes. */
const fresh = (what: string) => `${what}-${++names}`

const HISTORY = { 'channel:orders*': { size: 2000, ttl: 3600 } }

interface Road extends TestApp {
  status(): Promise<Status['ingress'][number]>
  counted(name: string): Promise<number>
}

type Given = Partial<KafkaIngressOptions> & { kafkaTopics: string[] }

interface Place {
  redis: string
  redisPrefix: string
}

/** A client of a node that publishes nothing: it is there before anything can come. */
async function listen(t: Cleanup, name = 'orders', url = redis.url): Promise<{ listener: Listener; at: Place }> {
  const at = { redis: url, redisPrefix: `${fresh('push')}:` }
  const { port } = await buildPush(t, { ...at, history: HISTORY })
  return { listener: await listenTo(t, `ws://127.0.0.1:${port}/ws/${name}`), at }
}

/** A node in a group of its own. */
async function openRoad(t: Cleanup, options: Given, at: Place): Promise<Road> {
  const road = { kafka: { brokers: cluster.brokers }, ...roadOptions(fresh('group')), ...options }
  const app = await buildPush(t, { ...at, history: HISTORY, ingress: [kafkaIngress(road)] })
  const status = async () => (await app.app.push.status()).ingress[0]!
  const counted = async (name: string) => (await app.app.push.status()).metrics[`ingress_${name}{kafka}`] ?? 0
  return { ...app, status, counted }
}

const roadOptions = (group: string) => ({ topics: ['channel:*'], group, fromBeginning: true })

/** The first member of a group of the mock waits for others, and kafkajs for what is wrong by its own times. */
const isOpen = (road: Road) => until(async () => (await road.status()).problem === undefined, 'the road is open', START)

const request = (n: number, to = 'channel:orders') => JSON.stringify({ to, type: 'parcel', payload: { n } })

/** Makes a topic with four partitions, and puts requests there, all of one key into the same one. */
async function produce(topic: string, numbers: readonly number[], to = 'channel:orders', key = to): Promise<void> {
  for (const n of numbers) await cluster.produce(topic, key, request(n, to))
}

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)

const numbersOf = (listener: Listener, topic = 'channel:orders') =>
  listener.messages
    .filter(message => message.type === 'parcel' && message.topic === topic)
    .map(({ payload }) => (payload as { n: number }).n)

const hasAll = (listener: Listener, count: number, topic?: string) =>
  listener.until(() => new Set(numbersOf(listener, topic)).size >= count, `${count} orders`, START)

test('requests from librdkafka and kafkajs are published in the order of their partition', async t => {
  const topic = fresh('orders')
  await produce(topic, range(0, 20))
  const { listener, at } = await listen(t)
  const road = await openRoad(t, { kafkaTopics: [topic] }, at)
  await hasAll(listener, 20)
  const producer = await cluster.producer(t)
  for (const n of range(20, 40))
    await producer.send({ topic, messages: [{ key: 'channel:orders', value: request(n) }] })
  await hasAll(listener, 40)
  // Two producers may hash a key to different partitions, but each keeps to its own.
  assert.deepEqual(numbersOf(listener), range(0, 40))
  await until(async () => (await road.status()).lag === 0, 'nothing waits')
  assert.equal(await road.counted('published_total'), 40)
})

test('the publishers of the documents, in Node and Python', async t => {
  const topic = fresh('orders')
  await cluster.produce(topic, 'a', request(0))
  const { listener, at } = await listen(t, '?user=42')
  await openRoad(t, { kafkaTopics: [topic], topics: ['channel:*', 'user:*'] }, at)
  const [, js] = blocksOf('Kafka', 'js')
  const node = `import { Kafka } from 'kafkajs'
    const producer = new Kafka({ brokers: ${JSON.stringify(cluster.brokers)}, logLevel: 1 }).producer()
    await producer.connect()
    ${js!.replace('push-ingress', topic)}
    await producer.disconnect()`
  const sent = await run(process.execPath, ['--input-type=module', '-e', node], { cwd: path('.') })
  assert.equal(sent.code, 0, sent.stderr)
  assert.deepEqual((await listener.next('order.created')).payload, { id: 1001 })
  const [block] = blocksOf('Kafka', 'python')
  const python = `import json
from confluent_kafka import Producer
producer = Producer({"bootstrap.servers": "${cluster.brokers.join(',')}"})
${block!.replace('push-ingress', topic)}`
  const produced = await run(findProgram('/usr/bin/python3', 'python3')!, ['-c', python])
  assert.equal(produced.code, 0, produced.stderr)
  assert.deepEqual((await listener.next('order.created')).payload, { id: 1001 })
})

test('a group goes on where it was, and what was committed does not come again', async t => {
  const topic = fresh('orders')
  const options = { kafkaTopics: [topic], group: fresh('group') }
  const { listener, at } = await listen(t, 'live')
  await produce(topic, range(0, 20), 'channel:live')
  const first = await openRoad(t, options, at)
  await hasAll(listener, 20, 'channel:live')
  await within(first.app.close(), 'the end of the first node')
  await produce(topic, range(20, 25), 'channel:live')
  await openRoad(t, options, at)
  await hasAll(listener, 25, 'channel:live')
  assert.deepEqual(numbersOf(listener, 'channel:live'), range(0, 25))
})

test('what is refused goes to the dead letter topic, and the partition goes on', async t => {
  const [topic, deadLetters] = [fresh('orders'), fresh('dead')]
  const { listener, at } = await listen(t)
  const road = await openRoad(t, { kafkaTopics: [topic], deadLetters, topics: ['channel:orders'] }, at)
  // So that it exists: the node makes none.
  await cluster.produce(deadLetters, 'first', 'not a letter')
  for (const value of [request(1), '{"to":', request(2, 'channel:secret'), request(3)]) {
    await cluster.produce(topic, 'a', value)
  }
  await hasAll(listener, 2)
  const letters = new Inbox<{ key: string; value: string; headers: Record<string, string> }>('a dead letter')
  const consumer = cluster.kafka.consumer({ groupId: fresh('group') })
  await consumer.connect()
  t.after(() => consumer.disconnect())
  await consumer.subscribe({ topics: [deadLetters], fromBeginning: true })
  await consumer.run({
    eachMessage: async ({ message: { key, value, headers } }) => {
      const entries = Object.entries(headers ?? {}).map(([name, text]) => [name, String(text)])
      if (entries.length > 0)
        letters.put({ key: String(key), value: String(value), headers: Object.fromEntries(entries) })
    },
  })
  const [broken, secret] = [await letters.take(START), await letters.take(START)]
  assert.deepEqual([broken.key, broken.value, broken.headers['push-code']], ['a', '{"to":', 'PUSH_ERR_JSON'])
  assert.deepEqual(
    [secret.headers['push-code'], secret.headers['push-topic'], secret.headers['push-offset']],
    ['PUSH_ERR_FORBIDDEN', topic, '2'],
  )
  await until(async () => (await road.counted('dead_letters_total')) === 2, 'two dead letters')
})

test('without a dead letter topic what is refused is counted, told and passed over', async t => {
  const topic = fresh('orders')
  for (const value of ['no JSON', request(1)]) await cluster.produce(topic, 'a', value)
  const { listener, at } = await listen(t)
  const road = await openRoad(t, { kafkaTopics: [topic] }, at)
  await hasAll(listener, 1)
  assert.equal(await road.counted('dead_letters_total'), 1)
  const line = road.log.find(({ msg }) => msg === 'push: messages of an ingress are dead letters now')
  assert.match(JSON.stringify(line), new RegExp(`nowhere, without the option deadLetters: ${topic}/\\d at 0`))
})

test('while Redis is away messages stay in Kafka, and afterwards all come in their order', async t => {
  const topic = fresh('orders')
  const own = await startRedis(t)
  await produce(topic, range(0, 5))
  const { listener, at } = await listen(t, 'orders', own.url)
  const road = await openRoad(t, { kafkaTopics: [topic] }, at)
  await hasAll(listener, 5)
  await own.kill()
  await until(async () => !(await road.app.push.status()).connected, 'Redis is missed')
  await produce(topic, range(5, 55))
  await until(async () => /PUSH_ERR_BROKER_AWAY/.test((await road.status()).problem ?? ''), 'the problem', START)
  await until(async () => ((await road.status()).lag ?? 0) > 0, 'the lag')
  await own.start()
  await hasAll(listener, 55)
  assert.deepEqual(numbersOf(listener), range(0, 55))
  // A client may have the last message before the node knows that it was published.
  await isOpen(road)
})

test('two nodes share the partitions; one is killed, and clients see each message once and in order', async t => {
  const topic = fresh('orders')
  const group = fresh('group')
  const kinds = range(0, 8).map(k => `channel:orders-${k}`)
  const own = await startRedis(t)
  const hearing = await startInteropNode(t, own.url, { HISTORY: JSON.stringify(HISTORY) })
  const listeners = await Promise.all(kinds.map(to => listenTo(t, `${hearing.url}/${to.slice('channel:'.length)}`)))
  for (const n of range(0, 100)) for (const to of kinds) await produce(topic, [n], to)
  const options = {
    kafka: { brokers: cluster.brokers },
    kafkaTopics: [topic],
    ...roadOptions(group),
    sessionTimeout: 6000,
  }
  const env = { INGRESS_KAFKA: JSON.stringify(options), HISTORY: JSON.stringify(HISTORY) }
  const dying = await startInteropNode(t, own.url, env)
  await listeners[0]!.until(() => numbersOf(listeners[0]!, kinds[0]).length > 10, 'the first orders', START)
  const living = await startInteropNode(t, own.url, env)
  await dying.program.stop('SIGKILL')
  for (const n of range(100, 110)) for (const to of kinds) await produce(topic, [n], to)
  for (const [k, listener] of listeners.entries()) await hasAll(listener, 110, kinds[k])
  for (const [k, listener] of listeners.entries()) assert.deepEqual(numbersOf(listener, kinds[k]), range(0, 110))
  assert.ok((await living.status()).nodes >= 2)
})

test('two living nodes have some partitions each, and one that leaves gives its own to the other', async t => {
  const topic = fresh('orders')
  const group = fresh('group')
  const { listener, at } = await listen(t)
  const keys = range(0, 16).map(k => `key-${k}`)
  const produceRound = async (n: number) => {
    for (const [k, key] of keys.entries()) await produce(topic, [n * 100 + k], 'channel:orders', key)
  }
  await produceRound(0)
  const first = await openRoad(t, { kafkaTopics: [topic], group }, at)
  await hasAll(listener, 16)
  const second = await openRoad(t, { kafkaTopics: [topic], group }, at)
  await isOpen(second)
  const before = await first.counted('published_total')
  let rounds = 0
  await until(
    async () => {
      await produceRound(++rounds)
      const [a, b] = [await first.counted('published_total'), await second.counted('published_total')]
      return a > before && b > 0
    },
    'both publish',
    START,
  )
  await within(second.app.close(), 'the end of the second node')
  await produceRound(++rounds)
  await hasAll(listener, 16 * (rounds + 1))
  // A key keeps its order, whichever node had its partition.
  for (const k of keys.keys()) {
    const ofKey = numbersOf(listener).filter(n => n % 100 === k)
    assert.deepEqual(
      ofKey,
      range(0, rounds + 1).map(n => n * 100 + k),
      keys[k],
    )
  }
})

test('a node that closes on an unrecorded topic while messages come: none is lost, and none comes twice', async t => {
  const topic = fresh('orders')
  const options = { kafkaTopics: [topic], group: fresh('group') }
  const { listener, at } = await listen(t, 'live')
  await produce(topic, range(0, 100), 'channel:live')
  const road = await openRoad(t, options, at)
  await hasAll(listener, 20, 'channel:live')
  const producing = produce(topic, range(100, 300), 'channel:live')
  await within(road.app.close(), 'the end of the node')
  await openRoad(t, options, at)
  await producing
  await hasAll(listener, 300, 'channel:live')
  // Published, and committed as well: an unrecorded topic would get it again otherwise.
  assert.deepEqual(numbersOf(listener, 'channel:live'), range(0, 300))
})

test('what a node holds has a bound: fetchBytes is what it asks for, and while messages wait it asks for no more', async t => {
  const topic = fresh('orders')
  const own = await startRedis(t)
  await produce(topic, [0])
  const { listener, at } = await listen(t, 'orders', own.url)
  /** How often each broker was asked for messages. */
  const fetches = new Map<number, number>()
  let asked: unknown
  const { kafka } = cluster
  const consumer = (settings: ConsumerConfig) => {
    const made = kafka.consumer(settings)
    asked = [settings.maxBytes, settings.maxBytesPerPartition]
    made.on('consumer.fetch_start', ({ payload: { nodeId } }) => fetches.set(nodeId, (fetches.get(nodeId) ?? 0) + 1))
    return made
  }
  const road = await openRoad(t, { kafkaTopics: [topic], kafka: { consumer } as never, fetchBytes: 100_000 }, at)
  await hasAll(listener, 1)
  assert.deepEqual(asked, [100_000, 100_000])
  await own.kill()
  await until(async () => !(await road.app.push.status()).connected, 'Redis is missed')
  await produce(topic, range(1, 101))
  await until(async () => /PUSH_ERR_BROKER_AWAY/.test((await road.status()).problem ?? ''), 'the problem', START)
  const before = new Map(fetches)
  const askedSince = () => [...fetches].map(([node, count]) => count - (before.get(node) ?? 0))
  // Three brokers, each with a partition; one of them has all the messages.
  await until(() => askedSince().filter(count => count >= 3).length === 2, 'the others are asked again', START)
  assert.equal(askedSince().filter(count => count === 0).length, 1)
  await own.start()
  await hasAll(listener, 101)
  assert.deepEqual(numbersOf(listener), range(0, 101))
})

test('a client of the application is used', async t => {
  const topic = fresh('orders')
  await produce(topic, [1])
  const { listener, at } = await listen(t)
  await openRoad(t, { kafkaTopics: [topic], kafka: cluster.kafka }, at)
  await hasAll(listener, 1)
})

test('Kafka is not there: the node runs, says so, and closes in time', async t => {
  const at = { redis: redis.url, redisPrefix: `${fresh('push')}:` }
  const kafka = { brokers: [`127.0.0.1:${await freePort()}`] }
  const road = await openRoad(t, { kafkaTopics: ['orders'], kafka }, at)
  await until(async () => /ECONNREFUSED/.test((await road.status()).problem ?? ''), 'the problem', START)
  assert.equal((await road.status()).lag, undefined)
  await within(road.app.close(), 'the end of the node')
})

test('an answer to JoinGroup that is lost holds up messages for sessionTimeout, and not for a minute', async t => {
  const topic = fresh('orders')
  await produce(topic, [1])
  const { listener, at } = await listen(t)
  /** How long the group and kafkajs wait: kafkajs for five seconds more. */
  const waits: number[] = []
  const socketFactory: ISocketFactory = ({ host, port, onConnect }) => {
    const socket = connect({ host, port }, onConnect)
    const write = socket.write.bind(socket)
    socket.write = ((bytes: Buffer, ...rest: []) => {
      const wait = rebalanceTimeoutIn(bytes)
      if (wait !== undefined) waits.push(wait)
      // The connection stays as it is, and nothing comes any more.
      if (wait !== undefined && waits.length === 1) socket.removeAllListeners('data').on('data', () => {})
      return write(bytes, ...rest)
    }) as never
    return socket
  }
  const kafka = new Kafka({ brokers: cluster.brokers, socketFactory, requestTimeout: 3000, logLevel: logLevel.NOTHING })
  await openRoad(t, { kafkaTopics: [topic], kafka, sessionTimeout: 6000 }, at)
  await hasAll(listener, 1)
  assert.ok(waits.length > 1, 'it has asked again')
  assert.deepEqual([...new Set(waits)], [6000])
})

/** Of a JoinGroup request: its size, which one it is, version, number, client, group, the timeout of the session, and this one. */
function rebalanceTimeoutIn(bytes: Buffer): number | undefined {
  if (bytes.readInt16BE(4) !== 11) return undefined
  const group = 14 + bytes.readInt16BE(12)
  return bytes.readInt32BE(group + 2 + bytes.readInt16BE(group) + 4)
}

test('Kafka stands still and goes on: the node is there again by itself', async t => {
  const topic = fresh('orders')
  await produce(topic, [1])
  const kafka = { brokers: cluster.brokers, requestTimeout: 3000, connectionTimeout: 1000 }
  const { listener, at } = await listen(t)
  const road = await openRoad(t, { kafkaTopics: [topic], kafka, sessionTimeout: 6000 }, at)
  await hasAll(listener, 1)
  cluster.freeze()
  await until(async () => (await road.status()).problem !== undefined, 'the problem', START)
  cluster.thaw()
  await produce(topic, [2])
  await hasAll(listener, 2)
  assert.deepEqual(numbersOf(listener), [1, 2])
  await isOpen(road)
})
