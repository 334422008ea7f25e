import type { AddressInfo } from 'node:net'
import Fastify from 'fastify'
import { Registry } from 'prom-client'
import { Type } from 'typebox'
import type pushBridge from '../../../src/index.ts'
import type { PushBridgeOptions } from '../../../src/index.ts'
import { announce, BACKLOG, PORT, REDIS_URL } from './contract.ts'
import { endProfile, startProfile } from './cpu-share.ts'

interface Query {
  user?: string
  topics?: string
}

/** More than anybody reaches, of each limit. */
const ENDLESS: NonNullable<PushBridgeOptions['limits']> = {
  inbound: 2 ** 30,
  publication: 2 ** 30,
  connections: 2 ** 30,
  topics: 2 ** 30,
  messages: 2 ** 30,
  pending: 2 ** 30,
  userConnections: 2 ** 30,
  addressConnections: 2 ** 30,
  upgrades: 2 ** 30,
  addressUpgrades: 2 ** 30,
  pendingUpgrades: 2 ** 30,
  handlerTime: 2 ** 31 - 1,
}

/**
 * A node for the scenario about metrics and limits. `hasLimits`: all of them by their defaults. The addresses of clients come
 * with X-Forwarded-For on every node: without a proxy the limits on addresses would not count them.
 */
export async function serveMeasured({ hasMetrics = false, hasLimits = false } = {}): Promise<void> {
  const entry: { default: typeof pushBridge } = await import(process.env.OURS_ENTRY ?? '../../../src/index.ts')
  const app = Fastify({ trustProxy: true })
  const register = new Registry()
  await app.register(entry.default, {
    path: '/ws',
    redis: REDIS_URL,
    authenticate: request => {
      const { user, topics } = request.query as Query
      return { ...(user && { user }), join: topics?.split(',').filter(Boolean) ?? [] }
    },
    handlers: { echo: { schema: Type.Object({ n: Type.Integer() }), handler: payload => payload } },
    ...(hasMetrics && { metrics: { register } }),
    ...(!hasLimits && { limits: ENDLESS }),
  })
  app.get('/metrics', async (_request, reply) => reply.type(register.contentType).send(await register.metrics()))
  await app.listen({ port: PORT, host: '127.0.0.1', backlog: BACKLOG })
  const connections = () => app.push.connections.size
  announce((app.server.address() as AddressInfo).port, { connections, startProfile, endProfile })
}
