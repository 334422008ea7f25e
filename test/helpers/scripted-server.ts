import { createServer as createPlain, type IncomingMessage, type Server } from 'node:http'
import { createServer as createSecure, type ServerOptions } from 'node:https'
import type { Socket } from 'node:net'
import { type WebSocket, WebSocketServer } from 'ws'
import type { Cleanup } from './processes.ts'
import { Inbox, once, within } from './waiting.ts'

type ClientMessage = Record<string, unknown> & { type: string }

/** One connection of a client, as the script sees it. */
export class Visit {
  readonly url: URL
  readonly messages = new Inbox<ClientMessage>('messages of the client')
  readonly closed: Promise<number>
  /** Milliseconds of the clock at which it came. */
  readonly at = performance.now()
  readonly #socket: WebSocket
  readonly #raw: Socket

  constructor(socket: WebSocket, request: IncomingMessage) {
    this.url = new URL(request.url!, 'http://here')
    this.#socket = socket
    this.#raw = request.socket
    this.closed = new Promise(resolve => socket.once('close', resolve))
    socket.on('message', data => this.messages.put(JSON.parse(String(data))))
    socket.on('error', () => {})
  }

  get since(): Record<string, string> {
    return JSON.parse(this.url.searchParams.get('since') ?? '{}')
  }

  say(type: string, payload: unknown, more: object = {}): void {
    this.text(JSON.stringify({ type, payload, ...more }))
  }

  text(text: string): void {
    this.#socket.send(text)
  }

  welcome(topics: object = {}, more: object = {}): void {
    const heartbeat = { interval: 25_000, timeout: 10_000 }
    const features = ['ack', 'recovery', 'history', 'presence', 'authenticate']
    this.say('welcome', { connection: 'c', user: '42', node: 'n', protocol: 1, features, heartbeat, topics, ...more })
  }

  close(code: number, reason = ''): void {
    this.#socket.close(code, reason)
  }

  /** Bytes past the WebSocket. */
  write(bytes: Buffer): void {
    this.#raw.write(bytes)
  }

  /** Ends the TCP connection behind what was written. */
  cut(): void {
    this.#raw.destroySoon()
  }

  ping(data = 'sign'): Promise<void> {
    this.#socket.ping(data)
    return within(new Promise(resolve => this.#socket.once('pong', () => resolve())), () => 'a pong')
  }

  async endedWith(): Promise<number> {
    return within(this.closed, () => 'the end of the connection')
  }
}

/** A server that says only what the test lets it say. */
export class ScriptedServer {
  readonly port: number
  readonly #visits: Inbox<Visit>
  /** The status of the next upgrades, one after the other; then they are accepted. */
  readonly refusals: { status: number; headers?: string }[] = []

  constructor(port: number, visits: Inbox<Visit>) {
    this.port = port
    this.#visits = visits
  }

  next(): Promise<Visit> {
    return this.#visits.take()
  }
}

export async function startScriptedServer(t: Cleanup, tls?: ServerOptions): Promise<ScriptedServer> {
  const http: Server = tls ? (createSecure(tls) as unknown as Server) : createPlain()
  const sockets = new WebSocketServer({ noServer: true })
  const visits = new Inbox<Visit>('connections')
  http.listen(0, '127.0.0.1')
  await once(http, 'listening')
  const server = new ScriptedServer((http.address() as { port: number }).port, visits)
  http.on('upgrade', (request, socket, head) => {
    socket.on('error', () => {})
    const refusal = server.refusals.shift()
    if (refusal) {
      const body = JSON.stringify({ code: 'PUSH_ERR_X', message: `refused with ${refusal.status}` })
      socket.end(
        `HTTP/1.1 ${refusal.status} No\r\n${refusal.headers ?? ''}Content-Length: ${body.length}\r\n\r\n${body}`,
      )
      return
    }
    sockets.handleUpgrade(request, socket, head, ws => visits.put(new Visit(ws, request)))
  })
  // A client that refuses the certificate.
  http.on('tlsClientError', () => {})
  t.after(() => {
    for (const socket of sockets.clients) socket.terminate()
    http.close()
    http.closeAllConnections()
  })
  return server
}
