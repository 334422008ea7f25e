/** Plain ws without a framework, and the message encoded once for all its receivers. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Redis } from 'ioredis'
import { type WebSocket, WebSocketServer } from 'ws'
import { announce, BACKLOG, PORT, PREFIX, REDIS_URL, topicsOf } from '../lib/contract.ts'

const server = createServer()
const sockets = new WebSocketServer({ server })
const subscriber = new Redis(REDIS_URL)
const clients = new Map<string, Set<WebSocket>>()

subscriber.on('message', (channel, text) => {
  const { type, payload } = JSON.parse(text)
  const topic = channel.slice(PREFIX.length)
  const message = JSON.stringify({ type, payload, topic })
  for (const client of clients.get(topic) ?? []) {
    if (client.readyState === client.OPEN) client.send(message)
  }
})

sockets.on('connection', async (socket, request) => {
  const topics = topicsOf(request.url ?? '/')
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
  socket.send('{"type":"welcome","payload":{}}')
})

server.listen({ port: PORT, host: '127.0.0.1', backlog: BACKLOG }, () => {
  announce((server.address() as AddressInfo).port)
})
