import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import type { ScriptPublisher } from '../publisher.ts'
import { countIn, type Desk, EXIT, type Given, on, type Task, text, UsageError } from './command.ts'
import { Latencies } from './latencies.ts'
import { isLoopback, type RawData, urlOf, WebSocket, withoutQuery } from './socket.ts'
import { printable, table } from './table.ts'

const MAX = { connections: 2000, rate: 10_000, seconds: 120, bytes: 16_384 } as const

/** What is delivered in a second at most: more measures this program. */
const MAX_DELIVERIES = 200_000

const OPEN_WITHIN = 10_000
const OPEN_AT_ONCE = 50
const TICK = 10

/** Publications that wait for the answer of Redis. */
const MAX_WAITING = 1000

/** How long what was published may take after the last one, until it is lost. */
const LATE = 5000

interface Load {
  url: URL
  connections: number
  rate: number
  seconds: number
  bytes: number
}

/** What came of it. `expected`, `delivered`: messages at connections. */
export interface BenchResult {
  connections: number
  seconds: number
  published: number
  failed: number
  rate: number
  expected: number
  delivered: number
  lost: number
  repeated: number
  p50?: number
  p99?: number
  max?: number
}

/** Whether Redis is on this machine: it has as much to do as the nodes. What is no URL may be anywhere. */
function isNear(redis: unknown): boolean {
  const url = typeof redis === 'object' && redis !== null && 'url' in redis ? redis.url : redis
  if (typeof url !== 'string') return false
  return /^(unix:|\/)/.test(url) || (URL.canParse(url) && isLoopback(new URL(url)))
}

function loadOf({ flags }: Given, { env, way }: Desk): Load {
  const load = {
    url: urlOf(flags, env),
    connections: countIn(flags, 'connections', { fallback: 100, most: MAX.connections }),
    rate: countIn(flags, 'rate', { fallback: 100, most: MAX.rate }),
    seconds: countIn(flags, 'seconds', { fallback: 5, most: MAX.seconds }),
    bytes: countIn(flags, 'bytes', { fallback: 100, most: MAX.bytes, least: 0 }),
  }
  if (!isLoopback(load.url) && flags.yes !== true) {
    throw new UsageError(`${load.url.host} is another machine: --yes if you may put load on it`)
  }
  const redis = way()?.redis
  if (redis !== undefined && !isNear(redis) && flags.yes !== true) {
    throw new UsageError('Redis is on another machine: --yes if you may put load on it')
  }
  const deliveries = (load.rate / 2) * (load.connections + 1)
  if (deliveries > MAX_DELIVERIES) {
    throw new UsageError(
      `${Math.round(deliveries)} deliveries a second are too many: at most ${MAX_DELIVERIES}; lower --rate or --connections`,
    )
  }
  return load
}

interface Payload {
  n: number
  at: number
  all: boolean
}

/** Of a message of this bench; undefined of any other. */
function payloadOf(data: RawData): Payload | undefined {
  try {
    const { type, payload } = JSON.parse(String(data))
    return type === 'bench' ? payload : undefined
  } catch {
    return undefined
  }
}

/** Half of the publications go to a topic that everybody has, half to single users. */
class Bench {
  readonly #load: Load
  readonly #publisher: ScriptPublisher
  readonly #ended: AbortSignal
  readonly #name = `bench-${randomBytes(6).toString('hex')}`
  readonly #sockets: WebSocket[] = []
  readonly #latencies = new Latencies()
  /** The last number of each connection on each of its two topics: they arrive in order. */
  readonly #last: { all: number; own: number }[] = []
  #published = 0
  #failed = 0
  #expected = 0
  #delivered = 0
  #repeated = 0
  #waiting = 0
  #problem: Error | undefined
  #isOver = false

  constructor(load: Load, publisher: ScriptPublisher, ended: AbortSignal) {
    this.#load = load
    this.#publisher = publisher
    this.#ended = ended
  }

  async run(): Promise<BenchResult> {
    try {
      await this.#open()
      const seconds = await this.#publish()
      await this.#settle()
      return this.#result(seconds)
    } finally {
      this.#isOver = true
      for (const socket of this.#sockets) socket.terminate()
    }
  }

  get problem(): Error | undefined {
    return this.#problem
  }

  /** A few at a time: a node refuses an address that opens too many a second. */
  async #open(): Promise<void> {
    const { connections } = this.#load
    for (let first = 0; first < connections && !this.#ended.aborted; first += OPEN_AT_ONCE) {
      const start = performance.now()
      const these = Array.from({ length: Math.min(OPEN_AT_ONCE, connections - first) }, (_, i) =>
        this.#connect(first + i),
      )
      await Promise.all(these)
      const rest = 250 - (performance.now() - start)
      if (rest > 0 && first + OPEN_AT_ONCE < connections) await sleep(rest)
    }
  }

