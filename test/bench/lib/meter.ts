import { micros, NUMBER_DIGITS, STAMP_BASE, STAMP_DIGITS } from './stamp.ts'

const BUCKET_MICROS = 50
const BUCKETS = 1_200_000
const COLON = 58
const ZERO = 48
const STAMP_KEY = '"t":'
/** The stamp ends before that in the message of every peer. */
const NUMBERED_WITHIN = 64
/** So many messages that are not late in a row are no accident. */
const IN_A_ROW = 100

/** Latencies in buckets of 50 µs up to a minute: nothing is allocated per frame. */
export class Latencies {
  readonly #buckets = new Uint32Array(BUCKETS)
  #count = 0
  #max = 0

  add(latency: number): void {
    const bucket = (latency / BUCKET_MICROS) | 0
    this.#buckets[bucket < 0 ? 0 : bucket < BUCKETS ? bucket : BUCKETS - 1]!++
    this.#count++
    if (latency > this.#max) this.#max = latency
  }

  /** In milliseconds; the upper edge of the bucket. */
  quantile(share: number): number {
    let left = Math.ceil(this.#count * share)
    for (let bucket = 0; bucket < BUCKETS; bucket++) {
      left -= this.#buckets[bucket]!
      if (left <= 0 && this.#count > 0) return ((bucket + 1) * BUCKET_MICROS) / 1000
    }
    return 0
  }

  get max(): number {
    return this.#max / 1000
  }
}

export interface Expectation {
  /** how many messages each topic will get */
  perTopic: Record<string, number>
  /** bytes of each message: what has another length is not counted */
  size: number
  /** the largest that is counted; default: `size` */
  upTo?: number
  /** whether to read the stamp of every message, for latency and order */
  stamped: boolean
  /** whether to read the end of it, for order alone: a burst has numbers there */
  numbered?: boolean
  /** microseconds of latency that are usual: when they are reached again is measured */
  usual?: number
  /** connections that are neither counted nor measured */
  ignore?: number[]
}

/** What arrived against what should have, per connection. */
export class Meter {
  readonly size: number
  readonly upTo: number
  readonly stamped: boolean
  readonly numbered: boolean
  readonly latencies = new Latencies()
  readonly total: number
  got = 0
  disorder = 0
  /** gaps that connections were told of, and that no other message shows */
  gaps = 0
  /** when the first of many messages in a row was read that were not late, in microseconds; 0 if there were none */
  usualAt = 0
  /** when the last counted frame was read, in microseconds */
  lastAt = 0
  readonly #expected: Uint32Array
  readonly #counts: Uint32Array
  readonly #ignored: Uint8Array
  readonly #lastStamp: Float64Array
  readonly #usual: number
  #stampAt = -1
  /** how many messages in a row were not late, and when the first of them was read */
  #inTime = 0
  #inTimeFrom = 0

  constructor(expectation: Expectation, topics: string[][]) {
    const { perTopic, size, upTo = size, stamped, numbered = false, usual = 0, ignore = [] } = expectation
    this.size = size
    this.upTo = upTo
    this.stamped = stamped
    this.numbered = numbered
    this.#usual = usual
    this.#counts = new Uint32Array(topics.length)
    this.#ignored = new Uint8Array(topics.length)
    this.#lastStamp = new Float64Array(topics.length)
    for (const index of ignore) this.#ignored[index] = 1
    this.#expected = Uint32Array.from(topics, (own, index) =>
      this.#ignored[index] ? 0 : own.reduce((sum, topic) => sum + (perTopic[topic] ?? 0), 0),
    )
    this.total = this.#expected.reduce((sum, count) => sum + count, 0)
  }

  get done(): boolean {
    return this.got >= this.total
  }

  count(index: number, frames: number, now: number): void {
    if (this.#ignored[index]) return
    this.#counts[index]! += frames
    this.got += frames
    this.lastAt = now
  }

  gap(index: number): void {
    if (!this.#ignored[index]) this.gaps++
  }

  /** Reads the sixteen digits in a message that begins at `start`. */
  stamp(index: number, bytes: Buffer, start: number, now: number): void {
    if (this.#ignored[index]) return
    const first = this.#digitsOf(bytes, start)
    let value = 0
    for (let at = first; at < first + STAMP_DIGITS; at++) value = value * 10 + bytes[at]! - ZERO
    if (value <= this.#lastStamp[index]!) this.disorder++
    this.#lastStamp[index] = value
    const latency = now - (value - STAMP_BASE)
    this.latencies.add(latency)
    if (this.#usual > 0 && this.usualAt === 0) this.#follow(latency, now)
  }

  #follow(latency: number, now: number): void {
    if (latency > this.#usual) this.#inTime = 0
    else if (this.#inTime++ === 0) this.#inTimeFrom = now
    if (this.#inTime === IN_A_ROW) this.usualAt = this.#inTimeFrom
  }

  /** Where the digits of the stamp begin. */
  #digitsOf(bytes: Buffer, start: number): number {
    if (this.#stampAt < 0 || bytes[start + this.#stampAt - 1] !== COLON) {
      this.#stampAt = bytes.indexOf(STAMP_KEY, start) - start + STAMP_KEY.length
    }
    return start + this.#stampAt
  }

  /** Reads the number of a message that begins at `start`. False when that is not there before `end`. */
  number(index: number, bytes: Buffer, start: number, end: number): boolean {
    if (start + NUMBERED_WITHIN > end) return false
    const last = this.#digitsOf(bytes, start) + STAMP_DIGITS
    let value = 0
    for (let at = last - NUMBER_DIGITS; at < last; at++) value = value * 10 + bytes[at]! - ZERO
    if (value <= this.#lastStamp[index]!) this.disorder++
    this.#lastStamp[index] = value
    return true
  }

  /** Messages that connections lack, and messages that they got too often. */
  differences(): { missing: number; extra: number } {
    let missing = 0
    let extra = 0
    for (let index = 0; index < this.#counts.length; index++) {
      if (this.#ignored[index]) continue
      const difference = this.#counts[index]! - this.#expected[index]!
      if (difference > 0) extra += difference
      else missing -= difference
    }
    return { missing, extra }
  }
}

// performance.now() reads the same clock as hrtime and allocates nothing.
const origin = micros() - performance.now() * 1000

export function now(): number {
  return origin + performance.now() * 1000
}
