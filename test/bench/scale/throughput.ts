import type { Child } from '../lib/child.ts'
import { MESSAGE_BYTES } from '../lib/stamp.ts'
import type { Arrivals } from '../load.ts'
import type { Published, Way } from './publisher.ts'
import type { Case, Numbers, Part, Run } from './run.ts'
import type { Servers } from './servers.ts'

const MASTERS = [1, 3, 6]
const NODES = 4
const TOPICS = 1200
const MESSAGES = 120_000
const WARM_UP = 12_000
/** For the cost of a publication where there is time for each. */
const PACED = { rate: 6000, seconds: 3 }
const TIMEOUT = 60_000
const CONCURRENCY = 100

interface Shape {
  masters: number
  isSharded: boolean
  nodes: number
  /** Whether every node has every topic; otherwise each topic is on one node. */
  isOnAll: boolean
}

/** What a publication costs Redis and the nodes, by the number of masters and of nodes. */
export const part: Part = {
  title: `${TOPICS} topics, ${MESSAGES.toLocaleString('en-US')} publications of 128 B at once, then ${PACED.rate.toLocaleString('en-US')} a second for ${PACED.seconds} s`,
  columns: [
    { key: 'rate', label: 'publications/s', digits: 0 },
    { key: 'redis', label: 'µs of Redis', digits: 2 },
    { key: 'nodes', label: 'µs of nodes', digits: 2 },
    { key: 'pacedRedis', label: 'µs of Redis, paced', digits: 1 },
    { key: 'pacedNodes', label: 'µs of nodes, paced', digits: 1 },
    { key: 'p99', label: 'p99 ms, paced', digits: 1 },
    { key: 'bus', label: 'messages on the bus', digits: 2 },
    { key: 'busBytes', label: 'B on the bus', digits: 0 },
    { key: 'bytes', label: 'B from Redis to clients', digits: 0 },
  ],
  cases: shapes().map(shape => ({ name: nameOf(shape), measure: run => measure(run, shape) }) satisfies Case),
}

function shapes(): Shape[] {
  const all: Shape[] = []
  for (const masters of MASTERS) {
    for (const isSharded of [false, true]) {
      all.push({ masters, isSharded, nodes: 1, isOnAll: false })
      for (const isOnAll of [false, true]) all.push({ masters, isSharded, nodes: NODES, isOnAll })
    }
  }
  return all
}

function nameOf({ masters, isSharded, nodes, isOnAll }: Shape): string {
  const where = nodes === 1 ? '1 node' : `${nodes} nodes, a topic on ${isOnAll ? 'all' : 'one'}`
  return `${masters} ${masters === 1 ? 'master' : 'masters'}, ${isSharded ? 'sharded' : 'classic'}, ${where}`
}

interface Setting {
  servers: Servers
  nodes: Child[]
  loaders: Child[]
  publisher: Child
  topics: string[]
  way: Way
}

async function measure(run: Run, shape: Shape): Promise<Numbers> {
  const setting = await prepare(run, shape)
  await publish(setting, run.scale.quick ? WARM_UP / 4 : WARM_UP)
  const burst = await publish(setting, run.scale.quick ? MESSAGES / 20 : MESSAGES)
  const paced = await pace(setting, run.scale.quick ? 1 : PACED.seconds)
  return {
    complete: burst.complete * paced.complete,
    rate: burst.rate,
    redis: burst.redis,
    nodes: burst.nodes,
    bus: burst.bus,
    busBytes: burst.busBytes,
    bytes: burst.bytes,
    pacedRedis: paced.redis,
    pacedNodes: paced.nodes,
    p99: paced.p99,
  }
}

/** Every connection has a topic of its own, or shares it with one connection on each of the other nodes. */
async function prepare(run: Run, { masters, isSharded, nodes: count, isOnAll }: Shape): Promise<Setting> {
  const servers = await run.servers(masters)
  const nodes = await Promise.all(Array.from({ length: count }, () => run.node(servers, { isSharded })))
  const loaders = await Promise.all(nodes.map(() => run.loader()))
  const publisher = await run.publisher(servers)
  const topics = Array.from({ length: TOPICS }, (_, i) => `channel:t${String(i).padStart(5, '0')}`)
  const connecting = loaders.map((loader, n) => {
    const clients = topics.filter((_, i) => isOnAll || i % count === n).map(topic => ({ topics: [topic] }))
    return loader.request('connect', { kind: 'bridge', port: nodes[n]!.port, clients, concurrency: CONCURRENCY })
  })
  await Promise.all(connecting)
  return { servers, nodes, loaders, publisher, topics, way: { isSharded } }
}

interface Before {
  redis: number
  nodes: number
  bus: number
  busBytes: number
  bytes: number
}

async function look({ servers, nodes }: Setting): Promise<Before> {
  const live = await servers.sum('cluster', 'cluster_stats_messages_publish_sent')
  const sharded = await servers.sum('cluster', 'cluster_stats_messages_publishshard_sent')
  const bytes = await servers.sum('stats', 'total_net_output_bytes')
  const cpu = nodes.reduce((sum, node) => sum + node.cpu(), 0)
  return { redis: servers.cpu(), nodes: cpu, bus: live + sharded, busBytes: servers.busBytes(), bytes }
}

/** As fast as everybody can. */
async function publish(setting: Setting, count: number) {
  const { publisher, topics, way } = setting
  const { perTopic } = await publisher.request<{ perTopic: Record<string, number> }>('prepare', {
    topics,
    count,
    size: MESSAGE_BYTES,
    ...way,
  })
  await expect(setting, perTopic, false)
  return published(setting, count, () => publisher.request<Published>('burst'))
}

async function pace(setting: Setting, seconds: number) {
  const { publisher, topics, way } = setting
  const rate = PACED.rate / topics.length
  const streams = topics.map(topic => ({ topic, rate, size: MESSAGE_BYTES }))
  await expect(setting, Object.fromEntries(topics.map(topic => [topic, rate * seconds])), true)
  const count = topics.length * rate * seconds
  return published(setting, count, () => publisher.request<Published>('paced', { streams, seconds, ...way }))
}

async function expect({ loaders }: Setting, perTopic: Record<string, number>, stamped: boolean): Promise<void> {
  await Promise.all(loaders.map(it => it.request('expect', { perTopic, size: MESSAGE_BYTES, stamped })))
}

/** The numbers are for each publication; whatever else the servers do in that time is in them. */
async function published(setting: Setting, count: number, act: () => Promise<Published>) {
  const before = await look(setting)
  const waiting = setting.loaders.map(loader => loader.request<Arrivals>('wait', { timeout: TIMEOUT }))
  const [{ firstAt }, ...arrivals] = await Promise.all([act(), ...waiting])
  const after = await look(setting)
  const lastAt = Math.max(...arrivals.map(it => it.lastAt))
  const isComplete = arrivals.every(({ missing, extra, disorder, gaps }) => missing + extra + disorder + gaps === 0)
  return {
    complete: Number(isComplete),
    rate: count / ((lastAt - firstAt) / 1e6),
    redis: ((after.redis - before.redis) * 1e6) / count,
    nodes: ((after.nodes - before.nodes) * 1e6) / count,
    bus: (after.bus - before.bus) / count,
    busBytes: (after.busBytes - before.busBytes) / count,
    bytes: (after.bytes - before.bytes) / count,
    p99: Math.max(...arrivals.map(it => it.p99)),
  }
}
