import { connect, type Socket } from 'node:net'
import { constants, inflateRawSync } from 'node:zlib'
import { type Meter, now } from './meter.ts'
import type { Kind } from './peers.ts'

const TEXT = 0x81
const BINARY = 0x82
/** The same, compressed. */
const DEFLATED = 0xc1
const NOTHING = Buffer.alloc(0)
/** Where `{"type":"` ends: a `gap` for many topics may be as long as a message. */
const TYPE_AT = 9
const GAP = 'g'.charCodeAt(0)
const CLOSE = 8
const PING = 9
const PONG = 0x8a
/** One buffer for all sockets: what is read is walked through before the next read. */
const shared = Buffer.allocUnsafe(256 * 1024)

export interface Client {
  topics: string[]
  user?: string
}

/** What an upgrade request says besides what it must. */
export interface Offer {
  /** permessage-deflate, as browsers offer it */
  deflate?: boolean
  /** the codec that is asked for: then every message is a binary frame, and counted however long it is */
  subprotocol?: string
  /** an address of its own for each client, as a proxy would name it */
  address?: boolean
  /** default: /ws */
  path?: string
}

/** One client that is connected or tries to be. */
export interface Held {
  readonly socket: Socket
}

/** Many clients, of whatever transport, as the load needs them. */
export interface Crowd {
  readonly connections: readonly Held[]
  /** of each client */
  readonly topics: string[][]
  meter: Meter | undefined
  readonly live: number
  /** how often a client had to connect again */
  readonly retries: number
  /** counted messages that came compressed */
  compressed: number
  /** read from all sockets */
  bytes: number
  /** when the server closed connections, microseconds of CLOCK_MONOTONIC */
  readonly closedAt: number[]
  /** messages that were not counted: by type, and `close CODE` */
  readonly others: Record<string, number>
  onLive: () => void
  add(client: Client): void
  /** Everybody says goodbye, as pages that are closed do. Resolves when all sockets are gone. */
  leave(): Promise<void>
  /** Everybody sends the same text. */
  say(text: string): void
}

interface Connection extends Held {
  open: boolean
  live: boolean
  /** bytes of a counted frame that are still to come */
  skip: number
  /** the beginning of what could not be read yet */
  rest: Buffer | undefined
  /** what came compressed before it was live: later messages may refer to it */
  heard: Buffer
}

/** A compressed message that is not counted, such as a ping, has fewer bytes. */
const LEAST_DEFLATED = 64
const TRAILER = Buffer.from([0, 0, 0xff, 0xff])

/**
 * Many raw WebSocket clients. The way of a counted message is a walk from header to header in a buffer that all share:
 * nothing is allocated and its bytes are not looked at (unless it carries a stamp). Everything else is rare.
 */
export class Pool implements Crowd {
  readonly connections: Connection[] = []
  readonly topics: string[][] = []
  meter: Meter | undefined
  live = 0
  retries = 0
  compressed = 0
  bytes = 0
  readonly closedAt: number[] = []
  readonly others: Record<string, number> = {}
  onLive: () => void = () => {}
  readonly #kind: Kind
  readonly #port: number
  readonly #offer: Offer

  constructor(kind: Kind, port: number, offer: Offer = {}) {
    this.#kind = kind
    this.#port = port
    this.#offer = offer
  }

  add({ topics, user }: Client): void {
    this.topics.push(user ? [...topics, `user:${user}`] : topics)
    const query = `${user ? `user=${user}&` : ''}topics=${topics.join(',')}`
    this.#dial(this.connections.length, query)
  }

