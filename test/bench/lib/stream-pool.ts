import { connect, type Socket } from 'node:net'
import { type Meter, now } from './meter.ts'
import type { Client, Crowd, Held } from './pool.ts'

const LINE_FEED = 0x0a
const DATA = 'data: '
const FIRST_OF_DATA = DATA.charCodeAt(0)
/** Where `{"type":"` ends. */
const TYPE_AT = 9
const GAP = 'g'.charCodeAt(0)

interface Stream extends Held {
  isOpen: boolean
  isLive: boolean
  /** the beginning of a chunk that is not complete */
  rest: Buffer
}

/**
 * Many raw clients of event streams. They read whole chunks (RFC 9112 section 7.1), each of which has whole events: that is
 * how this project writes them, and no other client may count on it.
 */
export class StreamPool implements Crowd {
  readonly connections: Stream[] = []
  readonly topics: string[][] = []
  readonly closedAt: number[] = []
  readonly others: Record<string, number> = {}
  readonly retries = 0
  readonly compressed = 0
  meter: Meter | undefined
  live = 0
  bytes = 0
  onLive: () => void = () => {}
  readonly #port: number

  constructor(port: number) {
    this.#port = port
  }

  add({ topics, user }: Client): void {
    const index = this.connections.length
    this.topics.push(user ? [...topics, `user:${user}`] : topics)
    const socket = connect({ host: '127.0.0.1', port: this.#port, noDelay: true })
    const stream: Stream = { socket, isOpen: false, isLive: false, rest: Buffer.alloc(0) }
    this.connections.push(stream)
    const query = `${user ? `user=${user}&` : ''}topics=${topics.join(',')}`
    socket.write(`GET /ws/-/events?${query} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n`)
    socket.on('data', chunk => this.#read(index, stream, chunk as Buffer))
    socket.on('error', () => {})
    socket.on('close', () => this.#note('socket closed'))
  }

  async leave(): Promise<void> {
    await Promise.all(this.connections.map(({ socket }) => left(socket)))
  }

  say(): void {
    throw new Error('the client of an event stream sends nothing')
  }

  #read(index: number, stream: Stream, bytes: Buffer): void {
    this.bytes += bytes.length
    const data = stream.rest.length > 0 ? Buffer.concat([stream.rest, bytes]) : bytes
    let at = stream.isOpen ? 0 : this.#head(stream, data)
    const read = now()
    while (stream.isOpen) {
      const line = data.indexOf(LINE_FEED, at)
      if (line < 0) break
      const end = line + 1 + Number.parseInt(data.toString('latin1', at, line - 1), 16)
      if (end + 2 > data.length) break
      this.#walk(index, stream, data.subarray(line + 1, end), read)
      at = end + 2
    }
    stream.rest = data.subarray(at)
  }

  /** Where the body begins; 0 while that has not come. */
  #head(stream: Stream, data: Buffer): number {
    const end = data.indexOf('\r\n\r\n')
    if (end < 0) return 0
    const head = data.toString('latin1', 0, end)
    if (!head.startsWith('HTTP/1.1 200')) throw new Error(`stream refused: ${data.toString('latin1', 0, 300)}`)
    if (!/\r\ntransfer-encoding: chunked/i.test(head)) throw new Error(`not in chunks: ${head}`)
    stream.isOpen = true
    return end + 4
  }

  #walk(index: number, stream: Stream, events: Buffer, read: number): void {
    let hits = 0
    for (let at = 0; at < events.length; ) {
      const end = events.indexOf(LINE_FEED, at)
      if (end < 0) break
      const start = at + DATA.length
      if (events[at] === FIRST_OF_DATA && this.#isCounted(stream, events, start, end)) {
        hits++
        this.#follow(index, events, start, end, read)
      } else if (events[at] === FIRST_OF_DATA) this.#other(index, stream, events.toString('latin1', start, end))
      at = end + 1
    }
    if (hits > 0) this.meter!.count(index, hits, read)
  }

  #isCounted({ isLive }: Stream, events: Buffer, start: number, end: number): boolean {
    const { meter } = this
    if (!meter || !isLive) return false
    return end - start >= meter.size && end - start <= meter.upTo && events[start + TYPE_AT] !== GAP
  }

  #follow(index: number, events: Buffer, start: number, end: number, read: number): void {
    const meter = this.meter!
    if (meter.stamped) meter.stamp(index, events, start, read)
    else if (meter.numbered) meter.number(index, events, start, end)
  }

  #other(index: number, stream: Stream, text: string): void {
    const type = /^\{"type":"([^"]*)"/.exec(text)?.[1] ?? 'unknown'
    if (type !== 'welcome' || stream.isLive) {
      if (type === 'gap') this.meter?.gap(index)
      return this.#note(type)
    }
    stream.isLive = true
    this.live++
    this.onLive()
  }

  #note(what: string): void {
    this.others[what] = (this.others[what] ?? 0) + 1
  }
}

async function left(socket: Socket): Promise<void> {
  if (socket.destroyed) return
  const closed = new Promise(resolve => socket.once('close', resolve))
  socket.destroy()
  await closed
}
