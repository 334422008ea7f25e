import { constants, deflateRawSync, type ZlibOptions } from 'node:zlib'
import { BINARY, frame, PING, TEXT } from '../helpers/frame-client.ts'
import { bytesOf, type Case, chopped, cut, type Echo, fragments, PROTOCOL, UTF8 } from './case.ts'

const KIB = 1024
const MIB = 1024 * KIB

/** The most fragments of one message that `ws` takes. */
export const MAX_FRAGMENTS = 16_384

/** The most bytes of a message that the node of this suite takes. */
export const LARGEST = 16 * MIB + KIB

/** Sections 9, 12 and 13. */
export function* load(): Iterable<Case> {
  yield* large()
  yield* many()
  yield* compression()
}

function* large(): Iterable<Case> {
  const section = '9 limits'
  for (const size of [64 * KIB, 256 * KIB, MIB, 4 * MIB, 8 * MIB, 16 * MIB]) {
    const isLong = size > MIB
    const bytes = Buffer.alloc(size, 0xfe)
    const text = Buffer.alloc(size, '*')
    yield {
      section,
      name: `text of ${size}`,
      send: echo => [frame(0x81, echo.wrap(text))],
      messages: [[TEXT, text]],
      isLong,
    }
    yield { section, name: `binary of ${size}`, send: () => [frame(0x82, bytes)], messages: [[BINARY, bytes]], isLong }
  }
  yield {
    section,
    name: 'more than is taken',
    send: () => [frame(0x82, Buffer.alloc(LARGEST + 1))],
    closes: [1009],
    isLong: true,
  }
  // Nobody has to wait for the bytes of a message that is too large.
  const announced = Buffer.concat([Buffer.from([0x82, 0xff, 0, 0, 0, 1, 0, 0, 0, 0]), Buffer.alloc(4)])
  yield { section, name: 'more than is taken, announced', send: () => [announced], closes: [1009] }
  const bytes = Buffer.alloc(4 * MIB, 0xfe)
  for (const size of [64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB]) {
    const count = bytes.length / size
    const send = () => [Buffer.concat(fragments(cut(bytes, count), BINARY))]
    const rest: Pick<Case, 'closes' | 'messages'> =
      count > MAX_FRAGMENTS ? { closes: [1008] } : { messages: [[BINARY, bytes]] as const }
    yield { section, name: `4 MiB in fragments of ${size}`, send, ...rest, isLong: true }
    const pieces = { messages: [[BINARY, bytes]] as const, isLong: true }
    if (size >= KIB)
      yield { section, name: `4 MiB in pieces of ${size}`, send: () => chopped([frame(0x82, bytes)], size), ...pieces }
  }
}

function* many(): Iterable<Case> {
  for (const size of [0, 16, 64, 256, KIB, 4 * KIB]) {
    for (const [count, isLong] of [
      [100, false],
      [1000, true],
    ] as const) {
      const bytes = Buffer.alloc(size, 0xfe)
      yield {
        section: '9 limits',
        name: `${count} messages of ${size}`,
        send: () => Array.from({ length: count }, () => frame(0x82, bytes)),
        messages: Array.from({ length: count }, () => [BINARY, bytes] as const),
        isLong,
      }
    }
  }
}

/** As RFC 7692 has it: flushed, without the four bytes that every flush ends with. */
const deflate = (bytes: Uint8Array, options: ZlibOptions = {}) =>
  deflateRawSync(bytes, { finishFlush: constants.Z_SYNC_FLUSH, ...options }).subarray(0, -4)

const COMPRESSED = 0x40

/** Section 12 has sizes, section 13 has what can be negotiated. */
const OFFERS = [
  'permessage-deflate',
  'permessage-deflate; client_max_window_bits',
  'permessage-deflate; client_no_context_takeover; client_max_window_bits',
  'permessage-deflate; server_no_context_takeover',
  'permessage-deflate; server_max_window_bits=9',
  'permessage-deflate; server_max_window_bits=15',
  'permessage-deflate; client_max_window_bits=9; server_max_window_bits=9, permessage-deflate',
]

function* compression(): Iterable<Case> {
  for (const offer of OFFERS) {
    // A server that was told so keeps no larger window for the messages of the client.
    const windowBits = Number(/client_max_window_bits=(\d+)/.exec(offer)?.[1] ?? 15)
    for (const size of [0, 16, 64, 256, KIB, 4 * KIB, 8 * KIB, 32 * KIB, 128 * KIB]) {
      for (const [count, isLong] of [
        [3, false],
        [200, true],
      ] as const) {
        const texts = Array.from({ length: count }, (_, i) => Buffer.alloc(size, `some text, number ${i}; `))
        yield {
          section: offer === OFFERS[0] ? '12 compression' : '13 parameters',
          name: `${count} texts of ${size}, ${offer}`,
          send: echo => texts.map(text => frame(0x80 | COMPRESSED | TEXT, deflate(echo.wrap(text), { windowBits }))),
          messages: texts.map(text => [TEXT, text] as const),
          offer,
          isLong,
        }
      }
    }
  }
  yield* shapes()
}

/** How a compressed message may look, and how not. */
function* shapes(): Iterable<Case> {
  const section = '12 compression'
  const offer = OFFERS[0]!
  const text = bytesOf('Hello, Hello, Hello')
  const messages = [[TEXT, text]] as const
  const small = (echo: Echo) => deflate(echo.wrap(text))
  const parts = (echo: Echo) => fragments(cut(small(echo), 5), COMPRESSED | TEXT)
  const at = { section, offer }
  yield { ...at, name: 'in fragments', send: parts, messages }
  yield { ...at, name: 'in fragments, byte by byte', send: echo => chopped(parts(echo), 1), messages }
  const pinged = (echo: Echo) => parts(echo).flatMap((part, i) => (i === 4 ? [part] : [part, frame(0x80 | PING)]))
  yield {
    ...at,
    name: 'pings between fragments',
    send: pinged,
    messages,
    pongs: Array.from({ length: 4 }, () => Buffer.alloc(0)),
  }
  yield { ...at, name: 'not compressed at all', send: echo => [frame(0x81, echo.wrap(text))], messages }
  const stored = (echo: Echo) => [frame(0xc1, deflate(echo.wrap(text), { level: 0 }))]
  yield { ...at, name: 'blocks that are not compressed', send: stored, messages }
  const violation = { closes: [PROTOCOL] }
  yield { ...at, name: 'the bit on a continuation', send: echo => parts(echo).map(raised), ...violation }
  yield { ...at, name: 'the bit on a ping', send: () => [frame(0xc0 | PING)], ...violation }
  yield { ...at, name: 'another bit', send: echo => [frame(0xa1, small(echo))], ...violation }
  yield { ...at, name: 'no deflate', send: () => [frame(0xc1, bytesOf('no deflate at all'))], closes: [UTF8] }
  yield {
    ...at,
    name: 'no UTF-8',
    send: echo => [frame(0xc1, deflate(echo.wrap(Buffer.from([0xff]))))],
    closes: [UTF8],
  }
  yield {
    ...at,
    name: 'too large',
    send: () => [frame(0xc2, deflate(Buffer.alloc(LARGEST + 1)))],
    closes: [1009],
    isLong: true,
  }
}

/** The bit is for the first frame of a message alone. */
function raised(part: Buffer): Buffer {
  part[0]! |= COMPRESSED
  return part
}
