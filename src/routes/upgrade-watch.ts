import type { IncomingMessage, Server } from 'node:http'
import type { Socket } from 'node:net'

interface Pending {
  /** Bytes written by the last look; more of them are an answer, a WebSocket's or a refusal. */
  written: number
  isAnswered: boolean
  /** When the handshake must be done; Infinity where the path is not, or not yet, known to be ours. */
  deadline: number
}

interface Guard {
  matches(url: string): boolean
  milliseconds: number
}

/** The listener of @fastify/websocket goes by this name, whichever context registered it. */
export const UPGRADE_LISTENER = 'onUpgrade'

const SWEEP = 500

/**
 * Ends upgrades that lead nowhere. @fastify/websocket 11 answers a refused upgrade but keeps its socket open when the
 * hook that refused was registered before it, or when the path is unknown outside its context: 20 of 20 such sockets
 * stayed in CLOSE_WAIT, which is how a server runs out of descriptors (nodetool-ai/nodetool#4673). A socket that was
 * answered and that nobody reads from cannot be used for anything else, since its HTTP parser is gone: it is destroyed.
 */
export class UpgradeWatch {
  readonly #server: Server
  readonly #pending = new Map<Socket, Pending>()
  readonly #guards = new Set<Guard>()
  #timer: NodeJS.Timeout | undefined
  /** From here on an upgrade may find nobody who routes it. */
  #isClosing = false
  /** What was found when there were so many listeners: looking again for each of thousands would take its time. */
  #routed = { listeners: 0, isRouted: false }
  readonly #onUpgrade = (request: IncomingMessage, socket: Socket) => this.#watch(request.url ?? '', socket)

  constructor(server: Server) {
    this.#server = server
    server.prependListener('upgrade', this.#onUpgrade)
  }

  /**
   * Upgrades of these URLs must be done in time, whatever a hook is waiting for. The router decodes what is compared
   * here as it came: those that are written otherwise are adopted by the route, after the hooks of the host.
   */
  guard(guard: Guard): void {
    this.#guards.add(guard)
  }

  /** The router gave this socket to a route of ours: whatever its URL looks like, it must be done in time. */
  adopt(socket: Socket, milliseconds: number): void {
    const pending = this.#pending.get(socket)
    if (pending?.deadline === Number.POSITIVE_INFINITY) pending.deadline = performance.now() + milliseconds
  }

  #watch(url: string, socket: Socket): void {
    // The stream of injectWS() is no socket: nothing of it can leak.
    if (typeof socket.destroySoon !== 'function') return
    const guard = [...this.#guards].find(({ matches }) => matches(url))
    if (guard && !this.#isRouted) return refuse(socket)
    const patience = guard?.milliseconds ?? (this.#isClosing ? SWEEP : Number.POSITIVE_INFINITY)
    const deadline = performance.now() + patience
    this.#pending.set(socket, { written: socket.bytesWritten, isAnswered: false, deadline })
    this.#timer ??= setInterval(() => this.#sweep(performance.now()), SWEEP)
  }

  /** It became a WebSocket: whoever has that looks after it. */
  forget(socket: Socket): void {
    this.#pending.delete(socket)
  }

  /** @fastify/websocket stops listening in preClose, and connections are accepted for some milliseconds more. */
  get #isRouted(): boolean {
    const count = this.#server.listenerCount('upgrade')
    if (count !== this.#routed.listeners) {
      const routers = this.#server.listeners('upgrade').filter(({ name }) => name === UPGRADE_LISTENER)
      this.#routed = { listeners: count, isRouted: routers.length > 0 }
    }
    return this.#routed.isRouted
  }

  #sweep(now: number): void {
    for (const [socket, pending] of this.#pending) {
      if (isTaken(socket)) this.#pending.delete(socket)
      else if (this.#isOver(socket, pending, now)) {
        this.#pending.delete(socket)
        socket.destroySoon()
      }
    }
    if (this.#pending.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /** Answered, and quiet for a whole sweep since; or too late. */
  #isOver(socket: Socket, pending: Pending, now: number): boolean {
    const isQuiet = socket.bytesWritten === pending.written
    if (isQuiet && pending.isAnswered) return true
    pending.isAnswered ||= !isQuiet
    pending.written = socket.bytesWritten
    return now >= pending.deadline
  }

  /** The application closes, and the server waits for its sockets: whatever still waits for a hook would hold it up. */
  refusePending(): void {
    this.#isClosing = true
    for (const [socket, pending] of this.#pending) {
      if (isTaken(socket)) continue
      this.#pending.delete(socket)
      // One answer is enough: a second would be read as the body of the first.
      if (pending.isAnswered || socket.bytesWritten > pending.written) socket.destroySoon()
      else refuse(socket)
    }
  }

  close(): void {
    this.#server.off('upgrade', this.#onUpgrade)
    clearInterval(this.#timer)
    // The server waits for its sockets before it is closed, and nobody else will end these.
    for (const socket of this.#pending.keys()) if (!isTaken(socket)) socket.destroySoon()
    this.#pending.clear()
  }
}

function refuse(socket: Socket): void {
  socket.on('error', () => {})
  socket.write('HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n')
  socket.destroySoon()
}

/** Whoever makes a WebSocket of a socket reads from it, whichever library that is. */
function isTaken(socket: Socket): boolean {
  return socket.destroyed || socket.listenerCount('data') > 0 || socket.listenerCount('readable') > 0
}
