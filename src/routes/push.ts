import { createHash, timingSafeEqual } from 'node:crypto'
import type { FastifyError, FastifyInstance, FastifyRequest } from 'fastify'
import type { ApiKey, Options } from '../options/options.ts'
import { errors, isPushError, type PushError } from '../protocol/errors.ts'
import { actionsOn } from '../protocol/rights.ts'
import type { Publisher, PublishFailure, PublishResult } from '../publish/publish.ts'
import { leaveRequestHooks } from './host-hooks.ts'
import { answerError, answerJson } from './json-reply.ts'

/** Room for the keys around the payloads of a batch. */
const BATCH_ROOM = 4

/** `application/json`, or a type of somebody's own that is JSON. */
const JSON_TYPE = /^application\/json *(?:;|$)|^[\w.+-]+\/[\w.+-]+\+json *(?:;|$)/i

/** `POST /push`: publishing over HTTP, with checks, errors and body parsing of its own, whatever the host configured. */
export async function pushRoutes(
  app: FastifyInstance,
  { api, publisher, limits }: { api: NonNullable<Options['api']>; publisher: Publisher; limits: Options['limits'] },
): Promise<void> {
  if (!api.onRequest && !leaveRequestHooks(app)) {
    app.log.warn('push: this version of Fastify does not let the push API out of the request hooks of its host')
  }
  const short = api.keys.findIndex(entry => secretOf(entry).length < 16)
  if (short >= 0) {
    throw new errors.OPTIONS(
      `option api.keys.${short} has fewer than 16 characters and can be guessed: write a longer secret`,
    )
  }
  app.removeAllContentTypeParsers()
  const bodyLimit = limits.publication * BATCH_ROOM
  app.addContentTypeParser(JSON_TYPE, { parseAs: 'buffer', bodyLimit }, parseBody)
  app.setErrorHandler((error: FastifyError, request, reply) =>
    answerError(reply, toPushError(error, request, bodyLimit)),
  )
  const keysIn = keyFinder(api.keys)
  const publishers = new WeakMap<FastifyRequest, Publisher>()
  const { onRequest } = api
  app.route({
    method: 'POST',
    url: api.path,
    bodyLimit,
    async onRequest(request, reply) {
      if (onRequest) await onRequest.call(app, request, reply)
      else publishers.set(request, publisherFor(publisher, keysIn(request)))
    },
    handler: async (request, reply) =>
      answerJson(reply, await publish(publishers.get(request) ?? publisher, request.body)),
  })
}

/** What the keys that came with a request may publish with. */
function publisherFor(publisher: Publisher, keys: readonly ApiKey[]): Publisher {
  if (keys.length === 0) {
    throw new errors.UNAUTHENTICATED('Authorization: Bearer KEY or X-Push-Key is missing or wrong')
  }
  const grants = keys.filter(key => typeof key !== 'string')
  if (grants.length < keys.length) return publisher
  return publisher.restrictedTo(topic => actionsOn(grants, topic).includes('publish'))
}

async function publish(
  publisher: Publisher,
  body: unknown,
): Promise<PublishResult | (PublishResult | PublishFailure)[]> {
  if (Array.isArray(body)) return publisher.publishAll(body)
  if (typeof body !== 'object' || body === null) {
    throw new errors.JSON('the body is not a JSON object such as {"to":"user:42","type":"notice","payload":{}}')
  }
  const { to, ...message } = body as { to?: unknown }
  if (to === undefined) throw new errors.TOPIC('to is missing: name a topic such as "user:42" or a list of them')
  if (Array.isArray(to)) return publisher.publishAll([body])
  return publisher.publish(to as string, message as never)
}

async function parseBody(_request: FastifyRequest, body: Buffer): Promise<unknown> {
  if (body.length === 0) throw new errors.JSON('the body is empty: send JSON such as {"to":"user:42","type":"notice"}')
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))
  } catch (cause) {
    const isText = cause instanceof SyntaxError
    throw new errors.JSON(isText ? `the body is broken JSON: ${cause.message}` : 'the body is not UTF-8', { cause })
  }
}

function toPushError(error: FastifyError, request: FastifyRequest, bodyLimit: number): PushError {
  if (isPushError(error)) return error
  const statusCode = error.statusCode ?? 500
  if (statusCode === 415) return new errors.CONTENT_TYPE(contentTypeProblem(request))
  if (statusCode === 413) return new errors.TOO_LARGE(`the body is larger than ${bodyLimit} bytes`)
  if (statusCode < 500) return Object.assign(new Error(error.message), { code: error.code, statusCode })
  request.log.error({ err: error }, 'push: the push API failed')
  return new errors.INTERNAL('the publication failed')
}

function contentTypeProblem({ headers }: FastifyRequest): string {
  return `the body comes as ${headers['content-type'] ?? 'nothing in particular'}: send Content-Type: application/json`
}

/**
 * Which keys came with a request. Compares digests, which have one length, so that time tells nothing about a key or
 * about how long it is.
 */
function keyFinder(keys: readonly ApiKey[]): (request: FastifyRequest) => readonly ApiKey[] {
  const known = keys.map(key => ({ key, secret: digest(secretOf(key)) }))
  return ({ headers }) => {
    const bearer = /^Bearer +(.+)$/i.exec(headers.authorization ?? '')?.[1]
    const given = [bearer, headers['x-push-key']]
      .filter(key => typeof key === 'string')
      .map(key => digest(Buffer.from(key, 'latin1')))
    return known.flatMap(({ key, secret }) => {
      let matches = 0
      for (const it of given) matches += Number(timingSafeEqual(it, secret))
      return matches > 0 ? [key] : []
    })
  }
}

function secretOf(key: ApiKey): string {
  return typeof key === 'string' ? key : key.key
}

/** Headers come as latin1, one character for each byte that was sent. */
function digest(key: string | Buffer): Buffer {
  return createHash('sha256').update(key).digest()
}
