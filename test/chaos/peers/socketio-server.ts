import type { AddressInfo } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import Fastify from 'fastify'
import type { Redis } from 'ioredis'
import { Server, type ServerOptions } from 'socket.io'
import { type Push, topicsOf } from './topics.ts'

/** How long a node that leaves waits for Redis to take what it has to store. */
const FAREWELL = 2000

/** Socket.IO on the server of Fastify; a topic is a room. `redis` is the connection that the adapter publishes with. */
export async function serveSocketIo(redis: Redis, options: Partial<ServerOptions>): Promise<void> {
  const app = Fastify({ forceCloseConnections: true })
  const io = new Server(app.server, { transports: ['websocket'], serveClient: false, ...options })

  io.on('connection', async socket => {
    if (socket.recovered) return
    await socket.join(topicsOf(socket.request.url ?? '/'))
    socket.emit('joined')
  })

  app.post('/push', async request => {
    const { to, type, payload } = request.body as Push
    io.to(to).emit('push', { type, payload, topic: to })
    // emit() confirms nothing: a PING answered on the same connection says that Redis has taken what was before it.
    await redis.ping()
    return {}
  })

  process.on('disconnect', () => process.exit(1))
  process.once('SIGTERM', async () => {
    // Both close the same server, of which one is told that it was closed before. Fastify ends requests that go on.
    await Promise.allSettled([io.close(), app.close()])
    await Promise.race([redis.quit().catch(() => {}), sleep(FAREWELL)])
    process.exit(0)
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  process.send!({ e: 'ready', port: (app.server.address() as AddressInfo).port, node: `${process.pid}` })
}
