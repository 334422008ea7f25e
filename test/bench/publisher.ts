/** The publisher's process: raw pipelined PUBLISH to Redis, the bytes made before the clock starts. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { LastingLoad, type LastingPlan } from './lib/lasting.ts'
import { encodePublish } from './lib/message.ts'
import type { Kind } from './lib/peers.ts'
import { answer } from './lib/rpc.ts'
import { micros } from './lib/stamp.ts'

export interface Plan {
  kind: Kind
  topics: string[]
  count: number
  size: number
  /** in turn, or at random (from a fixed seed: the same for every peer) */
  pick: 'turn' | 'random'
  /** how much of each topic is kept; live when left out */
  history?: { size: number; ttl: number } | undefined
}

export interface Stream {
  topic: string
  rate: number
  size: number
  /** see Publication */
  hasOrder?: boolean
  hasBytes?: boolean
}

export interface Published {
  /** microseconds of CLOCK_MONOTONIC */
  firstAt: number
  lastAt: number
  sent: number
  /** PUBLISH replies: how many subscribers Redis saw, summed */
  receivers: number
}

let redis: Socket
let replies = 0
let receivers = 0
let value = 0
let prepared: Buffer = Buffer.alloc(0)
let preparedCount = 0

async function open({ port, hasNoPubsubLimit }: { port: number; hasNoPubsubLimit: boolean }): Promise<void> {
  redis = connect({ host: '127.0.0.1', port, noDelay: true })
  await once(redis, 'connect')
  const limit = hasNoPubsubLimit ? 'pubsub 0 0 0' : 'pubsub 32mb 8mb 60'
  redis.write(
    `*4\r\n$6\r\nCONFIG\r\n$3\r\nSET\r\n$26\r\nclient-output-buffer-limit\r\n$${limit.length}\r\n${limit}\r\n`,
  )
  const [answer] = (await once(redis, 'data')) as [Buffer]
  if (!answer.toString().startsWith('+OK')) throw new Error(`CONFIG SET: ${answer}`)
  redis.on('data', onReplies)
}

/** `*4`, the length of the id, the id, seq, nodes, duplicate. */
const LINES_OF_RECORDED = 6
let linesPerReply = 1

/** `:N\r\n` again and again, or what push_publish answers. */
function onReplies(chunk: Buffer): void {
  for (const byte of chunk) {
    if (byte >= 48 && byte <= 57) {
      value = value * 10 + byte - 48
    } else if (byte === 10) {
      replies++
      receivers += value
      value = 0
    } else if (byte === 45 && linesPerReply === 1) {
      throw new Error(chunk.toString('latin1'))
    }
  }
}

/** Millions of small buffers would fill the memory. */
const COMMANDS_IN_BLOCK = 10_000

function prepare({ kind, topics, count, size, pick, history }: Plan): { perTopic: Record<string, number> } {
  const perTopic: Record<string, number> = {}
  const blocks: Buffer[] = []
  let commands: Buffer[] = []
  let seed = 42
  for (let index = 0; index < count; index++) {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0
    const topic = topics[pick === 'turn' ? index % topics.length : Math.floor((seed / 2 ** 32) * topics.length)]!
    perTopic[topic] = (perTopic[topic] ?? 0) + 1
    commands.push(encodePublish({ kind, topic, size, stamp: index + 1, history }))
    if (commands.length < COMMANDS_IN_BLOCK) continue
    blocks.push(Buffer.concat(commands))
    commands = []
  }
  prepared = Buffer.concat([...blocks, ...commands])
  preparedCount = count
  linesPerReply = history ? LINES_OF_RECORDED : 1
  return { perTopic }
}

/** Publishes what was prepared as fast as Redis takes it. */
async function burst(): Promise<Published> {
  replies = receivers = 0
  const firstAt = micros()
  redis.write(prepared)
  await answered(preparedCount)
  return { firstAt, lastAt: micros(), sent: preparedCount, receivers }
}

/** Publishes at a rate; what is late is made up for, so that the number sent is always rate × seconds. */
async function paced({ kind, streams, seconds }: { kind: Kind; streams: Stream[]; seconds: number }) {
  replies = receivers = 0
  const firstAt = micros()
  const sent = streams.map(() => 0)
  let lastStamp = 0
  for (;;) {
    let nextAt = Number.POSITIVE_INFINITY
    for (const [index, { topic, rate, size, hasOrder, hasBytes }] of streams.entries()) {
      while (sent[index]! < rate * seconds) {
        const dueAt = firstAt + (sent[index]! * 1e6) / rate
        if (dueAt > micros()) {
          nextAt = Math.min(nextAt, dueAt)
          break
        }
        lastStamp = Math.max(lastStamp + 1, micros())
        redis.write(encodePublish({ kind, topic, size, stamp: lastStamp, hasOrder, hasBytes }))
        sent[index]!++
      }
    }
    if (nextAt === Number.POSITIVE_INFINITY) break
    await new Promise(resolve => setTimeout(resolve, (nextAt - micros()) / 1000))
  }
  const total = sent.reduce((sum, count) => sum + count, 0)
  await answered(total)
  return { firstAt, lastAt: micros(), sent: total, receivers }
}

let load: LastingLoad

function plan(lasting: LastingPlan): { perTopic: Record<string, number>; total: number } {
  load = new LastingLoad(lasting, encodePublish)
  linesPerReply = 1
  return { perTopic: load.perTopic, total: load.total }
}

/** Publishes what was planned. */
async function last(): Promise<Published> {
  replies = receivers = 0
  const firstAt = micros()
  await load.publish(redis, () => replies)
  await answered(load.total)
  return { firstAt, lastAt: micros(), sent: load.total, receivers }
}

async function answered(count: number): Promise<void> {
  while (replies < count * linesPerReply) await new Promise(resolve => setTimeout(resolve, 2))
}

answer({ open, prepare, burst, paced, plan, last })
console.log('ready 0')
