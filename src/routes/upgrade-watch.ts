import { type IncomingMessage, type Server, STATUS_CODES } from 'node:http'
import type { Socket } from 'node:net'
import { errors, type PushError } from '../protocol/errors.ts'
import { errorBody } from './json-reply.ts'
import type { UpgradeGate } from './upgrade-gate.ts'

interface Upgrade {
  socket: Socket
  /** It became a WebSocket: somebody else looks after it now. */
  isDone: boolean
  /** Bytes written up to the last sweep. More of them mean an answer: a WebSocket's or a refusal. */
  written: number
  isAnswered: boolean
  /** When the handshake must be done; Infinity while the path is not known to be ours. */
  deadline: number
  /** Where it counts as unfinished. */
  gate: UpgradeGate | undefined
  /** It was refused here. Whatever its route says of it later, nobody hears. */
  isRefused: boolean
}

/** The bounds of a registration on upgrades. */
export interface Bounds {
  milliseconds: number
  gate: UpgradeGate
}

interface Guard extends Bounds {
  matches(url: string): boolean
}

/** The name of the upgrade listener of @fastify/websocket, in whichever context it is registered. */
export const UPGRADE_LISTENER = 'onUpgrade'

const SWEEP = 500

/** While upgrades are too many, those that are finished are looked for this often, in milliseconds. */
const LOOK = 50

const UPGRADE = Symbol('push.upgrade')

type Watched = IncomingMessage & { [UPGRADE]?: Upgrade | 'refused' }

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
  #lookedAt = Number.NEGATIVE_INFINITY
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

  /**
   * The router gave this request to one of our routes: its upgrade must be done in time, whatever its URL looks like.
   * Returns why it must be refused, or undefined.
   */
  adopt({ [UPGRADE]: upgrade }: Watched, { milliseconds, gate }: Bounds): PushError | undefined {
    if (typeof upgrade !== 'object' || upgrade.deadline !== Number.POSITIVE_INFINITY) return undefined
    upgrade.deadline = performance.now() + milliseconds
    return this.#enter(upgrade, gate)
  }

  /** There is nothing to do any more for a request that the router has got all the same. */
  hasRefused(request: Watched): boolean {
    const upgrade = request[UPGRADE]
    return upgrade === 'refused' || upgrade?.isRefused === true
  }

  #watch(request: Watched, socket: Socket): void {
    // The stream of injectWS() is not a socket and cannot leak.
    if (typeof socket.destroySoon !== 'function') return
    const guard = this.#guardOf(request.url ?? '')
    if (guard && !this.#isRouted) return refuse(socket, guard.gate.draining())
    const patience = guard?.milliseconds ?? (this.#isClosing ? SWEEP : Number.POSITIVE_INFINITY)
    const [deadline, written] = [performance.now() + patience, socket.bytesWritten]
    const upgrade: Upgrade = {
      socket,
      isDone: false,
      written,
      isAnswered: false,
      deadline,
      gate: undefined,
      isRefused: false,
    }
    // Before the hooks of the host, which may be what takes so long.
    const refusal = guard && this.#enter(upgrade, guard.gate)
    request[UPGRADE] = refusal ? 'refused' : upgrade
    if (refusal) return refuse(socket, refusal)
    this.#upgrades.push(upgrade)
    this.#timer ??= setInterval(() => this.#sweep(performance.now()), SWEEP)
  }

  #enter(upgrade: Upgrade, gate: UpgradeGate): PushError | undefined {
    const now = performance.now()
    if (gate.isFull && now - this.#lookedAt >= LOOK) {
      this.#lookedAt = now
      this.#keep(other => !isTaken(other))
    }
    const refusal = gate.enter()
    if (!refusal) upgrade.gate = gate
    return refusal
  }

  #keep(isWatched: (upgrade: Upgrade) => boolean): void {
    this.#upgrades = this.#upgrades.filter(upgrade => {
      const isKept = isWatched(upgrade)
      if (!isKept) release(upgrade)
      return isKept
    })
  }

  /** Apart, since a closure in #watch would let its timer keep the request in memory. */
  #guardOf(url: string): Guard | undefined {
    return this.#guards.find(({ matches }) => matches(url))
  }

  /** The request became a WebSocket. */
  finish({ [UPGRADE]: upgrade }: Watched): void {
    if (typeof upgrade !== 'object') return
    upgrade.isDone = true
    release(upgrade)
  }

  /** The request was answered: it no longer counts as unfinished, but somebody must still see its socket end. */
  answered({ [UPGRADE]: upgrade }: Watched): void {
    if (typeof upgrade === 'object') release(upgrade)
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
    this.#keep(upgrade => !isTaken(upgrade) && !this.#endIfUseless(upgrade, now))
    if (this.#upgrades.length > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /** Ends it if it was answered and then quiet for a whole sweep, or is too late. Returns whether it did. */
  #endIfUseless(upgrade: Upgrade, now: number): boolean {
    const { socket, written, isAnswered, deadline } = upgrade
    const isQuiet = socket.bytesWritten === written
    const isUseless = (isQuiet && isAnswered) || now >= deadline
    // A second answer would be read as the body of the first. Without a gate it was answered, or nobody of ours has it.
    if (isUseless && isQuiet && !isAnswered && upgrade.gate) refuseWaiting(upgrade, upgrade.gate.late())
    else if (isUseless) socket.destroySoon()
    upgrade.isAnswered ||= !isQuiet
    upgrade.written = socket.bytesWritten
    return isUseless
  }

  /** The application is closing, and the server waits for its sockets: a hook that never answers would block it. */
  refusePending(): void {
    this.#isClosing = true
    for (const upgrade of this.#upgrades) {
      if (isTaken(upgrade)) continue
      const { socket, isAnswered, written, gate } = upgrade
      // A second answer would be read as the body of the first.
      if (isAnswered || socket.bytesWritten > written) socket.destroySoon()
      else refuseWaiting(upgrade, gate?.draining() ?? new errors.DRAINING())
    }
    this.#keep(() => false)
  }

  close(): void {
    this.#server.off('upgrade', this.#onUpgrade)
    clearInterval(this.#timer)
    // The server waits for its sockets before it closes, and nothing else ends these.
    for (const upgrade of this.#upgrades) if (!isTaken(upgrade)) upgrade.socket.destroySoon()
    this.#keep(() => false)
  }
}

function release(upgrade: Upgrade): void {
  upgrade.gate?.leave()
  upgrade.gate = undefined
}

/** A hook may still be asking who this is. */
function refuseWaiting(upgrade: Upgrade, refusal: PushError): void {
  upgrade.isRefused = true
  refuse(upgrade.socket, refusal)
}

function refuse(socket: Socket, refusal: PushError): void {
  const body = JSON.stringify(errorBody(refusal))
  socket.on('error', () => {})
  socket.write(
    `HTTP/1.1 ${refusal.statusCode} ${STATUS_CODES[refusal.statusCode]}\r\nConnection: close\r\nRetry-After: 1\r\n` +
      `Content-Type: application/json; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  )
  socket.destroySoon()
}

/** Any library that makes a WebSocket of a socket reads from it. */
function isTaken({ socket, isDone }: Upgrade): boolean {
  return isDone || socket.destroyed || socket.listenerCount('data') > 0 || socket.listenerCount('readable') > 0
}
