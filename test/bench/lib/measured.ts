import type { AddressInfo } from 'node:net'
import Fastify, { type FastifyInstance } from 'fastify'
import { Registry } from 'prom-client'
import { Type } from 'typebox'
import type pushBridge from '../../../src/index.ts'
import type { PushBridgeOptions } from '../../../src/index.ts'
import { announce, BACKLOG, PORT, REDIS_URL } from './contract.ts'
import { endProfile, startProfile } from './cpu-share.ts'
import { SIDES, type SideName } from './side.ts'

interface Query {
  user?: string
  topics?: string
}

/** More than anybody reaches, of each limit but `publication`, which all registrations of a Redis must have in common. */
const ENDLESS: NonNullable<PushBridgeOptions['limits']> = {
  inbound: 2 ** 30,
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
 * A process with a registration for each side, at `/SIDE/ws`, its metrics at `/SIDE/metrics`. `hasLimits`: all of them by their defaults. The
 * addresses of clients come with X-Forwarded-For for every side: without a proxy the limits on addresses would not count them.
 */
export async function serveSides(): Promise<void> {
  const entry: { default: typeof pushBridge } = await import(process.env.OURS_ENTRY ?? '../../../src/index.ts')
  const app = Fastify({ trustProxy: true })
  const counts = new Map<SideName, () => number>()
  for (const name of Object.keys(SIDES) as SideName[]) {
    await app.register(async scope => {
      await serveSide(scope, name, entry.default)
      counts.set(name, () => scope.push.connections.size)
    })
  }
  await app.listen({ port: PORT, host: '127.0.0.1', backlog: BACKLOG })
  const connections = ({ side }: { side: SideName }) => counts.get(side)!()
  announce((app.server.address() as AddressInfo).port, { connections, scavenge, startProfile, endProfile })
}

async function serveSide(scope: FastifyInstance, name: SideName, plugin: typeof pushBridge): Promise<void> {
  const { hasMetrics = false, hasLimits = false }: { hasMetrics?: boolean; hasLimits?: boolean } = SIDES[name]
  const register = new Registry()
  await scope.register(plugin, {
    path: `/${name}/ws`,
    redis: REDIS_URL,
    authenticate: request => {
      const { user, topics } = request.query as Query
      return { ...(user && { user }), join: topics?.split(',').filter(Boolean) ?? [] }
    },
    handlers: { echo: { schema: Type.Object({ n: Type.Integer() }), handler: payload => payload } },
    ...(hasMetrics && { metrics: { register } }),
    ...(!hasLimits && { limits: ENDLESS }),
  })
  scope.get(`/${name}/metrics`, async (_request, reply) =>
    reply.type(register.contentType).send(await register.metrics()),
  )
}

/** So that nobody pays for what another side has thrown away. Not the old generation: that would make V8 forget code as well. */
function scavenge(): void {
  globalThis.gc?.({ type: 'minor' })
}
