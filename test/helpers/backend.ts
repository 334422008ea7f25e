import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { Socket } from 'node:net'
import { isDeepStrictEqual } from 'node:util'
import { sign } from '../../src/node/events/signature.ts'
import { freePort } from './redis.ts'
import { Inbox, once } from './waiting.ts'

interface Cleanup {
  after(hook: () => unknown): void
}

export const SECRET = 'the secret of the tests'

/** A call as a backend gets it. */
export interface Called {
  id: string
  kind: string
  time: string
  node: string
  connection?: string | null
  user?: string | null
  events?: Called[]
  [key: string]: unknown
}

/** A status and a body; `hang` never answers, `die` breaks the connection. */
export type Reaction = { status?: number; body?: unknown; headers?: Record<string, string> } | 'hang' | 'die'

export interface Certificate {
  key: Buffer
  cert: Buffer
}

/** A web backend in the process of the test. */
export class TestBackend {
  readonly calls = new Inbox<Called>('a call to the backend')
  /** Signatures as they came. */
  readonly signatures: string[] = []
  /** Connections that were opened so far. */
  connections = 0
  busy = 0
  mostBusy = 0
  react: (call: Called) => Reaction | Promise<Reaction> = () => ({ body: null })
  readonly port: number
  readonly #tls: Certificate | undefined
  #server: Server | undefined
  readonly #sockets = new Set<Socket>()

  constructor(port: number, tls?: Certificate) {
    this.port = port
    this.#tls = tls
  }

  get url(): string {
    return `${this.#tls ? 'https' : 'http'}://127.0.0.1:${this.port}/hook?of=${encodeURIComponent('operator')}`
  }

  async start(): Promise<void> {
    const serve = (request: IncomingMessage, response: ServerResponse) => void this.#serve(request, response)
    const server = this.#tls ? createTlsServer(this.#tls, serve) : createServer(serve)
    server.on('connection', socket => {
      this.connections++
      this.#sockets.add(socket)
      socket.on('close', () => this.#sockets.delete(socket)).on('error', () => {})
    })
    this.#server = server.listen(this.port, '127.0.0.1')
    await once(server, 'listening')
  }

  /** Breaks all connections and takes no new ones. */
  async stop(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    if (!server?.listening) return
    const closed = once(server, 'close')
    server.close()
    for (const socket of this.#sockets) socket.destroy()
    await closed
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.mostBusy = Math.max(this.mostBusy, ++this.busy)
    response.on('close', () => this.busy--)
    try {
      const body = await bodyOf(request)
      this.signatures.push(String(request.headers['push-signature']))
      const call = JSON.parse(body) as Called
      this.calls.put(call)
      const reaction = await this.react(call)
      if (reaction === 'hang') return
      if (reaction === 'die') return void request.socket.destroy()
      const { status = 200, body: answer, headers = {} } = reaction
      response.writeHead(status, { 'content-type': 'application/json', ...headers })
      response.end(typeof answer === 'string' ? answer : JSON.stringify(answer))
    } catch {
      request.socket.destroy()
    }
  }
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  const body = Buffer.concat(chunks).toString()
  const [, seconds] = /^t=(\d+),/.exec(String(request.headers['push-signature'])) ?? []
  const isSigned = isDeepStrictEqual(request.headers['push-signature'], sign([SECRET], body, Number(seconds) * 1000))
  if (!isSigned || request.method !== 'POST') throw new Error('this is no call of a node')
  return body
}

/** A backend that ends with the test. `isDown` leaves it for `start()`. */
export async function startBackend(
  t: Cleanup,
  { isDown = false, tls }: { isDown?: boolean; tls?: Certificate } = {},
): Promise<TestBackend> {
  const backend = new TestBackend(await freePort(), tls)
  t.after(() => backend.stop())
  if (!isDown) await backend.start()
  return backend
}
