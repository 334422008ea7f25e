import { constants, deflateRawSync } from 'node:zlib'
import { BINARY, CLOSING, closing, FrameClient, frame, PING, PONG, TEXT } from '../helpers/frame-client.ts'
import { until, within } from '../helpers/waiting.ts'
import { type Count, Findings, type Target, times } from './target.ts'
import type { World } from './world.ts'

/** Connections at the same time. */
const WIDTH = 20

/** What belongs to one connection before another one takes its place. */
const LIFE = 1000

interface Visit {
  world: World
  client: FrameClient
  found: Findings
}

interface Flood {
  /** Inputs of one connection; 0: `visit` counts them. */
  life: number
  path?: (world: World) => string
  header?: string
  /** Ends when the connection is over. */
  visit(visit: Visit): Promise<void>
}

/** Connections that come one after the other, some at the same time, each with the same bad manners. */
function flood({ life, visit, path = () => '/ws?user=flood', header = '' }: Flood): Target {
  return async (world, count, isOver) => {
    const found = new Findings()
    let opened = 0
    const isDone = () => found.inputs >= count || isOver()
    await times(Number.POSITIVE_INFINITY, { width: WIDTH, isOver: isDone }, async () => {
      const client = await FrameClient.open(world.port, path(world), { header })
      if (client.status !== 101) {
        found.inputs++
        return found.problem(`a connection was refused with ${client.status}`)
      }
      opened++
      found.inputs += life
      try {
        await visit({ world, client, found })
        await within(client.ended, 'the end of a flood')
      } finally {
        client.destroy()
      }
      found.saw(client.closeCode === undefined ? 'cut off' : `closed with ${client.closeCode}`)
    })
    // Each was opened once and ended once, whatever it did in between.
    const once = { least: opened, most: opened }
    return found.of([
      { counter: 'connections_opened_total', ...once },
      { counter: 'connections_closed_total', ...once },
      violations(found, 'too_large', [1009]),
      violations(found, 'protocol', [1002, 1007, 1008]),
    ])
  }
}

/** What ends a connection is counted under one reason. Whoever was cut off did not see for which. */
function violations({ outcomes }: Findings, reason: string, codes: readonly number[]): Count {
  const least = codes.reduce((sum, code) => sum + (outcomes[`closed with ${code}`] ?? 0), 0)
  return { counter: 'messages_refused_total', reason, least, most: least + (outcomes['cut off'] ?? 0) }
}

/** Writes as fast as the socket takes it, unless the connection ends. */
async function pour({ client }: Visit, bytes: Uint8Array): Promise<void> {
  if (client.write(bytes) || client.socket.destroyed) return
  const drained = new Promise<void>(resolve => client.socket.once('drain', () => resolve()))
  await within(Promise.race([drained, client.ended]), 'room in a socket')
}

const NORMAL = frame(0x80 | CLOSING, closing(1000))

/** Ping and pong frames, by clients that wait for the answers, clients that do not, and clients that never read them. */
const pings = flood({
  life: LIFE,
  async visit(visit) {
    const { random } = visit.world
    const { client } = visit
    const isPolite = random.next() < 0.4
    if (!isPolite && random.next() < 0.5) client.socket.pause()
    const step = 1 + random.index(isPolite ? 50 : 200)
    for (let sent = 0; sent < LIFE && client.isOpen; sent += step) {
      const before = client.frames
      const bytes = Buffer.alloc(random.pick([0, 1, 125]))
      const kinds = Array.from({ length: Math.min(step, LIFE - sent) }, () => random.pick([PING, PING, PONG]))
      const turn = [...kinds.map(kind => frame(0x80 | kind, bytes, { mask: 'zero' })), frame(0x80 | PING)]
      await pour(visit, Buffer.concat(turn))
      const pings = kinds.filter(kind => kind === PING).length + 1
      if (isPolite) await until(() => client.frames >= before + pings || !client.isOpen, 'the pongs')
    }
    await pour(visit, NORMAL)
    client.socket.resume()
  },
})

export const floodPings: Target = async (world, count, isOver) => {
  const ran = await pings(world, count, isOver)
  const { 'cut off': cut = 0 } = ran.outcomes
  ran.counts.push({ counter: 'messages_refused_total', reason: 'rate', least: cut, most: cut })
  return ran
}

/** More than `ws` takes of one message. */
const FRAGMENTS = 17_000

/** Messages of very many small fragments, which end, do not end, or are larger than a message may be. */
export const floodFragments = flood({
  life: 0,
  async visit(visit) {
    const { random } = visit.world
    const small = frame(0x00, Buffer.alloc(random.pick([0, 0, 1, 3, 100]), 0x20), { mask: 'zero' })
    await pour(visit, frame(random.pick([TEXT, BINARY]), undefined))
    const most = random.pick([100, 3000, FRAGMENTS])
    const hundred = Buffer.concat(Array.from({ length: 100 }, () => small))
    for (let sent = 0; sent < most && visit.client.isOpen; sent += 100) {
      await pour(visit, hundred)
      visit.found.inputs += 100
      // Control frames may stand between fragments.
      if (random.next() < 0.1) await pour(visit, frame(0x80 | PING))
    }
    if (random.next() < 0.5) await pour(visit, frame(0x80))
    await pour(visit, NORMAL)
  },
})

const EMPTIES = 100

const BAD_IN_A_ROW = 10

