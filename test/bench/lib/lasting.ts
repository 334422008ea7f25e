import type { Kind } from './peers.ts'
import { micros, STAMP_BASE, STAMP_DIGITS } from './stamp.ts'

/** The bytes of one PUBLISH whose message has so many bytes, with the digits of STAMP_BASE in it. */
type Encode = (publication: { kind: Kind; topic: string; size: number; stamp: number }) => Buffer

export interface LastingPlan {
  kind: Kind
  topics: string[]
  size: number
  /** messages a second */
  rate: number
  seconds: number
}

/** Messages that are written at once. */
const BLOCK = 2000
/** Blocks are different ones, so that topics come at random. */
const BLOCKS = 32
/** Redis may be slower than that: what it has not answered waits in this process. */
const MOST_UNANSWERED = 50_000

/** What takes the commands: the socket to Redis. */
interface Sink {
  write(bytes: Buffer): unknown
}

interface Template {
  bytes: Buffer
  /** where the digits of the stamps begin */
  stamps: number[]
}

/** Many millions of messages, made from few that are made before: nothing but their stamps is written anew. */
export class LastingLoad {
  readonly perTopic: Record<string, number> = {}
  readonly total: number
  readonly #plan: LastingPlan
  readonly #templates: Template[] = []

  constructor(plan: LastingPlan, encode: Encode) {
    this.#plan = plan
    const count = Math.ceil((plan.rate * plan.seconds) / BLOCK)
    this.total = count * BLOCK
    let seed = 42
    for (let block = 0; block < BLOCKS; block++) {
      const topics = Array.from({ length: BLOCK }, () => {
        seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0
        return plan.topics[Math.floor((seed / 2 ** 32) * plan.topics.length)]!
      })
      this.#templates.push(templateOf(plan, topics, encode))
      const times = Math.floor(count / BLOCKS) + Number(block < count % BLOCKS)
      for (const topic of topics) this.perTopic[topic] = (this.perTopic[topic] ?? 0) + times
    }
  }

  /** Writes all of it at the rate, or as fast as Redis answers. What is late is made up for. */
  async publish(redis: Sink, answered: () => number): Promise<void> {
    const firstAt = micros()
    let sent = 0
    let lastStamp = 0
    while (sent < this.total) {
      const due = ((micros() - firstAt) / 1e6) * this.#plan.rate
      if (sent > due || sent - answered() > MOST_UNANSWERED) {
        await new Promise(resolve => setTimeout(resolve, 1))
        continue
      }
      const { bytes, stamps } = this.#templates[(sent / BLOCK) % BLOCKS]!
      // The socket may still hold what was written before.
      const block = Buffer.from(bytes)
      // The clock once for a block: its last message claims to be two milliseconds younger than it is.
      lastStamp = Math.max(lastStamp, micros())
      for (const at of stamps) writeDigits(block, at, STAMP_BASE + ++lastStamp)
      redis.write(block)
      sent += BLOCK
    }
  }
}

function templateOf({ kind, size }: LastingPlan, topics: string[], encode: Encode): Template {
  const stamps: number[] = []
  let length = 0
  const commands = topics.map(topic => {
    const command = encode({ kind, topic, size, stamp: 0 })
    const at = command.indexOf(String(STAMP_BASE))
    if (at < 0) throw new Error(`messages of ${kind} hold no digits to write anew`)
    stamps.push(length + at)
    length += command.length
    return command
  })
  return { bytes: Buffer.concat(commands), stamps }
}

function writeDigits(bytes: Buffer, at: number, value: number): void {
  let left = value
  for (let place = at + STAMP_DIGITS - 1; place >= at; place--) {
    const rest = Math.floor(left / 10)
    bytes[place] = 48 + left - rest * 10
    left = rest
  }
}
