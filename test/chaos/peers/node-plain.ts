/** What everybody writes first: SUBSCRIBE per topic, a map of topics to clients, a loop with send; ioredis as it comes. */
import websocket from '@fastify/websocket'
import Fastify from 'fastify'
import { Redis } from 'ioredis'
import type { WebSocket } from 'ws'
import { type PeerNodeConfig, type Push, topicsOf } from './topics.ts'

const { redis } = JSON.parse(process.env.CONFIG!) as PeerNodeConfig
const app = Fastify({ forceCloseConnections: true })
const publisher = new Redis(redis)
const subscriber = new Redis(redis)
const clients = new Map<string, Set<WebSocket>>()
for (const client of [publisher, subscriber]) client.on('error', () => {})

subscriber.on('message', (topic, text) => {
  const { type, payload } = JSON.parse(text) as Push
  for (const client of clients.get(topic) ?? []) {
    if (client.readyState === client.OPEN) client.send(JSON.stringify({ type, payload, topic }))
  }
})

function leave(socket: WebSocket, topics: readonly string[]): void {
  for (const topic of topics) {
    clients.get(topic)?.delete(socket)
    if (clients.get(topic)?.size !== 0) continue
    clients.delete(topic)
    subscriber.unsubscribe(topic).catch(() => {})
  }
}

await app.register(websocket)
app.get('/ws', { websocket: true }, async (socket, request) => {
  const topics = topicsOf(request.url)
  for (const topic of topics) {
    if (!clients.has(topic)) clients.set(topic, new Set())
    clients.get(topic)!.add(socket)
  }
  socket.on('close', () => leave(socket, topics))
  socket.on('error', () => {})
  try {
    await subscriber.subscribe(...topics)
    socket.send(JSON.stringify({ type: 'welcome' }))
  } catch {
    socket.close(1013)
  }
})

app.post('/push', async request => {
  const { to, type, payload } = request.body as Push
  await publisher.publish(to, JSON.stringify({ type, payload }))
  return {}
})

process.on('disconnect', () => process.exit(1))
process.once('SIGTERM', async () => {
  await app.close()
  process.exit(0)
})
await app.listen({ port: 0, host: '127.0.0.1' })
process.send!({ e: 'ready', port: (app.server.address() as { port: number }).port, node: `${process.pid}` })
