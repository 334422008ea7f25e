import { createError } from '@fastify/error'

/**
 * Every error that this package throws or sends: check `code`, not the class. `%s` becomes what was wrong and where.
 * HTTP answers, `error` messages on the WebSocket and rejected promises have the same codes.
 */
export const errors = {
  OPTIONS: createError('PUSH_ERR_OPTIONS', 'fastify-push-bridge: %s', 500, TypeError),
  TOPIC: createError('PUSH_ERR_TOPIC', '%s', 400),
  TYPE: createError('PUSH_ERR_TYPE', '%s', 400),
  RESERVED_TYPE: createError('PUSH_ERR_RESERVED_TYPE', 'type "%s" is reserved for the protocol: choose another', 400),
  UNKNOWN_KEY: createError('PUSH_ERR_UNKNOWN_KEY', '%s', 400),
  FIELD: createError('PUSH_ERR_FIELD', '%s', 400),
  JSON: createError('PUSH_ERR_JSON', '%s', 400),
  SCHEMA: createError('PUSH_ERR_SCHEMA', '%s', 400),
  TOO_LARGE: createError('PUSH_ERR_TOO_LARGE', '%s', 413),
  CONTENT_TYPE: createError('PUSH_ERR_CONTENT_TYPE', '%s', 415),
  BAD_MESSAGE: createError('PUSH_ERR_BAD_MESSAGE', '%s', 400),
  UNKNOWN_TYPE: createError('PUSH_ERR_UNKNOWN_TYPE', 'no handler is registered for the type "%s"', 400),
  NO_BINARY: createError('PUSH_ERR_NO_BINARY', 'this server takes no binary messages', 400),
  UNAUTHENTICATED: createError('PUSH_ERR_UNAUTHENTICATED', '%s', 401),
  FORBIDDEN: createError('PUSH_ERR_FORBIDDEN', '%s', 403),
  NOT_FOUND: createError('PUSH_ERR_NOT_FOUND', '%s', 404),
  METHOD: createError('PUSH_ERR_METHOD', '%s', 405),
  ORIGIN: createError('PUSH_ERR_ORIGIN', '%s', 403),
  UNSUBSCRIBED: createError('PUSH_ERR_UNSUBSCRIBED', '%s was left before the subscription was confirmed', 409),
  UPGRADE_REQUIRED: createError('PUSH_ERR_UPGRADE_REQUIRED', '%s', 426),
  LIMIT: createError('PUSH_ERR_LIMIT', '%s', 429),
  RATE: createError('PUSH_ERR_RATE', '%s', 429),
  USER_CONNECTIONS: createError('PUSH_ERR_USER_CONNECTIONS', '%s', 429),
  ADDRESS_CONNECTIONS: createError('PUSH_ERR_ADDRESS_CONNECTIONS', '%s', 429),
  ADDRESS_UPGRADES: createError('PUSH_ERR_ADDRESS_UPGRADES', '%s', 429),
  /** The cause is in the log, not in the message. */
  INTERNAL: createError('PUSH_ERR_INTERNAL', '%s', 500),
  HANDLER: createError('PUSH_ERR_HANDLER', 'the handler failed', 500),
  UNWRITABLE: createError('PUSH_ERR_UNWRITABLE', '%s', 500),
  UNSUPPORTED: createError('PUSH_ERR_UNSUPPORTED', '%s', 501),
  FULL: createError('PUSH_ERR_FULL', '%s', 503),
  UPGRADES: createError('PUSH_ERR_UPGRADES', '%s', 503),
  PENDING_UPGRADES: createError('PUSH_ERR_PENDING_UPGRADES', '%s', 503),
  DRAINING: createError('PUSH_ERR_DRAINING', 'this node is closing: connect again and another one answers', 503),
  CLOSED: createError('PUSH_ERR_CLOSED', 'the broker is closed', 503),
  BUSY: createError('PUSH_ERR_BUSY', '%s', 503),
  /** Nothing was sent: safe to publish again. */
  BROKER_AWAY: createError('PUSH_ERR_BROKER_AWAY', '%s', 503),
  /** Sent, but no answer came: it may or may not have been published. */
  UNCONFIRMED: createError('PUSH_ERR_UNCONFIRMED', '%s', 503),
  /** The backend behind the node has not got it. */
  BACKEND_AWAY: createError('PUSH_ERR_BACKEND_AWAY', '%s', 503),
  /** The backend may have got it, but did not say so in time. */
  BACKEND_UNCONFIRMED: createError('PUSH_ERR_BACKEND_UNCONFIRMED', '%s', 503),
  TIMEOUT: createError('PUSH_ERR_TIMEOUT', '%s', 504),
} as const

/** Which limit was reached, where several share a code: clients do the same about each, operators do not. */
export type LimitReason = 'topics' | 'pending' | 'publications'

export interface PushError extends Error {
  code: string
  statusCode: number
  limit?: LimitReason
}

/** A PUSH_ERR_LIMIT that is counted under the limit that was reached. */
export function limitError(limit: LimitReason, message: string): PushError {
  return Object.assign(new errors.LIMIT(message), { limit })
}

/** The reason under which a refusal is counted. */
export const reasonOf = ({ code, limit }: PushError): string => limit ?? code

export function isPushError(error: unknown): error is PushError {
  return error instanceof Error && String((error as Partial<PushError>).code).startsWith('PUSH_ERR_')
}
