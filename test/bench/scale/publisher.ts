/// <reference path="../../../src/broker/redis/cluster-key-slot.d.ts" />
/** Publishes to the master of each topic: raw pipelined commands, the bytes made before the clock starts. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { slotOf } from '../../../src/broker/redis/topology.ts'
import { encodePublish } from '../lib/message.ts'
import { answer } from '../lib/rpc.ts'
import { micros } from '../lib/stamp.ts'
import type { Place } from './servers.ts'

export interface Way {
  isSharded: boolean
  /** Recorded publications; live ones if it is left out. */
  history?: { size: number; ttl: number }
}

export interface Plan extends Way {
  topics: string[]
  count: number
  size: number
}

export interface Stream {
  topic: string
  rate: number
  size: number
}

export interface Published {
  /** Microseconds of CLOCK_MONOTONIC. */
  firstAt: number
  lastAt: number
  sent: number
}

const PUBLISH = Buffer.from('*3\r\n$7\r\nPUBLISH\r\n')
const SPUBLISH = Buffer.from('*3\r\n$8\r\nSPUBLISH\r\n')
/** Lines of an answer: a number, or the list of push_publish. */
const LINES = { live: 1, recorded: 6 }
const MINUS = 45
const LINE_FEED = 10
/** Millions of small buffers would fill the memory. */
const COMMANDS_IN_BLOCK = 10_000

interface Master {
  place: Place
  socket: Socket
  blocks: Buffer[]
  commands: Buffer[]
}

let masters: Master[] = []
let lines = 0
let prepared = { count: 0, linesPerReply: 1 }

async function open({ places }: { places: Place[] }): Promise<void> {
  masters = await Promise.all(
    places.map(async place => {
      const socket = connect({ host: '127.0.0.1', port: place.port, noDelay: true })
      await once(socket, 'connect')
      socket.on('data', onReplies)
      return { place, socket, blocks: [], commands: [] }
    }),
  )
}

function onReplies(chunk: Buffer): void {
  if (chunk[0] === MINUS) throw new Error(chunk.toString('latin1', 0, 200))
  for (const byte of chunk) if (byte === LINE_FEED) lines++
}

function masterOf(topic: string): Master {
  const slot = slotOf(`push:${topic}`)
  return masters.find(({ place: { slots } }) => slot >= slots[0] && slot <= slots[1])!
}

function encode(topic: string, size: number, stamp: number, { isSharded, history }: Way): Buffer {
  const bytes = encodePublish({ kind: 'bridge', topic, size, stamp, history })
  return isSharded && !history ? Buffer.concat([SPUBLISH, bytes.subarray(PUBLISH.length)]) : bytes
}

function prepare({ topics, count, size, ...way }: Plan): { perTopic: Record<string, number> } {
  const perTopic: Record<string, number> = {}
  for (const master of masters) master.blocks = []
  const places = topics.map(masterOf)
  for (let index = 0; index < count; index++) {
    const topic = topics[index % topics.length]!
    perTopic[topic] = (perTopic[topic] ?? 0) + 1
    const { commands, blocks } = places[index % topics.length]!
    commands.push(encode(topic, size, index + 1, way))
    if (commands.length >= COMMANDS_IN_BLOCK) blocks.push(Buffer.concat(commands.splice(0)))
  }
  for (const { commands, blocks } of masters) blocks.push(Buffer.concat(commands.splice(0)))
  prepared = { count, linesPerReply: way.history ? LINES.recorded : LINES.live }
  return { perTopic }
}

/** Publishes what was prepared as fast as Redis takes it. */
async function burst(): Promise<Published> {
  lines = 0
  const firstAt = micros()
  for (const { socket, blocks } of masters) for (const block of blocks) socket.write(block)
  await answered(prepared.count * prepared.linesPerReply)
  return { firstAt, lastAt: micros(), sent: prepared.count }
}

/** Publishes at a rate; what is late is made up for, so that the number sent is always rate × seconds. */
async function paced({ streams, seconds, ...way }: Way & { streams: Stream[]; seconds: number }): Promise<Published> {
  lines = 0
  const places = streams.map(({ topic }) => masterOf(topic))
  const sent = streams.map(() => 0)
  const firstAt = micros()
  let lastStamp = 0
  for (let isOver = false; !isOver; ) {
    isOver = true
    for (const [index, { topic, rate, size }] of streams.entries()) {
      const due = Math.min(rate * seconds, Math.floor(((micros() - firstAt) * rate) / 1e6) + 1)
      const commands: Buffer[] = []
      for (; sent[index]! < due; sent[index]!++) {
        lastStamp = Math.max(lastStamp + 1, micros())
        commands.push(encode(topic, size, lastStamp, way))
      }
      if (commands.length > 0) places[index]!.socket.write(Buffer.concat(commands))
      if (due < rate * seconds) isOver = false
    }
    await new Promise(resolve => setTimeout(resolve, 1))
  }
  const total = sent.reduce((sum, count) => sum + count, 0)
  await answered(total * (way.history ? LINES.recorded : LINES.live))
  return { firstAt, lastAt: micros(), sent: total }
}

async function answered(count: number): Promise<void> {
  while (lines < count) await new Promise(resolve => setTimeout(resolve, 2))
}

answer({ open, prepare, burst, paced })
console.log('ready 0')
