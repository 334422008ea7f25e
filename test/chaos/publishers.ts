import { setTimeout as sleep } from 'node:timers/promises'
import { createPublisher } from '../../src/publisher.ts'
import { hashOf } from './client.ts'
import type { IngressConfig } from './ingress.ts'
import { IngressLane } from './ingress-lane.ts'
import { Journal } from './journal.ts'
import { connectTo } from './lane-redis.ts'
import { writersOf } from './queue-writers.ts'
import { Random } from './random.ts'
import { API_KEY, BULK, BULK_BYTES, retentionOf, TOPICS } from './topics.ts'

/** Publishes without end through Redis and through the HTTP door of the nodes, and notes what was acknowledged. */
export interface PublishersConfig {
  redis: string | object
  urls: readonly string[]
  ingress: IngressConfig
  seed: number
  journal: string
  /** Lanes of each kind; each waits for the answer before it publishes again. */
  lanes: number
  /** Milliseconds between two publications of a lane. */
  pace: number
}

export type PublishersCommand = { e: 'bulk'; isOn: boolean } | { e: 'stop' } | { e: 'canary'; round: number }

interface Acknowledged {
  id: string
  seq: number
  duplicate?: boolean
}

type Send = (topic: string, type: string, payload: object, key: string) => Promise<Acknowledged>

const GIVE_UP = 10_000
const RETRY = 60
const HTTP_TIMEOUT = 2500

const config = JSON.parse(process.env.CONFIG!) as PublishersConfig
const journal = new Journal(config.journal)
const publisher = createPublisher({ redis: config.redis as string, publishTimeout: 1500 })
let isStopping = false
let isBulky = false

const viaRedis: Send = async (topic, type, payload, idempotencyKey) => {
  const result = await publisher.publish(topic, { type, payload, history: retentionOf(topic), idempotencyKey })
  return result as Acknowledged
}

const viaHttp: Send = async (to, type, payload, idempotencyKey) => {
  const url = config.urls[Math.floor(Math.random() * config.urls.length)]!
  const body = JSON.stringify({ to, type, payload, history: retentionOf(to), idempotencyKey })
  const headers = { authorization: `Bearer ${API_KEY}`, 'content-type': 'application/json' }
  const answer = await fetch(`${url}/push`, {
    method: 'POST',
    headers,
    body,
    signal: AbortSignal.timeout(HTTP_TIMEOUT),
  })
  const result = (await answer.json()) as Acknowledged & { code?: string; message?: string }
  if (answer.status === 200) return result
  throw Object.assign(new Error(`${answer.status} ${result.message}`), { code: result.code })
}

/** Tries until it is acknowledged: with its key a repeat is harmless. */
async function publish(lane: string, send: Send, topic: string, type: string, k: string, bytes: number) {
  const payload = { k, pad: 'x'.repeat(bytes) }
  journal.write({ e: 'try', k, topic, lane, h: hashOf(payload) })
  const since = Date.now()
  for (;;) {
    try {
      const { id, seq, duplicate } = await send(topic, type, payload, k)
      journal.write({ e: 'ack', k, topic, lane, id, seq, duplicate })
      return { k, id }
    } catch (error) {
      const { code, message } = error as { code?: string; message: string }
      journal.write({ e: 'fail', k, topic, lane, code, message })
      if (Date.now() - since > GIVE_UP) return undefined
      await sleep(RETRY)
    }
  }
}

async function run(lane: string, send: Send, random: Random): Promise<void> {
  for (let n = 0; !isStopping; n++) {
    const topic = random.pick(TOPICS)
    const isBulk = topic === BULK
    await publish(lane, send, topic, 'n', `${lane}-${n}`, isBulk ? BULK_BYTES : random.index(200))
    await sleep(config.pace * (0.5 + random.next()))
  }
}

/** Fills the buffers of whoever does not read while it is on. */
async function runBulk(): Promise<void> {
  for (let n = 0; !isStopping; n++) {
    if (isBulky) await publish('bulk', viaRedis, BULK, 'n', `bulk-${n}`, BULK_BYTES)
    await sleep(25)
  }
}

const lanes = Array.from({ length: config.lanes }, (_, i) => [
  run(`redis${i}`, viaRedis, new Random(config.seed * 31 + i)),
  run(`http${i}`, viaHttp, new Random(config.seed * 37 + i)),
]).flat()
lanes.push(runBulk())
const connect = () => connectTo(config.redis)
for (const [i, writer] of (await writersOf(config.ingress, connect)).entries()) {
  const lane = new IngressLane(writer, { redis: connect(), journal, isStopping: () => isStopping })
  lanes.push(lane.run(new Random(config.seed * 41 + i), config.pace))
}

async function obey(command: PublishersCommand): Promise<void> {
  if (command.e === 'bulk') isBulky = command.isOn
  if (command.e === 'canary') {
    const sent = TOPICS.map(async topic => {
      return [topic, await publish('canary', viaRedis, topic, 'canary', `canary-${command.round}-${topic}`, 0)]
    })
    process.send!({ e: 'canaries', canaries: Object.fromEntries(await Promise.all(sent)) })
  }
  if (command.e === 'stop') {
    isStopping = true
    await Promise.all(lanes)
    process.send!({ e: 'stopped' })
  }
}

process.on('message', command => void obey(command as PublishersCommand))
process.on('disconnect', () => process.exit(0))
process.on('unhandledRejection', error => journal.write({ e: 'unhandled', error: String((error as Error).stack) }))
process.send!({ e: 'ready' })
