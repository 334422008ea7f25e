import { createAdapter } from '@socket.io/redis-streams-adapter'
import { Redis } from 'ioredis'
import { serveSocketIo } from './socketio-server.ts'
import type { PeerNodeConfig } from './topics.ts'

const { redis } = JSON.parse(process.env.CONFIG!) as PeerNodeConfig
const client = new Redis(redis)
client.on('error', () => {})
const connectionStateRecovery = { maxDisconnectionDuration: 2 * 60 * 1000, skipMiddlewares: true }
await serveSocketIo(client, { adapter: createAdapter(client), connectionStateRecovery })
