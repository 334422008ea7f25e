import type { IncomingMessage } from 'node:http'
import type { WebSocketServer } from 'ws'

/** Upgrades that go to one of our routes, and the subprotocols that this route knows. */
const ours = new WeakMap<IncomingMessage, ReadonlySet<string>>()
const servers = new WeakSet<WebSocketServer>()

/** Notes that the upgrade of `request` goes to one of our routes, which knows these subprotocols. */
export function claimUpgrade(request: IncomingMessage, known: ReadonlySet<string>): void {
  if (request.headers['sec-websocket-protocol'] !== undefined) ours.set(request, known)
}

/**
 * By default `ws` selects the first subprotocol that is offered, known or not: a client would believe that the server
 * speaks it. On a server that the host shares with us, the routes of the host select as before.
 */
export function selectKnownSubprotocols(server: WebSocketServer): void {
  if (servers.has(server)) return
  servers.add(server)
  const { options } = server
  // The first is the default of `ws`.
  const selectForOthers = options.handleProtocols ?? (([first]: Set<string>) => first ?? false)
  options.handleProtocols = (offered, request) => {
    const known = ours.get(request)
    if (!known) return selectForOthers(offered, request)
    // A client names first what it likes best.
    return [...offered].find(name => known.has(name)) ?? false
  }
}
