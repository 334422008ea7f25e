import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify'
import type { Registry } from 'prom-client'
import type { MetricsSettings } from '../node/monitoring/environment.ts'
import { load } from '../node/monitoring/exposition.ts'
import type { MetricsRegister } from '../options/monitoring.ts'
import { errors } from '../protocol/errors.ts'
import { keyFinder } from './api-keys.ts'
import { answerError } from './json-reply.ts'

/** What `serve` shows to Prometheus: its own metrics and those of the process. Resolves with the option `metrics`. */
export async function openMetrics(
  app: FastifyInstance,
  { path, listen, key }: MetricsSettings,
): Promise<{ register: MetricsRegister }> {
  const { Registry, collectDefaultMetrics } = await load()
  const register = new Registry()
  collectDefaultMetrics({ register })
  if (listen) await listenApart(app, listen, apart => addRoute(apart, path, register, key))
  else addRoute(app, path, register, key)
  return { register }
}

function addRoute(app: FastifyInstance, path: string, register: Registry, key: string | undefined): void {
  const keysIn = keyFinder(key === undefined ? [] : [key])
  const isLetIn = (request: FastifyRequest) => key === undefined || keysIn(request).length > 0
  app.get(path, { logLevel: 'warn' }, async (request: FastifyRequest, reply: FastifyReply) => {
    if (!isLetIn(request)) return answerError(reply, new errors.UNAUTHENTICATED('send METRICS_KEY as a Bearer token'))
    return reply
      .type(register.contentType)
      .header('cache-control', 'no-store')
      .send(await register.metrics())
  })
}

/** A server of its own, whose address proxies do not lead to. It ends with `app`, after the last connection. */
async function listenApart(
  app: FastifyInstance,
  listen: { host: string; port: number },
  add: (apart: FastifyInstance) => void,
): Promise<void> {
  const apart = Fastify({ loggerInstance: app.log, return503OnClosing: false, forceCloseConnections: true })
  add(apart as unknown as FastifyInstance)
  app.addHook('onClose', () => apart.close())
  // Not onListen, whose errors end nothing: an address that is taken must.
  app.addHook('onReady', async () => void (await apart.listen(listen)))
}