/** Empty messages, text or binary, before the welcome and after it. Ten of text are more than anybody may send. */
export const floodEmpties: Target = async (world, count, isOver) => {
  let texts = 0
  const visit = async (visit: Visit) => {
    const { client, world } = visit
    const opcode = world.random.pick([TEXT, BINARY])
    const isPatient = world.random.next() < 0.5
    if (isPatient) await until(() => client.frames > 0 || !client.isOpen, 'the welcome')
    if (isPatient && opcode === TEXT) texts++
    await pour(visit, Buffer.concat(Array.from({ length: EMPTIES }, () => frame(0x80 | opcode))))
    await pour(visit, NORMAL)
  }
  const ran = await flood({ life: EMPTIES, visit })(world, count, isOver)
  const { 'closed with 4400': bad = 0, 'closed with 4429': early = 0 } = ran.outcomes
  if (bad < texts) ran.problems.push(`${texts} sent ten unusable messages, and ${bad} were closed with 4400`)
  const counter = 'messages_refused_total'
  ran.counts.push({ counter, reason: 'PUSH_ERR_BAD_MESSAGE', least: bad * BAD_IN_A_ROW, most: bad * BAD_IN_A_ROW })
  ran.counts.push({ counter, reason: 'rate', least: early, most: early })
  // No message is refused twice.
  ran.counts.push({ counter, least: bad * BAD_IN_A_ROW + early, most: ran.inputs })
  return ran
}

const CLOSES = 50

/** Close frames of every kind, and whatever comes behind them. */
export const floodCloses = flood({
  life: CLOSES,
  async visit(visit) {
    const { random } = visit.world
    const payloads = [
      Buffer.alloc(0),
      Buffer.alloc(1),
      closing(random.pick([0, 999, 1004, 1005, 1006, 1016, 2999, 5000, 65_535])),
      closing(1000, 'x'.repeat(123)),
      closing(1000, Buffer.from([0xff, 0xfe])),
      closing(random.pick([1000, 1001, 3000, 4999]), 'bye'),
    ]
    const more = Array.from({ length: CLOSES - 1 }, () => frame(0x80 | CLOSING, random.pick(payloads)))
    const rest = random.next() < 0.5 ? more : more.map(() => frame(0x80 | TEXT, Buffer.from('{"type":"ping"}')))
    await pour(visit, Buffer.concat([frame(0x80 | CLOSING, random.pick(payloads)), ...rest]))
  },
})

/** Connect, subscribe, leave: with a close frame, or as a machine that was switched off. */
export const floodChurn = flood({
  life: 1,
  path: ({ random }) => `/ws${random.next() < 0.5 ? '' : `/churn${random.index(1000)}`}?user=c${random.index(1000)}`,
  async visit(visit) {
    const { random } = visit.world
    const topic = `channel:churn${random.index(1000)}`
    const subscribe = Buffer.from(JSON.stringify({ type: 'subscribe', payload: { topic }, ref: 1 }))
    const { client } = visit
    // Mostly at its leisure: what comes before the welcome is not handled any more if the client leaves at once.
    const came = (frames: number) => until(() => client.frames >= frames || !client.isOpen, 'an answer')
    const isPatient = random.next() < 0.8
    if (isPatient) await came(1)
    await pour(visit, frame(0x80 | TEXT, subscribe))
    if (isPatient) await came(2)
    if (random.next() < 0.8) await pour(visit, NORMAL)
    else client.destroy()
  },
})

/** Made once: to make one takes longer than to send it. */
const BOMBS = new Map<string, Buffer>()

/** A message that is larger than `limits.inbound` once it is inflated. */
function bomb(random: World['random']): Buffer {
  const size = random.pick([70_000, 1_000_000, 20_000_000])
  const byte = random.pick([0x00, 0x20])
  const key = `${size} ${byte}`
  const made = BOMBS.get(key) ?? deflated(Buffer.alloc(size, byte))
  BOMBS.set(key, made)
  return made
}

/** As RFC 7692 has it: flushed, without the four bytes that every flush ends with. */
function deflated(bytes: Buffer): Buffer {
  return deflateRawSync(bytes, { finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, -4)
}

/** Small frames that inflate to more than a message may have, also in fragments, and some that are no deflate at all. */
export const floodBombs: Target = async (world, count, isOver) => {
  let bombs = 0
  const visit = async (visit: Visit) => {
    const { random } = visit.world
    const isBroken = random.next() < 0.2
    const bytes = isBroken ? Buffer.from('this is no deflate') : bomb(random)
    if (!isBroken) bombs++
    const half = bytes.length >> 1
    const parts = [frame(0x40 | TEXT, bytes.subarray(0, half)), frame(0x80, bytes.subarray(half))]
    await pour(visit, random.next() < 0.5 ? Buffer.concat(parts) : frame(0xc0 | TEXT, bytes))
    await pour(visit, NORMAL)
  }
  const header = 'Sec-WebSocket-Extensions: permessage-deflate\r\n'
  const ran = await flood({ life: 1, header, visit })(world, count, isOver)
  const { 'closed with 1009': tooLarge = 0, 'closed with 1007': broken = 0 } = ran.outcomes
  if (tooLarge !== bombs || broken !== ran.inputs - bombs)
    ran.problems.push(`${bombs} bombs, of which ${tooLarge} were closed with 1009`)
  return ran
}
