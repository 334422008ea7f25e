import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { PushBridge } from '../bridge.ts'
import type { Metrics } from '../broker/metrics.ts'
import type { Options } from '../options/options.ts'
import { errors, isPushError, type PushError } from '../protocol/errors.ts'
import type { HistoryReader } from '../publish/history-page.ts'
import type { Publisher } from '../publish/publish.ts'
import { ALL_RIGHTS, KeyRights, keyFinder, NO_RIGHTS, refuseShortKeys } from './api-keys.ts'
import { queryOf } from './api-query.ts'
import { KeyRates } from './api-rates.ts'
import { API_ROUTES } from './api-routes.ts'
import { leaveRequestHooks } from './host-hooks.ts'
import { bodyRefusal, takeJson } from './json-body.ts'
import { answerError, answerJson } from './json-reply.ts'
import { PAGE_PATHS } from './page.ts'

/** Room for the keys around the payloads of a batch. */
const BATCH_ROOM = 4

const EXAMPLE = '{"to":"user:42","type":"notice"}'

// A property instead of a WeakMap, whose values live until a full garbage collection.
const RIGHTS = Symbol('push.rights')

type Guarded = FastifyRequest & { [RIGHTS]?: KeyRights }

type Api = NonNullable<Options['api']>

/** A route, for those who ask for something else. */
interface Named {
  method: string
  path: string
}

interface PushRoutes {
  api: Api
  push: PushBridge
  publisher: Publisher
  histories: HistoryReader
  limits: Options['limits']
  metrics: Metrics
}

/**
 * The HTTP push API, in a context whose prefix is `api.path`: with checks, errors and body parsing of its own, whatever
 * the host configured.
 */
export async function pushRoutes(
  app: FastifyInstance,
  { api, push, publisher, histories, limits, metrics }: PushRoutes,
): Promise<void> {
  refuseShortKeys(api.keys)
  const pages = api.page ? PAGE_PATHS.map(path => ({ method: 'GET', path })) : []
  const routes = [...API_ROUTES, ...pages]
  const guard = guardOf(app, api, routes)
  if (!api.onRequest && !leaveRequestHooks(app, guard)) {
    app.log.warn('push: this version of Fastify does not let the push API out of the request hooks of its host')
  }
  app.addHook('onRequest', guard)
  const bodyLimit = limits.publication * BATCH_ROOM
  takeJson(app, { limit: bodyLimit, example: EXAMPLE })
  app.setErrorHandler((error: FastifyError, request, reply) => {
    const refusal = toPushError(error, request, bodyLimit)
    metrics.count('api_refused_total', 1, refusal.code)
    return answerError(reply.header('cache-control', 'no-store'), refusal)
  })
  // Of this prefix alone, and only where the host has no route of its own. The guard has answered by then.
  app.setNotFoundHandler((request, reply) => {
    throw unknownRoute(app, request, { reply, routes })
  })
  for (const route of API_ROUTES) {
    app.route({
      method: route.method,
      url: route.path,
      bodyLimit,
      exposeHeadRoute: route.method === 'GET',
      handler: async (request: Guarded, reply) => {
        const { body, url, [RIGHTS]: rights = NO_RIGHTS } = request
        const query = queryOf(url, Object.keys(route.query?.properties ?? {}), { isStrict: !api.onRequest })
        const call = { push, publisher: publisherFor(publisher, rights), histories, rights, body, query }
        return answerJson(reply.header('cache-control', 'no-store'), await route.run(call))
      },
    })
  }
}

function publisherFor(publisher: Publisher, rights: KeyRights): Publisher {
  return rights.mayEverything ? publisher : publisher.restrictedTo(topic => rights.may('publish', topic))
}

/** Nobody learns anything without a key, not even which routes there are. */
function guardOf(app: FastifyInstance, { keys, rate, onRequest }: Api, routes: readonly Named[]) {
  const keysIn = keyFinder(keys)
  const rates = new KeyRates(keys, rate)
  return async (request: Guarded, reply: FastifyReply): Promise<void> => {
    if (onRequest) {
      await onRequest.call(app, request, reply)
      if (reply.sent) return
      request[RIGHTS] = ALL_RIGHTS
    } else {
      const given = keysIn(request)
      if (given.length === 0) {
        throw new errors.UNAUTHENTICATED('Authorization: Bearer KEY or X-Push-Key is missing or wrong')
      }
      const wait = rates.take(given)
      if (wait > 0) {
        reply.header('retry-after', `${wait}`)
        throw new errors.RATE(`more than ${rate} requests a second with this key (api.rate): come back in ${wait} s`)
      }
      request[RIGHTS] = new KeyRights(given)
    }
    if (request.is404) throw unknownRoute(app, request, { reply, routes })
  }
}

/** Before the body is looked at: 405 for a route that has other methods, else 404. */
function unknownRoute(
  { prefix }: FastifyInstance,
  request: FastifyRequest,
  { reply, routes }: { reply: FastifyReply; routes: readonly Named[] },
): PushError {
  const path = request.url.split('?', 1)[0]!
  const base = prefix.replace(/\/$/, '')
  const methods = routes
    .filter(route => path === (route.path === '' ? prefix : base + route.path))
    .flatMap(({ method }) => (method === 'GET' ? ['GET', 'HEAD'] : [method]))
  if (methods.length === 0) return new errors.NOT_FOUND(`the push API has nothing at ${path.slice(0, 200)}`)
  const allowed = methods.join(', ')
  reply.header('allow', allowed)
  return new errors.METHOD(`${request.method} is not possible at ${path}: use ${allowed}`)
}

function toPushError(error: FastifyError, request: FastifyRequest, bodyLimit: number): PushError {
  if (isPushError(error)) return error
  const refusal = bodyRefusal(error, request, `${bodyLimit} bytes`)
  if (refusal) return refusal
  const statusCode = error.statusCode ?? 500
  if (statusCode < 500) return refusalOf(error, statusCode)
  request.log.error({ err: error }, 'push: the push API failed')
  return new errors.INTERNAL('the push API failed')
}

/** Of a hook of the host, such as its rate limit, with the code that it gave or one that says the same. */
function refusalOf({ code, message }: FastifyError, statusCode: number): PushError {
  const ours = { 401: errors.UNAUTHENTICATED, 429: errors.LIMIT }[statusCode] ?? errors.FORBIDDEN
  return Object.assign(new Error(message), { code: code ?? new ours('').code, statusCode })
}
