import { once } from 'node:events'
import { WebSocket } from 'ws'
import { COMPRESSION_PEERS } from '../lib/peers.ts'
import { ratios } from '../lib/ratios.ts'
import { CPU_COLUMNS, connect, everyone, type Outcome, pace, type Run, type Scenario, stats } from '../lib/scenario.ts'
import { STAMP_BASE } from '../lib/stamp.ts'

const CONNECTIONS = 1000
const WARM_UP = 50
const TOPIC = 'channel:orders'
/** Messages a second that the slowest peer can deliver to everybody. */
const RATE = 3
/** More than the 1,024 bytes from which on all of them compress. */
const SIZES: Record<string, number> = { '1 kB': 1200, '4 kB': 4400 }

/** Orders as JSON, to clients that offer permessage-deflate as browsers do. */
export const scenario: Scenario = {
  id: 'z',
  title: `compression: ${RATE} orders a second as JSON, each to 1,000 connections that offer permessage-deflate`,
  variants: Object.keys(SIZES),
  peers: COMPRESSION_PEERS,
  columns: [
    { key: 'cpuPerDelivery', label: 'µs CPU/delivery', digits: 1 },
    { key: 'wireBytes', label: 'bytes/delivery', digits: 0 },
    { key: 'compressed', label: 'compressed %', digits: 0 },
    { key: 'rssPer', label: 'RSS B/conn', digits: 0 },
    { key: 'heapPer', label: 'heap B/conn', digits: 0 },
    { key: 'delivered', label: 'in time %', digits: 1 },
    ...CPU_COLUMNS,
  ],
  async run(run, variant) {
    const browsers = { ...run, offer: { deflate: true } }
    const reader = await Reader.connect(browsers, SIZES[variant]!)
    try {
      return await measure(browsers, SIZES[variant]!, reader)
    } finally {
      reader.end()
    }
  },
  summarize: results => [
    ...ratios(results, 'ours-deflate', ['ours', 'ws-deflate', 'ws-deflate-alone', 'socketio-deflate'], {
      cpuPerDelivery: 'CPU',
      wireBytes: 'bytes',
      rssPer: 'RSS of a connection',
    }),
    ...ratios(results, 'ws-deflate', ['ws'], {
      cpuPerDelivery: 'CPU',
      wireBytes: 'bytes',
      rssPer: 'RSS of a connection',
    }),
    '',
  ],
}

async function measure(run: Run, size: number, reader: Reader): Promise<Outcome> {
  const streams = [{ topic: TOPIC, rate: RATE, size, hasOrder: true }]
  const plan = { streams, size, isStamped: false, grace: 10_000 }
  // The first connections load code and grow the heap once; they stay open and are not counted.
  await connect(run, everyone(WARM_UP, [TOPIC]))
  const warmUp = await pace(run, { ...plan, seconds: 2 })
  if (!warmUp.metrics.complete) return warmUp
  const before = await stats(run, true)
  await connect(run, everyone(CONNECTIONS, [TOPIC]))
  // What a connection makes with its first message belongs to its memory, not to the cost of a delivery.
  const first = await pace(run, { ...plan, seconds: 1 })
  if (!first.metrics.complete) return first
  const seconds = run.quick ? 2 : 10
  const { metrics, notes } = await pace(run, { ...plan, seconds })
  const after = await stats(run, true)
  reader.expect(RATE * (2 + 1 + seconds))
  return {
    metrics: {
      ...metrics,
      complete: Number(metrics.complete === 1 && reader.problem === undefined),
      // Those of the warm-up and the reader get it as well.
      cpuPerDelivery: (metrics.cpuPerDelivery! * CONNECTIONS) / (CONNECTIONS + WARM_UP + 1),
      rssPer: (after.rss - before.rss) / CONNECTIONS,
      heapPer: (after.heap - before.heap) / CONNECTIONS,
    },
    notes: [...notes, ...(reader.problem === undefined ? [] : [`${run.peer.name}: ${reader.problem}`])],
  }
}

/** The load counts frames; this one client reads every message: what was compressed must be what was published. */
class Reader {
  problem: string | undefined
  readonly #socket: WebSocket
  readonly #size: number
  #last = 0
  #count = 0

  private constructor(url: string, size: number) {
    this.#size = size
    this.#socket = new WebSocket(url, { perMessageDeflate: true })
    this.#socket.on('message', data => this.#read(String(data)))
    this.#socket.on('close', () => this.#fail('the connection of the reader was closed'))
  }

  static async connect({ peer, server }: Run, size: number): Promise<Reader> {
    const path =
      peer.kind === 'socketio' ? `socket.io/?EIO=4&transport=websocket&topics=${TOPIC}` : `ws?topics=${TOPIC}`
    const reader = new Reader(`ws://127.0.0.1:${server.port}/${path}`, size)
    await once(reader.#socket, 'open')
    return reader
  }

  expect(count: number): void {
    if (this.#count !== count) this.#fail(`the reader got ${this.#count} messages of ${count}`)
  }

  end(): void {
    this.#socket.removeAllListeners('close')
    this.#socket.terminate()
  }

  #read(text: string): void {
    // Socket.IO opens the namespace, and wants its pings answered.
    if (text.startsWith('0{')) return this.#socket.send('40')
    if (text === '2') return this.#socket.send('3')
    const order = /^(?:42\["bench",|\{"type":"bench","payload":)\{"t":(\d+),"p":\{"id":"[0-9a-f]{12}","status":/.exec(
      text,
    )
    if (!order) return
    const stamp = Number(order[1]) - STAMP_BASE
    if (text.length !== this.#size) this.#fail(`a message has ${text.length} bytes instead of ${this.#size}`)
    if (stamp <= this.#last) this.#fail('messages are out of order')
    this.#last = stamp
    this.#count++
    JSON.parse(text.startsWith('42') ? text.slice(2) : text)
  }

  #fail(problem: string): void {
    this.problem ??= problem
  }
}
