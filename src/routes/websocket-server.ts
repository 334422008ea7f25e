import type { Server } from 'node:http'
import websocket from '@fastify/websocket'
import type { FastifyInstance } from 'fastify'
import type { Options } from '../options/options.ts'
import { errors } from '../protocol/errors.ts'
import { selectKnownSubprotocols } from './subprotocol.ts'
import type { UpgradeGate } from './upgrade-gate.ts'
import { type Bounds, UPGRADE_LISTENER, UpgradeWatch } from './upgrade-watch.ts'

/** The default of `ws`: a client could make the server collect 100 MiB for one message. */
const WS_DEFAULT_MAX_PAYLOAD = 100 * 1024 * 1024

/** How long `ws` waits for the peer to close after a close frame. The heartbeat ends our connections. */
const CLOSE_TIMEOUT = 5000

type UpgradeListener = Parameters<Server['off']>[1]

/**
 * A message stands for itself: it is compressed once for all. What a client may keep of a window is refused, so that its
 * messages take no memory between two of them.
 */
const DEFLATE = { serverNoContextTakeover: true, clientNoContextTakeover: true }
const HOW_TO_DEFLATE =
  'needs { options: { perMessageDeflate: { serverNoContextTakeover: true, clientNoContextTakeover: true } } } where the ' +
  'application registers @fastify/websocket, without serverMaxWindowBits'

const watches = new WeakMap<Server, UpgradeWatch>()

/** Those of registrations whose sockets compress as `DEFLATE` says. */
const deflating = new WeakSet<UpgradeListener>()

/** What takes the upgrades of a registration. */
export interface SharedServer {
  watch: UpgradeWatch
  /** Whether a socket with permessage-deflate takes messages that were compressed for all. */
  isDeflating: boolean
}

/**
 * Gives `scope` WebSocket routes: through the host's @fastify/websocket if that is already registered, otherwise through
 * one of our own inside `scope`, so that the host can still register it later (twice in one context is an uncaught
 * exception). Each registration listens to every upgrade of the server and routes it, so only one may stay.
 */
export async function shareWebSocketServer(
  scope: FastifyInstance,
  options: Options,
  gate: UpgradeGate,
): Promise<SharedServer> {
  const server = scope.server as Server
  const shared = { isDeflating: options.compression !== undefined } as SharedServer
  if (scope.hasDecorator('websocketServer')) {
    warnIfWideOpen(scope)
    if (shared.isDeflating && !isDeflating(scope)) throw new errors.OPTIONS(`option compression ${HOW_TO_DEFLATE}`)
  } else {
    const before = new Set(server.listeners('upgrade'))
    await scope.register(websocket, { options: settingsOf(options) as { maxPayload: number } })
    const ours = server.listeners('upgrade').find(listener => !before.has(listener)) as UpgradeListener
    if (shared.isDeflating) deflating.add(ours)
    scope.addHook('onReady', async () => {
      const others = leaveToOthers(server, ours)
      if (!shared.isDeflating || others.every(listener => deflating.has(listener))) return
      shared.isDeflating = false
      scope.log.warn(
        'push: another @fastify/websocket of this application takes the upgrades: compression is as it says',
      )
    })
  }
  selectKnownSubprotocols(scope.websocketServer)
  shared.watch = watchUpgrades(scope, server, options.path, { milliseconds: options.limits.handshake, gate })
  return shared
}

function settingsOf({ limits, compression }: Options) {
  // No client tracking: it would add a closure to each socket, and ours leave the list at once.
  const settings = { maxPayload: limits.inbound, closeTimeout: CLOSE_TIMEOUT, clientTracking: false }
  return compression ? { ...settings, perMessageDeflate: DEFLATE } : settings
}

function isDeflating(scope: FastifyInstance): boolean {
  const { perMessageDeflate } = scope.websocketServer.options
  if (typeof perMessageDeflate !== 'object') return perMessageDeflate === true
  return typeof perMessageDeflate.serverMaxWindowBits !== 'number'
}

/** The listeners that take the upgrades instead; none if `ours` does. */
function leaveToOthers(server: Server, ours: UpgradeListener): UpgradeListener[] {
  const others = server.listeners('upgrade').filter(listener => listener !== ours && listener.name === UPGRADE_LISTENER)
  if (others.length > 0) server.off('upgrade', ours)
  return others as UpgradeListener[]
}

function warnIfWideOpen(scope: FastifyInstance): void {
  const { maxPayload = WS_DEFAULT_MAX_PAYLOAD } = scope.websocketServer.options
  if (maxPayload < WS_DEFAULT_MAX_PAYLOAD) return
  scope.log.warn(
    'push: the @fastify/websocket of this application collects messages of up to 100 MiB: ' +
      'register it with { options: { maxPayload: 65536 } }',
  )
}

function watchUpgrades(scope: FastifyInstance, server: Server, path: string, bounds: Bounds): UpgradeWatch {
  const watch = watches.get(server) ?? new UpgradeWatch(server)
  watches.set(server, watch)
  const full = `${scope.prefix}${path}`
  const matches = (url: string) => url.startsWith(full) && '/?'.includes(url[full.length] ?? '')
  watch.guard({ ...bounds, matches })
  scope.addHook('preClose', async () => watch.refusePending())
  scope.addHook('onClose', () => watch.close())
  return watch
}
