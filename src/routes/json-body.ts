import type { FastifyError, FastifyInstance, FastifyRequest } from 'fastify'
import { errors, type PushError } from '../protocol/errors.ts'

/** `application/json`, or a type of somebody's own that is JSON. */
const JSON_TYPE = /^application\/json *(?:;|$)|^[\w.+-]+\/[\w.+-]+\+json *(?:;|$)/i

interface JsonBody {
  /** Bytes. */
  limit: number
  /** What a body looks like, for whoever sends none. */
  example: string
}

/** Routes of `scope` read JSON and nothing else, whatever body parsers the host has. */
export function takeJson(scope: FastifyInstance, { limit, example }: JsonBody): void {
  scope.removeAllContentTypeParsers()
  const parse = async (_request: FastifyRequest, body: Buffer) => parseJson(body, example)
  scope.addContentTypeParser(JSON_TYPE, { parseAs: 'buffer', bodyLimit: limit }, parse)
}

/** Why the body of a request is refused; undefined if the error is about something else. `limit` as a sentence says it. */
export function bodyRefusal(error: FastifyError, request: FastifyRequest, limit: string): PushError | undefined {
  if (error.statusCode === 415) return new errors.CONTENT_TYPE(contentTypeProblem(request))
  if (error.code === 'ECONNRESET') return new errors.JSON('the body ends before its Content-Length')
  if (error.statusCode === 413) return new errors.TOO_LARGE(`the body is larger than ${limit}`)
  return undefined
}

function parseJson(body: Buffer, example: string): unknown {
  if (body.length === 0) throw new errors.JSON(`the body is empty: send JSON such as ${example}`)
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))
  } catch (cause) {
    const isText = cause instanceof SyntaxError
    throw new errors.JSON(isText ? `the body is broken JSON: ${cause.message}` : 'the body is not UTF-8', { cause })
  }
}

function contentTypeProblem({ headers }: FastifyRequest): string {
  return `the body comes as ${headers['content-type'] ?? 'nothing in particular'}: send Content-Type: application/json`
}
