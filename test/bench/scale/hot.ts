import { SLOTS, slotOf } from '../../../src/broker/redis/topology.ts'
import type { Child } from '../lib/child.ts'
import { MESSAGE_BYTES } from '../lib/stamp.ts'
import type { Arrivals } from '../load.ts'
import type { Published, Stream, Way } from './publisher.ts'
import type { Numbers, Part, Run } from './run.ts'

const MASTERS = 3
const OTHERS = 200
/** Messages a second on each of the other topics. */
const RATE = 5
const SECONDS = 6
const GRACE = 20_000

interface Variant {
  /** Messages a second on the hot topic. */
  rate: number
  isRecorded?: boolean
  /** Which master has it; the others are at the first. */
  master?: number
}

const VARIANTS: Record<string, Variant> = {
  'no hot topic': { rate: 0 },
  'hot topic at another master, 20,000 a second': { rate: 20_000, master: 1 },
  'hot topic at the same master, 5,000 a second': { rate: 5000 },
  'hot topic at the same master, 20,000 a second': { rate: 20_000 },
  'hot topic at the same master, recorded, 5,000 a second': { rate: 5000, isRecorded: true },
}

/** Does one hot topic delay the others of its shard? */
export const part: Part = {
  title: `${OTHERS} topics with ${RATE} messages a second each, beside a hot topic, in a Cluster of ${MASTERS}, one node`,
  columns: [
    { key: 'p50', label: "others' p50 ms", digits: 1 },
    { key: 'p99', label: "others' p99 ms", digits: 1 },
    { key: 'max', label: "others' longest ms", digits: 0 },
    { key: 'hotP99', label: 'p99 of the hot one ms', digits: 1 },
    { key: 'nodeBusy', label: 'node CPU %', digits: 0 },
  ],
  cases: Object.entries(VARIANTS).map(([name, variant]) => ({ name, measure: run => measure(run, variant) })),
}

/** The first topics of that name which are at the master. */
function topicsAt(master: number, name: string, count: number): string[] {
  const topics: string[] = []
  for (let i = 0; topics.length < count; i++) {
    const topic = `channel:${name}-${String(i).padStart(5, '0')}`
    if (Math.floor((slotOf(`push:${topic}`) * MASTERS) / SLOTS) === master) topics.push(topic)
  }
  return topics
}

interface Load {
  loader: Child
  publisher: Child
  streams: Stream[]
  way: Way
}

async function measure(run: Run, { rate, isRecorded = false, master = 0 }: Variant): Promise<Numbers> {
  const seconds = run.scale.quick ? 1 : SECONDS
  const servers = await run.servers(MASTERS)
  const node = await run.node(servers)
  const load = async (topics: string[], each: number, way: Way): Promise<Load> => {
    const loader = await run.loader()
    const clients = topics.map(topic => ({ topics: [topic] }))
    await loader.request('connect', { kind: 'bridge', port: node.port, clients, concurrency: OTHERS })
    const streams = topics.map(topic => ({ topic, rate: each, size: MESSAGE_BYTES }))
    return { loader, publisher: await run.publisher(servers), streams, way }
  }
  const others = await load(topicsAt(0, 'other', OTHERS), RATE, { isSharded: false })
  const history = isRecorded ? { history: { size: 1000, ttl: 3600 } } : {}
  const hot = rate > 0 ? await load(topicsAt(master, 'hot', 1), rate, { isSharded: false, ...history }) : undefined
  const all = hot ? [others, hot] : [others]
  await Promise.all(all.map(it => pace(it, 1)))
  const before = node.cpu()
  const [quiet, loud] = await Promise.all(all.map(it => pace(it, seconds)))
  const { p50, p99, max } = quiet!
  const isWhole = ({ missing, extra, disorder, gaps }: Arrivals) => missing + extra + disorder + gaps === 0
  return {
    p50,
    p99,
    max,
    hotP99: loud?.p99 ?? Number.NaN,
    nodeBusy: (100 * (node.cpu() - before)) / seconds,
    complete: Number(isWhole(quiet!) && (!loud || isWhole(loud))),
  }
}

/** What is recorded has a number and an id as well. */
const RECORDED_ROOM = 100

async function pace({ loader, publisher, streams, way }: Load, seconds: number): Promise<Arrivals> {
  const perTopic = Object.fromEntries(streams.map(({ topic, rate }) => [topic, rate * seconds]))
  const upTo = MESSAGE_BYTES + RECORDED_ROOM
  await loader.request('expect', { perTopic, size: MESSAGE_BYTES, upTo, stamped: true })
  const timeout = seconds * 1000 + GRACE
  const [, arrivals] = await Promise.all([
    publisher.request<Published>('paced', { streams, seconds, ...way }),
    loader.request<Arrivals>('wait', { timeout }),
  ])
  return arrivals
}
