import { WORKING } from '../lib/peers.ts'
import { CPU_COLUMNS, connect, everyone, pace, type Run, type Scenario } from '../lib/scenario.ts'
import { MESSAGE_BYTES } from '../lib/stamp.ts'

const CONNECTIONS = 1000
const TOPIC = 'channel:paced'
const RATE = 50
/** Clients that want something computed, and how often each says so. */
const ASKERS = 20
const ASK_EVERY = 500
/** Some 200 ms of CPU for each message: far more than two threads can do, even with a core each. */
const ROUNDS = 200
const ASKED = `{"type":"compute","payload":{"rounds":${ROUNDS}},"ref":1}`

/** Do pushes go on as usual while all worker threads compute, and more work waits for them? */
export const scenario: Scenario = {
  id: 'w',
  title: 'workers: 1,000 connections at 50 messages/s, while two worker threads do nothing and while they are full',
  variants: ['idle', 'full'],
  peers: [WORKING],
  columns: [
    { key: 'p50', label: 'p50 ms', digits: 1 },
    { key: 'p99', label: 'p99 ms', digits: 1 },
    { key: 'max', label: 'max ms', digits: 1 },
    { key: 'maxDelay', label: 'max loop delay ms', digits: 1 },
    { key: 'computed', label: 'computed', digits: 0 },
    { key: 'refused', label: 'refused', digits: 0 },
    ...CPU_COLUMNS,
  ],
  async run(run, variant) {
    const asking = variant === 'full' ? await startAsking(run) : undefined
    await connect(run, everyone(CONNECTIONS, [TOPIC]))
    const streams = [{ topic: TOPIC, rate: RATE, size: MESSAGE_BYTES }]
    const pacing = { streams, size: MESSAGE_BYTES, grace: 10_000 }
    await pace(run, { ...pacing, seconds: 1 })
    const result = await pace(run, { ...pacing, seconds: run.quick ? 3 : 10 })
    const { reply = 0, error = 0 } = (await asking?.end()) ?? {}
    const isFull = asking === undefined || error > 0
    if (!isFull) result.notes.push(`${WORKING.name}: the queue of the workers was never full`)
    const metrics = { ...result.metrics, computed: reply, refused: error }
    metrics.complete = Number(metrics.complete === 1 && isFull)
    return { ...result, metrics }
  },
}

/** Clients of a loader of their own ask again and again; `end` resolves with what they were answered, by type. */
async function startAsking(run: Run): Promise<{ end(): Promise<Record<string, number>> }> {
  // Only its loader is used: the node that comes with it has nothing to do.
  const { load } = await run.openLoad()
  const { kind } = run.peer
  const clients = everyone(ASKERS, [])
  await load.request('connect', { kind, port: run.server.port, clients, concurrency: ASKERS, offer: {} })
  const ask = (times: number) => load.request('say', { text: ASKED, times })
  // Full from the beginning: 20 × 6 is more than the two threads and their queue of 100 take.
  await ask(6)
  const timer = setInterval(() => void ask(1), ASK_EVERY)
  return {
    end: () => {
      clearInterval(timer)
      return load.request('others')
    },
  }
}
