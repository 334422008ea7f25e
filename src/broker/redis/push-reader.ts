import { Slice } from '../../protocol/slice.ts'
import type { Topic } from '../../protocol/topic.ts'
import type { TopicCache } from './topic-cache.ts'

const CR = 0x0d
const ZERO = 0x30
const MINUS = 0x2d

/** How a message begins in RESP3 and RESP2. The lengths and bytes of channel and payload follow. */
const MESSAGE = beginnings('message')
const SHARDED_MESSAGE = beginnings('smessage')
/** What a server says about one channel after SUNSUBSCRIBE, and on its own when the slot of the channel moves. */
const UNSUBSCRIBED = beginnings('sunsubscribe')

/** Where the length of the word is, whose first digit differs in these three. */
const WORD_LENGTH = '>3\r\n$'.length
const DIGIT_OF_SHARDED = code('8')

const LINES = new Set([...'+-:,#(_'].map(code))
const BULKS = new Set([...'$=!'].map(code))
const LISTS = new Set([...'*>~'].map(code))
const MAPS = new Set([...'%|'].map(code))

const EMPTY = Buffer.alloc(0)

/** The element is not complete yet. */
const INCOMPLETE = -1
/** Not RESP. */
const UNKNOWN = -2

/** How many elements are read before the clock is checked again. */
const ELEMENTS_PER_CHECK = 8

/** No answer of Redis is nested so deeply. Each level takes a part of the stack. */
const MAX_DEPTH = 64

const never = () => false

export interface PushReaderEvents {
  /** The payload is a slice of the chunk that was read and keeps the whole chunk in memory. */
  message(topic: Topic, payload: Slice): void
  /** False if the client asked for it and needs the answer. */
  unsubscribed(topic: Topic): boolean
  /** Complete elements of any other kind, for the client that sent the commands. */
  other(bytes: Buffer): void
}

/**
 * Reads published messages from the bytes of a Redis connection and passes everything else on, in order. In a general
 * RESP decoder a subscriber would spend more time than in all other work on a message for a single connection.
 */
export class PushReader {
  readonly #topics: TopicCache
  readonly #events: PushReaderEvents
  /** The bytes that are being read, and the place reached. */
  #bytes: Buffer = EMPTY
  #at = 0
  /** The beginning of an incomplete element. */
  #rest: Buffer[] = []
  #restBytes = 0
  /** The least number of bytes that the element has. */
  #needed = 0
  #hasGivenUp = false

  constructor(topics: TopicCache, events: PushReaderEvents) {
    this.#topics = topics
    this.#events = events
  }

  /**
   * False if `isLate` stopped it before all complete elements were passed on. Then call `resume` before the next
   * `write`.
   */
  write(chunk: Buffer, isLate: () => boolean = never): boolean {
    if (this.#hasGivenUp) {
      this.#events.other(chunk)
      return true
    }
    if (this.#restBytes === 0) this.#bytes = chunk
    else {
      this.#rest.push(chunk)
      this.#restBytes += chunk.length
      if (this.#restBytes < this.#needed) return true
      this.#bytes = Buffer.concat(this.#rest, this.#restBytes)
      this.#rest = []
      this.#restBytes = 0
    }
    this.#at = 0
    return this.resume(isLate)
  }

  resume(isLate: () => boolean = never): boolean {
    const bytes = this.#bytes
    let othersFrom = this.#at
    for (let n = 1; this.#at < bytes.length; n++) {
      if (n % ELEMENTS_PER_CHECK === 0 && isLate()) {
        this.#passOn(othersFrom, this.#at)
        return false
      }
      this.#needed = 0
      const at = this.#at
      const start = startOfMessage(bytes, at)
      const end = start > 0 ? this.#readMessage(bytes, start, at, othersFrom) : this.#endOf(bytes, at)
      if (end === UNKNOWN) return this.#giveUp(bytes.subarray(othersFrom))
      if (end === INCOMPLETE) break
      this.#at = end
      if (start > 0 || this.#readUnsubscribed(bytes, at, othersFrom)) othersFrom = end
    }
    this.#passOn(othersFrom, this.#at)
    this.#keepRest()
    return true
  }

  #passOn(from: number, to: number): void {
    if (to > from) this.#events.other(this.#bytes.subarray(from, to))
  }

  #keepRest(): void {
    const left = this.#bytes.length - this.#at
    if (left > 0) {
      this.#rest = [this.#bytes.subarray(this.#at)]
      this.#restBytes = left
      this.#needed -= this.#at
    }
    this.#bytes = EMPTY
  }

  /** Passes on what came before the message at `at`, then the message. Returns where it ends. */
  #readMessage(bytes: Buffer, channelLine: number, at: number, othersFrom: number): number {
    const channelStart = endOfLength(bytes, channelLine)
    if (channelStart === INCOMPLETE) return INCOMPLETE
    const channelEnd = channelStart + readLength(bytes, channelLine)
    // A length that is none could lead back to what was read before, for ever.
    if (channelEnd < channelStart) return UNKNOWN
    const payloadLine = channelEnd + 3
    const payloadStart = endOfLength(bytes, payloadLine)
    if (payloadStart === INCOMPLETE) return INCOMPLETE
    const payloadEnd = payloadStart + readLength(bytes, payloadLine)
    if (payloadEnd < payloadStart) return UNKNOWN
    if (payloadEnd + 2 > bytes.length) {
      this.#needed = payloadEnd + 2
      return INCOMPLETE
    }
    this.#passOn(othersFrom, at)
    this.#events.message(this.#topics.at(bytes, channelStart, channelEnd), new Slice(bytes, payloadStart, payloadEnd))
    return payloadEnd + 2
  }

