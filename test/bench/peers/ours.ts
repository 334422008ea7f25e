/** This project as a user runs it. The orchestrator names the entry: the built one if it is current, else the source. */
import type { AddressInfo } from 'node:net'
import Fastify from 'fastify'
import type pushBridge from '../../../src/index.ts'
import { announce, BACKLOG, PORT, REDIS_URL } from '../lib/contract.ts'

interface Query {
  user?: string
  topics?: string
}

const entry: { default: typeof pushBridge } = await import(process.env.OURS_ENTRY ?? '../../../src/index.ts')
const app = Fastify()
await app.register(entry.default, {
  path: '/ws',
  redis: REDIS_URL,
  authenticate: request => {
    const { user, topics } = request.query as Query
    return { ...(user && { user }), join: topics?.split(',').filter(Boolean) ?? [], allow: ['channel:*'] }
  },
})

await app.listen({ port: PORT, host: '127.0.0.1', backlog: BACKLOG })
announce((app.server.address() as AddressInfo).port)
