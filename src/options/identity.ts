import type { FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import type { PushConnection } from '../connection/identity.ts'
import type { Right } from '../protocol/rights.ts'
import { fail } from './values.ts'

/** The option `expiry`. */
export const ExpirySchema = Type.Object(
  {
    warn: Type.Integer({
      minimum: 0,
      maximum: 2 ** 31 - 1,
      default: 30_000,
      description:
        'how long before its identity expires a client is asked for a new one, in milliseconds; at most half of its life; 0: never',
    }),
  },
  { additionalProperties: false, default: {}, description: 'what happens before an identity expires' },
)

/** How long a revocation is kept, in seconds: as long as the oldest ticket or identity may live. */
export const REVOCATION_TTL = { minimum: 60, maximum: 366 * 24 * 3600, default: 24 * 3600 }

/** The option `revocation`. */
export const RevocationSchema = Type.Object(
  {
    ttl: Type.Integer({
      ...REVOCATION_TTL,
      description: 'how long a revocation is kept, in seconds: at least as long as a ticket or an identity lives',
    }),
  },
  { additionalProperties: false, default: {}, description: 'how users are kept out after app.push.revoke()' },
)

/** Who a connection is and which topics it may use. */
export interface Authentication {
  /** The identity that all connections of a person or machine share. Leave it out for an anonymous connection. */
  user?: string | number | null
  /** Topics to which it is subscribed from the start. */
  join?: readonly string[]
  /**
   * Topics, or patterns such as `channel:orders.*`, to which it may subscribe. `{ topics, actions }` names the allowed
   * actions instead.
   */
  allow?: readonly Right[]
  /** Any value. Handlers and hooks find it in `connection.data`. */
  data?: unknown
  /** What others may see of the user where the option `presence` shows it: JSON of at most 1,024 bytes. */
  info?: unknown
  /** When the connection is closed with 4502, so that the client reconnects: a Date, or milliseconds since 1970. */
  expires?: Date | number
  /** When the user proved who it is: a Date, or milliseconds since 1970. What is older than `revoke()` is refused. */
  issuedAt?: Date | number
}

/** What an application gives for a request or a message: the identity, or null to refuse. */
type Given<T> = T | null | Promise<T | null>

/** How an application says who somebody is. As methods, so that it may name the types of its own requests. */
export interface Authenticators {
  /** `'message'`: the first message of the client says who it is. */
  authenticate(request: FastifyRequest): Given<Authentication | 'message'>
  /** Who sent an `authenticate` message with this payload. `connection` is absent if it is the first message. */
  onAuthenticate(payload: never, connection: PushConnection | undefined): Given<Authentication>
}

/** The first message of everybody says who it is. */
export const byMessage = () => 'message' as const

/** `authenticate: 'message'` is short for a function that says so for every request. */
export function parseAuthenticate(given: unknown, means: { tickets: boolean; onAuthenticate: unknown }) {
  if (given !== 'message') return given
  if (!means.tickets && means.onAuthenticate === undefined) {
    fail('authenticate', 'is "message", but nothing can take the message: set tickets: true, or give onAuthenticate')
  }
  return byMessage
}
