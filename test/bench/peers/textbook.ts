/** What everybody writes first: a map of topics to clients, and a loop with JSON.stringify and send. */
import type { AddressInfo } from 'node:net'
import websocket from '@fastify/websocket'
import Fastify from 'fastify'
import { Redis } from 'ioredis'
import type { WebSocket } from 'ws'
import { announce, BACKLOG, PORT, PREFIX, REDIS_URL, topicsOf } from '../lib/contract.ts'

const app = Fastify()
const subscriber = new Redis(REDIS_URL)
const clients = new Map<string, Set<WebSocket>>()

subscriber.on('message', (channel, text) => {
  const { type, payload } = JSON.parse(text)
  const topic = channel.slice(PREFIX.length)
  for (const client of clients.get(topic) ?? []) {
    if (client.readyState === client.OPEN) client.send(JSON.stringify({ type, payload, topic }))
  }
})

await app.register(websocket)
app.get('/ws', { websocket: true }, async (socket, request) => {
  const topics = topicsOf(request.url)
  for (const topic of topics) {
    if (!clients.has(topic)) clients.set(topic, new Set())
    clients.get(topic)?.add(socket)
  }
  socket.on('close', () => {
    for (const topic of topics) {
      clients.get(topic)?.delete(socket)
      if (clients.get(topic)?.size === 0) {
        clients.delete(topic)
        void subscriber.unsubscribe(PREFIX + topic)
      }
    }
  })
  await subscriber.subscribe(...topics.map(topic => PREFIX + topic))
  socket.send(JSON.stringify({ type: 'welcome', payload: {} }))
})

await app.listen({ port: PORT, host: '127.0.0.1', backlog: BACKLOG })
announce((app.server.address() as AddressInfo).port)
