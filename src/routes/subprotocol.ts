import type { IncomingMessage } from 'node:http'
import type { WebSocketServer } from 'ws'

/** Subprotocols that a client may ask for. One that asks for none speaks the first. */
const KNOWN = ['push.json']

const ours = new WeakSet<IncomingMessage>()
const servers = new WeakSet<WebSocketServer>()

/** Notes that the upgrade of `request` goes to one of our routes. */
export function claimUpgrade(request: IncomingMessage): void {
  if (request.headers['sec-websocket-protocol'] !== undefined) ours.add(request)
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
  options.handleProtocols = (offered, request) =>
    ours.has(request) ? (KNOWN.find(name => offered.has(name)) ?? false) : selectForOthers(offered, request)
}
