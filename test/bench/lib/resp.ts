import { connect, type Socket } from 'node:net'

type OnMessage = (channel: string, payload: Buffer) => void

const CR = 13
const DOLLAR = 36
const MINUS = 45
/** `*3\r\n$7\r\nmessage\r\n$`: what stands before the length of the channel of every message. */
const MESSAGE_HEAD = 18
const LETTER_M = 109

/**
 * The leanest possible subscriber, for the peers that are to be limits: SUBSCRIBE and its two kinds of reply, nothing
 * else. Payloads are views into the chunk that was read.
 */
export class Subscriber {
  readonly #socket: Socket
  readonly #onMessage: OnMessage
  readonly #waiting = new Map<string, () => void>()
  #rest: Buffer | undefined

  constructor(url: string, onMessage: OnMessage) {
    const { hostname, port } = new URL(url)
    this.#onMessage = onMessage
    this.#socket = connect({ host: hostname, port: Number(port), noDelay: true })
    this.#socket.on('data', (chunk: Buffer) => this.#read(chunk))
    this.#socket.on('close', () => process.exit(1))
  }

  subscribe(channel: string): Promise<void> {
    this.#socket.write(`*2\r\n$9\r\nSUBSCRIBE\r\n$${Buffer.byteLength(channel)}\r\n${channel}\r\n`)
    return new Promise(resolve => this.#waiting.set(channel, resolve))
  }

  unsubscribe(channel: string): void {
    this.#socket.write(`*2\r\n$11\r\nUNSUBSCRIBE\r\n$${Buffer.byteLength(channel)}\r\n${channel}\r\n`)
  }

  #read(chunk: Buffer): void {
    const data = this.#rest ? Buffer.concat([this.#rest, chunk]) : chunk
    let at = 0
    while (at < data.length) {
      const end = this.#reply(data, at)
      if (end < 0) break
      at = end
    }
    this.#rest = at < data.length ? data.subarray(at) : undefined
  }

  /** Handles the reply that begins at `at`; where it ends, or -1 while it is incomplete. */
  #reply(data: Buffer, at: number): number {
    if (data.length - at < MESSAGE_HEAD) return -1
    if (data[at] === MINUS) throw new Error(data.toString('latin1', at, at + 80))
    if (data[at + 8] !== LETTER_M) return this.#confirmation(data, at)
    const channel = bulk(data, at + MESSAGE_HEAD - 1)
    if (!channel) return -1
    const payload = bulk(data, channel.end + 2)
    if (!payload || payload.end + 2 > data.length) return -1
    this.#onMessage(data.toString('latin1', channel.start, channel.end), data.subarray(payload.start, payload.end))
    return payload.end + 2
  }

  /** `*3 $9 subscribe $N CHANNEL :COUNT` or its opposite. */
  #confirmation(data: Buffer, at: number): number {
    const verb = bulk(data, at + 4)
    const channel = verb && bulk(data, verb.end + 2)
    if (!channel) return -1
    const end = data.indexOf('\r\n', channel.end + 2)
    if (end < 0) return -1
    const name = data.toString('latin1', channel.start, channel.end)
    this.#waiting.get(name)?.()
    this.#waiting.delete(name)
    return end + 2
  }
}

/** The bulk string whose `$` is at `at`, or undefined while it is incomplete. */
function bulk(data: Buffer, at: number): { start: number; end: number } | undefined {
  if (at >= data.length) return undefined
  if (data[at] !== DOLLAR) throw new Error(`not a bulk string: ${data.toString('latin1', at, at + 40)}`)
  let length = 0
  let start = at + 1
  for (; start < data.length && data[start] !== CR; start++) length = length * 10 + data[start]! - 48
  start += 2
  const end = start + length
  return end <= data.length ? { start, end } : undefined
}
