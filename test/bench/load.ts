/** The load generator's process: raw clients that connect, count and measure. Told what to do by the orchestrator. */
import { type Expectation, Meter, now } from './lib/meter.ts'
import type { Kind } from './lib/peers.ts'
import { type Client, type Crowd, type Offer, Pool } from './lib/pool.ts'
import { answer } from './lib/rpc.ts'
import { StreamPool } from './lib/stream-pool.ts'

export interface Connect {
  kind: Kind
  port: number
  clients: Client[]
  /** how many may be on their way at a time */
  concurrency: number
  offer: Offer
}

export interface Arrivals {
  got: number
  total: number
  missing: number
  extra: number
  disorder: number
  /** gaps that connections were told of */
  gaps: number
  /** when messages came in the usual time again, microseconds of CLOCK_MONOTONIC; 0 if they never did */
  usualAt: number
  /** when the last counted message was read, microseconds of CLOCK_MONOTONIC */
  lastAt: number
  p50: number
  p99: number
  max: number
  /** CPU seconds of the loader since `expect` */
  cpu: number
  /** bytes read from all sockets, and counted messages that came compressed, since `expect` */
  bytes: number
  compressed: number
  others: Record<string, number>
}

let pool: Crowd
let cpuBefore = 0
let expectedAt = 0
/** Nothing more is waited for. */
let isOver = false

function cpu(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}

/** Resolves with the seconds until every client is live. */
function connect({ kind, port, clients, concurrency, offer }: Connect): Promise<{ seconds: number; retries: number }> {
  const began = now()
  pool = kind === 'sse' ? new StreamPool(port) : new Pool(kind, port, offer)
  return new Promise(resolve => {
    let dialled = 0
    const dial = () => {
      while (dialled < clients.length && dialled - pool.live < concurrency) pool.add(clients[dialled++]!)
    }
    pool.onLive = () => {
      if (pool.live === clients.length) resolve({ seconds: (now() - began) / 1e6, retries: pool.retries })
      else dial()
    }
    dial()
  })
}

function expect(expectation: Expectation): { total: number } {
  pool.meter = new Meter(expectation, pool.topics)
  cpuBefore = cpu()
  expectedAt = now()
  pool.bytes = 0
  pool.compressed = 0
  return { total: pool.meter.total }
}

/** Resolves when everything expected is there, or with what is there when the time is up. */
async function wait({ timeout }: { timeout: number }): Promise<Arrivals> {
  const meter = pool.meter!
  const deadline = now() + timeout * 1000
  isOver = false
  while (!meter.done && !isOver && now() < deadline) await sleep(5)
  const spent = cpu() - cpuBefore
  // What comes twice would come now.
  if (meter.done) await sleep(50)
  const { latencies, got, total, disorder, gaps, usualAt, lastAt } = meter
  return {
    got,
    total,
    ...meter.differences(),
    disorder,
    gaps,
    usualAt,
    lastAt,
    p50: latencies.quantile(0.5),
    p99: latencies.quantile(0.99),
    max: latencies.max,
    cpu: spent,
    bytes: pool.bytes,
    compressed: pool.compressed,
    others: pool.others,
  }
}

/** Resolves when the server has closed `count` connections, or when the time is up, with the times so far. */
async function closes({ count, timeout }: { count: number; timeout: number }): Promise<number[]> {
  const deadline = now() + timeout * 1000
  while (pool.closedAt.length < count && now() < deadline) await sleep(5)
  return pool.closedAt
}

function sleep(milliseconds: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, milliseconds))
}

answer({
  connect,
  expect,
  wait,
  finish: () => {
    isOver = true
  },
  /** milliseconds since the last counted message, or since any is expected */
  quiet: () => (now() - Math.max(pool.meter!.lastAt, expectedAt)) / 1000,
  closes,
  live: () => ({ live: pool?.live ?? 0 }),
  stall: ({ index }: { index: number }) => void pool.connections[index]!.socket.pause(),
  resume: ({ index }: { index: number }) => void pool.connections[index]!.socket.resume(),
  leave: () => pool.leave(),
  /** What everybody sends, one after the other, and that again. */
  say: ({ text, times }: { text: string; times: number }) => {
    for (let time = 0; time < times; time++) pool.say(text)
  },
  others: () => pool.others,
})
console.log('ready 0')
