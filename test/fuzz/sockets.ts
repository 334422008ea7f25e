import { isUtf8 } from 'node:buffer'
import { WebSocket } from 'ws'
import type { Codec } from '../../src/protocol/codecs/codec.ts'
import { msgpack } from '../../src/protocol/codecs/msgpack.ts'
import { protobuf } from '../../src/protocol/codecs/protobuf.ts'
import { NO_CODE } from '../helpers/frame-client.ts'
import { until, within } from '../helpers/waiting.ts'
import { Findings, type Target, times } from './target.ts'
import type { World } from './world.ts'

export const MESSAGES: (string | object)[] = [
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

/** Messages that were sent and not answered yet: fewer than may be unusable in a row. More would only wait. */
const AHEAD = 9

/** What the node must have counted. */
interface Seen {
  opened: number
  /** Messages that were answered with an error. */
  errors: number
  /** Connections that ended by text that is not UTF-8. */
  broken: number
}

/** Text and binary messages of connections that come and go. */
export const fuzzMessages: Target = async (world, count, isOver) => {
  const found = new Findings()
  const seen: Seen = { opened: 0, errors: 0, broken: 0 }
  const isDone = () => found.inputs >= count || isOver()
  await times(Number.POSITIVE_INFINITY, { width: CONNECTIONS, isOver: isDone }, () => converse(world, found, seen))
  const { opened, errors, broken } = seen
  const exactly = (n: number) => ({ least: n, most: n })
  return found.of([
    { counter: 'connections_opened_total', ...exactly(opened) },
    { counter: 'connections_closed_total', ...exactly(opened) },
    { counter: 'messages_refused_total', reason: 'protocol', ...exactly(broken) },
    // Every refusal is one answer or one end of a connection: none is counted twice.
    { counter: 'messages_refused_total', ...exactly(errors + broken) },
  ])
}

/** A codec that takes no key of a stranger writes a message without it. */
export function writer(codec: Codec): (sample: object) => Uint8Array {
  return sample => {
    try {
      return codec.encodeMessage(sample)
    } catch {
      return codec.encodeMessage({ type: 'ping' })
    }
  }
}

async function converse({ port, mutator, random }: World, found: Findings, seen: Seen): Promise<void> {
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
    if (type === 'error') seen.errors++
    if (ref === PROBE) answered++
    found.saw(type === 'error' ? 'error' : 'other message')
  })
  await until(() => isWelcome || socket.readyState === WebSocket.CLOSED, 'the welcome')
  if (isWelcome) seen.opened++
  let isBroken = false
  for (let i = 0; i < LIFE && !isBroken && socket.readyState === WebSocket.OPEN; i++) {
    // With a codec, text is what is wrong.
    const isText = random.next() < (codec ? 0.02 : 0.95)
    const bytes = codec && !isText ? mutator.coded(MESSAGES, writer(codec)) : mutator.bytes(MESSAGES)
    // Text that is not UTF-8 ends a connection: now and then is enough.
    const input = !isText || random.next() < 0.01 ? bytes : Buffer.from(bytes.toString())
    isBroken = isText && !isUtf8(input)
    // What was answered just before the end would not be written any more.
    if (isBroken) await probed(socket, codec, () => answered)
    socket.send(input, { binary: !isText })
    found.inputs++
    if (!isBroken && i % AHEAD === AHEAD - 1) await probed(socket, codec, () => answered)
  }
  if (!isBroken) await probed(socket, codec, () => answered)
  if (!isBroken) socket.close()
  const code = await within(closed, 'the end of a connection')
  if (isBroken) seen.broken++
  if (code !== (isBroken ? 1007 : NO_CODE)) found.problem(`a connection was closed with ${code}`)
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
