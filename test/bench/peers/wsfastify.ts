/** Plain ws behind a route of Fastify: what `ws` does, after the router and the hooks of a framework. */
import type { AddressInfo } from 'node:net'
import websocket from '@fastify/websocket'
import Fastify from 'fastify'
import { announce, BACKLOG, PORT, topicsOf } from '../lib/contract.ts'
import { accept } from '../lib/plain.ts'

const app = Fastify()
await app.register(websocket)
app.get('/ws', { websocket: true }, (socket, request) => accept(socket, topicsOf(request.url)))

await app.listen({ port: PORT, host: '127.0.0.1', backlog: BACKLOG })
announce((app.server.address() as AddressInfo).port)
