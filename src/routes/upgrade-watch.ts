import type { IncomingMessage, Server } from 'node:http'
import type { Socket } from 'node:net'

interface Upgrade {
  socket: Socket
  /** It became a WebSocket: whoever has that looks after it. */
  isDone: boolean
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

const UPGRADE = Symbol('push.upgrade')

type Watched = IncomingMessage & { [UPGRADE]?: Upgrade }

/**
 * Ends upgrades that lead nowhere. @fastify/websocket 11 answers a refused upgrade but keeps its socket open when the
 * hook that refused was registered before it, or when the path is unknown outside its context: 20 of 20 such sockets
 * stayed in CLOSE_WAIT, which is how a server runs out of descriptors (nodetool-ai/nodetool#4673). A socket that was
 * answered and that nobody reads from cannot be used for anything else, since its HTTP parser is gone: it is destroyed.
 */
export class UpgradeWatch {
  readonly #server: Server
  /**
   * Since the last sweep. No Map: V8 chains the tables of one in which thousands come and go, and once one of them is
   * among the old objects all that follow it stay in memory until a full collection.
   */
  #upgrades: Upgrade[] = []
  readonly #guards = new Set<Guard>()
  #timer: NodeJS.Timeout | undefined
  /** From here on an upgrade may find nobody who routes it. */
  #isClosing = false
  /** What was found when there were so many listeners: looking again for each of thousands would take its time. */
  #routed = { listeners: 0, isRouted: false }
  readonly #onUpgrade = (request: Watched, socket: Socket) => this.#watch(request, socket)

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

  /** The router gave this request to a route of ours: whatever its URL looks like, it must be done in time. */
  adopt({ [UPGRADE]: upgrade }: Watched, milliseconds: number): void {
    if (upgrade?.deadline === Number.POSITIVE_INFINITY) upgrade.deadline = performance.now() + milliseconds
  }

  #watch(request: Watched, socket: Socket): void {
    // The stream of injectWS() is no socket: nothing of it can leak.
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

  #guardOf(url: string): Guard | undefined {
    for (const guard of this.#guards) if (guard.matches(url)) return guard
    return undefined
  }

  /** The request became a WebSocket. */
  finish({ [UPGRADE]: upgrade }: Watched): void {
    if (upgrade) upgrade.isDone = true
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
    this.#upgrades = this.#upgrades.filter(upgrade => !isTaken(upgrade) && !this.#isOver(upgrade, now))
    if (this.#upgrades.length > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /** Ends what leads nowhere. */
  #isOver(upgrade: Upgrade, now: number): boolean {
    const isOver = this.#leadsNowhere(upgrade, now)
    if (isOver) upgrade.socket.destroySoon()
    return isOver
  }

  /** Answered, and quiet for a whole sweep since; or too late. */
  #leadsNowhere(upgrade: Upgrade, now: number): boolean {
    const { bytesWritten } = upgrade.socket
    const isQuiet = bytesWritten === upgrade.written
    if (isQuiet && upgrade.isAnswered) return true
    upgrade.isAnswered ||= !isQuiet
    upgrade.written = bytesWritten
    return now >= upgrade.deadline
  }

  /** The application closes, and the server waits for its sockets: whatever still waits for a hook would hold it up. */
  refusePending(): void {
    this.#isClosing = true
    for (const upgrade of this.#upgrades) {
      if (isTaken(upgrade)) continue
      const { socket, isAnswered, written } = upgrade
      // One answer is enough: a second would be read as the body of the first.
      if (isAnswered || socket.bytesWritten > written) socket.destroySoon()
      else refuse(socket)
    }
    this.#upgrades = []
  }

  close(): void {
    this.#server.off('upgrade', this.#onUpgrade)
    clearInterval(this.#timer)
    // The server waits for its sockets before it is closed, and nobody else will end these.
    for (const upgrade of this.#upgrades) if (!isTaken(upgrade)) upgrade.socket.destroySoon()
    this.#upgrades = []
  }
}

function refuse(socket: Socket): void {
  socket.on('error', () => {})
  socket.write('HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n')
  socket.destroySoon()
}

/** Whoever makes a WebSocket of a socket reads from it, whichever library that is. */
function isTaken({ socket, isDone }: Upgrade): boolean {
  return isDone || socket.destroyed || socket.listenerCount('data') > 0 || socket.listenerCount('readable') > 0
}
