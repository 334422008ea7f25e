import { constants, deflateRawSync } from 'node:zlib'
import { BINARY, CLOSING, closing, FrameClient, frame, PING, PONG, TEXT } from '../helpers/frame-client.ts'
import { within } from '../helpers/waiting.ts'
import { Findings, type Target, times } from './target.ts'
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
  /** Inputs of one connection. */
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
    await times(Math.ceil(count / life), { width: WIDTH, isOver }, async () => {
      const client = await FrameClient.open(world.port, path(world), { header })
      if (client.status !== 101) return found.problem(`a connection was refused with ${client.status}`)
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
    ])
  }
}

/** Writes as fast as the socket takes it, unless the connection ends. */
async function pour({ client }: Visit, bytes: Uint8Array): Promise<void> {
  if (client.write(bytes) || client.socket.destroyed) return
  const drained = new Promise<void>(resolve => client.socket.once('drain', () => resolve()))
  await within(Promise.race([drained, client.ended]), 'room in a socket')
}

const NORMAL = frame(0x80 | CLOSING, closing(1000))

/** Ping and pong frames with and without a payload, by clients that read the answers and by clients that do not. */
export const floodPings = flood({
  life: LIFE,
  async visit(visit) {
    const { random } = visit.world
    if (random.next() < 0.3) visit.client.socket.pause()
    const step = 1 + random.index(100)
    for (let sent = 0; sent < LIFE && visit.client.isOpen; sent += step) {
      const kind = random.pick([PING, PING, PONG])
      const bytes = Buffer.alloc(random.pick([0, 1, 125]))
      const turn = Array.from({ length: Math.min(step, LIFE - sent) }, () =>
        frame(0x80 | kind, bytes, { mask: 'zero' }),
      )
      await pour(visit, Buffer.concat(turn))
    }
    await pour(visit, NORMAL)
    visit.client.socket.resume()
  },
})

/** More than `ws` takes of one message. */
const FRAGMENTS = 17_000

/** Messages of very many small fragments, which end, do not end, or are larger than a message may be. */
export const floodFragments = flood({
  life: FRAGMENTS,
  async visit(visit) {
    const { random } = visit.world
    const small = frame(0x00, Buffer.alloc(random.pick([0, 0, 1, 3, 100]), 0x20), { mask: 'zero' })
    await pour(visit, frame(random.pick([TEXT, BINARY]), undefined))
    const most = random.pick([100, 3000, FRAGMENTS])
    const hundred = Buffer.concat(Array.from({ length: 100 }, () => small))
    for (let sent = 0; sent < most && visit.client.isOpen; sent += 100) {
      await pour(visit, hundred)
      // Control frames may stand between fragments.
      if (random.next() < 0.1) await pour(visit, frame(0x80 | PING))
    }
    if (random.next() < 0.5) await pour(visit, frame(0x80))
    await pour(visit, NORMAL)
  },
})

const EMPTIES = 100

/** Empty messages, text or binary. Ten of text are more than anybody may send. */
export const floodEmpties: Target = async (world, count, isOver) => {
  let texts = 0
  const visit = async (visit: Visit) => {
    const opcode = visit.world.random.pick([TEXT, BINARY])
    if (opcode === TEXT) texts++
    await pour(visit, Buffer.concat(Array.from({ length: EMPTIES }, () => frame(0x80 | opcode))))
    await pour(visit, NORMAL)
  }
  const ran = await flood({ life: EMPTIES, visit })(world, count, isOver)
  const bad = { counter: 'messages_refused_total', reason: 'PUSH_ERR_BAD_MESSAGE' }
  ran.counts.push({ ...bad, least: texts * BAD_IN_A_ROW, most: texts * BAD_IN_A_ROW })
  // Those behind the tenth come to a connection that is being closed: no other reason counts them.
  ran.counts.push({ counter: 'messages_refused_total', least: texts * BAD_IN_A_ROW, most: texts * EMPTIES })
  if ((ran.outcomes['closed with 4400'] ?? 0) !== texts) ran.problems.push(`not ${texts} were closed with 4400`)
  return ran
}

const BAD_IN_A_ROW = 10

const CLOSES = 50

/** Close frames of every kind, and whatever comes behind them. */
export const floodCloses = flood({
  life: CLOSES,
  async visit(visit) {
    const { random } = visit.world
    const payloads = [
      Buffer.alloc(0),
      Buffer.alloc(1),
      closing(random.index(65_536)),
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
    await pour(visit, frame(0x80 | TEXT, subscribe))
    if (random.next() < 0.8) await pour(visit, NORMAL)
    else visit.client.destroy()
  },
})

/** A message that says more than `limits.inbound` once it is inflated, and how large it is then. */
function bomb(random: World['random']): Buffer {
  const size = random.pick([70_000, 1_000_000, 60_000_000])
  return deflated(Buffer.alloc(size, random.pick([0x00, 0x20])))
}

/** Made once: to make one takes longer than to send it. */
const BOMBS = new Map<string, Buffer>()

/** As RFC 7692 has it: flushed, without the four bytes that every flush ends with. */
function deflated(bytes: Buffer): Buffer {
  const key = `${bytes.length} ${bytes[0]}`
  let made = BOMBS.get(key)
  if (!made) {
    made = deflateRawSync(bytes, { finishFlush: constants.Z_SYNC_FLUSH }).subarray(0, -4)
    BOMBS.set(key, made)
  }
  return made
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
