import { isUtf8 } from 'node:buffer'
import { stringify } from '../binary.ts'
import { BAD_KEY, type Codec, FORBIDDEN_KEY, MAX_DEPTH, TOO_DEEP } from './codec.ts'
import { msgpack } from './msgpack.ts'

const ENDS_EARLY = 'it ends too early'
const NOT_FINITE = 'it has a number that is not finite'
const TOO_LARGE = 'it has an integer beyond 2^53: write it as text'
const FORBIDDEN = Buffer.from(FORBIDDEN_KEY)

/** How many bytes follow the heads from 0xc0 on whose length does not vary. 0 is for those that are handled by name. */
const FIXED: Readonly<Record<number, number>> = { 204: 1, 205: 2, 206: 4, 208: 1, 209: 2, 210: 4 }

/**
 * Reads through MessagePack once, without creating anything, to see whether JSON could say the same. The decoder takes
 * memory for as many items as a list claims to have, and five bytes can claim four billion; here, a list that is longer
 * than the rest of the bytes ends the reading.
 */
class Scan {
  readonly #bytes: Buffer
  #at = 0
  /** Items that are still to come of each list and map around; a key and its value are two. */
  readonly #left: number[] = []
  readonly #isMap: boolean[] = []

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  /** What is wrong; undefined if nothing is. */
  run(): string | undefined {
    do {
      const problem = this.#takeItem()
      if (problem) return problem
    } while (this.#left.length > 0)
    return this.#at < this.#bytes.length ? 'more bytes follow it' : undefined
  }

  #takeItem(): string | undefined {
    const depth = this.#left.length
    const isKey = depth > 0 && this.#isMap[depth - 1]! && this.#left[depth - 1]! % 2 === 0
    const head = this.#bytes[this.#at++]
    if (head === undefined) return ENDS_EARLY
    if (isKey && !isText(head)) return 'it has a key that is not a text'
    if (depth > 0) this.#left[depth - 1]!--
    const problem = this.#takeRest(head, isKey)
    if (problem) return problem
    while (this.#left.at(-1) === 0) {
      this.#left.pop()
      this.#isMap.pop()
    }
    return undefined
  }

  #takeRest(head: number, isKey: boolean): string | undefined {
    if (head < 0x80 || head >= 0xe0 || head === 0xc0 || head === 0xc2 || head === 0xc3) return undefined
    if (head < 0x90) return this.#open(head & 0x0f, true)
    if (head < 0xa0) return this.#open(head & 0x0f, false)
    if (head < 0xc0) return this.#takeText(head & 0x1f, isKey)
    const fixed = FIXED[head]
    if (fixed !== undefined) return this.#skip(fixed)
    if (head >= 0xd9 && head <= 0xdb) return this.#takeText(this.#takeLength(head - 0xd9), isKey)
    if (head === 0xdc || head === 0xdd) return this.#open(this.#takeLength(head - 0xdb), false)
    if (head === 0xde || head === 0xdf) return this.#open(this.#takeLength(head - 0xdd), true)
    if (head >= 0xc4 && head <= 0xc6) return this.#skip(this.#takeLength(head - 0xc4))
    if (head === 0xca || head === 0xcb) return this.#takeFloat(head === 0xca ? 4 : 8)
    if (head === 0xcf || head === 0xd3) return this.#takeLong(head === 0xd3)
    if (head === 0xc1) return 'it has the byte 0xc1, which means nothing'
    return 'it has an extension type, such as a timestamp: write a text or a number'
  }

  /** A length of 1, 2 or 4 bytes. Too few are left: more than there can be, so that the next step finds that out. */
  #takeLength(power: number): number {
    const size = 2 ** power
    const at = this.#at
    this.#at += size
    return this.#at > this.#bytes.length ? Number.POSITIVE_INFINITY : this.#bytes.readUIntBE(at, size)
  }

  #skip(bytes: number): string | undefined {
    if (bytes > this.#bytes.length - this.#at) return ENDS_EARLY
    this.#at += bytes
    return undefined
  }

  #open(count: number, isMap: boolean): string | undefined {
    const items = isMap ? 2 * count : count
    if (items > this.#bytes.length - this.#at) return ENDS_EARLY
    if (this.#left.length >= MAX_DEPTH) return TOO_DEEP
    this.#left.push(items)
    this.#isMap.push(isMap)
    return undefined
  }

  #takeText(length: number, isKey: boolean): string | undefined {
    const start = this.#at
    if (this.#skip(length)) return ENDS_EARLY
    let at = start
    while (at < this.#at && this.#bytes[at]! < 0x80) at++
    const text = at < this.#at || (isKey && length === FORBIDDEN.length) ? this.#bytes.subarray(start, this.#at) : null
    if (!text) return undefined
    if (isKey && text.equals(FORBIDDEN)) return BAD_KEY
    return isUtf8(text) ? undefined : 'it has a text that is not UTF-8'
  }

  #takeFloat(size: 4 | 8): string | undefined {
    const at = this.#at
    if (this.#skip(size)) return ENDS_EARLY
    const number = size === 4 ? this.#bytes.readFloatBE(at) : this.#bytes.readDoubleBE(at)
    return Number.isFinite(number) ? undefined : NOT_FINITE
  }

  #takeLong(isSigned: boolean): string | undefined {
    const at = this.#at
    if (this.#skip(8)) return ENDS_EARLY
    const number = isSigned ? this.#bytes.readBigInt64BE(at) : this.#bytes.readBigUInt64BE(at)
    return Number.isSafeInteger(Number(number)) ? undefined : TOO_LARGE
  }
}

function isText(head: number): boolean {
  return (head >= 0xa0 && head < 0xc0) || (head >= 0xd9 && head <= 0xdb)
}

/** Why these bytes are not one MessagePack value that JSON could also say; undefined when they are. */
export function msgpackProblem(bytes: Uint8Array): string | undefined {
  return new Scan(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)).run()
}

/** MessagePack of strangers. */
export const strictMsgpack: Codec = {
  ...msgpack,

  decodeMessage(bytes) {
    const problem = msgpackProblem(bytes)
    if (problem) throw new Error(problem)
    return msgpack.decodeMessage(bytes)
  },
}

/** An envelope in MessagePack as JSON text, with bytes in their form. Throws an Error that says what is wrong with it. */
export function envelopeToJson(bytes: Uint8Array): string {
  return stringify(strictMsgpack.decodeMessage(bytes))!
}
