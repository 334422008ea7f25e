import type { Server } from 'node:http'
import websocket from '@fastify/websocket'
import type { FastifyInstance } from 'fastify'
import type { Options } from '../options/options.ts'
import { selectKnownSubprotocols } from './subprotocol.ts'
import type { UpgradeGate } from './upgrade-gate.ts'
import { type Bounds, UPGRADE_LISTENER, UpgradeWatch } from './upgrade-watch.ts'

/** The default of `ws`: a client could make the server collect 100 MiB for one message. */
const WS_DEFAULT_MAX_PAYLOAD = 100 * 1024 * 1024

/** How long `ws` waits for the peer to close after a close frame. The heartbeat ends our connections. */
const CLOSE_TIMEOUT = 5000

type UpgradeListener = Parameters<Server['off']>[1]

const watches = new WeakMap<Server, UpgradeWatch>()

/**
 * Gives `scope` WebSocket routes: through the host's @fastify/websocket if that is already registered, otherwise through
 * one of our own inside `scope`, so that the host can still register it later (twice in one context is an uncaught
 * exception). Each registration listens to every upgrade of the server and routes it, so only one may stay. Returns the
 * watch over the upgrades of the server.
 */
export async function shareWebSocketServer(
  scope: FastifyInstance,
  { path, limits }: Options,
  gate: UpgradeGate,
): Promise<UpgradeWatch> {
  const server = scope.server as Server
  if (scope.hasDecorator('websocketServer')) {
    warnIfWideOpen(scope)
  } else {
    const before = new Set(server.listeners('upgrade'))
    // No client tracking: it would add a closure to each socket, and ours leave the list at once.
    const settings = { maxPayload: limits.inbound, closeTimeout: CLOSE_TIMEOUT, clientTracking: false }
    await scope.register(websocket, { options: settings as { maxPayload: number } })
    const ours = server.listeners('upgrade').find(listener => !before.has(listener)) as UpgradeListener
    scope.addHook('onReady', async () => leaveToOthers(server, ours))
  }
  selectKnownSubprotocols(scope.websocketServer)
  return watchUpgrades(scope, server, path, { milliseconds: limits.handshake, gate })
}

function leaveToOthers(server: Server, ours: UpgradeListener): void {
  const others = server.listeners('upgrade').filter(listener => listener !== ours && listener.name === UPGRADE_LISTENER)
  if (others.length > 0) server.off('upgrade', ours)
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
