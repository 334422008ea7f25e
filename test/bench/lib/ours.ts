import type { AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance } from 'fastify'
import type pushBridge from '../../../src/index.ts'
import type { PushBridgeOptions } from '../../../src/index.ts'
import { announce, BACKLOG, PORT, REDIS_URL } from './contract.ts'
import type { Operations } from './rpc.ts'

interface Query {
  user?: string
  topics?: string
}

type Measured = Pick<
  PushBridgeOptions,
  'presence' | 'compression' | 'codecs' | 'sse' | 'limits' | 'handlers' | 'workers'
>

/**
 * The server under test of this project, with and without an option that is to be measured. `operations`: what else it
 * can be asked.
 */
export async function serveOurs(
  options: Measured = {},
  operations: (app: FastifyInstance) => Operations = () => ({}),
): Promise<void> {
  const entry: { default: typeof pushBridge } = await import(process.env.OURS_ENTRY ?? '../../../src/index.ts')
  const app = Fastify()
  await app.register(entry.default, {
    path: '/ws',
    redis: REDIS_URL,
    authenticate: request => {
      const { user, topics } = request.query as Query
      const allow = options.presence
        ? [{ topics: 'channel:*', actions: ['subscribe', 'presence'] as const }]
        : ['channel:*']
      return { ...(user && { user }), join: topics?.split(',').filter(Boolean) ?? [], allow }
    },
    ...options,
    // A storm of clients is what is measured: by default all but the first 4,000 of it are told to come later.
    limits: { upgrades: 1_000_000, ...options.limits },
  })
  await app.listen({ port: PORT, host: '127.0.0.1', backlog: BACKLOG })
  /** Whether messages that were published are still on their way to this node. */
  const isBehind = async () => {
    const { connected, lag, fillingTopics } = await app.push.status()
    return !connected || lag > 0 || fillingTopics > 0
  }
  announce((app.server.address() as AddressInfo).port, { isBehind, ...operations(app) })
}
