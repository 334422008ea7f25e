import { createAdapter } from '@socket.io/redis-adapter'
import { Redis } from 'ioredis'
import { serveSocketIo } from './socketio-server.ts'
import type { PeerNodeConfig } from './topics.ts'

const { redis } = JSON.parse(process.env.CONFIG!) as PeerNodeConfig
const publisher = new Redis(redis)
const subscriber = publisher.duplicate()
for (const client of [publisher, subscriber]) client.on('error', () => {})
const adapter = createAdapter(publisher, subscriber)
await serveSocketIo(publisher, { adapter })
