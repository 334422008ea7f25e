import { Metrics } from '../../src/broker/metrics.ts'
import { BufferPool } from '../../src/connection/buffer-pool.ts'
import { Connection } from '../../src/connection/connection.ts'
import { encodeFrame } from '../../src/connection/frame.ts'
import type { Identity } from '../../src/connection/identity.ts'
import { type Queue, Segment } from '../../src/connection/queue.ts'
import { type Part, partBytes, type Transport } from '../../src/connection/transport.ts'
import { WriteQueue, type WriteQueueOptions } from '../../src/connection/write-queue.ts'
import { encodeMessage, encodePublication } from '../../src/protocol/messages.ts'
import type { Topic } from '../../src/protocol/topic.ts'

/** The messages in a run of whole frames as a server writes them: final and not masked (RFC 6455 section 5.2). */
export function messagesIn(bytes: Buffer): (string | Buffer)[] {
  const messages: (string | Buffer)[] = []
  for (let at = 0; at < bytes.length; ) {
    const short = bytes[at + 1]!
    const header = short < 126 ? 2 : short === 126 ? 4 : 10
    const length = short < 126 ? short : short === 126 ? bytes.readUInt16BE(at + 2) : bytes.readUInt32BE(at + 6)
    const payload = bytes.subarray(at + header, at + header + length)
    messages.push(bytes[at] === 0x81 ? payload.toString() : payload)
    at += header + length
  }
  return messages
}

/** A socket whose reader the test plays: it takes `room` more parts, the last of which fills it until `drain`. */
export class FakeTransport implements Transport {
  readonly kind = 'websocket'
  buffered = 0
  received: number | undefined = 0
  room = Number.POSITIVE_INFINITY
  pings = 0
  isTerminated = false
  closed: { code: number; reason: string } | undefined
  /** Parts that came although the socket had said that it wants no more. */
  unwanted = 0
  readonly writes: Buffer[] = []
  /** Where the bytes of each write stood. */
  readonly memories: ArrayBufferLike[] = []
  readonly #isFramewise: boolean
  #onDrain: (() => void) | undefined

  /** `framewise`: every frame is a part of its own, as over a compressed socket. */
  constructor(framewise: 'framewise' | 'joined' = 'joined') {
    this.#isFramewise = framewise === 'framewise'
  }

  parts(queue: Queue): readonly Part[] {
    // What is not taken at once is kept here, so nothing is given back.
    return this.#isFramewise ? queue.frames() : queue.chunks(new BufferPool())
  }

  write(part: Part): boolean {
    if (this.closed) return true
    if (this.room <= 0) this.unwanted++
    const bytes = part instanceof Uint8Array ? part : part.bytes
    // A copy: the memory of what a socket has taken is used again.
    this.writes.push(Buffer.from(bytes))
    this.memories.push(bytes.buffer)
    this.room--
    if (this.room <= 0) this.buffered += partBytes(part)
    return this.room > 0
  }

  get isFull(): boolean {
    return this.#onDrain !== undefined
  }

  drained(callback: () => void): void {
    if (this.#onDrain) throw new Error('somebody waits already')
    this.#onDrain = callback
  }

  /** The reader catches up; from here on there is room for `room` parts. */
  drain(room = Number.POSITIVE_INFINITY): void {
    const callback = this.#onDrain
    this.#onDrain = undefined
    this.buffered = 0
    this.room = room
    callback?.()
  }

  ping(): void {
    this.pings++
  }

  close(code: number, reason: string): void {
    this.closed ??= { code, reason }
  }

  terminate(): void {
    this.isTerminated = true
  }

  /** Every message written so far. */
  get texts(): string[] {
    return messagesIn(Buffer.concat(this.writes)).map(String)
  }

  get messages(): { type: string; payload: Record<string, unknown>; topic?: string; ref?: number }[] {
    return this.texts.map(text => JSON.parse(text))
  }
}

const IDENTITY: Identity = {
  id: 'c1',
  user: '42',
  data: { a: 1 },
  info: '',
  allow: [],
  expires: Number.POSITIVE_INFINITY,
  began: 0,
}
export const WELCOME = encodeMessage('welcome', {})

/** A node without sockets: its connections, what it counts, and how its time passes. */
export function writeQueueOf(options: Partial<WriteQueueOptions> = {}) {
  const metrics = new Metrics()
  const closing: Connection[] = []
  let wakes = 0
  const given = { buffer: 1000, bufferTime: 10_000, nodeBuffer: 1e6, slowConsumer: 'close' as const, ...options }
  const writeQueue = new WriteQueue(given, metrics, { wake: () => wakes++, closing: it => closing.push(it) })
  return {
    metrics,
    closing,
    writeQueue,
    wakes: () => wakes,
    flush: () => writeQueue.flush(Number.POSITIVE_INFINITY),
    dropped: (reason: string) => metrics.snapshot()[`messages_dropped_total{${reason}}`] ?? 0,
    /** Less than `bufferTime` passes, and then more than that. */
    wait: () => sweep(writeQueue, 10),
    outlast: () => sweep(writeQueue, 11),
  }
}

function sweep(writeQueue: WriteQueue, times: number): void {
  for (let i = 0; i < times; i++) writeQueue.slow.sweep()
}

/** A connection on a fake socket, with the writeQueue of a node. */
export function setUp(options: Partial<WriteQueueOptions> = {}, framewise: 'framewise' | 'joined' = 'joined') {
  const node = writeQueueOf(options)
  const transport = new FakeTransport(framewise)
  return { ...node, transport, connection: new Connection(IDENTITY, transport, node.writeQueue) }
}

export function published(topic: Topic, n: number, size = 0): Segment {
  const payload = JSON.stringify({ n, pad: 'x'.repeat(size) })
  return new Segment(encodeFrame(encodePublication(topic, 'a', payload, {})), topic)
}

/** The numbers of the publications written, and the types of all other messages, in order. */
export const numbersIn = (transport: FakeTransport) =>
  transport.messages.map(({ type, payload }) => (type === 'a' ? payload.n : type))