  /** True if the element at `at`, which is complete, is for nobody else. */
  #readUnsubscribed(bytes: Buffer, at: number, othersFrom: number): boolean {
    const channelLine = endOfBeginning(bytes, at, UNSUBSCRIBED)
    if (channelLine === 0 || bytes[channelLine] === MINUS) return false
    const channelStart = endOfLength(bytes, channelLine)
    const channelEnd = channelStart + readLength(bytes, channelLine)
    // The answers before it first: who asked is known by the command that waits for the next one.
    this.#passOn(othersFrom, at)
    const isTaken = this.#events.unsubscribed(this.#topics.at(bytes, channelStart, channelEnd))
    if (!isTaken) this.#passOn(at, this.#at)
    return true
  }

  #endOf(bytes: Buffer, at: number, depth = 0): number {
    const kind = bytes[at]!
    const start = endOfLine(bytes, at + 1)
    const isKnown = LINES.has(kind) || BULKS.has(kind) || LISTS.has(kind) || MAPS.has(kind)
    if (!isKnown || depth > MAX_DEPTH) return UNKNOWN
    if (start === INCOMPLETE || LINES.has(kind)) return start
    const length = readLength(bytes, at + 1)
    if (length < 0) return start
    if (BULKS.has(kind)) return this.#endOfBulk(bytes, start + length + 2)
    let end = start
    for (let left = MAPS.has(kind) ? length * 2 : length; left > 0; left--) {
      if (end >= bytes.length) return INCOMPLETE
      end = this.#endOf(bytes, end, depth + 1)
      if (end < 0) return end
    }
    return end
  }

  #endOfBulk(bytes: Buffer, end: number): number {
    if (end <= bytes.length) return end
    this.#needed = end
    return INCOMPLETE
  }

  /** These bytes are not understood: from here on the decoder of the client gets everything. */
  #giveUp(bytes: Buffer): boolean {
    this.#hasGivenUp = true
    this.#bytes = EMPTY
    this.#events.other(bytes)
    return true
  }
}

function code(character: string): number {
  return character.charCodeAt(0)
}

type Beginnings = readonly [resp3: Buffer, resp2: Buffer]

function beginnings(word: string): Beginnings {
  const rest = `3\r\n$${word.length}\r\n${word}\r\n$`
  return [Buffer.from(`>${rest}`), Buffer.from(`*${rest}`)]
}

/** Where the length of the channel is if a message begins at `at`; 0 if none does. */
function startOfMessage(bytes: Buffer, at: number): number {
  return endOfBeginning(bytes, at, bytes[at + WORD_LENGTH] === DIGIT_OF_SHARDED ? SHARDED_MESSAGE : MESSAGE)
}

function endOfBeginning(bytes: Buffer, at: number, [resp3, resp2]: Beginnings): number {
  const start = bytes[at] === resp3[0] ? resp3 : resp2
  // A loop, because a call into C++ costs more for so few bytes.
  for (let i = 0; i < start.length; i++) if (bytes[at + i] !== start[i]) return 0
  return at + start.length
}

/** Where the line at `at` ends, with its line break. */
function endOfLine(bytes: Buffer, at: number): number {
  const end = bytes.indexOf(CR, at)
  return end < 0 || end + 1 >= bytes.length ? INCOMPLETE : end + 2
}

/** Like `endOfLine`, for a line that is a length: a call into C++ costs more than a loop over a few digits. */
function endOfLength(bytes: Buffer, at: number): number {
  let end = at
  while (bytes[end]! >= ZERO) end++
  if (end + 1 >= bytes.length) return INCOMPLETE
  return bytes[end] === CR ? end + 2 : endOfLine(bytes, at)
}

/** The decimal number at `at`; `-1` is the length of null. */
function readLength(bytes: Buffer, at: number): number {
  if (bytes[at] === MINUS) return -1
  let length = 0
  for (let i = at; bytes[i] !== CR; i++) length = length * 10 + bytes[i]! - 48
  return length
}
