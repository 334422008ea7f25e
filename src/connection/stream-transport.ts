import type { ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Queue } from './queue.ts'
import { COMMENT, closeEvent, eventsOf, type StreamEvents } from './stream-events.ts'
import type { StreamPositions } from './stream-positions.ts'
import type { Part, Transport } from './transport.ts'

/** Some segments of a queue as events; `size` is how many bytes they have in the queue. */
interface Portion extends StreamEvents {
  readonly size: number
}

/** The most of a queue that is joined for one write. */
const MAX_PORTION = 64 * 1024

/**
 * Writes messages as an event stream over HTTP. The events are the same for all streams; only the id is not, since it holds
 * the positions of all topics of this one. So it is put into the last event of a write: a client that lost its connection
 * before that gets messages of the write again, never too few.
 */
export class StreamTransport implements Transport {
  readonly #response: ServerResponse
  readonly #socket: Socket
  readonly #positions: StreamPositions
  /** What the client was told at the end. */
  #closed: { code: number; reason: string } | undefined
  #isCut = false

  constructor(response: ServerResponse, positions: StreamPositions) {
    this.#response = response
    this.#socket = response.socket!
    this.#positions = positions
  }

  get kind(): 'sse' {
    return 'sse'
  }

  get buffered(): number {
    return this.#response.writableLength
  }

  /** A client of a stream sends nothing: that its kernel, or a proxy, takes bytes is the sign of life there is. */
  get received(): number {
    return this.#socket.bytesWritten - this.#socket.writableLength
  }

  /** How the stream ended; undefined if the client left before, or was cut off without having read it. */
  get closed(): { code: number; reason: string } | undefined {
    return this.#isCut ? undefined : this.#closed
  }

  parts(queue: Queue): readonly Part[] {
    const portions: Portion[] = []
    let open: StreamEvents[] = []
    let size = 0
    const segments = queue.segments()
    for (const [i, segment] of segments.entries()) {
      open.push(eventsOf(segment))
      size += segment.bytes
      const next = segments[i + 1]
      if (next && size + next.bytes <= MAX_PORTION) continue
      portions.push({ ...join(open), size })
      open = []
      size = 0
    }
    return portions
  }

  write(part: Part): boolean {
    if (!this.#isOpen) return true
    const { bytes, last, steps } = part as Portion
    return this.#send(this.#positions.take(steps) ? withId(bytes, last, this.#positions.id) : bytes)
  }

  get #isOpen(): boolean {
    return !this.#closed && !this.#response.destroyed
  }

  #send(bytes: Buffer): boolean {
    const takesMore = this.#response.write(bytes)
    // Node would hold it back until the end of the turn, and what is written would look as if it waited for the client.
    this.#socket.uncork()
    return takesMore
  }

  drained(callback: () => void): void {
    this.#response.once('drain', callback)
  }

  ping(): void {
    if (this.#isOpen && !this.#response.writableNeedDrain) this.#send(COMMENT)
  }

  close(code: number, reason: string): void {
    if (!this.#isOpen) return
    this.#closed = { code, reason }
    this.#response.end(closeEvent(code, reason))
  }

  terminate(): void {
    this.#isCut = true
    this.#response.destroy()
  }
}

function join(events: readonly StreamEvents[]): StreamEvents {
  if (events.length === 1) return events[0]!
  const bytes = Buffer.concat(events.map(({ bytes }) => bytes))
  const { bytes: end, last } = events.at(-1)!
  return { bytes, last: bytes.length - end.length + last, steps: events.flatMap(({ steps }) => steps) }
}

/** In the last event and not behind it: some clients ignore an event without data. */
function withId(bytes: Buffer, last: number, id: string): Buffer {
  return Buffer.concat([bytes.subarray(0, last), Buffer.from(`id: ${id}\n`), bytes.subarray(last)])
}
