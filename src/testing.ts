import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import type { FastifyInstance } from 'fastify'
import { type RawData, WebSocket } from 'ws'
import { BINARY_TYPE, type Codec } from './protocol/codecs/codec.ts'
import type { From, Welcome } from './protocol/messages.ts'

/** One message of the server. A binary message has the type `binary` and its bytes as payload. */
export interface TestMessage {
  type: string
  payload: unknown
  topic?: string
  seq?: number
  id?: string
  /** Who published it, if a client did. */
  from?: From
  ref?: string | number
}

export interface TestConnection {
  readonly welcome: Welcome
  /** The next unread message, or the next one of `type`: the others stay unread. Rejects after `timeout`. */
  next(type?: string): Promise<TestMessage>
  send(type: string, payload?: unknown, ref?: string | number): void
  sendBinary(bytes: Uint8Array): void
  /** Resolves when the connection is closed by either side. */
  readonly closed: Promise<{ code: number; reason: string }>
  close(): Promise<void>
}

export interface OpenOptions {
  headers?: Record<string, string>
  /** What to speak instead of JSON: `msgpack` or `protobuf` of the client. Rejects if the server does not select it. */
  codec?: Codec
  /** How long `next` waits, in milliseconds. Default 5000. */
  timeout?: number
}

/**
 * Opens a real WebSocket to `path` of `app`. An app that is not listening yet is made to listen on a free port of the
 * loopback interface. Rejects with the close code or HTTP status when the connection is refused. `app.close()` ends it.
 */
export async function openConnection(
  app: FastifyInstance,
  path: string,
  { headers = {}, codec, timeout = 5000 }: OpenOptions = {},
): Promise<TestConnection> {
  if (!app.server.listening) await app.listen({ port: 0, host: '127.0.0.1' })
  const { port } = app.server.address() as AddressInfo
  const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`, codec ? [codec.protocol] : [], { headers })
  const inbox = new Inbox(timeout)
  socket.on('message', (data, isBinary) => inbox.push(toMessage(data, isBinary, codec)))
  const closed = new Promise<{ code: number; reason: string }>(resolve => {
    socket.on('close', (code, reason) => {
      resolve({ code, reason: reason.toString() })
      inbox.end(`the connection was closed with ${code} ${reason}`)
    })
  })
  const say = (message: object) => socket.send(codec?.encodeMessage(message) ?? JSON.stringify(message))
  socket.on('error', () => {})
  await once(socket, 'open')
  const { payload } = await inbox.next('welcome')
  return {
    welcome: payload as Welcome,
    next: type => inbox.next(type),
    send: (type, body, ref) => say({ type, payload: body, ref }),
    sendBinary: bytes => (codec ? say({ type: BINARY_TYPE, payload: bytes }) : socket.send(bytes)),
    closed,
    async close() {
      socket.close(1000)
      await closed
    },
  }
}

function toMessage(data: RawData, isBinary: boolean, codec: Codec | undefined): TestMessage {
  if (codec) {
    const message = codec.decodeMessage(data as Buffer) as TestMessage
    return message.type === BINARY_TYPE ? { type: 'binary', payload: message.payload } : message
  }
  return isBinary ? { type: 'binary', payload: data } : (JSON.parse(String(data)) as TestMessage)
}

interface Waiter {
  type: string | undefined
  resolve(message: TestMessage): void
  reject(error: Error): void
}

class Inbox {
  readonly #timeout: number
  readonly #messages: TestMessage[] = []
  readonly #waiters = new Set<Waiter>()
  #ended: string | undefined

  constructor(timeout: number) {
    this.#timeout = timeout
  }

  push(message: TestMessage): void {
    for (const waiter of this.#waiters) {
      if (waiter.type !== undefined && waiter.type !== message.type) continue
      waiter.resolve(message)
      return
    }
    this.#messages.push(message)
  }

  next(type?: string): Promise<TestMessage> {
    const index = this.#messages.findIndex(message => type === undefined || message.type === type)
    if (index >= 0) return Promise.resolve(this.#messages.splice(index, 1)[0]!)
    if (this.#ended) return Promise.reject(new Error(this.#ended))
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => done(reject)(this.#late(type)), this.#timeout)
      const done =
        <T>(settle: (value: T) => void) =>
        (value: T) => {
          clearTimeout(timer)
          this.#waiters.delete(waiter)
          settle(value)
        }
      const waiter: Waiter = { type, resolve: done(resolve), reject: done(reject) }
      this.#waiters.add(waiter)
    })
  }

  #late(type: string | undefined): Error {
    const seen = this.#messages.map(message => message.type).join(', ') || 'none'
    return new Error(`no ${type ?? 'message'} within ${this.#timeout} ms; unread: ${seen}`)
  }

  end(reason: string): void {
    this.#ended = reason
    for (const waiter of this.#waiters) waiter.reject(new Error(reason))
  }
}
