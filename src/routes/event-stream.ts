import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import type { Hub } from '../node/hub.ts'
import type { Options } from '../options/options.ts'
import type { Sse } from '../options/sse.ts'
import { errors, isPushError, type PushError } from '../protocol/errors.ts'
import { type Admission, isTransient } from './admission.ts'
import { bodyRefusal, takeJson } from './json-body.ts'
import { answerError } from './json-reply.ts'
import { notFound, withoutQuery } from './socket.ts'
import { type Arrival, Arrivals } from './stream-arrival.ts'
import { BODY, FIRST_MESSAGE } from './stream-request.ts'
import { Streams } from './streams.ts'

interface StreamRoutes {
  hub: Hub
  options: Options
  admission: Admission
  sse: Sse
}

/** A request that has no stream yet counts as an unfinished upgrade. */
interface Pending {
  /** Ends that. */
  leave(): void
}

const ARRIVAL = Symbol('push.arrival')
const PENDING = Symbol('push.pending')

type Arriving = FastifyRequest & { [ARRIVAL]?: Arrival; [PENDING]?: Pending }

/** Seconds for which a browser remembers what the preflight said. */
const PREFLIGHT_AGE = 600

const METHODS = 'GET, POST'

const OTHER_METHODS = ['HEAD', 'PUT', 'PATCH', 'DELETE'] as const

/** `path/-/events`: the messages of a connection as an event stream, for networks and clients without WebSocket. */
export function streamRoutes(app: FastifyInstance, { hub, options, admission, sse }: StreamRoutes): void {
  const arrivals = new Arrivals(admission, options)
  const streams = new Streams({ hub, options, admission, sse, log: app.log })

  const onRequest = (request: Arriving, reply: FastifyReply, done: () => void) => {
    if (request.ws) return void notFound(request, reply)
    allowOrigin(request, reply, admission)
    const refusal = enter(request, reply, { admission, milliseconds: options.limits.handshake })
    if (refusal) return void refuse(refusal, request, reply)
    done()
  }

  // After all hooks of the host, so that request.user and request.session exist.
  const preHandler = async (request: Arriving, reply: FastifyReply) => {
    try {
      request[ARRIVAL] = await arrivals.of(request)
    } catch (error) {
      // It was too late, and is answered.
      if (reply.sent) return reply
      const refusal = toRefusal(error, request)
      admission.refused(refusal)
      return refuse(refusal, request, reply)
    }
    return undefined
  }

  const handler = async (request: Arriving, reply: FastifyReply) => {
    if (reply.sent) return reply
    try {
      refusePipelined(request, reply)
      admission.checkRoom(request[ARRIVAL]!)
    } catch (error) {
      admission.refused(error as PushError)
      return refuse(error as PushError, request, reply)
    }
    request[PENDING]?.leave()
    // No plugin may compress what follows, or hold it back.
    reply.hijack()
    // The client may have left while it was asked who it is.
    if (!request.raw.socket.destroyed) streams.begin(request[ARRIVAL]!, request, reply)
    return reply
  }

  const url = `${options.path}/-/events`
  const base = { url, schema: { hide: true } as object, logSerializers: { req: withoutQuery } } as const
  app.route({ ...base, method: 'GET', exposeHeadRoute: false, onRequest, preHandler, handler })
  app.register(async scope => {
    const { inbound } = options.limits
    takeJson(scope, { limit: inbound, example: BODY })
    scope.setErrorHandler((error: FastifyError, request: Arriving, reply) => {
      const limit = `${inbound} bytes (limits.inbound)`
      const refusal = isPushError(error) ? error : bodyRefusal(error, request, limit)
      // Of a hook of the host, which answers it.
      if (!refusal) throw error
      admission.refused(refusal)
      return refuse(refusal, request, reply)
    })
    scope.route({ ...base, method: 'POST', bodyLimit: inbound, onRequest, preHandler, handler })
  })
  // In onRequest, before anybody reads a body.
  app.route({ ...base, method: [...OTHER_METHODS], onRequest: refuseMethod, handler: () => {} })
  app.route({ ...base, method: 'OPTIONS', handler: preflight(admission) })
}

