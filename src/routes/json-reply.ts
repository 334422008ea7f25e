import { STATUS_CODES } from 'node:http'
import type { FastifyReply } from 'fastify'
import type { PushError } from '../protocol/errors.ts'

/** `body`: an object, or JSON text. Not `reply.send(object)`: a serializer or a preSerialization hook of the host must not reshape the contract. */
export function answerJson(reply: FastifyReply, body: object | string): FastifyReply {
  return reply
    .type('application/json; charset=utf-8')
    .serializer((text: string) => text)
    .send(typeof body === 'string' ? body : JSON.stringify(body))
}

/** Replies with an error body like Fastify's, whatever error handler the host has set. */
export function answerError(reply: FastifyReply, error: PushError): FastifyReply {
  return answerJson(reply.code(error.statusCode), errorBody(error))
}

export function errorBody({ statusCode, code, message }: PushError): object {
  return { statusCode, code, error: STATUS_CODES[statusCode] ?? 'Error', message }
}
