const CR = 0x0d
const MINUS = 0x2d

/** How a message begins under RESP3 and RESP2; what follows are the lengths and bytes of channel and payload. */
const MESSAGE = [Buffer.from('>3\r\n$7\r\nmessage\r\n$'), Buffer.from('*3\r\n$7\r\nmessage\r\n$')] as const

const LINES = new Set([...'+-:,#(_'].map(code))
const BULKS = new Set([...'$=!'].map(code))
const LISTS = new Set([...'*>~'].map(code))
const MAPS = new Set([...'%|'].map(code))

/** The element is not complete yet. */
const INCOMPLETE = -1
/** Nothing that RESP knows. */
const UNKNOWN = -2

export interface PushReaderEvents {
  /** The payload is a slice of the bytes that were read and keeps those in memory for as long as it lives. */
  message(channel: string, payload: Buffer): void
  /** Whole elements of any other kind, for the client that sent the commands. */
  other(bytes: Buffer): void
}

/**
 * Picks published messages out of the bytes of a Redis connection and hands everything else on, in order. A subscriber
 * spends more time in a general RESP decoder than in all else it does for a message to a single connection.
 */
export class PushReader {
  readonly #events: PushReaderEvents
  #rest: Buffer[] = []
  #restBytes = 0
  /** How many bytes the element that is being received has at least. */
  #needed = 0
  #isLost = false

  constructor(events: PushReaderEvents) {
    this.#events = events
  }

  write(chunk: Buffer): void {
    if (this.#isLost) return this.#events.other(chunk)
    if (this.#restBytes === 0) return this.#read(chunk)
    this.#rest.push(chunk)
    this.#restBytes += chunk.length
    if (this.#restBytes < this.#needed) return
    const bytes = Buffer.concat(this.#rest, this.#restBytes)
    this.#rest = []
    this.#restBytes = 0
    this.#read(bytes)
  }

  #read(bytes: Buffer): void {
    let at = 0
    let othersFrom = 0
    while (at < bytes.length) {
      this.#needed = 0
      const isMessage = startsWithMessage(bytes, at)
      const end = isMessage ? this.#readMessage(bytes, at, othersFrom) : this.#endOf(bytes, at)
      if (end === UNKNOWN) return this.#giveUp(bytes.subarray(othersFrom))
      if (end === INCOMPLETE) break
      at = end
      if (isMessage) othersFrom = at
    }
    if (at > othersFrom) this.#events.other(bytes.subarray(othersFrom, at))
    if (at === bytes.length) return
    this.#rest = [bytes.subarray(at)]
    this.#restBytes = bytes.length - at
    this.#needed -= at
  }

  /** Hands the message at `at` on, after what came before it; says where it ends. */
  #readMessage(bytes: Buffer, at: number, othersFrom: number): number {
    const channelLine = at + MESSAGE[0].length
    const channelStart = endOfLine(bytes, channelLine)
    if (channelStart === INCOMPLETE) return INCOMPLETE
    const channelEnd = channelStart + readLength(bytes, channelLine)
    const payloadStart = endOfLine(bytes, channelEnd + 3)
    if (payloadStart === INCOMPLETE) return INCOMPLETE
    const payloadEnd = payloadStart + readLength(bytes, channelEnd + 3)
    if (payloadEnd + 2 > bytes.length) {
      this.#needed = payloadEnd + 2
      return INCOMPLETE
    }
    if (at > othersFrom) this.#events.other(bytes.subarray(othersFrom, at))
    this.#events.message(bytes.toString('utf8', channelStart, channelEnd), bytes.subarray(payloadStart, payloadEnd))
    return payloadEnd + 2
  }

  #endOf(bytes: Buffer, at: number): number {
    const kind = bytes[at]!
    const start = endOfLine(bytes, at + 1)
    const isKnown = LINES.has(kind) || BULKS.has(kind) || LISTS.has(kind) || MAPS.has(kind)
    if (!isKnown) return UNKNOWN
    if (start === INCOMPLETE || LINES.has(kind)) return start
    const length = readLength(bytes, at + 1)
    if (length < 0) return start
    if (BULKS.has(kind)) return this.#endOfBulk(bytes, start + length + 2)
    let end = start
    for (let left = MAPS.has(kind) ? length * 2 : length; left > 0; left--) {
      if (end >= bytes.length) return INCOMPLETE
      end = this.#endOf(bytes, end)
      if (end < 0) return end
    }
    return end
  }

  #endOfBulk(bytes: Buffer, end: number): number {
    if (end <= bytes.length) return end
    this.#needed = end
    return INCOMPLETE
  }

  /** Whatever this is, the decoder of the client knows better: from here on it gets everything. */
  #giveUp(bytes: Buffer): void {
    this.#isLost = true
    this.#events.other(bytes)
  }
}

function code(character: string): number {
  return character.charCodeAt(0)
}

function startsWithMessage(bytes: Buffer, at: number): boolean {
  const start = bytes[at] === MESSAGE[0][0] ? MESSAGE[0] : MESSAGE[1]
  // Byte by byte: for so few of them a call into C++ costs more.
  for (let i = 0; i < start.length; i++) if (bytes[at + i] !== start[i]) return false
  return true
}

/** Where the line that `at` stands in is over, its line break included. */
function endOfLine(bytes: Buffer, at: number): number {
  const end = bytes.indexOf(CR, at)
  return end < 0 || end + 1 >= bytes.length ? INCOMPLETE : end + 2
}

/** The decimal number at `at`; `-1` is the length of null. */
function readLength(bytes: Buffer, at: number): number {
  if (bytes[at] === MINUS) return -1
  let length = 0
  for (let i = at; bytes[i] !== CR; i++) length = length * 10 + bytes[i]! - 48
  return length
}
