/** Plain ws without a framework, and the message encoded once for all its receivers. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { WebSocketServer } from 'ws'
import { announce, BACKLOG, PORT, topicsOf } from '../lib/contract.ts'
import { accept } from '../lib/plain.ts'

const server = createServer()
const sockets = new WebSocketServer({ server })

sockets.on('connection', (socket, request) => accept(socket, topicsOf(request.url ?? '/')))

server.listen({ port: PORT, host: '127.0.0.1', backlog: BACKLOG }, () => {
  announce((server.address() as AddressInfo).port)
})
