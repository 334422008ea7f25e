import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { Health, isReady } from '../node/health.ts'
import type { Hub } from '../node/hub.ts'
import type { HealthOptions } from '../options/monitoring.ts'
import { leaveRequestHooks } from './host-hooks.ts'
import { answerJson } from './json-reply.ts'

/** For @fastify/rate-limit: probes come from few addresses, and all the time. */
const UNLIMITED: object = { rateLimit: false }

/** `livez` and `readyz`, for load balancers and Kubernetes: no hook of the host keeps them out. */
export async function healthRoutes(
  app: FastifyInstance,
  { hub, health }: { hub: Hub; health: HealthOptions },
): Promise<void> {
  const state = new Health(hub, health.start)
  const base = health.path === '/' ? '' : health.path
  leaveRequestHooks(app, undefined)
  // A probe comes every few seconds for ever: its lines would be most of the log.
  const route = { method: 'GET', schema: { hide: true } as object, logLevel: 'warn', config: UNLIMITED } as const
  const answer = (reply: FastifyReply, isWell: boolean, body: object) =>
    answerJson(reply.code(isWell ? 200 : 503).header('cache-control', 'no-store'), body)
  app.route({ ...route, url: `${base}/livez`, handler: (_request, reply) => answer(reply, true, { status: 'ok' }) })
  app.route({
    ...route,
    url: `${base}/readyz`,
    handler: (request, reply) => {
      const status = state.state()
      return answer(reply, isReady(status, isStrict(request)), { status, ...(health.details && detailsOf(hub)) })
    },
  })
}

/** `?strict`, `?strict=1`; not `?strict=0` or `?strict=false`. */
function isStrict({ query }: FastifyRequest): boolean {
  const { strict } = (query ?? {}) as { strict?: unknown }
  return strict !== undefined && strict !== '0' && strict !== 'false'
}

/** Without asking Redis: a probe must be answered at once. */
function detailsOf({ broker, registry }: Hub): object {
  const { node, connected, problem } = broker
  return { node, connected, problem, connections: registry.size }
}
