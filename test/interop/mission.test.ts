import assert from 'node:assert/strict'
import { test } from 'node:test'
import { WebSocket } from 'ws'
import { type Client, connect } from '../../src/client/index.ts'
import { createPublisher } from '../../src/publisher.ts'
import { type Nginx, startNginx } from '../helpers/nginx.ts'
import { API_KEY, type Cleanup, path, run, startInteropNode } from '../helpers/processes.ts'
import { findProgram } from '../helpers/programs.ts'
import { startRedis } from '../helpers/redis.ts'
import { PATIENCE, START, within } from '../helpers/waiting.ts'

const CLIENTS = 200
const USERS = 10
const CHANNELS = 8
const python = findProgram('/usr/bin/python3', 'python3')!

const range = (count: number, first = 0) => Array.from({ length: count }, (_, n) => first + n)
const TOPICS = [
  'all',
  ...range(USERS).map(n => `user:u${n}`),
  ...range(CHANNELS).map(n => `channel:c${n}`),
  'channel:nobody',
]

interface Tick {
  from: string
  n: number
}

/** One of the many: a user, a channel from the path of its URL and another that it subscribes to. */
class Member {
  readonly client: Client
  readonly subscribed: string
  readonly topics: readonly string[]
  /** Numbers by publisher and topic, in the order of arrival. */
  received = new Map<string, number[]>()
  count = 0
  gaps = 0
  #waiting: { count: number; resolve(): void } | undefined

  constructor(t: Cleanup, nginx: Nginx, index: number) {
    const own = index % CHANNELS
    const other = (own + 1 + (Math.floor(index / CHANNELS) % (CHANNELS - 1))) % CHANNELS
    const user = `u${index % USERS}`
    this.subscribed = `channel:c${other}`
    this.topics = ['all', `user:${user}`, `channel:c${own}`, this.subscribed]
    this.client = connect(`${nginx.url}/c${own}?user=${user}`, { topics: [this.subscribed], WebSocket })
    t.after(() => this.client.close())
    this.client.on('*', (payload, { topic }) => this.#take(payload as Tick, topic!))
    this.client.listen('gap', () => this.gaps++)
  }

  #take({ from, n }: Tick, topic: string): void {
    const key = `${from} ${topic}`
    this.received.set(key, [...(this.received.get(key) ?? []), n])
    this.count++
    if (this.#waiting && this.count >= this.#waiting.count) this.#waiting.resolve()
  }

  /** Resolves when it is next welcomed and its subscription is confirmed. */
  ready(): Promise<unknown> {
    return new Promise(resolve => {
      const stop = this.client.listen('welcome', () => {
        stop()
        resolve(this.client.subscribe(this.subscribed))
      })
    })
  }

  has(count: number): Promise<void> {
    if (this.count >= count) return Promise.resolve()
    return new Promise(resolve => {
      this.#waiting = { count, resolve }
    })
  }
}

/** Everything that publishes, at once: `count` messages to every topic from each, numbered from `first`. */
async function publishAll(redisPort: number, nginx: Nginx, first: number, count: number): Promise<string[]> {
  const plan = [String(first), String(count), TOPICS.join(',')]
  const script = (name: string) => path(`test/interop/publishers/publish.${name}`)
  const programs = [
    run(process.execPath, ['--import', 'tsx', script('ts'), String(redisPort), 'node', ...plan], {}, START),
    run('php', [script('php'), String(redisPort), 'php', ...plan], {}, START),
    run(python, [script('py'), String(redisPort), 'python', ...plan], {}, START),
    run('redis-cli', ['-p', String(redisPort)], { input: commands('redis-cli', first, count) }, START),
  ]
  const [finished] = await Promise.all([Promise.all(programs), publishOverHttp('http', nginx, first, count)])
  for (const { code, stderr } of finished) assert.equal(code, 0, stderr)
  return ['node', 'php', 'python', 'redis-cli', 'http']
}

function commands(from: string, first: number, count: number): string {
  const lines = range(count, first).flatMap(n =>
    TOPICS.map(topic => `PUBLISH push:${topic} '{"type":"tick","payload":{"from":"${from}","n":${n}}}'\n`),
  )
  return lines.join('')
}

/** One request after the other, through nginx to both nodes in turn. */
async function publishOverHttp(from: string, nginx: Nginx, first: number, count: number): Promise<void> {
  const headers = { authorization: `Bearer ${API_KEY}`, 'content-type': 'application/json' }
  for (const n of range(count, first)) {
    for (const to of TOPICS) {
      const body = JSON.stringify({ to, type: 'tick', payload: { from, n } })
      const response = await fetch(`${nginx.origin}/push`, { method: 'POST', headers, body })
      assert.equal(response.status, 200, await response.text())
    }
  }
}

/** Every member has from every publisher, for each of its topics, the numbers up to `end`: all, once, in order. */
function checkAll(members: readonly Member[], publishers: readonly string[], end: number): void {
  const numbers = range(end)
  for (const { topics, received } of members) {
    const expected = publishers.flatMap(from => topics.map(topic => [`${from} ${topic}`, numbers]))
    assert.deepEqual(Object.fromEntries(received), Object.fromEntries(expected))
  }
}

test('200 clients over two nodes get from five publishers exactly what their topics say, also after a node is killed', async t => {
  const redis = await startRedis(t)
  const [one, two] = await Promise.all([startInteropNode(t, redis.url), startInteropNode(t, redis.url)])
  const nginx = await startNginx(t, [one.port, two.port])
  const publisher = createPublisher({ redis: redis.url, publishTimeout: PATIENCE })
  t.after(() => publisher.end())

  const members = range(CLIENTS).map(index => new Member(t, nginx, index))
  await within(Promise.all(members.map(member => member.ready())), '200 clients welcomed and subscribed')
  const [first, second] = [await one.status(), await two.status()]
  assert.equal(first.connections + second.connections, CLIENTS)
  assert.ok(Math.abs(first.connections - second.connections) <= CLIENTS / 10, 'round robin')

  const publishers = await publishAll(redis.port, nginx, 0, 30)
  const perNumber = publishers.length * 4
  const arrived = (end: number) => Promise.all(members.map(member => member.has(end * perNumber)))
  await within(arrived(30), 'every message of the first round')
  await fence()
  checkAll(members, publishers, 30)
  assert.equal(
    members.reduce((sum, { gaps }) => sum + gaps, 0),
    0,
  )

  const lost = members.filter(({ client }) => client.welcome!.node === first.node)
  const back = lost.map(member => member.ready())
  assert.equal(lost.length, first.connections)
  one.program.process.kill('SIGKILL')
  await within(Promise.all(back), 'the clients of the killed node are back')
  for (const { client } of members) assert.equal(client.welcome!.node, second.node)
  assert.equal((await two.status()).connections, CLIENTS)

  await publishAll(redis.port, nginx, 30, 10)
  await within(arrived(40), 'every message of the second round')
  await fence()
  checkAll(members, publishers, 40)

  /** What comes behind it was too late or too much: on one connection everything arrives in order. */
  async function fence(): Promise<void> {
    const counts = members.map(({ count }) => count)
    const { delivered, complete } = await publisher.publish('all', { type: 'tick', payload: {}, receipt: true })
    assert.deepEqual([delivered, complete], [CLIENTS, true])
    await within(Promise.all(members.map((member, index) => member.has(counts[index]! + 1))), 'the fence')
    for (const member of members) {
      assert.ok(member.received.delete('undefined all'))
      member.count--
    }
  }
})
