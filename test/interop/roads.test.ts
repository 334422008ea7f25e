import assert from 'node:assert/strict'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { encode } from '@msgpack/msgpack'
import { WebSocket } from 'ws'
import { type Client, type ClientOptions, connect } from '../../src/client/index.ts'
import { msgpack } from '../../src/client/msgpack.ts'
import { protobuf } from '../../src/client/protobuf.ts'
import { createPublisher } from '../../src/publisher.ts'
import { KafkaCluster } from '../helpers/kafka.ts'
import { type Nginx, startNginx } from '../helpers/nginx.ts'
import { API_KEY, type Cleanup, type InteropNode, Program, path, run, startInteropNode } from '../helpers/processes.ts'
import { RabbitmqServer } from '../helpers/rabbitmq.ts'
import { type RedisServer, startRedis } from '../helpers/redis.ts'
import { START, until, within } from '../helpers/waiting.ts'

const TOPIC = 'channel:kept'
const RULE = { size: 10_000, ttl: 600 }
const HISTORY = { [TOPIC]: RULE }

/** Messages of each publisher before the node is killed, while it dies, and after. */
const [BEFORE, DYING, AFTER] = [30, 10, 20]

/** What a codec or a language may change on the way. */
const CONTENT = { note: 'Käse 辣 "\\"', tags: [], half: 0.5, none: null, large: 9_007_199_254_740_991 }

interface Parcel {
  from: string
  n: number
}

/** Whoever publishes: one message after the other, each once it has been taken. */
type Publisher = (n: number) => Promise<unknown>

const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i)
const parcel = (from: string, n: number) => ({ from, n, ...CONTENT })
const bodyOf = (from: string, n: number) => ({ to: TOPIC, type: 'parcel', payload: parcel(from, n) })

/** A network that lets no WebSocket through. */
class Blocked extends WebSocket {
  constructor() {
    super('ws://127.0.0.1:9/blocked')
  }
}

/** A client, and what it was given: by publisher, in the order in which it came. */
abstract class Member {
  readonly name: string
  readonly received: Record<string, Parcel[]> = {}
  readonly gaps: unknown[] = []

  constructor(name: string) {
    this.name = name
  }

  /** The node that it is connected to. */
  abstract readonly node: string | undefined
  abstract ready(): Promise<unknown>

  protected take(payload: unknown): void {
    const { from } = payload as Parcel
    this.received[from] ??= []
    this.received[from].push(payload as Parcel)
  }

  has(publishers: readonly string[], end: number): Promise<void> {
    const countOf = (from: string) => new Set(this.received[from]?.map(({ n }) => n)).size
    const counts = () => publishers.map(from => `${from} ${countOf(from)}`).join(', ')
    const hasAll = () => publishers.every(from => countOf(from) === end)
    return until(hasAll, () => `${this.name} has ${end} of each: ${counts()}`, START)
  }
}

class ScriptMember extends Member {
  readonly client: Client

  constructor(t: Cleanup, nginx: Nginx, [name, options]: [name: string, options: ClientOptions]) {
    super(name)
    this.client = connect(nginx.url, { WebSocket, topics: [TOPIC], ...options })
    t.after(() => this.client.close())
    this.client.on('parcel', payload => this.take(payload))
    this.client.listen('gap', gap => this.gaps.push(gap))
    // Nobody can be reached while the node dies.
    this.client.listen('unreachable', () => {})
  }

  get node(): string | undefined {
    return this.client.welcome?.node
  }

  ready(): Promise<unknown> {
    return this.client.subscribe(TOPIC)
  }
}

/** The client of the PHP package, in a process of its own. */
class PhpMember extends Member {
  node: string | undefined
  #isReady = false
  readonly #program: Program

  constructor(t: Cleanup, nginx: Nginx) {
    super('php')
    const options = JSON.stringify({ topics: [TOPIC] })
    this.#program = new Program(t, 'php', [path('test/interop/php/listen.php'), nginx.url, options])
    createInterface({ input: this.#program.process.stdout! }).on('line', line => this.#read(JSON.parse(line)))
  }

  #read({
    node,
    ready,
    message,
  }: {
    node?: string
    ready?: object
    message?: { type: string; payload: unknown }
  }): void {
    if (node) this.node = node
    if (ready) this.#isReady = true
    if (message?.type === 'parcel') this.take(message.payload)
    if (message?.type === 'gap') this.gaps.push(message.payload)
  }

  ready(): Promise<void> {
    return until(
      () => this.#isReady,
      () => `listen.php is ready: ${this.#program.lines.join('\n')}`,
      START,
    )
  }
}

