/** A node as a user runs it, over the Redis or the Cluster that the orchestrator names. */
import type { AddressInfo } from 'node:net'
import Fastify from 'fastify'
import type pushBridge from '../../../src/index.ts'
import { announce, BACKLOG } from '../lib/contract.ts'

interface Query {
  user?: string
  topics?: string
}

const entry: { default: typeof pushBridge } = await import(process.env.OURS_ENTRY!)
const app = Fastify()
await app.register(entry.default, {
  path: '/ws',
  redis: JSON.parse(process.env.SCALE_REDIS!),
  limits: { topics: 1000 },
  authenticate: request => {
    const { user, topics } = request.query as Query
    return { ...(user && { user }), join: topics?.split(',').filter(Boolean) ?? [], allow: ['channel:*'] }
  },
})
await app.listen({ port: 0, host: '127.0.0.1', backlog: BACKLOG })
announce((app.server.address() as AddressInfo).port)
