import { constants, inflateRawSync } from 'node:zlib'
import { BINARY, CONTINUATION, type Frame, FrameClient, PONG, TEXT } from '../helpers/frame-client.ts'
import { until, within } from '../helpers/waiting.ts'
import { type Case, type Echo, GOODBYE, type Message } from './case.ts'
import { framing } from './framing.ts'
import { load } from './load.ts'
import { utf8 } from './utf8.ts'

export const CASES: readonly Case[] = [...framing(), ...utf8(), ...load()]

/** What a section has come to. */
export interface Verdict {
  section: string
  cases: number
  failures: string[]
}

/** Connections at the same time. */
const WIDTH = 8

/** Runs cases and says how each section ended, in the order of their numbers. */
export async function judge(port: number, echo: Echo, cases: readonly Case[]): Promise<Verdict[]> {
  const verdicts = new Map<string, Verdict>()
  for (const { section } of cases) verdicts.set(section, { section, cases: 0, failures: [] })
  const waiting = [...cases]
  const worker = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      const verdict = verdicts.get(next.section)!
      const problem = await run(port, echo, next).catch((error: Error) => error.message)
      verdict.cases++
      if (problem) verdict.failures.push(`${next.name}: ${problem}`.slice(0, 400))
    }
  }
  await Promise.all(Array.from({ length: WIDTH }, worker))
  return [...verdicts.values()].toSorted((a, b) => Number.parseInt(a.section, 10) - Number.parseInt(b.section, 10))
}

/** What came back over a connection. */
class Seen {
  readonly messages: Message[] = []
  readonly pongs: Buffer[] = []
  problem: string | undefined
  /** What the server said that it needs at most. */
  windowBits = 15
  readonly #echo: Echo
  readonly #isCompressed: boolean
  readonly #most: number
  /** Resolves when more came back than may: no need to wait for the end of a server that goes on. */
  readonly excess: Promise<void>
  #tooMuch: () => void = () => {}
  #open: { opcode: number; rsv: number; parts: Buffer[] } | undefined

  constructor(echo: Echo, { offer, messages = [] }: Case) {
    this.#echo = echo
    this.#isCompressed = offer !== undefined
    this.#most = messages.length
    this.excess = new Promise(resolve => {
      this.#tooMuch = resolve
    })
  }

  take(frame: Frame): void {
    if (frame.rsv !== 0 && !(frame.rsv === 4 && this.#isCompressed && frame.opcode < 3)) {
      this.problem ??= `a frame of the server has the reserved bits ${frame.rsv}`
    }
    if (frame.opcode === PONG) this.pongs.push(Buffer.from(frame.payload))
    if (frame.opcode !== TEXT && frame.opcode !== BINARY && frame.opcode !== CONTINUATION) return
    if (frame.opcode !== CONTINUATION) this.#open = { opcode: frame.opcode, rsv: frame.rsv, parts: [] }
    if (!this.#open) return
    this.#open.parts.push(frame.payload)
    if (frame.fin) this.#end(this.#open)
  }

  #end({ opcode, rsv, parts }: { opcode: number; rsv: number; parts: Buffer[] }): void {
    this.#open = undefined
    let bytes: Buffer = Buffer.concat(parts)
    // Nobody keeps a window: each message stands for itself.
    if (rsv === 4)
      bytes = inflateRawSync(Buffer.concat([bytes, END]), {
        finishFlush: constants.Z_SYNC_FLUSH,
        windowBits: this.windowBits,
      })
    const content = opcode === TEXT ? this.#echo.unwrap(bytes) : bytes
    if (content) this.messages.push([opcode, content])
    if (this.messages.length > this.#most) this.#tooMuch()
  }
}

/** What zlib ends a flush with, and RFC 7692 leaves out. */
const END = Buffer.from([0x00, 0x00, 0xff, 0xff])

/** Why the server has not passed; undefined if it has. */
async function run(port: number, echo: Echo, given: Case): Promise<string | undefined> {
  const seen = new Seen(echo, given)
  const header = given.offer === undefined ? '' : `Sec-WebSocket-Extensions: ${given.offer}\r\n`
  const client = await FrameClient.open(port, echo.path, { header, frame: it => seen.take(it) })
  try {
    if (client.status !== 101) return `the upgrade was answered with ${client.status}`
    if (given.offer && !client.extensions) return 'no compression was negotiated'
    seen.windowBits = Number(/server_max_window_bits=(\d+)/.exec(client.extensions)?.[1] ?? 15)
    for (const piece of given.send(echo)) await write(client, piece)
    if (given.closes === undefined) await bye(client, seen, given)
    await within(Promise.race([client.ended, seen.excess]), 'the end of the connection by the server')
    return problemOf(client, seen, given)
  } finally {
    client.destroy()
  }
}

async function write(client: FrameClient, piece: Uint8Array): Promise<void> {
  if (client.write(piece) || client.socket.destroyed) return
  const drained = new Promise<void>(resolve => client.socket.once('drain', () => resolve()))
  await within(Promise.race([drained, client.ended]), 'room in the socket')
}

/** Closes once all has come back, for what is behind a close frame is not answered any more. */
async function bye(client: FrameClient, seen: Seen, { messages = [], pongs = [] }: Case): Promise<void> {
  const isDone = () => seen.messages.length >= messages.length && seen.pongs.length >= pongs.length
  await until(
    () => isDone() || client.socket.destroyed,
    () =>
      `${messages.length} messages and ${pongs.length} pongs: ${seen.messages.length} and ${seen.pongs.length} came`,
  )
  client.write(GOODBYE)
}

function problemOf(client: FrameClient, seen: Seen, { messages = [], pongs = [], closes }: Case): string | undefined {
  if (seen.problem) return seen.problem
  const codes = closes ?? [1000]
  if (!codes.includes(client.closeCode ?? 0)) return `closed with ${client.closeCode}, not with ${codes.join(' or ')}`
  const isAll = closes === undefined
  const wrong = seen.messages.findIndex(([opcode, content], i) => {
    const [expected, bytes] = messages[i] ?? [-1, Buffer.alloc(0)]
    return opcode !== expected || !content.equals(bytes)
  })
  if (wrong >= 0) return `message ${wrong} came back as something else`
  if (isAll && seen.messages.length < messages.length)
    return `${messages.length} messages: ${seen.messages.length} came`
  const badPong = seen.pongs.findIndex((payload, i) => !pongs[i] || !payload.equals(pongs[i]))
  if (badPong >= 0) return `pong ${badPong} is none that was asked for`
  return isAll && seen.pongs.length < pongs.length
    ? `${pongs.length} pings: ${seen.pongs.length} pongs came`
    : undefined
}
