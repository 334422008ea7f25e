import { monitorEventLoopDelay } from 'node:perf_hooks'
import { answer, type Operations } from './rpc.ts'

/** What every server under test can be asked: memory in bytes, delay in milliseconds. */
export interface Stats {
  rss: number
  heap: number
  /** memory of Buffers outside the heap: what queued frames pin */
  buffers: number
  maxDelay: number
}

const RESOLUTION = 5
const delays = monitorEventLoopDelay({ resolution: RESOLUTION })

/**
 * A server under test calls this once it listens. The contract is the same for all: `ready PORT` on stdout, `stats` and
 * `reset` over IPC. A server that knows whether messages are still on their way to it also answers `isBehind`.
 */
export function announce(port: number, operations: Operations = {}): void {
  answer({ stats, reset, ...operations })
  console.log(`ready ${port}`)
}

async function reset(): Promise<void> {
  delays.enable()
  delays.reset()
  // The first tick after a reset only starts the clock: a delay before it would not be seen.
  await sleep(3 * RESOLUTION)
}

async function stats({ gc = false }: { gc?: boolean } = {}): Promise<Stats> {
  if (gc) await collect()
  // The request may have been read in the very turn of the loop that was blocked: let the delay's timer fire first.
  await sleep(2 * RESOLUTION)
  const memory = process.memoryUsage()
  return {
    rss: memory.rss,
    heap: memory.heapUsed,
    buffers: memory.arrayBuffers,
    // The histogram holds the time between two ticks of its timer: what is over the tick is the delay.
    maxDelay: Math.max(0, delays.max / 1e6 - RESOLUTION),
  }
}

async function collect(): Promise<void> {
  // Several passes with pauses: finalizers free Buffers only after the pass that found them dead.
  for (let pass = 0; pass < 4; pass++) {
    globalThis.gc?.()
    await sleep(50)
  }
}

function sleep(milliseconds: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, milliseconds))
}

/** `?topics=channel:a,channel:b&user=u1` of an upgrade request's URL: the topics this connection is to be on. */
export function topicsOf(url: string): string[] {
  const query = new URL(url, 'http://bench').searchParams
  const topics = query.get('topics')?.split(',').filter(Boolean) ?? []
  const user = query.get('user')
  return user ? [...topics, `user:${user}`] : topics
}

export const REDIS_URL = process.env.REDIS_URL ?? 'redis://127.0.0.1:6379'
export const PORT = Number(process.env.PORT ?? 0)
/** The same for every peer: Node's default of 511 would make the connect storm a test of SYN retries. */
export const BACKLOG = 4096
export const PREFIX = 'push:'
