import { connect } from 'node:net'

/**
 * A program: opens COUNT connections to the node at PORT that never say anything, and prints `ready` when all are open. It
 * answers no pings: the heartbeat of the node has to be long. Prints `lost` and ends when one is closed.
 */
const count = Number(process.env.COUNT)
const port = Number(process.env.PORT)

/** Upgrades on their way. */
const AT_ONCE = 100
/** Milliseconds after which one that was refused (`limits.upgrades`) is tried again. */
const AGAIN = 100

/** One buffer for all sockets: what comes is not kept. */
const buffer = Buffer.allocUnsafe(65_536)
const request =
  `GET /ws HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n` +
  'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n'

/** Resolves when the connection is open, with false if it was refused. */
function dial(): Promise<boolean> {
  return new Promise((resolve, reject) => {
    let isOpen: boolean | undefined
    const callback = (bytes: number) => {
      isOpen ??= buffer.toString('latin1', 0, bytes).startsWith('HTTP/1.1 101')
      if (!isOpen) socket.destroy()
      resolve(isOpen)
      return true
    }
    const socket = connect({ host: '127.0.0.1', port, onread: { buffer, callback } })
    socket.on('error', reject)
    socket.on('close', () => {
      if (!isOpen) return resolve(false)
      process.stdout.write('lost\n')
      process.exit(1)
    })
    socket.write(request)
  })
}

let left = count
async function dialSome(): Promise<void> {
  while (left > 0) {
    left--
    while (!(await dial())) await new Promise(resolve => setTimeout(resolve, AGAIN))
  }
}

await Promise.all(Array.from({ length: AT_ONCE }, dialSome))
process.stdout.write('ready\n')