const WAYS: [name: string, options: ClientOptions][] = [
  ['json', {}],
  ['msgpack', { codec: msgpack }],
  ['protobuf', { codec: protobuf }],
  ['sse', { fallback: true, WebSocket: Blocked as never }],
]

/** One client of every way, all on the same node as long as it lives. */
const membersBehind = (t: Cleanup, nginx: Nginx): Member[] => [
  ...WAYS.map(way => new ScriptMember(t, nginx, way)),
  new PhpMember(t, nginx),
]

/** An nginx that takes the second node only when the first one is gone. */
function startProxy(t: Cleanup, [first, second]: readonly [InteropNode, InteropNode]): Promise<Nginx> {
  const line = new RegExp(`(server 127\\.0\\.0\\.1:${second.port} [^;]*);`)
  return startNginx(t, [first.port, second.port], { edit: conf => conf.replace(line, '$1 backup;') })
}

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
  const code = `require '${path('php/autoload.php')}';
    use FastifyPushBridge\\{Message, Publisher};
    $redis = new Redis(); $redis->connect('127.0.0.1', ${redis.port});
    $payload = json_decode($argv[1], true, 512, JSON_THROW_ON_ERROR);
    $message = Message::of('parcel', $payload)->recorded(${RULE.size}, ${RULE.ttl}, 'php ${n}');
    Publisher::redis($redis)->publish('${TOPIC}', $message);`
  const { code: status, stdout, stderr } = await run('php', ['-r', code, JSON.stringify(parcel('php', n))])
  assert.deepEqual([status, stdout, stderr], [0, '', ''])
}

/** As a backend that writes MessagePack to Redis, without any of our libraries. */
const callWithBytes = (redis: RedisServer, n: number) => {
  const envelope = Buffer.from(encode({ type: 'parcel', payload: parcel('bytes', n) }))
  return redis.admin.call('FCALL', 'push_publish', 1, `push:${TOPIC}`, envelope, RULE.size, RULE.ttl, `bytes ${n}`)
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
  const [dying, living] = await Promise.all([startInteropNode(t, redis.url, env), startInteropNode(t, redis.url, env)])
  const [nginx, other] = [await startProxy(t, [dying, living]), await startProxy(t, [living, dying])]
  const groups = { dying: membersBehind(t, nginx), living: membersBehind(t, other) }
  const members = [...groups.dying, ...groups.living]
  await within(Promise.all(members.map(member => member.ready())), 'all clients have the topic', START)

  const script = createPublisher({ redis: redis.url, history: HISTORY })
  t.after(() => script.end())
  const queue = rabbitmq.connect(t).createPublisher({ confirm: true })
  t.after(() => queue.close())
  const sendToQueue = (n: number) =>
    queue.send({ routingKey: 'push-requests', durable: true, messageId: `rabbitmq ${n}` }, bodyOf('rabbitmq', n))
  const publishers: Record<string, Publisher> = {
    node: n => script.publish(TOPIC, { type: 'parcel', payload: parcel('node', n) }),
    http: n => post(nginx, n),
    php: n => callFromPhp(redis, n),
    bytes: n => callWithBytes(redis, n),
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
  for (const [group, node] of [
    [groups.dying, dying],
    [groups.living, living],
  ] as const) {
    const { node: id } = await node.status()
    assert.deepEqual(
      group.map(({ name, node }) => [name, node]),
      [...WAYS.map(([name]) => name), 'php'].map(name => [name, id]),
    )
    for (const member of group) {
      if (!(member instanceof ScriptMember)) continue
      assert.equal(member.client.transport, member.name === 'sse' ? 'sse' : 'websocket')
    }
  }
  const publishing = publishAll(BEFORE, BEFORE + DYING)
  dying.program.process.kill('SIGKILL')
  await publishing
  const end = BEFORE + DYING + AFTER
  await publishAll(BEFORE + DYING, end)
  await Promise.all(members.map(member => member.has(names, end)))

  // What comes behind this came twice or too late.
  await script.publish(TOPIC, { type: 'parcel', payload: parcel('fence', 0) })
  await Promise.all(members.map(member => member.has(['fence'], 1)))
  for (const { name, received, gaps } of members) {
    assert.deepEqual(gaps, [], name)
    for (const from of names) {
      // Two nodes read the queue and the stream side by side: which message of the two comes first is open there.
      const isOrdered = from !== 'rabbitmq' && from !== 'streams'
      const parcels = isOrdered ? received[from]! : received[from]!.toSorted((a, b) => a.n - b.n)
      const expected = range(0, end).map(n => parcel(from, n))
      assert.deepEqual(parcels, expected, `${from} to ${name}`)
    }
  }
})
