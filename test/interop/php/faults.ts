import { createConnection, createServer, type Socket } from 'node:net'
import { type Cleanup, type InteropNode, Program, path, startInteropNode } from '../../helpers/processes.ts'
import { freePort, type RedisServer, startRedis } from '../../helpers/redis.ts'
import { once, until } from '../../helpers/waiting.ts'

export interface FaultRun {
  problems: string[]
  received: number
  connections: number
  faults: Record<string, number>
}

const TOPICS = ['channel:one', 'channel:two', 'user:worker']
/** Minutes of a topic, and nobody is away for more than seconds: what is trimmed before it was asked for would be a gap, and rightly so. */
const SIZE = 100_000
const AT_ONCE = 8
const MOST_BETWEEN = 1500

/** The same numbers for the same seed. */
function randomOf(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), state | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

/** Passes bytes on to one of the nodes, and cuts connections on demand. */
class CuttingProxy {
  readonly #pairs = new Set<[client: Socket, server: Socket]>()
  readonly #ports: readonly number[]
  #turn = 0
  #isToCutInside = false
  port = 0

  constructor(ports: readonly number[]) {
    this.#ports = ports
  }

  async listen(t: Cleanup): Promise<void> {
    const server = createServer(client => this.#connect(client)).listen(0, '127.0.0.1')
    await once(server, 'listening')
    this.port = (server.address() as { port: number }).port
    t.after(() => {
      server.close()
      this.cut()
    })
  }

  cut(): void {
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy()
  }

  /** The next bytes for a client come in part, and then the connection is lost. */
  cutInside(): void {
    this.#isToCutInside = true
  }

  #connect(client: Socket): void {
    const server = createConnection(this.#ports[this.#turn++ % this.#ports.length]!, '127.0.0.1')
    const pair: [Socket, Socket] = [client, server]
    this.#pairs.add(pair)
    for (const socket of pair) {
      socket.on('error', () => {})
      socket.on('close', () => {
        this.#pairs.delete(pair)
        for (const other of pair) other.destroy()
      })
    }
    client.on('data', bytes => server.write(bytes))
    server.on('data', bytes => {
      if (!this.#isToCutInside || bytes.length < 2) return void client.write(bytes)
      this.#isToCutInside = false
      client.write(bytes.subarray(0, bytes.length >> 1), () => this.cut())
    })
  }
}

class Run {
  readonly redis: RedisServer
  readonly nodes: InteropNode[]
  readonly proxy: CuttingProxy
  readonly worker: Program
  readonly faults: Record<string, number> = {}
  readonly sent: Record<string, number> = Object.fromEntries(TOPICS.map(topic => [topic, 0]))
  readonly #t: Cleanup
  readonly #random: () => number

  constructor(
    t: Cleanup,
    random: () => number,
    parts: { redis: RedisServer; nodes: InteropNode[]; proxy: CuttingProxy },
  ) {
    this.#t = t
    this.#random = random
    this.redis = parts.redis
    this.nodes = parts.nodes
    this.proxy = parts.proxy
    const url = `ws://127.0.0.1:${this.proxy.port}/ws`
    const args = [path('test/interop/php/faults-worker.php'), url, 'worker', `${this.redis.port}`, TOPICS.join()]
    this.worker = new Program(t, 'php', args)
  }

  /** Publishes the next numbers; waits until Redis has them all. */
  async publish(): Promise<void> {
    for (let i = 0; i < AT_ONCE; i++) {
      const topic = TOPICS[Math.floor(this.#random() * TOPICS.length)]!
      const n = ++this.sent[topic]!
      const envelope = JSON.stringify({ type: 'n', payload: { n, pad: 'x'.repeat(Math.floor(this.#random() * 2000)) } })
      await this.redis.admin.call('FCALL', 'push_publish', 1, `push:${topic}`, envelope, SIZE, 86_400, `${n}`)
    }
  }

  async fault(): Promise<void> {
    const kind = this.#pick(Object.keys(this.#kinds))
    this.faults[kind] = (this.faults[kind] ?? 0) + 1
    await this.#kinds[kind]!()
  }

  readonly #kinds: Record<string, () => unknown> = {
    cut: () => this.proxy.cut(),
    'cut inside of a frame': () => this.proxy.cutInside(),
    'node killed': () => this.#restart('SIGKILL'),
    'node drained': () => this.#restart('SIGTERM'),
    'node frozen': () => this.#freeze(this.#node.program.process.pid!),
    'redis frozen': () => this.#freeze(this.redis.pid),
    'worker frozen': () => this.#freeze(this.worker.process.pid!),
    closed: () =>
      this.redis.admin.publish(
        'push:user:worker',
        `{"control":"close","code":${this.#pick([4502, 4503, 4500, 3000])}}`,
      ),
  }

  get #node(): InteropNode {
    return this.#pick(this.nodes)
  }

  #pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.#random() * list.length)]!
  }

  async #restart(signal: NodeJS.Signals): Promise<void> {
    const node = this.#node
    await node.program.stop(signal)
    const again = await startInteropNode(this.#t, this.redis.url, { PORT: `${node.port}`, LOG_LEVEL: 'silent' })
    this.nodes[this.nodes.indexOf(node)] = again
  }

  async #freeze(pid: number): Promise<void> {
    process.kill(pid, 'SIGSTOP')
    await pause(200 + this.#random() * MOST_BETWEEN)
    process.kill(pid, 'SIGCONT')
  }

  get numbers(): string[] {
    return this.worker.lines.filter(line => /^(channel|user):\S+ \d+$/.test(line))
  }

  judge(): FaultRun {
    const problems = this.worker.lines.filter(line => /^PHP|Fatal|Warning/.test(line))
    const last: Record<string, number> = {}
    for (const line of this.numbers) {
      const [topic, text] = line.split(' ') as [string, string]
      const expected = (last[topic] ?? 0) + 1
      if (Number(text) !== expected) problems.push(`${topic}: ${text} instead of ${expected}`)
      last[topic] = Number(text)
    }
    for (const topic of TOPICS) {
      if ((last[topic] ?? 0) !== this.sent[topic]) problems.push(`${topic}: ${last[topic]} of ${this.sent[topic]}`)
    }
    problems.push(...this.worker.lines.filter(isUnfoundedGap))
    const connections = this.worker.lines.filter(line => line.startsWith('connected ')).length
    return { problems, received: this.numbers.length, connections, faults: this.faults }
  }
}

/** Everything is recorded and Redis keeps it, so only an unrecorded topic may have a gap. While Redis is away nobody knows. */
function isUnfoundedGap(line: string): boolean {
  if (!line.startsWith('{"type":"gap"')) return false
  const { topics, reason } = (JSON.parse(line) as { payload: { topics: string[]; reason: string } }).payload
  return reason !== 'broker_away' && topics.some(topic => TOPICS.includes(topic))
}

function pause(milliseconds: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, milliseconds))
}

/** Two nodes on a Redis, on ports that are still free when they are started again. */
export async function startNodes(t: Cleanup): Promise<{ redis: RedisServer; nodes: InteropNode[] }> {
  const redis = await startRedis(t)
  const ports = [await freePort(), await freePort()]
  const start = (port: number) => startInteropNode(t, redis.url, { PORT: `${port}`, LOG_LEVEL: 'silent' })
  return { redis, nodes: await Promise.all(ports.map(start)) }
}

/** A PHP client behind two nodes, and faults for so many seconds: it must get everything once and in order. */
export async function runFaults(
  t: Cleanup,
  servers: { redis: RedisServer; nodes: InteropNode[] },
  { seconds, seed }: { seconds: number; seed: number },
): Promise<FaultRun> {
  const random = randomOf(seed)
  const proxy = new CuttingProxy(servers.nodes.map(({ port }) => port))
  await proxy.listen(t)
  const run = new Run(t, random, { ...servers, proxy })
  await run.worker.line(/^ready$/)
  const end = performance.now() + seconds * 1000
  const publishing = async () => {
    while (performance.now() < end) {
      await run.publish()
      await pause(20)
    }
  }
  const failing = async () => {
    while (performance.now() < end) {
      await pause(random() * MOST_BETWEEN)
      await run.fault()
    }
  }
  await Promise.all([publishing(), failing()])
  const total = Object.values(run.sent).reduce((sum, n) => sum + n, 0)
  await until(
    () => run.numbers.length >= total,
    () => `${total} messages, only ${run.numbers.length}; ${run.worker.lines.slice(-5).join(' | ')}`,
  ).catch(() => {})
  return run.judge()
}
