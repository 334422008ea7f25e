import { WebSocket } from 'ws'

/** A class for the option `WebSocket` of the client library: those that are not closed are in `sockets`. */
export function trackedIn(sockets: Set<WebSocket>, changed: () => void): typeof WebSocket {
  return class extends WebSocket {
    constructor(address: string) {
      super(address, { handshakeTimeout: 2000, perMessageDeflate: false })
      sockets.add(this)
      this.on('close', () => {
        sockets.delete(this)
        changed()
      })
    }
  } as typeof WebSocket
}
