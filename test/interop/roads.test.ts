import assert from 'node:assert/strict'
import { test } from 'node:test'
import { WebSocket } from 'ws'
import { type Client, type ClientOptions, connect } from '../../src/client/index.ts'
import { msgpack } from '../../src/client/msgpack.ts'
import { protobuf } from '../../src/client/protobuf.ts'
import { createPublisher } from '../../src/publisher.ts'
import { KafkaCluster } from '../helpers/kafka.ts'
import { type Nginx, startNginx } from '../helpers/nginx.ts'
import { API_KEY, type Cleanup, run, startInteropNode } from '../helpers/processes.ts'
import { RabbitmqServer } from '../helpers/rabbitmq.ts'
import { type RedisServer, startRedis } from '../helpers/redis.ts'
import { START, until, within } from '../helpers/waiting.ts'

const TOPIC = 'channel:kept'
const RULE = { size: 10_000, ttl: 600 }
const HISTORY = { [TOPIC]: RULE }

/** Messages of each publisher before the node is killed, while it dies, and after. */
const [BEFORE, DYING, AFTER] = [30, 10, 20]

interface Parcel {
  from: string
  n: number
}

/** Whoever publishes: one message after the other, each once it has been taken. */
type Publisher = (n: number) => Promise<unknown>

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)
const bodyOf = (from: string, n: number) => ({ to: TOPIC, type: 'parcel', payload: { from, n } satisfies Parcel })

/** A network that lets no WebSocket through. */
class Blocked extends WebSocket {
  constructor() {
    super('ws://127.0.0.1:9/blocked')
  }
}

/** A client, and what it was given: by publisher, in the order in which it came. */
class Member {
  readonly client: Client
  readonly received: Record<string, number[]> = {}
  readonly gaps: unknown[] = []
  readonly name: string

  constructor(t: Cleanup, nginx: Nginx, [name, options]: [name: string, options: ClientOptions]) {
    this.name = name
    this.client = connect(nginx.url, { WebSocket, topics: [TOPIC], ...options })
    t.after(() => this.client.close())
    this.client.on('parcel', payload => {
      const { from, n } = payload as Parcel
      this.received[from] ??= []
      this.received[from].push(n)
    })
    this.client.listen('gap', gap => this.gaps.push(gap))
    // Nobody can be reached while the node dies.
    this.client.listen('unreachable', () => {})
  }

  async ready(): Promise<void> {
    await this.client.subscribe(TOPIC)
  }

  has(publishers: readonly string[], end: number): Promise<void> {
    const hasAll = () => publishers.every(from => new Set(this.received[from]).size === end)
    const counts = () => publishers.map(from => `${from} ${this.received[from]?.length ?? 0}`).join(', ')
    return until(hasAll, () => `${this.name} has ${end} of each: ${counts()}`, START)
  }
}

const WAYS: [name: string, options: ClientOptions][] = [
  ['json', {}],
  ['msgpack', { codec: msgpack }],
  ['protobuf', { codec: protobuf }],
  ['sse', { fallback: true, WebSocket: Blocked as never }],
]

/** Again through the other node if this one has died; the key says that it is the same. */
async function post(nginx: Nginx, n: number): Promise<void> {
  const headers = { authorization: `Bearer ${API_KEY}`, 'content-type': 'application/json' }
  const body = JSON.stringify({ ...bodyOf('http', n), idempotencyKey: `http ${n}` })
  const isTaken = async () => {
    const response = await fetch(`${nginx.origin}/push`, { method: 'POST', headers, body }).catch(() => undefined)
    return response?.status === 200
  }
  await until(isTaken, `the push API takes ${n}`)
}

async function callFromPhp(redis: RedisServer, n: number): Promise<void> {
  const code = `$redis = new Redis(); $redis->connect('127.0.0.1', ${redis.port});
    $envelope = json_encode(['type' => 'parcel', 'payload' => ['from' => 'php', 'n' => ${n}]]);
    $redis->rawCommand('FCALL', 'push_publish', 1, 'push:${TOPIC}', $envelope, ${RULE.size}, ${RULE.ttl}, 'php ${n}');
    exit($redis->getLastError() === null ? 0 : 1);`
  const { code: status, stderr } = await run('php', ['-r', code])
  assert.equal(status, 0, stderr)
}

