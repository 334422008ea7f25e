import { createRequire } from 'node:module'
import type { Writable } from 'node:stream'
import { violationOf } from '../../src/node/inbound.ts'
import {
  BINARY,
  CLOSING,
  CONTINUATION,
  closing,
  FrameClient,
  frame,
  PING,
  PONG,
  TEXT,
} from '../helpers/frame-client.ts'
import { Inbox } from '../helpers/waiting.ts'
import { MESSAGES } from './sockets.ts'
import { Findings, type Target, times } from './target.ts'
import type { World } from './world.ts'

/** Connections at the same time. */
const CONNECTIONS = 10

/** Frames of one connection before it gives way to another, unless one of them ends it earlier. */
const LIFE = 400

/** Messages before the connection is asked whether it has read them: fewer than may be unusable in a row. */
const TURN = 6

/** How many turns are followed by a frame that is perhaps none. */
const DAMAGED = 0.08

/** `limits.inbound` of the node. */
const MAX_MESSAGE = 64 * 1024

const PROBE = 'probe of the fuzz run'
const PROBING = frame(0x80 | TEXT, Buffer.from(JSON.stringify({ type: 'ping', ref: PROBE })), { mask: 'zero' })

/** What the node must have counted. */
interface Seen {
  opened: number
  /** Messages that were answered with an error. */
  errors: number
  protocol: number
  too_large: number
}

/**
 * Frames over bare sockets: most of them legal, in all the ways in which a message can be written, and now and then one that
 * is damaged. A frame counts when it was read: when a probe behind it was answered, or when it has ended the connection.
 */
export const fuzzFrames: Target = async (world, count, isOver) => {
  const found = new Findings()
  const seen: Seen = { opened: 0, errors: 0, protocol: 0, too_large: 0 }
  const isDone = () => found.inputs >= count || isOver()
  await times(Number.POSITIVE_INFINITY, { width: CONNECTIONS, isOver: isDone }, () => speak(world, found, seen))
  const { opened, errors, protocol, too_large } = seen
  const exactly = (n: number) => ({ least: n, most: n })
  const refusals = { counter: 'messages_refused_total' }
  return found.of([
    { counter: 'connections_opened_total', ...exactly(opened) },
    { counter: 'connections_closed_total', ...exactly(opened) },
    { ...refusals, reason: 'protocol', ...exactly(protocol) },
    { ...refusals, reason: 'too_large', ...exactly(too_large) },
    // Every refusal is one answer or one end of a connection: none is counted twice.
    { ...refusals, ...exactly(errors + protocol + too_large) },
  ])
}

/** From the welcome of one connection to its end. */
async function speak(world: World, found: Findings, seen: Seen): Promise<void> {
  const signs = new Inbox<'answer' | 'end'>('the answer to a probe, or the end')
  const read = ({ opcode, payload }: { opcode: number; payload: Buffer }) => {
    if (opcode !== TEXT) return
    const text = payload.toString()
    if (text.startsWith('{"type":"error"')) seen.errors++
    else if (text.startsWith('{"type":"welcome"')) signs.put('answer')
    else if (text.startsWith('{"type":"pong"') && text.includes(PROBE)) signs.put('answer')
  }
  const client = await FrameClient.open(world.port, '/ws?user=frames', { frame: read })
  if (client.status !== 101) return found.problem(`a connection was refused with ${client.status}`)
  seen.opened++
  void client.ended.then(() => signs.put('end'))
  try {
    const visit: Visit = { world, client, found, seen, signs }
    if (await isAnswered(visit, 0)) await talk(visit)
  } finally {
    client.destroy()
  }
}

interface Visit {
  world: World
  client: FrameClient
  found: Findings
  seen: Seen
  signs: Inbox<'answer' | 'end'>
}

/** Turn after turn, until one ends the connection or it has lived long enough. */
async function talk(visit: Visit): Promise<void> {
  const { world, client, found, signs } = visit
  for (let sent = 0; sent < LIFE; ) {
    const frames = Array.from({ length: 1 + world.random.index(TURN) }, () => messageOf(world)).flat()
    client.write(Buffer.concat([...frames, PROBING]))
    if (!(await isAnswered(visit, frames.length))) return
    sent += frames.length
    if (world.random.next() < DAMAGED && !(await survives(visit))) return
  }
  const isPolite = world.random.next() < 0.7
  found.saw(isPolite ? 'connections that took leave' : 'connections that were switched off')
  if (!isPolite) return
  client.send(0x80 | CLOSING, closing(1000))
  await signs.take()
}

/** Everything that was sent was read. Otherwise the connection has ended, and nothing of it said that it should. */
async function isAnswered({ client, found, signs }: Visit, frames: number): Promise<boolean> {
  if ((await signs.take()) === 'answer') {
    found.inputs += frames
    if (frames > 0) found.saw('read', frames)
    return true
  }
  found.problem(
    `a connection was closed with ${client.closeCode ?? 'nothing'} ${frames ? 'by legal frames' : 'at once'}`,
  )
  return false
}

