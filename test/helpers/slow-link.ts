import { Duplex } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import { WebSocket } from 'ws'

/** What a server's socket has to have that an ordinary stream does not. */
class ServerSide extends Duplex {
  destroySoon(): void {
    this.end(() => this.destroy())
  }
}

interface Write {
  chunk: Buffer
  done(): void
}

/**
 * A link between a server and one client, without the megabytes that the kernel hides in its buffers: what the client
 * has not been sent waits with the server. From server to client so many bytes a second, so many milliseconds late.
 */
export class SlowLink {
  readonly server: ServerSide
  readonly client: Duplex
  readonly #bytesPerMs: number
  readonly #delay: number
  #writes: Write[] = []
  #isHeld = false
  /** Bytes that pass although it is held. */
  #allowed = 0
  #timer: NodeJS.Timeout | NodeJS.Immediate | undefined
  #freeAt = 0

  /** Without a `rate` it passes everything at once. */
  constructor({ rate = Number.POSITIVE_INFINITY, delay = 0 }: { rate?: number; delay?: number } = {}) {
    this.#bytesPerMs = rate / 1000
    this.#delay = delay
    this.server = new ServerSide({
      read() {},
      write: (chunk, _encoding, done) => this.#add({ chunk, done }),
      final: done => this.#add({ chunk: Buffer.alloc(0), done }),
      destroy: (error, done) => this.#end(error, done),
    })
    this.client = new Duplex({
      read() {},
      write: (chunk, _encoding, done) => {
        this.server.push(chunk)
        done()
      },
      final: done => {
        this.server.push(null)
        done()
      },
      destroy: (error, done) => {
        this.server.destroy()
        done(error)
      },
    })
  }

  /** Connects a client to `path` of `app` over this link. */
  open(app: FastifyInstance, path: string): WebSocket {
    app.server.emit('connection', this.server)
    return new WebSocket(`ws://link${path}`, { createConnection: () => this.client as never })
  }

  /** Nothing passes any more: a client that does not read. */
  hold(): void {
    this.#isHeld = true
  }

  /** Lets so many bytes more pass, although it is held. */
  take(bytes: number): void {
    this.#allowed += bytes
    this.#pump()
  }

  release(): void {
    this.#isHeld = false
    this.#pump()
  }

  /** Something is on its way into the link. */
  get isPassing(): boolean {
    return this.#timer !== undefined
  }

  #add(write: Write): void {
    this.#writes.push(write)
    this.#pump()
  }

  #pump(): void {
    if (this.#timer !== undefined) return
    const next = this.#writes[0]
    if (!next || (this.#isHeld && next.chunk.length > this.#allowed)) return
    if (this.#isHeld) this.#allowed -= next.chunk.length
    // From a time table, so that timers that come late do not make the link slower.
    this.#freeAt = Math.max(this.#freeAt, performance.now()) + next.chunk.length / this.#bytesPerMs
    const pass = () => this.#pass(next)
    // Not a timer where there is no rate: tests that hold the clock would hold the link.
    const isAtOnce = this.#bytesPerMs === Number.POSITIVE_INFINITY
    this.#timer = isAtOnce ? setImmediate(pass) : setTimeout(pass, this.#freeAt - performance.now())
  }

  #pass({ chunk, done }: Write): void {
    this.#timer = undefined
    this.#writes.shift()
    setTimeout(() => this.client.push(chunk.length > 0 ? chunk : null), this.#delay)
    done()
    this.#pump()
  }

  #end(error: Error | null, done: (error: Error | null) => void): void {
    clearTimeout(this.#timer as NodeJS.Timeout)
    clearImmediate(this.#timer as NodeJS.Immediate)
    this.#writes = []
    this.client.destroy()
    done(error)
  }
}
