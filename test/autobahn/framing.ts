import { BINARY, CLOSING, closing, frame, PING, PONG, TEXT } from '../helpers/frame-client.ts'
import { bytesOf, type Case, chopped, cut, type Echo, fragments, PROTOCOL, UTF8, whole } from './case.ts'

const HELLO = bytesOf('Hello, world')

const fin = (opcode: number, payload: Uint8Array = Buffer.alloc(0), rsv = 0) =>
  frame(0x80 | (rsv << 4) | opcode, payload)

/** Sections 1, 2, 3, 4, 5, 7 and 10. */
export function* framing(): Iterable<Case> {
  yield* sizes()
  yield* pings()
  yield* reserved()
  yield* fragmentation()
  yield* closes()
  yield* automatic()
}

const LENGTHS = [0, 1, 125, 126, 127, 128, 65_535, 65_536]

function* sizes(): Iterable<Case> {
  const section = '1 framing'
  for (const length of LENGTHS) {
    const text = Buffer.alloc(length, '*')
    const bytes = Buffer.alloc(length, 0xfe)
    yield { section, name: `text of ${length}`, send: echo => [whole(echo, text)], messages: [[TEXT, text]] }
    yield { section, name: `binary of ${length}`, send: () => [fin(BINARY, bytes)], messages: [[BINARY, bytes]] }
    if (length < 65_535) continue
    const name = `of ${length} in pieces of 997`
    yield { section, name: `text ${name}`, send: echo => chopped([whole(echo, text)], 997), messages: [[TEXT, text]] }
    yield {
      section,
      name: `binary ${name}`,
      send: () => chopped([fin(BINARY, bytes)], 997),
      messages: [[BINARY, bytes]],
    }
  }
  yield {
    section,
    name: 'a frame that is not masked',
    send: () => [frame(0x82, HELLO, { mask: 'none' })],
    closes: [PROTOCOL],
  }
  // The highest bit of a length of eight bytes is 0 (section 5.2), and no message may be that large either.
  const endless = Buffer.concat([Buffer.from([0x82, 0xff]), Buffer.alloc(12, 0xff)])
  yield { section, name: 'a length of 2 to the power of 64', send: () => [endless], closes: [PROTOCOL, 1009] }
}

function* pings(): Iterable<Case> {
  const section = '2 pings'
  const binary = Buffer.from([0x00, 0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0x00, 0xff])
  for (const payload of [Buffer.alloc(0), HELLO, binary, Buffer.alloc(125, 0xfe)]) {
    yield { section, name: `ping of ${payload.length}`, send: () => [fin(PING, payload)], pongs: [payload] }
  }
  yield { section, name: 'ping of 126', send: () => [fin(PING, Buffer.alloc(126))], closes: [PROTOCOL] }
  const long = Buffer.alloc(125, 0xfe)
  yield { section, name: 'ping of 125, byte by byte', send: () => chopped([fin(PING, long)], 1), pongs: [long] }
  yield { section, name: 'a pong that nobody asked for', send: () => [fin(PONG)], pongs: [] }
  yield { section, name: 'one with a payload', send: () => [fin(PONG, HELLO)], pongs: [] }
  yield { section, name: 'one before a ping', send: () => [fin(PONG, HELLO), fin(PING, binary)], pongs: [binary] }
  const ten = Array.from({ length: 10 }, (_, i) => bytesOf(`payload ${i}`))
  yield { section, name: 'ten pings', send: () => [Buffer.concat(ten.map(it => fin(PING, it)))], pongs: ten }
  yield {
    section,
    name: 'ten, byte by byte',
    send: () =>
      chopped(
        ten.map(it => fin(PING, it)),
        1,
      ),
    pongs: ten,
  }
}

function* reserved(): Iterable<Case> {
  const bits = '3 reserved bits'
  const violation = { closes: [PROTOCOL] }
  for (let rsv = 1; rsv <= 7; rsv++) {
    yield { section: bits, name: `${rsv} with text`, send: () => [fin(TEXT, HELLO, rsv)], ...violation }
    yield { section: bits, name: `${rsv} with a ping`, send: () => [fin(PING, HELLO, rsv)], ...violation }
    yield { section: bits, name: `${rsv} with a close`, send: () => [fin(CLOSING, closing(1000), rsv)], ...violation }
    const after = (echo: Echo) => [whole(echo, HELLO), fin(BINARY, HELLO, rsv), fin(PING)]
    const messages = [[TEXT, HELLO]] as const
    yield { section: bits, name: `${rsv} after a message`, send: after, messages, ...violation }
    const slowly = (echo: Echo) => chopped(after(echo), 1)
    yield { section: bits, name: `${rsv} after one, byte by byte`, send: slowly, messages, ...violation }
  }
  const opcodes = '4 opcodes'
  for (const opcode of [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf]) {
    const name = `opcode ${opcode}`
    yield { section: opcodes, name, send: () => [fin(opcode)], ...violation }
    yield { section: opcodes, name: `${name} with a payload`, send: () => [fin(opcode, HELLO)], ...violation }
    const after = (echo: Echo) => [whole(echo, HELLO), fin(opcode, HELLO), fin(PING)]
    yield { section: opcodes, name: `${name} after a message`, send: after, messages: [[TEXT, HELLO]], ...violation }
  }
}