  async #connect(i: number): Promise<void> {
    const topic = `channel:${this.#name}` as const
    const url = new URL(this.#load.url)
    url.searchParams.set('ticket', await this.#publisher.ticket({ user: `${this.#name}-${i}`, join: [topic] }))
    // Another one failed meanwhile: nobody would end this socket.
    if (this.#isOver) return
    const socket = new WebSocket(url, { handshakeTimeout: OPEN_WITHIN, maxPayload: 1024 * 1024 })
    this.#sockets.push(socket)
    this.#last[i] = { all: -1, own: -1 }
    await new Promise<void>((resolve, reject) => {
      const late = setTimeout(() => reject(new Error(`no welcome within ${OPEN_WITHIN} ms`)), OPEN_WITHIN)
      const failed = (error: Error) => {
        clearTimeout(late)
        if (!this.#isOver) this.#problem ??= error
        reject(error)
      }
      socket.on('error', failed)
      socket.on('close', (code, reason) => failed(new Error(`a connection was closed: ${code} ${reason}`.trimEnd())))
      socket.once('message', () => {
        clearTimeout(late)
        socket.on('message', data => this.#hear(data, i))
        resolve()
      })
    })
  }

  #hear(data: RawData, i: number): void {
    const payload = payloadOf(data)
    if (!payload) return
    const last = this.#last[i]!
    const kind = payload.all ? 'all' : 'own'
    if (payload.n <= last[kind]) {
      this.#repeated++
      return
    }
    last[kind] = payload.n
    this.#delivered++
    this.#latencies.add(performance.now() - payload.at)
  }

  async #publish(): Promise<number> {
    const { rate, seconds } = this.#load
    const start = performance.now()
    const elapsed = () => (performance.now() - start) / 1000
    let due = 0
    while (elapsed() < seconds && !this.#ended.aborted) {
      const now = Math.floor(elapsed() * rate)
      // Who cannot keep up publishes less; the result says how much.
      while (due < now && this.#waiting < MAX_WAITING) this.#send(due++)
      due = Math.max(due, now - rate)
      await sleep(TICK)
    }
    return elapsed()
  }

  #send(n: number): void {
    const { connections, bytes } = this.#load
    const all = n % 2 === 0
    const topic = all ? `channel:${this.#name}` : `user:${this.#name}-${((n - 1) / 2) % connections}`
    const payload = { n, at: performance.now(), all, fill: 'x'.repeat(bytes) }
    this.#waiting++
    this.#publisher
      .publish(topic, { type: 'bench' as never, payload: payload as never })
      .then(
        () => {
          this.#published++
          this.#expected += all ? connections : 1
        },
        (error: Error) => {
          this.#failed++
          this.#problem ??= error
        },
      )
      .finally(() => {
        this.#waiting--
      })
  }

  async #settle(): Promise<void> {
    const end = performance.now() + LATE
    const isOver = () => this.#waiting === 0 && this.#delivered >= this.#expected
    while (!isOver() && performance.now() < end && !this.#ended.aborted) await sleep(TICK)
  }

  #result(seconds: number): BenchResult {
    const round = (value: number | undefined) => value && Number(value.toFixed(2))
    const [p50, p99] = [round(this.#latencies.at(0.5)), round(this.#latencies.at(0.99))]
    return {
      connections: this.#sockets.length,
      seconds: Number(seconds.toFixed(1)),
      published: this.#published,
      failed: this.#failed,
      rate: Math.round(this.#published / seconds),
      expected: this.#expected,
      delivered: this.#delivered,
      lost: Math.max(0, this.#expected - this.#delivered),
      repeated: this.#repeated,
      ...(p50 !== undefined && p99 !== undefined && { p50, p99, max: round(this.#latencies.largest)! }),
    }
  }
}

function show({ p50, p99, max, ...numbers }: BenchResult): string {
  const latency = p50 === undefined ? '' : `\nmilliseconds from publishing to here: p50 ${p50}, p99 ${p99}, max ${max}`
  return `${table([numbers])}${latency}`
}

async function measure(given: Given, desk: Desk): Promise<number> {
  const load = loadOf(given, desk)
  const publisher = desk.open()
  const bench = new Bench(load, publisher, desk.ended)
  const result = await bench.run().catch((error: Error) => {
    throw new Error(`${withoutQuery(load.url)}: ${error.message}; fastify-push-bridge doctor --url says what is wrong`)
  })
  desk.terminal.out(`${desk.isJson ? JSON.stringify(result) : show(result)}\n`)
  const isWell = result.lost === 0 && result.failed === 0 && result.repeated === 0
  if (!isWell && bench.problem) desk.terminal.err(`${printable(bench.problem.message)}\n`)
  return isWell ? EXIT.done : EXIT.failed
}

export const bench: Task = {
  usage: '',
  about:
    'a quick load on running nodes: --connections N (100) with tickets, --rate N (100) publications a second for ' +
    '--seconds N (5), half to one topic and half to single users, --bytes N each; only on this machine unless --yes',
  flags: { url: text, connections: text, rate: text, seconds: text, bytes: text, yes: on },
  takes: [0, 0],
  perform: measure,
}