/** One damaged frame. Resolves with whether the connection goes on after it. */
async function survives(visit: Visit): Promise<boolean> {
  const { world, client, found, seen, signs } = visit
  const { bytes, fate } = await damagedFrame(world)
  client.write(fate === 'read' ? Buffer.concat([bytes, PROBING]) : bytes)
  if (fate === 'read') return isAnswered(visit, 1)
  // Nothing comes of half a frame: its sender is gone, or has nothing more to say.
  if (fate === 'unfinished') {
    if (world.random.next() < 0.5) client.destroy()
    else client.socket.end()
  }
  await signs.take()
  found.inputs++
  const { closeCode } = client
  found.saw(fate === 'unfinished' ? fate : `${fate}, closed with ${closeCode}`)
  if (fate === 'unfinished') return false
  if (fate !== 'closing') seen[fate]++
  const isRight = fate === 'closing' ? closeCode !== undefined : CODES[fate].includes(closeCode ?? 0)
  if (!isRight) found.problem(`a frame that is ${fate} was closed with ${closeCode}: ${bytes.toString('hex')}`)
  return false
}

const CODES = { protocol: [1002, 1007, 1008], too_large: [1009] }

/** A message as RFC 6455 lets it be written: in one frame or several, with control frames between them. */
function messageOf({ mutator, random }: World): Buffer[] {
  const bytes = mutator.bytes(MESSAGES)
  const isText = random.next() < 0.85
  const payload = isText ? Buffer.from(bytes.toString()) : bytes
  const parts = random.next() < 0.6 ? 1 : 1 + random.index(4)
  // Anywhere, also within a character.
  const cuts = Array.from({ length: parts - 1 }, () => random.index(payload.length + 1)).toSorted((a, b) => a - b)
  const mask = random.next() < 0.5 ? 'random' : 'zero'
  const frames: Buffer[] = []
  for (const [i, end] of [...cuts, payload.length].entries()) {
    const opcode = i > 0 ? CONTINUATION : isText ? TEXT : BINARY
    const isLast = i === parts - 1
    frames.push(frame((isLast ? 0x80 : 0) | opcode, payload.subarray(cuts[i - 1] ?? 0, end), { mask }))
    if (random.next() < 0.15) {
      const control = 0x80 | random.pick([PING, PONG])
      frames.push(frame(control, payload.subarray(0, random.index(126)), { mask }))
    }
  }
  return frames
}

/** What the node has to make of a frame that follows whole messages. */
type Fate = 'read' | 'closing' | 'unfinished' | 'protocol' | 'too_large'

/** Bytes that are nearly a frame, and what has to become of them: only those for which that can be said. */
async function damagedFrame(world: World): Promise<{ bytes: Buffer; fate: Fate }> {
  for (;;) {
    const bytes = damaged(world)
    const fate = await fateOf(bytes)
    if (fate) return { bytes, fate }
  }
}

function damaged({ mutator, random }: World): Buffer {
  const payload = mutator.bytes(MESSAGES)
  const first = random.pick([0x81, 0x82, 0x01, 0x00, 0x80, 0x89, 0x8a, 0x88, 0xc1, 0x91, 0x83, random.index(256)])
  const whole = frame(first, first & 0x08 ? payload.subarray(0, 125) : payload, { mask: 'zero' })
  const kind = random.next()
  if (kind < 0.4) return whole
  // Not masked, of another length than it says, longer than anything can be, or with a byte that is other than it was.
  if (kind < 0.5) whole[1]! &= 0x7f
  else if (kind < 0.6) return whole.subarray(0, 1 + random.index(whole.length))
  else if (kind < 0.7) whole[1] = random.index(256)
  else if (kind < 0.75) return Buffer.from([first, 0xff, ...Array.from({ length: 12 }, () => random.index(256))])
  else whole[random.index(whole.length)] = random.index(256)
  return whole
}

interface ReceiverOfWs {
  new (options: { isServer: boolean; maxPayload: number }): Writable
}

// Its types do not have it.
const { Receiver } = createRequire(import.meta.url)('ws') as { Receiver: ReceiverOfWs }

/** Is read as a message if the bytes before it end where a message ends. */
const MARK = Buffer.from('mark of the fuzz run')
const MARKING = frame(0x80 | TEXT, MARK, { mask: 'zero' })

/**
 * The parser of the node, asked apart: not what it makes of these bytes is in question, but whether the node counts that once
 * and closes with the right code. Undefined if several things come of them at once.
 */
async function fateOf(bytes: Buffer): Promise<Fate | undefined> {
  const receiver = new Receiver({ isServer: true, maxPayload: MAX_MESSAGE })
  const seen = { messages: 0, isConcluded: false, isAtMessage: false }
  receiver.on('error', () => {})
  receiver.on('conclude', () => {
    seen.isConcluded = true
  })
  receiver.on('message', (data: Buffer) => {
    if (data.equals(MARK)) seen.isAtMessage = true
    else seen.messages++
  })
  const write = (chunk: Buffer) => new Promise<Error | null | undefined>(resolve => receiver.write(chunk, resolve))
  // A copy, since masks are taken off in place.
  const error = await write(Buffer.from(bytes))
  // Before the mark, which may well be the rest of half a close frame.
  const { isConcluded } = seen
  if (!error && !isConcluded) await write(MARKING)
  if (seen.isAtMessage) return 'read'
  if (seen.messages > 0) return undefined
  if (isConcluded) return 'closing'
  return error ? violationOf(error) : 'unfinished'
}
