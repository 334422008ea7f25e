import { TEXT } from '../helpers/frame-client.ts'
import { bytesOf, type Case, chopped, type Echo, fragments, UTF8, whole } from './case.ts'

const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex')

/** Greek, with letters of two and of three bytes, and what is beyond the first 65,536 characters. */
const KOSME = bytesOf('κόσμε')
const LONGER = bytesOf('Hello-µ@ßöäüàá-UTF-8!! κόσμε \u{1f600} ﷽')

/** The first and the last of each length, the borders of what Unicode leaves out, and what is no character but may be sent. */
const VALID = [
  ...['00', '7f', 'c2 80', 'df bf', 'e0 a0 80', 'ef bf bf', 'f0 90 80 80', 'f4 8f bf bf'],
  ...['ed 9f bf', 'ee 80 80', 'ef bf bd', 'ef bf be', 'f0 9f bf be', 'f3 bf bf bf', 'ef bb bf', 'e2 80 a8'],
]

const INVALID: Readonly<Record<string, readonly string[]>> = {
  'a sequence of five or six bytes': ['f8 88 80 80 80', 'fc 84 80 80 80 80', 'fb bf bf bf bf', 'fd bf bf bf bf bf'],
  'beyond U+10FFFF': ['f4 90 80 80', 'f7 bf bf bf', 'f5 80 80 80'],
  'a continuation of nothing': ['80', 'bf', '80 bf', '80 bf 80 bf 80 bf', '61 80 61'],
  'a beginning without continuation': ['c2 20', 'e0 20', 'f0 20', 'c0 20 c1 20', 'f8 20', 'fc 20', 'df', 'ef', 'f4'],
  'the last byte is missing': ['c2', 'e0 a0', 'f0 90 80', 'df 61', 'ef bf 61', 'f4 8f bf 61', 'e0 a0 f0 90 80 c2'],
  'a byte that is never there': ['fe', 'ff', 'fe fe ff ff'],
  'longer than it has to be': [
    'c0 af',
    'e0 80 af',
    'f0 80 80 af',
    'f8 80 80 80 af',
    'c1 bf',
    'e0 9f bf',
    'f0 8f bf bf',
  ],
  'NUL in more than one byte': ['c0 80', 'e0 80 80', 'f0 80 80 80', 'f8 80 80 80 80'],
  'a surrogate': ['ed a0 80', 'ed ad bf', 'ed ae 80', 'ed af bf', 'ed b0 80', 'ed bf bf'],
  'two surrogates': ['ed a0 80 ed b0 80', 'ed ad bf ed bf bf', 'ed af bf ed b0 80'],
}

/** Section 6. */
export function* utf8(): Iterable<Case> {
  const section = '6 UTF-8'
  for (const text of [Buffer.alloc(0), KOSME, LONGER]) {
    const messages = [[TEXT, text]] as const
    const name = `text of ${text.length}`
    yield { section, name, send: echo => [whole(echo, text)], messages }
    yield { section, name: `${name}, in fragments of a byte`, send: echo => eachByte(echo, text), messages }
    yield { section, name: `${name}, byte by byte`, send: echo => chopped(eachByte(echo, text), 1), messages }
    const hollow = (echo: Echo) => fragments([Buffer.alloc(0), echo.wrap(text), Buffer.alloc(0)])
    yield { section, name: `${name}, between empty fragments`, send: hollow, messages }
  }
  for (const bytes of VALID) {
    const text = hex(bytes)
    const messages = [[TEXT, text]] as const
    yield { section, name: bytes, send: echo => [whole(echo, text)], messages }
    yield { section, name: `${bytes}, in fragments of a byte`, send: echo => eachByte(echo, text), messages }
  }
  yield* broken(section)
  // Every beginning of a text: it is one only where a character ends.
  for (let end = 1; end <= KOSME.length; end++) {
    const text = KOSME.subarray(0, end)
    const isWhole = text.toString().endsWith('\ufffd') === false
    const rest: Pick<Case, 'closes' | 'messages'> = isWhole ? { messages: [[TEXT, text]] as const } : { closes: [UTF8] }
    yield { section, name: `the first ${end} bytes of a text`, send: echo => [whole(echo, text)], ...rest }
  }
}

function* broken(section: string): Iterable<Case> {
  for (const [what, list] of Object.entries(INVALID)) {
    for (const bytes of list) {
      const text = Buffer.concat([KOSME, hex(bytes), bytesOf('edited')])
      const name = `${what}: ${bytes}`
      yield { section, name, send: echo => [whole(echo, text)], closes: [UTF8] }
      yield { section, name: `${name}, in fragments of a byte`, send: echo => eachByte(echo, text), closes: [UTF8] }
    }
  }
}

function eachByte(echo: Echo, text: Buffer): Buffer[] {
  const bytes = echo.wrap(text)
  return fragments(bytes.length === 0 ? [bytes, bytes] : Array.from(bytes, byte => Buffer.from([byte])))
}
