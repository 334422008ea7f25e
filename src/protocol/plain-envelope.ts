import { isUtf8 } from 'node:buffer'
import { isReservedType } from './messages.ts'
import type { Slice } from './slice.ts'
import { MAX_NAME_BYTES } from './topic.ts'

const QUOTE = 0x22
const BACKSLASH = 0x5c
const COLON = 0x3a
const COMMA = 0x2c
const MINUS = 0x2d
const DOT = 0x2e
const ZERO = 0x30
const NINE = 0x39
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const LETTER_U = 0x75
const FIRST_NOT_ASCII = 0x80

const MAX_TYPE_BYTES = 128
/** Deeper nested values are left to JSON.parse. */
const MAX_DEPTH = 64

const WORDS = new Map(['true', 'false', 'null'].map(word => [word.charCodeAt(0), Buffer.from(word)]))
const TYPE_KEY = Buffer.from('"type"')
const PAYLOAD_KEY = Buffer.from('"payload"')
const FROM_KEY = Buffer.from('"from"')
const USER_KEY = Buffer.from('"user"')
const NULL = Buffer.from('null')
const IN_TYPE = table('ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:/-')
/** A user whose name needs no escape. */
const IN_USER = table(
  Array.from({ length: 0x7f - 0x21 }, (_, i) => String.fromCharCode(0x21 + i))
    .filter(character => !'"\\{}*'.includes(character))
    .join(''),
)
const ESCAPED = table('"\\/bfnrt')
const HEX = table('0123456789abcdefABCDEF')

/**
 * Recognises plain envelopes: a type and a payload, in this order, and nothing else, as most are; or also who published
 * it, behind them, as in what clients publish. It checks them as strictly as JSON.parse (RFC 8259) but creates no objects.
 * Whatever is unusual or wrong is "not plain" and is left to `decodeEnvelope`, which says what is wrong.
 */
export class PlainEnvelope {
  #memory: Buffer = Buffer.alloc(0)
  #at = 0
  #end = 0
  #typeStart = 0
  #typeEnd = 0
  #isAscii = true
  /** The last type that was checked: most publishers use few types. */
  #known: Buffer = Buffer.alloc(0)
  #knownType = ''
  /** The closing byte of each nesting level. */
  readonly #closers = new Uint8Array(MAX_DEPTH)

