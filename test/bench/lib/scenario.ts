import type { Arrivals } from '../load.ts'
import type { Plan, Published, Stream } from '../publisher.ts'
import type { Child } from './child.ts'
import type { Stats } from './contract.ts'
import type { Peer } from './peers.ts'
import type { Client, Offer } from './pool.ts'
import type { Result } from './report.ts'

/** Numbers of one run; `complete` is 1 if every connection got exactly what it should have. */
export type Metrics = Record<string, number> & { complete: number }

export interface Outcome {
  metrics: Metrics
  /** what went wrong or is worth knowing, in words */
  notes: string[]
  /** microseconds of CLOCK_MONOTONIC: the last publication, and when messages came in the usual time again (or 0) */
  times?: { publishedAt: number; usualAt: number }
  /** ratios of things that were measured in turns, by what they compare; for `summarize` */
  pairs?: Record<string, number[]>
}

export interface Processes {
  server: Child
  load: Child
  publisher: Child
}

export interface Run extends Processes {
  peer: Peer
  /** of Redis */
  redisPort: number
  quick: boolean
  /** what clients say when they connect */
  offer?: Offer
  /** starts another peer beside the one under test, with a load and a publisher of its own */
  another(peer: Peer): Promise<Processes>
  /** starts another load and publisher beside those of the run */
  openLoad(): Promise<Omit<Processes, 'server'>>
  /** milliseconds until the run is cut off */
  timeLeft(): number
}

export interface Column {
  key: string
  label: string
  digits?: number
}

export interface Scenario {
  id: string
  title: string
  columns: Column[]
  /** run one after the other, each in fresh processes */
  variants: string[]
  /** Redis cuts nobody off, however much waits for a subscriber; otherwise it has its default limit */
  hasNoPubsubLimit?: boolean
  /** peers other than those asked for */
  peers?: Peer[]
  /** the least that `--deadline` is for a run, in seconds */
  deadline?: number
  /** what stands below the table: lines of Markdown */
  summarize?(results: Result[]): string[]
  run(run: Run, variant: string): Promise<Outcome>
}

export const CPU_COLUMNS: Column[] = [
  { key: 'serverBusy', label: 'server CPU %', digits: 0 },
  { key: 'loadBusy', label: 'loader CPU %', digits: 0 },
]

/** What number and id add to a message. */
const RECORDED_ROOM = 100

const CONCURRENCY = 200
const WARM_UP_TIMEOUT = 15_000

export async function connect(run: Run, clients: Client[], concurrency = CONCURRENCY) {
  const { kind } = run.peer
  const args = { kind, port: run.server.port, clients, concurrency, offer: run.offer ?? {} }
  return run.load.request<{ seconds: number; retries: number }>('connect', args)
}

export function everyone(count: number, topics: string[]): Client[] {
  return Array.from({ length: count }, () => ({ topics }))
}

export function number(prefix: string, index: number): string {
  return prefix + String(index).padStart(5, '0')
}

export function stats(run: Run, gc = false): Promise<Stats> {
  return run.server.request<Stats>('stats', { gc })
}

export type Burst = Omit<Plan, 'kind'> & {
  /** resolves when nothing more is to be waited for; default: when all is there, or the time is up */
  over?: () => Promise<unknown>
}

/** Publishes a plan at full speed, unmeasured first with a part of it, so that no peer is measured cold. */
export async function burst(run: Run, plan: Burst, warmUp: number): Promise<Outcome> {
  if (warmUp > 0) {
    const { topics, size, pick, history } = plan
    const part = { topics, size, pick, history, count: warmUp }
    const [, { missing }] = await publishBurst(run, part, WARM_UP_TIMEOUT)
    if (missing > 0) throw new Error(`${missing} messages of the warm-up are missing`)
  }
  await run.server.request('reset')
  const before = run.server.cpu()
  const [published, arrivals] = await publishBurst(run, plan, run.timeLeft() - 3000)
  return outcome(run, published, arrivals, run.server.cpu() - before)
}

async function publishBurst(run: Run, { over, ...plan }: Burst, timeout: number): Promise<[Published, Arrivals]> {
  const { perTopic } = await run.publisher.request<{ perTopic: Record<string, number> }>('prepare', {
    ...plan,
    kind: run.peer.kind,
  })
  const upTo = plan.size + RECORDED_ROOM
  await run.load.request('expect', { perTopic, size: plan.size, upTo, stamped: false, numbered: true })
  const publish = async () => {
    const published = await run.publisher.request<Published>('burst')
    if (over) {
      await over()
      await run.load.request('finish')
    }
    return published
  }
  return Promise.all([publish(), run.load.request<Arrivals>('wait', { timeout })])
}

export interface Pace {
  streams: Stream[]
  seconds: number
  /** bytes of the messages that are measured; streams of another size are only there */
  size: number
  ignore?: number[]
  /** whether the stamps can be read: not in compressed messages; then there is no latency */
  isStamped?: boolean
  /** microseconds of latency that are usual, if it is to be measured when they are reached */
  usual?: number
  /** milliseconds that the last messages may take after the last publication */
  grace: number
}

/** Publishes at a rate and measures the latency of every delivery. */
export async function pace(
  run: Run,
  { streams, seconds, size, ignore = [], isStamped = true, usual = 0, grace }: Pace,
): Promise<Outcome> {
  const measured = streams.filter(stream => stream.size === size)
  const perTopic = Object.fromEntries(measured.map(({ topic, rate }) => [topic, rate * seconds]))
  await run.server.request('reset')
  const before = run.server.cpu()
  await run.load.request('expect', { perTopic, size, stamped: isStamped, usual, ignore })
  const timeout = Math.min(seconds * 1000 + grace, run.timeLeft() - 3000)
  const [published, arrivals] = await Promise.all([
    run.publisher.request<Published>('paced', { kind: run.peer.kind, streams, seconds }),
    run.load.request<Arrivals>('wait', { timeout }),
  ])
  return outcome(run, published, arrivals, run.server.cpu() - before)
}

async function outcome(run: Run, published: Published, arrivals: Arrivals, cpu: number): Promise<Outcome> {
  const { got, total, missing, extra, disorder, gaps, p50, p99, max, others } = arrivals
  const seconds = (Math.max(arrivals.lastAt, published.firstAt + 1) - published.firstAt) / 1e6
  const complete = missing + extra + disorder + gaps === 0
  const notes: string[] = []
  if (missing > 0) notes.push(`did not finish: ${((100 * got) / total).toFixed(1)} % of ${total} delivered in time`)
  if (extra > 0) notes.push(`${extra} deliveries too many`)
  if (disorder > 0) notes.push(`${disorder} deliveries out of order`)
  for (const [what, count] of Object.entries(others)) notes.push(`${count} × ${what}`)
  const metrics: Metrics = {
    complete: Number(complete),
    delivered: (100 * got) / total,
    rate: got / seconds,
    seconds,
    cpuPerDelivery: (cpu * 1e6) / Math.max(got, 1),
    serverBusy: (100 * cpu) / seconds,
    loadBusy: (100 * arrivals.cpu) / seconds,
    wireBytes: arrivals.bytes / Math.max(got, 1),
    compressed: (100 * arrivals.compressed) / Math.max(got, 1),
    p50,
    p99,
    max,
    // A peer that has fallen behind may be too busy to answer, and then it is not asked.
    maxDelay: missing === 0 ? (await stats(run)).maxDelay : Number.NaN,
  }
  const times = { publishedAt: published.lastAt, usualAt: arrivals.usualAt }
  return { metrics, notes: notes.map(note => `${run.peer.name}: ${note}`), times }
}