function* fragmentation(): Iterable<Case> {
  const section = '5 fragmentation'
  const violation = { closes: [PROTOCOL] }
  for (const [name, opcode] of [
    ['ping', PING],
    ['pong', PONG],
    ['close', CLOSING],
  ] as const) {
    yield { section, name: `a ${name} in fragments`, send: () => [frame(opcode, HELLO), fin(0, HELLO)], ...violation }
  }
  const messages = [[TEXT, HELLO]] as const
  const parts = (echo: Echo, count: number) => fragments(cut(echo.wrap(HELLO), count))
  yield* inPieces({ section, name: 'text in two fragments', send: echo => parts(echo, 2), messages })
  yield* inPieces({ section, name: 'text in five fragments', send: echo => parts(echo, 5), messages })
  const between = (echo: Echo) =>
    parts(echo, 5).flatMap((part, i) => (i === 4 ? [part] : [part, fin(PING, bytesOf(`${i}`))]))
  const pongs = [0, 1, 2, 3].map(i => bytesOf(`${i}`))
  yield* inPieces({ section, name: 'pings between fragments', send: between, messages, pongs })
  const binary = Buffer.from([0, 1, 2, 0xff])
  yield* inPieces({
    section,
    name: 'binary in three fragments',
    send: () => fragments(cut(binary, 3), BINARY),
    messages: [[BINARY, binary]],
  })
  const nothing = [fin(0, HELLO), frame(0, HELLO)]
  for (const [i, begin] of nothing.entries()) {
    const name = `a continuation of nothing${i === 0 ? '' : ', which is not the last'}`
    yield* inPieces({ section, name, send: echo => [begin, whole(echo, HELLO)], ...violation })
    yield* inPieces({
      section,
      name: `${name}, after a message`,
      send: echo => [...parts(echo, 2), begin],
      messages,
      ...violation,
    })
  }
  yield* inPieces({
    section,
    name: 'text within a text',
    send: () => [frame(TEXT, HELLO), fin(TEXT, HELLO)],
    ...violation,
  })
  yield* inPieces({
    section,
    name: 'binary within a text',
    send: () => [frame(TEXT, HELLO), frame(BINARY, HELLO)],
    ...violation,
  })
}

/** At once, frame by frame, and byte by byte. */
function* inPieces(given: Case): Iterable<Case> {
  yield { ...given, send: echo => [Buffer.concat(given.send(echo))] }
  yield { ...given, name: `${given.name}, frame by frame` }
  yield { ...given, name: `${given.name}, byte by byte`, send: echo => chopped(given.send(echo), 1) }
}

const VALID = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999]
const INVALID = [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535]

function* closes(): Iterable<Case> {
  const section = '7 close'
  const bye = fin(CLOSING, closing(1000))
  const normal = { closes: [1000] }
  yield { section, name: 'after a message', send: echo => [whole(echo, HELLO)], messages: [[TEXT, HELLO]] }
  yield { section, name: 'twice', send: () => [Buffer.concat([bye, bye])], ...normal }
  yield {
    section,
    name: 'a ping behind it is not answered',
    send: () => [Buffer.concat([bye, fin(PING)])],
    pongs: [],
    ...normal,
  }
  yield {
    section,
    name: 'nor is a message',
    send: echo => [Buffer.concat([bye, whole(echo, HELLO)])],
    messages: [],
    ...normal,
  }
  yield {
    section,
    name: 'within a message',
    send: () => [Buffer.concat([frame(TEXT, HELLO), bye, fin(0, HELLO)])],
    messages: [],
    ...normal,
  }
  yield { section, name: 'without a code', send: () => [fin(CLOSING)], closes: [1005, 1000] }
  yield { section, name: 'with half a code', send: () => [fin(CLOSING, Buffer.from([3]))], closes: [PROTOCOL] }
  for (const reason of ['Hello', 'x'.repeat(123), 'Grüße'])
    yield {
      section,
      name: `with ${Buffer.byteLength(reason)} bytes of reason`,
      send: () => [fin(CLOSING, closing(1000, reason))],
      ...normal,
    }
  yield {
    section,
    name: 'with 124 bytes',
    send: () => [fin(CLOSING, closing(1000, 'x'.repeat(124)))],
    closes: [PROTOCOL],
  }
  const broken = closing(1000, Buffer.from([0xce, 0xba, 0xed, 0xa0, 0x80]))
  yield { section, name: 'with a reason that is no UTF-8', send: () => [fin(CLOSING, broken)], closes: [UTF8] }
  for (const code of VALID)
    yield { section, name: `with ${code}`, send: () => [fin(CLOSING, closing(code))], closes: [code] }
  for (const code of INVALID) {
    yield {
      section,
      name: `with ${code}, which is none`,
      send: () => [fin(CLOSING, closing(code))],
      closes: [PROTOCOL],
    }
    const said = () => [fin(CLOSING, closing(code, 'why'))]
    yield { section, name: `with ${code} and a reason`, send: said, closes: [PROTOCOL] }
  }
}

function* automatic(): Iterable<Case> {
  const text = Buffer.alloc(65_536 - 40, '*')
  yield {
    section: '10 fragments of 1300',
    name: 'text of 65,536',
    send: echo => fragments(cut(echo.wrap(text), Math.ceil(65_536 / 1300))),
    messages: [[TEXT, text]],
  }
}