  #dial(index: number, query: string): void {
    const onread = { buffer: shared, callback: (bytes: number) => this.#read(index, bytes) }
    const socket = connect({ host: '127.0.0.1', port: this.#port, noDelay: true, onread })
    const connection: Connection = { socket, open: false, live: false, skip: 0, rest: undefined, heard: NOTHING }
    this.connections[index] = connection
    const path =
      this.#kind === 'socketio'
        ? `/socket.io/?EIO=4&transport=websocket&${query}`
        : `${this.#offer.path ?? '/ws'}?${query}`
    socket.write(
      `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${this.#port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
        `Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n${this.#headers(index)}\r\n`,
    )
    socket.on('error', () => {})
    socket.on('close', () => {
      if (socket.writableEnded) return
      if (connection.live) return this.#note('socket closed')
      this.retries++
      setTimeout(() => this.#dial(index, query), 50)
    })
  }

  #headers(index: number): string {
    const { deflate, address, subprotocol } = this.#offer
    const codec = subprotocol ? `Sec-WebSocket-Protocol: ${subprotocol}\r\n` : ''
    const extension = deflate ? 'Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n' : codec
    // 198.18.0.0/15 is for benchmarks.
    return address ? `${extension}X-Forwarded-For: 198.18.${(index >> 8) & 255}.${index & 255}\r\n` : extension
  }

  async leave(): Promise<void> {
    const sockets = this.connections.map(({ socket }) => socket)
    await Promise.all(
      sockets.map(async socket => {
        if (socket.destroyed) return
        const closed = new Promise(resolve => socket.once('close', resolve))
        socket.end(maskedFrame(0x80 | CLOSE, GOING_AWAY))
        await closed
      }),
    )
  }

  say(text: string): void {
    const frame = maskedFrame(TEXT, Buffer.from(text))
    for (const { socket } of this.connections) socket.write(frame)
  }

  #read(index: number, bytes: number): boolean {
    const connection = this.connections[index]!
    this.bytes += bytes
    let from = 0
    if (connection.skip > 0) {
      if (connection.skip > bytes) {
        connection.skip -= bytes
        return true
      }
      from = connection.skip
      connection.skip = 0
      this.meter?.count(index, 1, now())
    }
    if (connection.rest) {
      const joined = Buffer.concat([connection.rest, shared.subarray(0, bytes)])
      connection.rest = undefined
      this.#parse(index, connection, joined, 0, joined.length)
    } else {
      this.#parse(index, connection, shared, from, bytes)
    }
    return true
  }

  #parse(index: number, connection: Connection, data: Buffer, from: number, end: number): void {
    const start = connection.open ? from : this.#handshake(connection, data, from, end)
    if (start < end) this.#walk(index, connection, data, start, end)
  }

  #walk(index: number, connection: Connection, data: Buffer, from: number, end: number): void {
    const meter = connection.live ? this.meter : undefined
    const size = meter?.size ?? -1
    // What is recorded has a number and an id as well, which are of many lengths.
    const most = meter?.upTo ?? size
    const at = now()
    let hits = 0
    let position = from
    while (end - position >= 2) {
      let length = data[position + 1]!
      let start = position + 2
      if (length === 126) {
        if (end - position < 4) break
        length = (data[position + 2]! << 8) | data[position + 3]!
        start = position + 4
      } else if (length === 127) {
        if (end - position < 10) break
        length = data.readUInt32BE(position + 6)
        start = position + 10
      }
      const next = start + length
      const isCoded = data[position] === BINARY && meter !== undefined
      const isDeflated = data[position] === DEFLATED && meter !== undefined && length >= LEAST_DEFLATED
      const isText = length >= size && length <= most && data[position] === TEXT
      if (isText && start + TYPE_AT >= end) break
      if (isDeflated || isCoded || (isText && data[start + TYPE_AT] !== GAP)) {
        if (isDeflated) this.compressed++
        const isNumbered = isText && meter!.numbered
        if (next > end) {
          if (meter!.stamped || (isNumbered && !meter!.number(index, data, start, end))) break
          connection.skip = next - end
          position = end
          break
        }
        if (meter!.stamped) meter!.stamp(index, data, start, at)
        else if (isNumbered) meter!.number(index, data, start, next)
        hits++
      } else {
        if (next > end) break
        const payload = data.subarray(start, next)
        const isEarly = data[position] === DEFLATED && !connection.live
        this.#other(index, data[position]! & 15, isEarly ? this.#inflate(connection, payload) : payload)
      }
      position = next
    }
    if (hits > 0) meter!.count(index, hits, at)
    if (position < end) connection.rest = Buffer.from(data.subarray(position, end))
  }

  /** Reads the answer to the upgrade; where the frames begin. */
  #handshake(connection: Connection, data: Buffer, from: number, end: number): number {
    const head = data.toString('latin1', from, end)
    const length = head.indexOf('\r\n\r\n')
    if (length < 0) {
      connection.rest = Buffer.from(data.subarray(from, end))
      return end
    }
    if (!head.startsWith('HTTP/1.1 101')) throw new Error(`upgrade refused: ${head.slice(0, 300)}`)
    connection.open = true
    return from + length + 4
  }

  /** `ws` with its defaults compresses even a welcome. */
  #inflate(connection: Connection, payload: Buffer): Buffer {
    const { heard } = connection
    const options = heard.length > 0 ? { dictionary: heard } : {}
    const text = inflateRawSync(Buffer.concat([payload, TRAILER]), { ...options, finishFlush: constants.Z_SYNC_FLUSH })
    connection.heard = Buffer.concat([heard, text])
    return text
  }

  #other(index: number, opcode: number, payload: Buffer): void {
    const connection = this.connections[index]!
    if (opcode === PING) return void connection.socket.write(maskedFrame(PONG, payload))
    if (opcode === CLOSE) {
      // The answer to our own goodbye.
      if (connection.socket.writableEnded) return
      this.closedAt.push(now())
      this.#note(`close ${payload.length >= 2 ? payload.readUInt16BE(0) : 1005}`)
      return void connection.socket.end(maskedFrame(0x80 | CLOSE, payload.subarray(0, 2)))
    }
    const text = payload.toString('latin1', 0, 64)
    if (this.#kind === 'socketio') {
      if (text[0] === '0') return void connection.socket.write(maskedFrame(TEXT, Buffer.from('40')))
      if (text === '2') return void connection.socket.write(maskedFrame(TEXT, Buffer.from('3')))
      if (text.startsWith('40')) return
    }
    // MessagePack and Protocol Buffers write a short text as it is, with its length before it.
    const coded = /^(?:[\x80-\x8f]\xa4type.|\n.)(welcome|gap|error|bench)/.exec(text)?.[1]
    const type = coded ?? /^(?:\{"type":|42\[)"([^"]*)"/.exec(text)?.[1] ?? 'unknown'
    if (type === 'welcome' && !connection.live) {
      connection.live = true
      this.live++
      this.onLive()
    } else {
      if (type === 'gap') this.meter?.gap(index)
      this.#note(type)
    }
  }

  #note(what: string): void {
    this.others[what] = (this.others[what] ?? 0) + 1
  }
}

/** 1001. */
const GOING_AWAY = Buffer.from([3, 233])

/** A client must mask; with a mask of zeros the payload stays as it is. */
function maskedFrame(first: number, payload: Buffer): Buffer {
  return Buffer.concat([Buffer.from([first, 0x80 | payload.length, 0, 0, 0, 0]), payload])
}
