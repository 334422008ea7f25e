import type { Stats } from '../lib/contract.ts'
import { connect, pace, type Run, type Scenario, stats } from '../lib/scenario.ts'
import { MESSAGE_BYTES } from '../lib/stamp.ts'

const CONNECTIONS = 1000
const RATE = 50
const TOPIC = 'channel:paced'
/** Only the connection that stalls is on it: 128 B at a time would need hours to fill the kernel's buffers. */
const HEAVY = { topic: 'channel:heavy', rate: 200, size: 16_384 }
const STALLED = 0
const SAMPLE_MS = 250

/** The same run twice, in the second one connection stops reading: what do the others and the memory feel? */
export const scenario: Scenario = {
  id: 'f',
  title: 'stalled reader: 1,000 connections at 50 messages/s, one of them also gets 3.3 MB/s (and stops reading)',
  variants: ['reading', 'stalled'],
  columns: [
    { key: 'p50', label: "others' p50 ms", digits: 1 },
    { key: 'p99', label: "others' p99 ms", digits: 1 },
    { key: 'rssGrowth', label: 'peak RSS growth MB', digits: 1 },
    { key: 'buffersGrowth', label: 'peak buffers growth MB', digits: 1 },
    { key: 'maxDelay', label: 'max loop delay ms', digits: 1 },
    { key: 'serverBusy', label: 'server CPU %', digits: 0 },
  ],
  async run(run, variant) {
    const clients = Array.from({ length: CONNECTIONS }, (_, index) => ({
      topics: index === STALLED ? [TOPIC, HEAVY.topic] : [TOPIC],
    }))
    await connect(run, clients)
    const streams = [{ topic: TOPIC, rate: RATE, size: MESSAGE_BYTES }, HEAVY]
    const common = { streams, size: MESSAGE_BYTES, ignore: [STALLED] }
    // The same load for a moment, everybody reading: code is warm, and the heap has its working size.
    await pace(run, { ...common, seconds: 2, grace: 10_000 })
    const before = await stats(run, true)
    if (variant === 'stalled') await run.load.request('stall', { index: STALLED })
    const peak = watch(run)
    const { metrics, notes } = await pace(run, { ...common, seconds: run.quick ? 5 : 12, grace: 5000 })
    const { rss, buffers } = await peak()
    if (variant === 'stalled') notes.push(`${run.peer.name}: ${await endOfStalled(run)}`)
    const growth = {
      rssGrowth: (rss - before.rss) / 2 ** 20,
      buffersGrowth: (buffers - before.buffers) / 2 ** 20,
    }
    return { metrics: { ...metrics, ...growth }, notes: notes.filter(note => !note.includes(' bench')) }
  },
}

/** Samples the memory until it is asked for the peak. */
function watch(run: Run): () => Promise<{ rss: number; buffers: number }> {
  const peak = { rss: 0, buffers: 0 }
  const sample = async () => {
    const { rss, buffers } = await run.server.request<Stats>('stats')
    peak.rss = Math.max(peak.rss, rss)
    peak.buffers = Math.max(peak.buffers, buffers)
  }
  const timer = setInterval(() => sample().catch(() => {}), SAMPLE_MS)
  return async () => {
    clearInterval(timer)
    await sample()
    return peak
  }
}

/** Lets it read again: was it closed, told of a gap, or simply given all that had piled up? */
async function endOfStalled(run: Run): Promise<string> {
  await run.load.request('resume', { index: STALLED })
  await new Promise(resolve => setTimeout(resolve, 1500))
  const others = await run.load.request<Record<string, number>>('others')
  const told = Object.entries(others).filter(([what]) => what !== 'bench')
  if (told.length === 0) return 'the stalled connection was kept and got everything that had piled up for it'
  return `the stalled connection saw ${told.map(([what, count]) => `${count} × ${what}`).join(', ')}`
}