  /** Whether `envelope` is plain. Then `type` returns its type until the next call. */
  matches({ memory, start, end }: Slice): boolean {
    this.#memory = memory
    this.#at = start
    this.#end = end
    this.#isAscii = true
    if (!this.#take(OPEN_BRACE) || !this.#takeKey(TYPE_KEY) || !this.#takeType()) return false
    if (!this.#take(COMMA) || !this.#takeKey(PAYLOAD_KEY) || !this.#takeValue()) return false
    if (this.#take(COMMA) && !this.#takeFrom()) return false
    if (!this.#take(CLOSE_BRACE) || this.#at !== end) return false
    return this.#isKnownType() && (this.#isAscii || isUtf8(memory.subarray(start, end)))
  }

  get type(): string {
    return this.#knownType
  }

  #skipSpace(): void {
    const memory = this.#memory
    while (this.#at < this.#end) {
      const byte = memory[this.#at]
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return
      this.#at++
    }
  }

  #take(byte: number): boolean {
    this.#skipSpace()
    if (this.#memory[this.#at] !== byte) return false
    this.#at++
    return true
  }

  #takeWord(word: Buffer): boolean {
    for (let i = 0; i < word.length; i++) if (this.#memory[this.#at + i] !== word[i]) return false
    this.#at += word.length
    return true
  }

  #takeKey(key: Buffer): boolean {
    this.#skipSpace()
    return this.#takeWord(key) && this.#take(COLON)
  }

  #takeType(): boolean {
    if (!this.#take(QUOTE)) return false
    const start = this.#at
    while (this.#at < this.#end && IN_TYPE[this.#memory[this.#at]!]) this.#at++
    const length = this.#at - start
    this.#typeStart = start
    this.#typeEnd = this.#at
    return length > 0 && length <= MAX_TYPE_BYTES && this.#memory[this.#at++] === QUOTE
  }

  #takeFrom(): boolean {
    if (!this.#takeKey(FROM_KEY) || !this.#take(OPEN_BRACE) || !this.#takeKey(USER_KEY)) return false
    return this.#takeUser() && this.#take(CLOSE_BRACE)
  }

  #takeUser(): boolean {
    this.#skipSpace()
    if (this.#memory[this.#at] !== QUOTE) return this.#takeWord(NULL)
    const start = ++this.#at
    while (this.#at < this.#end && IN_USER[this.#memory[this.#at]!]) this.#at++
    const length = this.#at - start
    return length > 0 && length <= MAX_NAME_BYTES && this.#memory[this.#at++] === QUOTE
  }

  #isKnownType(): boolean {
    const known = this.#known
    const length = this.#typeEnd - this.#typeStart
    let same = known.length === length
    for (let i = 0; same && i < length; i++) same = known[i] === this.#memory[this.#typeStart + i]
    if (same) return true
    const type = this.#memory.toString('latin1', this.#typeStart, this.#typeEnd)
    if (isReservedType(type)) return false
    this.#knownType = type
    this.#known = Buffer.from(this.#memory.subarray(this.#typeStart, this.#typeEnd))
    return true
  }

  /** One JSON value of any depth. A loop, because a publisher must not be able to overflow the stack. */
  #takeValue(): boolean {
    let depth = 0
    for (;;) {
      this.#skipSpace()
      const byte = this.#memory[this.#at]
      if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
        const closer = byte === OPEN_BRACE ? CLOSE_BRACE : CLOSE_BRACKET
        this.#at++
        if (!this.#take(closer)) {
          if (depth === MAX_DEPTH) return false
          this.#closers[depth++] = closer
          if (closer === CLOSE_BRACE && !this.#takeName()) return false
          continue
        }
      } else if (!this.#takeScalar(byte)) return false
      depth = this.#closeFrom(depth)
      if (depth <= 0) return depth === 0
    }
  }

  /** After a value: takes closing bytes up to the next value. Returns the depth there, -1 for an error. */
  #closeFrom(from: number): number {
    let depth = from
    while (depth > 0) {
      const closer = this.#closers[depth - 1]!
      if (this.#take(closer)) depth--
      else if (!this.#take(COMMA) || (closer === CLOSE_BRACE && !this.#takeName())) return -1
      else return depth
    }
    return 0
  }

  #takeName(): boolean {
    this.#skipSpace()
    return this.#takeString() && this.#take(COLON)
  }

  #takeScalar(byte: number | undefined): boolean {
    if (byte === QUOTE) return this.#takeString()
    if (byte === MINUS || isDigit(byte)) return this.#takeNumber()
    const word = WORDS.get(byte ?? -1)
    return word !== undefined && this.#takeWord(word)
  }

  #takeString(): boolean {
    const memory = this.#memory
    const end = this.#end
    if (memory[this.#at] !== QUOTE) return false
    let at = this.#at + 1
    while (at < end) {
      const byte = memory[at]!
      if (byte === QUOTE) {
        this.#at = at + 1
        return true
      }
      if (byte < 0x20) return false
      if (byte === BACKSLASH) {
        at = this.#escapeEnd(at + 1)
        if (at < 0) return false
      } else {
        if (byte >= FIRST_NOT_ASCII) this.#isAscii = false
        at++
      }
    }
    return false
  }

  #escapeEnd(at: number): number {
    const byte = this.#memory[at]!
    if (ESCAPED[byte]) return at + 1
    if (byte !== LETTER_U) return -1
    for (let i = 1; i <= 4; i++) if (!HEX[this.#memory[at + i]!]) return -1
    return at + 5
  }

  /** RFC 8259 section 6: no leading zero, no plus sign, digits on both sides of a point. */
  #takeNumber(): boolean {
    const memory = this.#memory
    if (memory[this.#at] === MINUS) this.#at++
    if (memory[this.#at] === ZERO) this.#at++
    else if (!this.#takeDigits()) return false
    if (memory[this.#at] === DOT) {
      this.#at++
      if (!this.#takeDigits()) return false
    }
    const byte = memory[this.#at]
    if (byte !== 0x65 && byte !== 0x45) return true
    const sign = memory[++this.#at]
    if (sign === 0x2b || sign === MINUS) this.#at++
    return this.#takeDigits()
  }

  #takeDigits(): boolean {
    const start = this.#at
    while (isDigit(this.#memory[this.#at])) this.#at++
    return this.#at > start
  }
}

function isDigit(byte: number | undefined): boolean {
  return byte !== undefined && byte >= ZERO && byte <= NINE
}

function table(characters: string): Uint8Array {
  const bytes = new Uint8Array(256)
  for (const character of characters) bytes[character.charCodeAt(0)] = 1
  return bytes
}
