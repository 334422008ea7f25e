/** What the peers with `ws` have in common: a message is encoded once, and sent to each client of its topic. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Redis } from 'ioredis'
import { type PerMessageDeflateOptions, type WebSocket, WebSocketServer } from 'ws'
import { announce, BACKLOG, PORT, PREFIX, REDIS_URL, topicsOf } from './contract.ts'

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

/** Subscribes a new client to its topics, and welcomes it once Redis has confirmed them. */
export async function accept(socket: WebSocket, topics: string[]): Promise<void> {
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
}

/** `ws` without a framework. */
export function serveWs(perMessageDeflate: boolean | PerMessageDeflateOptions = false): void {
  const server = createServer()
  const sockets = new WebSocketServer({ server, perMessageDeflate })
  sockets.on('connection', (socket, request) => accept(socket, topicsOf(request.url ?? '/')))
  server.listen({ port: PORT, host: '127.0.0.1', backlog: BACKLOG }, () => {
    announce((server.address() as AddressInfo).port)
  })
}
