import type { IncomingMessage, Server } from 'node:http'
import type { Socket } from 'node:net'

interface Upgrade {
  socket: Socket
  /** It became a WebSocket: somebody else looks after it now. */
  isDone: boolean
  /** Bytes written up to the last sweep. More of them mean an answer: a WebSocket's or a refusal. */
  written: number
  isAnswered: boolean
  /** When the handshake must be done; Infinity while the path is not known to be ours. */
  deadline: number
}

interface Guard {
  matches(url: string): boolean
  milliseconds: number
}

/** The name of the upgrade listener of @fastify/websocket, in whichever context it is registered. */
export const UPGRADE_LISTENER = 'onUpgrade'

const SWEEP = 500

const UPGRADE = Symbol('push.upgrade')

type Watched = IncomingMessage & { [UPGRADE]?: Upgrade }

/**
 * Ends upgrades that nobody finishes. @fastify/websocket 11 answers a refused upgrade but keeps its socket open when the
 * hook that refused was registered before it, or when the path is unknown outside its context: 20 of 20 such sockets
 * stayed in CLOSE_WAIT, and a server runs out of descriptors that way (nodetool-ai/nodetool#4673). A socket that was
 * answered and that nobody reads from is destroyed: its HTTP parser is gone, so it is of no further use.
 */
export class UpgradeWatch {
  readonly #server: Server
  /**
   * Upgrades that are not finished. Not a Map: V8 chains the tables of a Map in which thousands of entries come and go.
   * Once one table is in the old generation, all later ones stay in memory until a full garbage collection.
   */
  #upgrades: Upgrade[] = []
  readonly #guards: Guard[] = []
  #timer: NodeJS.Timeout | undefined
  /** The application is closing: from now on there may be no listener that routes an upgrade. */
  #isClosing = false
  /** The last result of `#isRouted` and for how many listeners: searching again for each of thousands takes time. */
  #routed = { listeners: 0, isRouted: false }
  readonly #onUpgrade = (request: Watched, socket: Socket) => this.#watch(request, socket)

  constructor(server: Server) {
    this.#server = server
    server.prependListener('upgrade', this.#onUpgrade)
  }

  /**
   * Upgrades of these URLs must be done in time, even if a hook never answers. URLs are compared undecoded: one that is
   * percent-encoded differently is adopted by the route instead, after the hooks of the host.
   */
  guard(guard: Guard): void {
    this.#guards.push(guard)
  }

  /** The router gave this request to one of our routes: its upgrade must be done in time, whatever its URL looks like. */
  adopt({ [UPGRADE]: upgrade }: Watched, milliseconds: number): void {
    if (upgrade?.deadline === Number.POSITIVE_INFINITY) upgrade.deadline = performance.now() + milliseconds
  }

  #watch(request: Watched, socket: Socket): void {
    // The stream of injectWS() is not a socket and cannot leak.
    if (typeof socket.destroySoon !== 'function') return
    const guard = this.#guardOf(request.url ?? '')
    if (guard && !this.#isRouted) return refuse(socket)
    const patience = guard?.milliseconds ?? (this.#isClosing ? SWEEP : Number.POSITIVE_INFINITY)
    const deadline = performance.now() + patience
    const upgrade: Upgrade = { socket, isDone: false, written: socket.bytesWritten, isAnswered: false, deadline }
    request[UPGRADE] = upgrade
    this.#upgrades.push(upgrade)
    this.#timer ??= setInterval(() => this.#sweep(performance.now()), SWEEP)
  }

  /** Apart, since a closure in #watch would let its timer keep the request in memory. */
  #guardOf(url: string): Guard | undefined {
    return this.#guards.find(({ matches }) => matches(url))
  }

  /** The request became a WebSocket. */
  finish({ [UPGRADE]: upgrade }: Watched): void {
    if (upgrade) upgrade.isDone = true
  }

  /** False after @fastify/websocket stopped listening in preClose; sockets are accepted for some milliseconds more. */
  get #isRouted(): boolean {
    const count = this.#server.listenerCount('upgrade')
    if (count !== this.#routed.listeners) {
      const routers = this.#server.listeners('upgrade').filter(({ name }) => name === UPGRADE_LISTENER)
      this.#routed = { listeners: count, isRouted: routers.length > 0 }
    }
    return this.#routed.isRouted
  }

  #sweep(now: number): void {
    this.#upgrades = this.#upgrades.filter(upgrade => !isTaken(upgrade) && !this.#endIfUseless(upgrade, now))
    if (this.#upgrades.length > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /** Ends it if it was answered and then quiet for a whole sweep, or is too late. Returns whether it did. */
  #endIfUseless(upgrade: Upgrade, now: number): boolean {
    const { socket, written, isAnswered, deadline } = upgrade
    const isQuiet = socket.bytesWritten === written
    const isUseless = (isQuiet && isAnswered) || now >= deadline
    if (isUseless) socket.destroySoon()
    upgrade.isAnswered ||= !isQuiet
    upgrade.written = socket.bytesWritten
    return isUseless
  }

  /** The application is closing, and the server waits for its sockets: a hook that never answers would block it. */
  refusePending(): void {
    this.#isClosing = true
    for (const upgrade of this.#upgrades) {
      if (isTaken(upgrade)) continue
      const { socket, isAnswered, written } = upgrade
      // A second answer would be read as the body of the first.
      if (isAnswered || socket.bytesWritten > written) socket.destroySoon()
      else refuse(socket)
    }
    this.#upgrades = []
  }

  close(): void {
    this.#server.off('upgrade', this.#onUpgrade)
    clearInterval(this.#timer)
    // The server waits for its sockets before it closes, and nothing else ends these.
    for (const upgrade of this.#upgrades) if (!isTaken(upgrade)) upgrade.socket.destroySoon()
    this.#upgrades = []
  }
}

function refuse(socket: Socket): void {
  socket.on('error', () => {})
  socket.write('HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n')
  socket.destroySoon()
}

/** Any library that makes a WebSocket of a socket reads from it. */
function isTaken({ socket, isDone }: Upgrade): boolean {
  return isDone || socket.destroyed || socket.listenerCount('data') > 0 || socket.listenerCount('readable') > 0
}
