import { randomBytes } from 'node:crypto'
import { WebSocket } from 'ws'
import { msgpack } from '../../src/protocol/codecs/msgpack.ts'
import { protobuf } from '../../src/protocol/codecs/protobuf.ts'
import { CLOSE } from '../../src/protocol/messages.ts'
import { NO_CODE } from '../helpers/frame-client.ts'
import { Inbox } from '../helpers/waiting.ts'
import { writer } from './sockets.ts'
import { Findings, type Target, times } from './target.ts'
import type { World } from './world.ts'

/** Connections at the same time. */
const WIDTH = 20

/** Messages of one connection: after so many that are none of `authenticate` the node closes it. */
const MOST = 10

const TICKET = '0123456789abcdef0123456789abcdef'

const FIRSTS: (string | object)[] = [
  { type: 'authenticate', payload: { ticket: TICKET }, ref: 1 },
  { type: 'authenticate', payload: { token: 'a.b.c' } },
  { type: 'subscribe', payload: { topic: 'channel:a' }, ref: 2 },
  { type: 'ping', ref: 'r' },
  '{"type":"authenticate"}',
]

/** What the node must have counted. */
interface Seen {
  opened: number
  /** Messages that were answered with an error. */
  errors: number
  /** Connections that were closed because nobody knows whose they are. */
  refused: number
  /** Connections that ended by text that is not UTF-8. */
  broken: number
}

/** Clients that say who they are in their first message, or something else. Each message has one answer, the welcome or the end. */
export const fuzzVisits: Target = async (world, count, isOver) => {
  const found = new Findings()
  const seen: Seen = { opened: 0, errors: 0, refused: 0, broken: 0 }
  const isDone = () => found.inputs >= count || isOver()
  await times(Number.POSITIVE_INFINITY, { width: WIDTH, isOver: isDone }, () => visit(world, found, seen))
  const exactly = (n: number) => ({ least: n, most: n })
  return found.of([
    { counter: 'connections_opened_total', ...exactly(seen.opened) },
    { counter: 'connections_closed_total', ...exactly(seen.opened) },
    { counter: 'upgrades_refused_total', ...exactly(seen.refused) },
    { counter: 'messages_refused_total', reason: 'protocol', ...exactly(seen.broken) },
    { counter: 'messages_refused_total', ...exactly(seen.errors + seen.broken) },
  ])
}

async function visit(world: World, found: Findings, seen: Seen): Promise<void> {
  const { port, mutator, random, redis } = world
  const codec = random.pick([undefined, undefined, msgpack, protobuf])
  const socket = new WebSocket(`ws://127.0.0.1:${port}/ws?user=later`, codec ? [codec.protocol] : [])
  const signs = new Inbox<string>('the answer to a message')
  let closed = 0
  socket.on('error', () => {})
  socket.on('open', () => signs.put('open'))
  socket.on('message', data => {
    const { type } = (codec ? codec.decodeMessage(data as Buffer) : JSON.parse(String(data))) as { type: string }
    signs.put(type)
  })
  socket.on('close', code => {
    closed = code
    signs.put('close')
  })
  if ((await signs.take()) !== 'open') return found.problem(`an upgrade was refused: ${closed}`)
  for (let i = 0; i < MOST && socket.readyState === WebSocket.OPEN; i++) {
    const isText = random.next() < (codec ? 0.1 : 0.95)
    let bytes = codec && !isText ? mutator.coded(FIRSTS, writer(codec)) : mutator.bytes(FIRSTS)
    // Now and then a ticket that is one: the same length, so that what was changed stays as it is.
    if (bytes.includes(TICKET) && random.next() < 0.5) bytes = await redeemable(redis, bytes)
    if (isText && random.next() < 0.95) bytes = Buffer.from(bytes.toString())
    socket.send(bytes, { binary: !isText })
    found.inputs++
    const sign = await signs.take()
    found.saw(sign)
    if (sign === 'welcome') seen.opened++
    if (sign !== 'error') break
    seen.errors++
  }
  socket.close()
  while (closed === 0) await signs.take()
  judge(closed, found, seen)
}

/** What the node says with the end of a connection. */
function judge(code: number, found: Findings, seen: Seen): void {
  found.saw(`closed with ${code}`)
  if (code === 1007) seen.broken++
  else if (REFUSED.has(code)) seen.refused++
  else if (code !== NO_CODE) found.problem(`a connection was closed with ${code}`)
}

const REFUSED = new Set<number>([CLOSE.BAD_MESSAGE, CLOSE.UNAUTHENTICATED, CLOSE.FORBIDDEN])

async function redeemable({ admin }: World['redis'], bytes: Buffer): Promise<Buffer> {
  const ticket = randomBytes(TICKET.length / 2).toString('hex')
  await admin.set(`push:ticket:${ticket}`, '{"user":"42","allow":["channel:a"]}', 'EX', 60)
  const at = bytes.indexOf(TICKET)
  return Buffer.concat([bytes.subarray(0, at), Buffer.from(ticket), bytes.subarray(at + TICKET.length)])
}