test('every road in and every way out at once: one of two nodes is killed, nothing is lost and nothing comes twice', async t => {
  const [redis, rabbitmq, kafka] = await Promise.all([startRedis(t), RabbitmqServer.open(t), KafkaCluster.open(t)])
  // The topic is there before somebody reads it. A node may publish this one before the clients have subscribed: nobody counts it.
  await kafka.produce('push-requests', 'key', JSON.stringify(bodyOf('opening', 0)))
  const topics = ['channel:*']
  const env = {
    HISTORY: JSON.stringify(HISTORY),
    CODECS: '["json","msgpack","protobuf"]',
    INGRESS_STREAMS: JSON.stringify({ topics, claimAfter: 1000 }),
    INGRESS_RABBITMQ: JSON.stringify({ topics, rabbitmq: rabbitmq.url, queue: 'push-requests' }),
    INGRESS_KAFKA: JSON.stringify({
      topics,
      kafka: { brokers: kafka.brokers },
      kafkaTopics: ['push-requests'],
      fromBeginning: true,
      sessionTimeout: 6000,
    }),
  }
  const nodes = await Promise.all([startInteropNode(t, redis.url, env), startInteropNode(t, redis.url, env)])
  const nginx = await startNginx(
    t,
    nodes.map(({ port }) => port),
  )
  const members = [...WAYS, ...WAYS].map(way => new Member(t, nginx, way))
  await within(Promise.all(members.map(member => member.ready())), 'all clients have the topic', START)

  const script = createPublisher({ redis: redis.url, history: HISTORY })
  t.after(() => script.end())
  const queue = rabbitmq.connect(t).createPublisher({ confirm: true })
  t.after(() => queue.close())
  const sendToQueue = (n: number) =>
    queue.send({ routingKey: 'push-requests', durable: true, messageId: `rabbitmq ${n}` }, bodyOf('rabbitmq', n))
  const publishers: Record<string, Publisher> = {
    node: n => script.publish(TOPIC, { type: 'parcel', payload: { from: 'node', n } }),
    http: n => post(nginx, n),
    php: n => callFromPhp(redis, n),
    streams: n => redis.admin.xadd('push:ingress', '*', 'body', JSON.stringify(bodyOf('streams', n))),
    rabbitmq: n => sendToQueue(n),
    kafka: n => kafka.produce('push-requests', 'key', JSON.stringify(bodyOf('kafka', n))),
  }
  const names = Object.keys(publishers)
  const publishAll = (from: number, to: number) =>
    Promise.all(
      Object.values(publishers).map(async publish => {
        for (const n of range(from, to)) await publish(n)
      }),
    )

  await publishAll(0, BEFORE)
  await Promise.all(members.map(member => member.has(names, BEFORE)))
  const dying = (await nodes[0].status()).node
  assert.ok(members.some(({ client }) => client.welcome!.node === dying))
  assert.deepEqual(
    members.map(({ client }) => client.transport),
    [...WAYS, ...WAYS].map(([name]) => (name === 'sse' ? 'sse' : 'websocket')),
  )
  const publishing = publishAll(BEFORE, BEFORE + DYING)
  nodes[0].program.process.kill('SIGKILL')
  await publishing
  const end = BEFORE + DYING + AFTER
  await publishAll(BEFORE + DYING, end)
  await Promise.all(members.map(member => member.has(names, end)))

  // What comes behind this came twice or too late.
  await script.publish(TOPIC, { type: 'parcel', payload: { from: 'fence', n: 0 } })
  await Promise.all(members.map(member => member.has(['fence'], 1)))
  for (const { name, received, gaps } of members) {
    assert.deepEqual(gaps, [], name)
    for (const from of names) {
      // Two nodes read the queue and the stream side by side: which message of the two comes first is open there.
      const isOrdered = from !== 'rabbitmq' && from !== 'streams'
      const numbers = isOrdered ? received[from]! : received[from]!.toSorted((a, b) => a - b)
      assert.deepEqual(numbers, range(0, end), `${from} to ${name}`)
    }
  }
})
