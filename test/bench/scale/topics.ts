import { slotOf } from '../../../src/broker/redis/topology.ts'
import type { Child } from '../lib/child.ts'
import type { Stats } from '../lib/contract.ts'
import { MESSAGE_BYTES } from '../lib/stamp.ts'
import type { Numbers, Part, Run } from './run.ts'
import type { Servers } from './servers.ts'

const TOPICS = 100_000
/** Topics of one connection that connects. */
const AT_ONCE = 10
/** So many topics get a publication while the node is cut off. */
const MISSED = 1000
const HISTORY = { size: 10, ttl: 3600 }
const POLL = 10

interface Variant {
  masters: number
  isCluster: boolean
  isSharded?: boolean
  isRecorded: boolean
}

const VARIANTS: Record<string, Variant> = {
  'one Redis, nothing recorded': { masters: 1, isCluster: false, isRecorded: false },
  'one Redis, all recorded': { masters: 1, isCluster: false, isRecorded: true },
  'Cluster of 3, nothing recorded': { masters: 3, isCluster: true, isRecorded: false },
  'Cluster of 3, all recorded': { masters: 3, isCluster: true, isRecorded: true },
  'Cluster of 3, sharded, all recorded': { masters: 3, isCluster: true, isSharded: true, isRecorded: true },
}

/** Very many topics on one node: subscribe to them, lose the link, be up to date again. */
export const part: Part = {
  title: '100,000 topics on one node: subscribe, lose the link with 1,000 publications, be up to date',
  columns: [
    { key: 'subscribe', label: 'subscribe s', digits: 2 },
    { key: 'subscribeDelay', label: 'longest delay ms', digits: 0 },
    { key: 'resubscribed', label: 'subscribed again s', digits: 2 },
    { key: 'upToDate', label: 'up to date s', digits: 2 },
    { key: 'cutDelay', label: 'longest delay ms', digits: 0 },
    { key: 'filled', label: 'filled', digits: 0 },
    { key: 'gaps', label: 'topics with a gap', digits: 0 },
    { key: 'redisBytes', label: 'Redis B/topic', digits: 0 },
    { key: 'nodeBytes', label: 'node B/topic', digits: 0 },
  ],
  cases: Object.entries(VARIANTS).map(([name, variant]) => ({ name, measure: run => measure(run, variant) })),
}

async function measure(run: Run, variant: Variant): Promise<Numbers> {
  const count = run.scale.quick ? TOPICS / 10 : TOPICS
  const kind = variant.isRecorded ? 'channel' : 'user'
  const names = Array.from({ length: count }, (_, i) => `${kind}:topic-${String(i).padStart(6, '0')}`)
  const servers = await run.servers(variant.masters, variant)
  const node = await run.node(servers, { file: 'topics-node', isSharded: variant.isSharded ?? false })
  if (variant.isRecorded) await record(run, servers, names)
  const joined = await subscribe(servers, node, names)
  const again = await cut(servers, node, variant.isRecorded ? names.slice(0, MISSED) : [], count)
  if (run.scale.profile !== undefined) await node.request('exit').catch(() => {})
  const { filled, gaps } = again
  const isComplete = variant.isRecorded ? filled === MISSED && gaps === 0 : filled === 0 && gaps === count
  return { ...joined, ...again, complete: Number(isComplete && joined.positions === count) }
}

/** So that every topic has a head in Redis. */
async function record(run: Run, servers: Servers, topics: string[]): Promise<void> {
  const publisher = await run.publisher(servers)
  const plan = { topics, count: topics.length, size: MESSAGE_BYTES, isSharded: false, history: HISTORY }
  await publisher.request('prepare', plan)
  await publisher.request('burst')
}

async function subscribe(servers: Servers, node: Child, names: string[]) {
  const before = await node.request<Stats>('stats', { gc: true })
  const redisBefore = await servers.sum('memory', 'used_memory')
  await node.request('reset')
  const { positions, seconds } = await node.request<{ positions: number; seconds: number }>('subscribe', {
    names,
    atOnce: AT_ONCE,
  })
  const { maxDelay } = await node.request<Stats>('stats')
  const after = await node.request<Stats>('stats', { gc: true })
  const redisAfter = await servers.sum('memory', 'used_memory')
  return {
    positions,
    subscribe: seconds,
    subscribeDelay: maxDelay,
    nodeBytes: (after.rss - before.rss) / names.length,
    redisBytes: (redisAfter - redisBefore) / names.length,
  }
}

interface Again {
  received: number
  lost: number
}

/** Ends all links that subscribe. What is published then is executed before the node can be back. */
async function cut(servers: Servers, node: Child, missed: string[], topics: number) {
  await node.request('reset')
  const restored = node.request<Again>('cut')
  const began = performance.now()
  await Promise.all(servers.admins.map((_, i) => kill(servers, missed, i)))
  const resubscribed = hasSubscribed(servers, topics).then(() => (performance.now() - began) / 1000)
  const { received, lost } = await restored
  const upToDate = (performance.now() - began) / 1000
  const { maxDelay } = await node.request<Stats>('stats')
  return { filled: received, gaps: lost, upToDate, resubscribed: await resubscribed, cutDelay: maxDelay }
}

async function kill({ places, admins }: Servers, missed: string[], place: number): Promise<void> {
  const [first, last] = places[place]!.slots
  const pipeline = admins[place]!.pipeline()
  pipeline.call('CLIENT', 'KILL', 'TYPE', 'pubsub')
  for (const topic of missed) {
    const slot = slotOf(`push:${topic}`)
    if (slot < first || slot > last) continue
    const envelope = '{"type":"bench","payload":"missed"}'
    pipeline.call('FCALL', 'push_publish', 1, `push:${topic}`, envelope, HISTORY.size, HISTORY.ttl)
  }
  await pipeline.exec()
}

async function hasSubscribed(servers: Servers, topics: number): Promise<void> {
  const channels = async () =>
    (await servers.sum('stats', 'pubsub_channels')) + (await servers.sum('stats', 'pubsubshard_channels'))
  while ((await channels()) < topics) {
    await new Promise(resolve => setTimeout(resolve, POLL))
  }
}
