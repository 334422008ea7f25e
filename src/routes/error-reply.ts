import { STATUS_CODES } from 'node:http'
import type { FastifyReply } from 'fastify'
import type { PushError } from '../protocol/errors.ts'

/** Replies with an error body like Fastify's, whatever error handler and serializers the host has set. */
export function answerError(reply: FastifyReply, { statusCode, code, message }: PushError): FastifyReply {
  const body = { statusCode, code, error: STATUS_CODES[statusCode] ?? 'Error', message }
  return reply
    .code(statusCode)
    .type('application/json; charset=utf-8')
    .serializer((text: string) => text)
    .send(JSON.stringify(body))
}
