import { BLASTER } from '../lib/peers.ts'
import { CPU_COLUMNS, connect, everyone, type Scenario } from '../lib/scenario.ts'
import { MESSAGE_BYTES, micros } from '../lib/stamp.ts'
import type { Arrivals } from '../load.ts'

const TOPIC = 'channel:blast'
const CONNECTIONS = 1000
/** frames that go into one write, and frames for each connection */
const SHAPES: Record<string, { join: number; frames: number }> = {
  'single writes': { join: 1, frames: 400 },
  'writes of 10': { join: 10, frames: 2000 },
  'writes of 500': { join: 500, frames: 10_000 },
}

/** What the loader itself can take: prebuilt bytes, written as fast as possible. A result near it is the loader's. */
export const scenario: Scenario = {
  id: 'ceiling',
  title: "the loader's ceiling: 1,000 connections, prebuilt bytes without Redis",
  variants: Object.keys(SHAPES),
  columns: [
    { key: 'rate', label: 'deliveries/s', digits: 0 },
    { key: 'loadMicros', label: 'µs loader CPU/delivery', digits: 3 },
    ...CPU_COLUMNS,
  ],
  peers: [BLASTER],
  async run(run, variant) {
    const { join, frames: full } = SHAPES[variant]!
    const frames = run.quick ? full / 4 : full
    const size = MESSAGE_BYTES
    await connect(run, everyone(CONNECTIONS, [TOPIC]))
    await run.load.request('expect', { perTopic: { [TOPIC]: frames }, size, stamped: false })
    const before = run.server.cpu()
    const firstAt = micros()
    await run.server.request('blast', { frames, size, join })
    const arrivals = await run.load.request<Arrivals>('wait', { timeout: run.timeLeft() - 3000 })
    const after = run.server.cpu()
    const seconds = (arrivals.lastAt - firstAt) / 1e6
    const metrics = {
      complete: Number(arrivals.missing === 0 && arrivals.extra === 0),
      rate: arrivals.got / seconds,
      loadMicros: (arrivals.cpu * 1e6) / arrivals.got,
      serverBusy: (100 * (after - before)) / seconds,
      loadBusy: (100 * arrivals.cpu) / seconds,
    }
    return { metrics, notes: [] }
  },
}
