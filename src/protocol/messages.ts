import type { Topic } from './topic.ts'
import { unknownKey } from './unknown-keys.ts'

/** The version of what is said over a WebSocket: one that is not compatible has another number. */
export const PROTOCOL_VERSION = 1

/** Why a connection was closed. RFC 6455 section 7.4 where it has a code, else 44xx the client's fault, 45xx ours. */
export const CLOSE = {
  NORMAL: 1000,
  GOING_AWAY: 1001,
  POLICY: 1008,
  TOO_BIG: 1009,
  RESTART: 1012,
  TRY_LATER: 1013,
  BAD_MESSAGE: 4400,
  UNAUTHENTICATED: 4401,
  FORBIDDEN: 4403,
  ABUSE: 4429,
  INTERNAL: 4500,
  EXPIRED: 4502,
  SLOW_CONSUMER: 4503,
  HEARTBEAT_TIMEOUT: 4504,
} as const

/** A client stays closed on 1000, 1008, 1009 and 44xx, and reconnects on everything else. */
export function shouldReconnect(code: number): boolean {
  return !(code === CLOSE.NORMAL || code === CLOSE.POLICY || code === CLOSE.TOO_BIG || (code >= 4400 && code <= 4499))
}

/** Whether a program may close a connection with `code`: not those that RFC 6455 section 7.4.1 keeps off the wire. */
export function isCloseCode(code: unknown): code is number {
  if (!Number.isInteger(code)) return false
  const n = code as number
  return [1000, 1001, 1008, 1009, 1011, 1012, 1013].includes(n) || (n >= 3000 && n <= 4999)
}

/** RFC 6455 section 5.5: a control frame carries 125 bytes, two of which are the code. */
export const MAX_CLOSE_REASON_BYTES = 123

/** Why a connection cannot be closed with these; undefined when it can. */
export function closeProblem(code: unknown, reason: unknown): string | undefined {
  if (!isCloseCode(code)) return 'code is none of 1000, 1001, 1008, 1009, 1011, 1012, 1013 or 3000 to 4999'
  if (typeof reason !== 'string') return 'reason is not a string'
  return new TextEncoder().encode(reason).length > MAX_CLOSE_REASON_BYTES
    ? `reason is longer than ${MAX_CLOSE_REASON_BYTES} bytes`
    : undefined
}

const RESERVED = new Set([
  'welcome',
  'ping',
  'pong',
  'subscribe',
  'subscribed',
  'unsubscribe',
  'unsubscribed',
  'reply',
  'error',
  'gap',
  'reconnect',
  'ack',
  'authenticate',
  'authenticated',
  'presence',
  'history',
])

const TYPE = /^[A-Za-z0-9_.:/-]{1,128}$/

export function isReservedType(type: string): boolean {
  return RESERVED.has(type) || type.startsWith('push.')
}

/** Why `type` cannot be the type of a message; undefined when it can. Says nothing of reserved words. */
export function typeProblem(type: unknown): string | undefined {
  if (type === undefined) return 'type is missing: every message needs one, for example "order.created"'
  if (typeof type !== 'string') return 'type is not a string'
  return TYPE.test(type) ? undefined : 'type is not 1 to 128 of A-Z a-z 0-9 _ . : / -'
}

/** What a client quotes to find the answer to one of its messages. */
export type Ref = number | string

export const MAX_REF_LENGTH = 64

export interface ClientMessage {
  type: string
  payload: unknown
  ref: Ref | undefined
}

export interface BadMessage {
  problem: string
  ref: Ref | undefined
}

const KEYS_OF_CLIENT_MESSAGE = ['type', 'payload', 'ref']

/** Reads one text message of a client. A key that is not known is refused: what was meant by it would be lost. */
export function parseClientMessage(text: string): ClientMessage | BadMessage {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return { problem: 'the message is not JSON', ref: undefined }
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return { problem: 'the message is not a JSON object such as {"type":"ping"}', ref: undefined }
  }
  const { type, payload, ref } = value as Record<string, unknown>
  if (ref !== undefined && !isRef(ref)) {
    return { problem: `ref is neither an integer nor a string of up to ${MAX_REF_LENGTH} characters`, ref: undefined }
  }
  // A ping is a sign of life, whatever is in it.
  const problem = typeProblem(type) ?? (type === 'ping' ? undefined : unknownKey(value, KEYS_OF_CLIENT_MESSAGE))
  return problem ? { problem, ref } : { type: type as string, payload, ref }
}

function isRef(value: unknown): value is Ref {
  return Number.isSafeInteger(value) || (typeof value === 'string' && value.length <= MAX_REF_LENGTH)
}

/** `payload` is JSON text and is copied as it stands, so that what the publisher wrote is what the client reads. */
export function encodePublication(topic: Topic, type: string, payload: string | undefined, origin: Origin): string {
  return `{"type":"${type}","payload":${payload ?? '{}'}${encodeOrigin(topic, origin)}`
}

interface Origin {
  id?: string | undefined
  seq?: number | undefined
  /** The token that the client is to acknowledge. */
  ack?: string | undefined
}

/** The end of a publication: where it comes from, and the closing brace. */
export function encodeOrigin(topic: Topic, { id, seq, ack }: Origin): string {
  const number = seq === undefined ? '' : `,"seq":${seq}`
  const name = id === undefined ? '' : `,"id":${JSON.stringify(id)}`
  return `,"topic":${JSON.stringify(topic)}${number}${name}${ack === undefined ? '' : `,"ack":${JSON.stringify(ack)}`}}`
}

/** Any other message of the server. A payload that JSON has no text for (a function, undefined) becomes null. */
export function encodeMessage(type: string, payload: unknown, ref?: Ref): string {
  const text = JSON.stringify(payload) ?? 'null'
  return `{"type":${JSON.stringify(type)},"payload":${text}${ref === undefined ? '' : `,"ref":${JSON.stringify(ref)}`}}`
}

/**
 * What a `subscribed` or a `welcome` says of one topic: where it stands, and, when the client named the last id it holds,
 * whether all it missed follows.
 */
export interface TopicState {
  id?: string
  seq?: number
  recovered?: boolean
}

/** What a node may offer: clients that acknowledge are counted; `since` is answered; binary messages are taken. */
export type Feature = 'ack' | 'recovery' | 'binary'

export interface Welcome {
  connection: string
  user: string | null
  node: string
  protocol: number
  features: readonly Feature[]
  heartbeat: { interval: number; timeout: number }
  topics: Record<string, TopicState>
}

/**
 * Why messages were or may have been missed: the link to Redis was lost (`broker_link`) or is away (`broker_away`), the
 * client reads too slowly (`slow_consumer`), the node has too much to do (`overload`), a recorded envelope could not be
 * used (`rejected`), or the history does not reach back to the id that was named: trimmed by size, too old, not the one
 * it was (Redis went back in time), or the id is none.
 */
export type GapReason =
  | 'broker_link'
  | 'broker_away'
  | 'slow_consumer'
  | 'overload'
  | 'rejected'
  | 'history_trimmed'
  | 'history_expired'
  | 'history_replaced'
  | 'unknown_id'

export interface Gap {
  topics: Topic[]
  reason: GapReason
  /** Where topics stand now, as far as known: the client goes on from there. */
  positions?: Record<string, { id: string; seq: number }>
}
