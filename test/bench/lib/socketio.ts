/**
 * Socket.IO with its classic Redis adapter, WebSocket only, otherwise its defaults; a topic is a room.
 *
 * Publications come from outside the process, as from another node: the publisher writes to Redis what that node's
 * adapter, or `@socket.io/redis-emitter`, would write (see lib/message.ts).
 */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createAdapter } from '@socket.io/redis-adapter'
import { Redis } from 'ioredis'
import { Server } from 'socket.io'
import { announce, BACKLOG, PORT, REDIS_URL, topicsOf } from './contract.ts'

export async function serveSocketIo(perMessageDeflate = false): Promise<void> {
  const publisher = new Redis(REDIS_URL)
  const subscriber = publisher.duplicate()
  const server = createServer()
  const io = new Server(server, {
    adapter: createAdapter(publisher, subscriber),
    transports: ['websocket'],
    serveClient: false,
    perMessageDeflate,
  })

  io.on('connection', async socket => {
    await socket.join(topicsOf(socket.request.url ?? '/'))
    socket.emit('welcome')
  })

  // The adapter subscribes once and for all when it is made; a later PING answered means that Redis has confirmed it.
  await subscriber.ping()
  server.listen({ port: PORT, host: '127.0.0.1', backlog: BACKLOG }, () => {
    announce((server.address() as AddressInfo).port)
  })
}
