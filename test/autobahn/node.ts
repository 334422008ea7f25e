import type { AddressInfo } from 'node:net'
import websocket from '@fastify/websocket'
import Fastify from 'fastify'
import pushBridge from '../../src/index.ts'
import type { Cleanup } from '../helpers/processes.ts'
import { within } from '../helpers/waiting.ts'
import type { Echo } from './case.ts'
import { LARGEST } from './load.ts'

/** Its limits on rates are far away: a case is to see what the framing does. */
const FAR = 1_000_000_000

/** What is around a text so that our protocol sends it back. */
const PING = ['{"type":"ping","payload":"', '"}'] as const

/** A node, and what sends back in it: a route of its application on the same server, and the sockets of the bridge. */
export async function buildEchoes(t: Cleanup): Promise<{ port: number; echoes: readonly Echo[] }> {
  const app = Fastify()
  t.after(() => within(app.close(), 'the end of the node'))
  const perMessageDeflate = { serverNoContextTakeover: true, clientNoContextTakeover: true }
  await app.register(websocket, { options: { maxPayload: LARGEST, perMessageDeflate } })
  app.get('/echo', { websocket: true }, socket => {
    socket.on('error', () => {})
    socket.on('message', (data, binary) => socket.send(data, { binary }))
  })
  await app.register(pushBridge, {
    path: '/ws',
    compression: { threshold: 64 },
    onBinary: (bytes, connection) => void connection.sendBinary(bytes),
    limits: { inbound: LARGEST, messages: FAR, upgrades: FAR, pending: FAR, userConnections: FAR, buffer: 4 * LARGEST },
  })
  await app.listen({ port: 0, host: '127.0.0.1' })
  return { port: (app.server.address() as AddressInfo).port, echoes: [ROUTE, BRIDGE] }
}

const ROUTE: Echo = {
  name: 'a route on the shared server',
  path: '/echo',
  wrap: text => Buffer.from(text),
  unwrap: message => message,
}

/** A text is the payload of a `ping`, which comes back in the `pong`. Bytes come back as such. */
const BRIDGE: Echo = {
  name: 'the sockets of the bridge',
  path: '/ws',
  wrap: text => Buffer.concat([Buffer.from(PING[0]), escaped(text), Buffer.from(PING[1])]),
  unwrap(message) {
    const { type, payload } = JSON.parse(message.toString()) as { type: string; payload: unknown }
    return type === 'pong' ? Buffer.from(String(payload)) : undefined
  },
}

/** As it stands in JSON. What is no UTF-8 stays as it is: it is for the server to find out. */
function escaped(text: Uint8Array): Buffer {
  const bytes = Buffer.from(text)
  return bytes.some(byte => byte < 0x20) ? Buffer.from(JSON.stringify(bytes.toString()).slice(1, -1)) : bytes
}
