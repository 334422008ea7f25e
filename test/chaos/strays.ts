import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

/** Upgrades of a path that nobody serves, by programs that do not hang up when they are refused. */
export async function stray(port: number, count: number): Promise<Socket[]> {
  const sockets = Array.from({ length: count }, () => connect({ port, host: '127.0.0.1', allowHalfOpen: true }))
  await Promise.all(sockets.map(refused))
  return sockets
}

async function refused(socket: Socket): Promise<void> {
  socket.on('error', () => {})
  socket.write(
    'GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
      'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
  )
  await once(socket, 'data')
}
