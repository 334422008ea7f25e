import { randomBytes } from 'node:crypto'
import type { Broker } from '../broker/broker.ts'
import { isExpired } from '../connection/identity.ts'
import type { Authentication } from '../options/options.ts'
import { errors } from '../protocol/errors.ts'
import { checkAuthentication, type Identified } from './authentication.ts'

export const TICKET_TTL = 30
export const MAX_TICKET_TTL = 24 * 60 * 60

/** Brokers keep thousands of tickets that nobody has spent. */
export const MAX_TICKET_BYTES = 64 * 1024

/** Stores a new ticket for `identity`. Resolves with its secret, and how many older ones it has `ended` if the user has `most`. */
export async function issueTicket(
  broker: Pick<Broker, 'putTicket'>,
  identity: Authentication,
  ttl: number = TICKET_TTL,
  most?: number,
): Promise<{ token: string; ended: number }> {
  if (!Number.isInteger(ttl) || ttl < 1 || ttl > MAX_TICKET_TTL) {
    throw new errors.FIELD(`the ttl of a ticket must be a whole number of seconds from 1 to ${MAX_TICKET_TTL}`)
  }
  const { text, user } = encodeTicket(identity)
  const token = randomBytes(24).toString('hex')
  const ended = await broker.putTicket(
    token,
    text,
    ttl,
    user === null || most === undefined ? undefined : { user, most },
  )
  return { token, ended }
}

/** A ticket that does not say when it was issued counts as so many milliseconds old: it seldom lives longer. */
const UNDATED_AGE = TICKET_TTL * 1000

/** Takes a ticket that a client has shown. Throws PUSH_ERR_UNAUTHENTICATED when it stands for nobody. */
export async function redeemTicket(broker: Pick<Broker, 'takeTicket'>, ticket: string): Promise<Identified> {
  const text = /^[\w-]{16,200}$/.test(ticket) ? await broker.takeTicket(ticket) : null
  if (text === null) throw new errors.UNAUTHENTICATED('the ticket is unknown, spent or too old: ask for a new one')
  try {
    return checkAuthentication(JSON.parse(text), 'the ticket', Date.now() - UNDATED_AGE)
  } catch (error) {
    // Another program wrote the ticket: a 500 would make the client try again in vain.
    throw new errors.UNAUTHENTICATED(error instanceof SyntaxError ? 'the ticket is not JSON' : (error as Error).message)
  }
}

/** What a connection with a ticket for `identity` is. Throws PUSH_ERR_FIELD when it would be refused. */
export function ticketHolder(identity: Authentication): Identified {
  try {
    const holder = checkAuthentication(identity, 'ticket()')
    if (isExpired(holder.identity, Date.now())) throw new TypeError('ticket() gave an expires in the past')
    return holder
  } catch (error) {
    throw new errors.FIELD((error as Error).message)
  }
}

/** Keeps only what `authenticate()` may return, whatever else the object has. */
function encodeTicket(identity: Authentication): { text: string; user: string | null } {
  const holder = ticketHolder(identity).identity
  const { user, join, allow, data, info, expires, issuedAt } = identity
  const times = { expires: millisecondsOf(expires), issuedAt: millisecondsOf(issuedAt ?? Date.now()) }
  const text = toJson({ user, join, allow, data, info, ...times })
  const bytes = Buffer.byteLength(text)
  if (bytes > MAX_TICKET_BYTES) {
    throw new errors.TOO_LARGE(
      `the ticket has ${bytes} bytes; at most ${MAX_TICKET_BYTES} are kept: allow patterns such as channel:orders.* ` +
        'in place of many topics, and give less data and info',
    )
  }
  return { text, user: holder.user }
}

function millisecondsOf(time: Date | number | undefined): number | undefined {
  return time instanceof Date ? time.getTime() : time
}

function toJson(ticket: object): string {
  try {
    return JSON.stringify(ticket)
  } catch (cause) {
    throw new errors.FIELD(`the ticket cannot be written as JSON: ${(cause as Error).message}`, { cause })
  }
}