/** A response has no socket before the one to the request in front of it has ended, and a stream may never end. */
function refusePipelined(request: FastifyRequest, reply: FastifyReply): void {
  if (reply.raw.socket || request.raw.socket.destroyed) return
  throw new errors.UNSUPPORTED('an event stream needs a connection on which no earlier request waits for its answer')
}

/** Counts the request. Returns why it is refused, or undefined. */
function enter(
  request: Arriving,
  reply: FastifyReply,
  { admission, milliseconds }: { admission: Admission; milliseconds: number },
): PushError | undefined {
  // It counts what it refuses.
  const excess = admission.gate.enter()
  if (excess) return excess
  const late = () => {
    if (reply.sent) return
    // The rest of a body that does not end would be waited for.
    refuse(admission.gate.late(), request, reply.header('connection', 'close'))
  }
  request[PENDING] = pendingUntil(reply, { late, milliseconds, leave: () => admission.gate.leave() })
  const refusal = problemOf(request) ?? admission.enter(request)
  if (refusal) admission.refused(refusal)
  return refusal
}

/** Leaves once: when the request has its stream, is answered, or is too late. */
function pendingUntil(
  reply: FastifyReply,
  { leave, late, milliseconds }: Pending & { late(): void; milliseconds: number },
): Pending {
  const timer = setTimeout(late, milliseconds)
  let isOver = false
  const end = () => {
    clearTimeout(timer)
    if (!isOver) leave()
    isOver = true
  }
  reply.raw.once('close', end)
  return { leave: end }
}

function refuse(refusal: PushError, request: Arriving, reply: FastifyReply): FastifyReply {
  request[PENDING]?.leave()
  if (isTransient(refusal)) reply.header('retry-after', '1')
  return answerError(reply, refusal)
}

function refuseMethod(request: FastifyRequest, reply: FastifyReply): void {
  const error = new errors.METHOD(`an event stream is asked for with GET or POST, not with ${request.method}`)
  answerError(reply.header('allow', METHODS), error)
}

/** Why this cannot be a stream. */
function problemOf({ headers, raw }: FastifyRequest): PushError | undefined {
  if (raw.httpVersionMajor > 1) {
    return new errors.UNSUPPORTED('event streams are HTTP/1.1 here: put a proxy in front for HTTP/2')
  }
  const site = headers['sec-fetch-site']
  // An image or a script of another site: its page cannot read the answer, but each would hold a connection of the user.
  if (headers.origin !== undefined || (site !== 'cross-site' && site !== 'same-site')) return undefined
  return new errors.ORIGIN('a page of another origin has to ask with CORS: fetch, or an EventSource')
}

/** Cookies included, as a WebSocket sends them. */
function allowOrigin({ headers, host }: FastifyRequest, reply: FastifyReply, admission: Admission): void {
  const { origin } = headers
  reply.header('vary', 'Origin')
  if (origin === undefined || !admission.admitsOrigin(origin, host)) return
  reply.header('access-control-allow-origin', origin).header('access-control-allow-credentials', 'true')
  reply.header('cross-origin-resource-policy', 'cross-origin')
}

/** Before a page of another origin sends one of our headers, its browser asks whether it may. */
function preflight(admission: Admission) {
  return async (request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> => {
    allowOrigin(request, reply, admission)
    reply.header('access-control-allow-methods', METHODS).header('access-control-max-age', PREFLIGHT_AGE)
    const headers = `content-type, last-event-id, ${FIRST_MESSAGE}`
    return reply.header('access-control-allow-headers', headers).code(204).send()
  }
}

function toRefusal(error: unknown, request: FastifyRequest): PushError {
  if (isPushError(error)) return error
  request.log.error({ err: error }, 'push: the event stream failed')
  return new errors.INTERNAL('the event stream failed')
}
