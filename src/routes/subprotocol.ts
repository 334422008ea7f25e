import type { IncomingMessage } from 'node:http'
import type { WebSocketServer } from 'ws'

/** What a client may ask for by name; it gets the first without a name, too. */
const KNOWN = ['push.json']

const ours = new WeakSet<IncomingMessage>()
const servers = new WeakSet<WebSocketServer>()

/** The upgrade that `request` asks for belongs to a route of ours. */
export function claimUpgrade(request: IncomingMessage): void {
  if (request.headers['sec-websocket-protocol'] !== undefined) ours.add(request)
}

/**
 * `ws` selects the first subprotocol that is offered, whatever it means: a client would take ours for one that it is not.
 * On a server that the host shares with us, its own routes select as they did.
 */
export function selectKnownSubprotocols(server: WebSocketServer): void {
  if (servers.has(server)) return
  servers.add(server)
  const { options } = server
  const selectForOthers = options.handleProtocols ?? firstOf
  options.handleProtocols = (offered, request) =>
    ours.has(request) ? (KNOWN.find(name => offered.has(name)) ?? false) : selectForOthers(offered, request)
}

/** What `ws` does by itself. */
function firstOf(offered: Set<string>): string | false {
  const [first] = offered
  return first ?? false
}
