import type { Socket } from 'node:net'
import { WebSocket } from 'ws'
import type { Codec } from '../../src/protocol/codecs/codec.ts'
import { msgpack } from '../../src/protocol/codecs/msgpack.ts'
import { protobuf } from '../../src/protocol/codecs/protobuf.ts'
import { CLOSE } from '../../src/protocol/messages.ts'
import { until, within } from '../helpers/waiting.ts'
import { Findings, type Target, times } from './target.ts'
import { frameOf, openRaw } from './wire.ts'
import type { World } from './world.ts'

const MESSAGES: (string | object)[] = [
  { type: 'ping', payload: { a: 1 }, ref: 1 },
  { type: 'subscribe', payload: { topic: 'channel:a', since: 'x.1.1-0', last: 3, presence: true }, ref: 2 },
  { type: 'subscribe', payload: { topic: 'channel:room1', presence: true }, ref: 'r' },
  { type: 'subscribe', payload: { topic: 'channel:kept1', last: 5 }, ref: 3 },
  { type: 'unsubscribe', payload: { topic: 'channel:a' }, ref: 3 },
  {
    type: 'push.publish',
    payload: { topic: 'channel:a', type: 'said', payload: { text: 'x' }, key: 'k', echo: false },
    ref: 4,
  },
  { type: 'ack', payload: { token: 'abc' } },
  { type: 'echo', payload: { text: 'x' }, ref: 5 },
  { type: 'fails', payload: {}, ref: 6 },
  { type: 'authenticate', payload: { ticket: 'x' }, ref: 7 },
  '{"type":"ping"}',
]

const CONNECTIONS = 10

/** Messages of one connection before it gives way to another: churn belongs to it. */
const LIFE = 200

/** Messages that were sent and not answered yet: more would only wait. */
const AHEAD = 20

/** Text and binary messages of connections that come and go. */
export const fuzzMessages: Target = async (world, count, isOver) => {
  const found = new Findings()
  const state = { errors: 0, broken: 0 }
  await times(Math.ceil(count / LIFE), { width: CONNECTIONS, isOver }, async () => {
    const most = Math.min(LIFE, count - found.inputs)
    found.inputs += Math.max(0, most)
    if (most > 0) await converse(world, found, { most, state })
  })
  // What is answered just before a violation of RFC 6455 ends the connection is not written any more; what comes after it, the
  // probe too, is refused, as it is after too many messages in a row that cannot be read.
  const most = state.errors + state.broken * (AHEAD + 1)
  return found.of([{ counter: 'messages_refused_total', least: state.errors, most }])
}

/** A codec that takes no key of a stranger writes a message without it. */
function writer(codec: Codec): (sample: object) => Uint8Array {
  return sample => {
    try {
      return codec.encodeMessage(sample)
    } catch {
      return codec.encodeMessage({ type: 'ping' })
    }
  }
}

interface Talk {
  most: number
  state: { errors: number; broken: number }
}

async function converse({ port, mutator, random }: World, found: Findings, { most, state }: Talk): Promise<void> {
  const codec = random.pick<Codec | undefined>([undefined, undefined, msgpack, protobuf])
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws?user=u${random.index(50)}`, codec ? [codec.protocol] : [])
  const closed = new Promise<number>(resolve => socket.on('close', resolve))
  let answered = 0
  let isWelcome = false
  socket.on('error', () => {})
  socket.on('message', data => {
    const message = codec ? codec.decodeMessage(data as Buffer) : JSON.parse(String(data))
    const { type, ref } = message as { type: string; ref?: unknown }
    isWelcome = true
    if (type === 'error') state.errors++
    if (ref === PROBE) answered++
    found.saw(type === 'error' ? 'error' : 'other message')
  })
  await until(() => isWelcome || socket.readyState === WebSocket.CLOSED, 'the welcome')
  for (let i = 0; i < most && socket.readyState === WebSocket.OPEN; i++) {
    // With a codec, text is what is wrong.
    const isText = random.next() < (codec ? 0.02 : 0.95)
    const bytes = codec && !isText ? mutator.coded(MESSAGES, writer(codec)) : mutator.bytes(MESSAGES)
    // Text that is not UTF-8 ends a connection: now and then is enough.
    const mayBreak = !isText || random.next() < 0.01
    socket.send(mayBreak ? bytes : Buffer.from(bytes.toString()), { binary: !isText })
    if (i % AHEAD === AHEAD - 1) await probed(socket, codec, () => answered)
  }
  await probed(socket, codec, () => answered)
  socket.close()
  const code = await within(closed, 'the end of a connection')
  if (code === 1007 || code === CLOSE.BAD_MESSAGE) state.broken++
  found.saw(`closed with ${code}`)
}

const PROBE = 'probe of the fuzz run'

/** Everything before was read, or the connection has ended. */
async function probed(socket: WebSocket, codec: Codec | undefined, answered: () => number): Promise<void> {
  if (socket.readyState !== WebSocket.OPEN) return
  const before = answered()
  const probe = { type: 'ping', ref: PROBE }
  socket.send(codec?.encodeMessage(probe) ?? JSON.stringify(probe))
  await until(() => answered() > before || socket.readyState !== WebSocket.OPEN, 'the answer to a probe')
}

/** Frames as no library writes them, over bare sockets. */
export const fuzzFrames: Target = async (world, count, isOver) => {
  const found = new Findings()
  let opened = 0
  await times(Math.ceil(count / FRAMES), { width: CONNECTIONS, isOver }, async () => {
    const socket = await openRaw(world.port, '/ws?user=frames')
    if (!socket) return found.problem('a connection was refused')
    opened++
    found.inputs += FRAMES
    await misbehave(world, socket, found)
  })
  return found.of([{ counter: 'connections_opened_total', least: opened, most: opened }])
}

const FRAMES = 20

async function misbehave({ mutator, random }: World, socket: Socket, found: Findings): Promise<void> {
  const closed = new Promise<void>(resolve => socket.once('close', () => resolve()))
  const bytes = Array.from({ length: FRAMES }, () => frameInput(mutator, random))
  const isWhole = random.next() < 0.7
  for (const frame of bytes) if (!socket.destroyed) socket.write(frame)
  found.saw(isWhole ? 'whole' : 'cut off')
  // A close frame of its own, behind which nothing comes; or it just goes.
  if (isWhole) socket.end(frameOf(0x88, Buffer.from([0x03, 0xe8])))
  else socket.destroy()
  await within(closed, 'the end of a bare connection')
}

function frameInput(mutator: World['mutator'], random: World['random']): Buffer {
  const payload = mutator.bytes(MESSAGES)
  const first = random.pick([0x81, 0x82, 0x01, 0x00, 0x80, 0x89, 0x8a, 0x88, 0xc1, 0x91, 0x83, random.index(256)])
  const frame = frameOf(first, first & 0x08 ? payload.subarray(0, 125) : payload)
  const kind = random.next()
  if (kind < 0.6) return frame
  // Not masked, of another length than it says, or with a byte that is other than it was.
  if (kind < 0.7) frame[1]! &= 0x7f
  else if (kind < 0.8) return frame.subarray(0, random.index(frame.length + 1))
  else if (kind < 0.9) frame[1] = random.index(256)
  else frame[random.index(frame.length)] = random.index(256)
  return frame
}
