/** The broker of a node with very many topics, without sockets: what the topics themselves cost. */
import type { Subscriber } from '../../../src/broker/broker.ts'
import type { acquireBroker } from '../../../src/broker/redis/pool.ts'
import type { Topic } from '../../../src/protocol/topic.ts'
import { announce } from '../lib/contract.ts'

/** Beside the entry of the plugin, built or not. */
const pool = new URL(`broker/redis/pool${/\.\w+$/.exec(process.env.OURS_ENTRY!)![0]}`, process.env.OURS_ENTRY)
const { acquireBroker: acquire }: { acquireBroker: typeof acquireBroker } = await import(pool.href)

const topics = new Set<Topic>()
let received = 0
let lost = 0

const subscriber: Subscriber = {
  receive: () => void received++,
  lost: (_reason, { size }) => {
    lost += size
  },
  filled: () => {},
  dropped: () => {},
  misdirected: () => {},
  holds: topic => topics.has(topic),
  isRecorded: topic => topic.startsWith('channel:'),
  topics: () => topics,
}

let isUp = false
let waiting: { isUp: boolean; resolve: () => void }[] = []

const options = { node: 'n1', prefix: 'push:', maxBytes: 262_144, publishTimeout: 2000, noteRejected: true }
const { broker } = acquire(JSON.parse(process.env.SCALE_REDIS!), options, {
  change(now, error) {
    isUp = now
    if (error) console.error(`link: ${error.message}`)
    for (const { resolve } of waiting.filter(it => it.isUp === now)) resolve()
    waiting = waiting.filter(it => it.isUp !== now)
  },
  lagging: () => {},
  refused: () => {},
  blind: () => {},
  lacks: () => {},
})
broker.attach(subscriber)
await broker.whenLive

function link(state: boolean): Promise<void> {
  return isUp === state ? Promise.resolve() : new Promise(resolve => waiting.push({ isUp: state, resolve }))
}

/** As connections that come together ask for their topics: `atOnce` in a turn of the event loop. */
async function subscribe({ names, atOnce }: { names: Topic[]; atOnce: number }) {
  const began = performance.now()
  const joining: Promise<ReadonlyMap<Topic, unknown>>[] = []
  for (let i = 0; i < names.length; i += atOnce) {
    const part = names.slice(i, i + atOnce)
    for (const topic of part) topics.add(topic)
    joining.push(broker.subscribe(part))
    await new Promise(setImmediate)
  }
  const positions = await Promise.all(joining)
  const seconds = (performance.now() - began) / 1000
  return { seconds, positions: positions.reduce((sum, { size }) => sum + size, 0) }
}

/** Resolves when the links were lost and everything is as before. */
async function cut(): Promise<{ received: number; lost: number }> {
  const before = { received, lost }
  await link(false)
  await link(true)
  return { received: received - before.received, lost: lost - before.lost }
}

announce(0, { subscribe, cut, exit: () => process.exit(0) })
