import { stringify } from './binary.ts'
import type { Topic } from './topic.ts'
import { unknownKey } from './unknown-keys.ts'

/** Version of the WebSocket protocol. An incompatible change gets a new number. */
export const PROTOCOL_VERSION = 1

/**
 * Why a connection was closed. RFC 6455 section 7.4 where a code fits, else 44xx (client error) or 45xx (server error).
 */
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

/** Whether an application may close a connection with `code`. Some codes are never sent (RFC 6455 section 7.4.1). */
export function isCloseCode(code: unknown): code is number {
  if (!Number.isInteger(code)) return false
  const n = code as number
  return [1000, 1001, 1008, 1009, 1011, 1012, 1013].includes(n) || (n >= 3000 && n <= 4999)
}

const NAMED_CODES: ReadonlySet<number> = new Set(Object.values(CLOSE))

/** Clients may close with any of two thousand codes that mean nothing here: these are counted as one. */
export function countedCode(code: number): number | 'other' {
  return (code >= 1000 && code <= 1015) || NAMED_CODES.has(code) ? code : 'other'
}

/** RFC 6455 section 5.5: a control frame carries at most 125 bytes, and the code takes two. */
export const MAX_CLOSE_REASON_BYTES = 123

/** Why a connection cannot be closed with this code and reason; undefined when it can. */
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

/** Why `type` cannot be the type of a message; undefined when it can. Reserved types are not checked here. */
export function typeProblem(type: unknown): string | undefined {
  if (type === undefined) return 'type is missing: every message needs one, for example "order.created"'
  if (typeof type !== 'string') return 'type is not a string'
  return TYPE.test(type) ? undefined : 'type is not 1 to 128 of A-Z a-z 0-9 _ . : / -'
}

/** A client sends it with a message and finds it in the answer. */
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

/** Reads a text message of a client. An unknown key is an error: to ignore a mistyped `since` would lose messages. */
export function parseClientMessage(text: string): ClientMessage | BadMessage {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return { problem: 'the message is not JSON', ref: undefined }
  }
  return toClientMessage(value)
}

/** The same for a message that was read already, in whatever form it came. */
export function toClientMessage(value: unknown): ClientMessage | BadMessage {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return { problem: 'the message is not a JSON object such as {"type":"ping"}', ref: undefined }
  }
  const { type, payload, ref } = value as Record<string, unknown>
  if (ref !== undefined && !isRef(ref)) {
    return { problem: `ref is neither an integer nor a string of up to ${MAX_REF_LENGTH} characters`, ref: undefined }
  }
  // A ping is answered whatever it contains: without an answer the client would take the connection for dead.
  const problem = typeProblem(type) ?? (type === 'ping' ? undefined : unknownKey(value, KEYS_OF_CLIENT_MESSAGE))
  return problem ? { problem, ref } : { type: type as string, payload, ref }
}

function isRef(value: unknown): value is Ref {
  return Number.isSafeInteger(value) || (typeof value === 'string' && value.length <= MAX_REF_LENGTH)
}

/** `payload` is JSON text and is copied unchanged: the client reads exactly what the publisher wrote. */
export function encodePublication(topic: Topic, type: string, payload: string | undefined, origin: Origin): string {
  return `{"type":"${type}","payload":${payload ?? '{}'}${encodeOrigin(topic, origin)}`
}

/** Who published a message: the server, or a backend, put it there. `null`: an anonymous client. */
export interface From {
  user: string | null
}

interface Origin {
  id?: string | undefined
  seq?: number | undefined
  from?: From | undefined
  /** The token that the client sends back to acknowledge the message. */
  ack?: string | undefined
}

/** The end of a publication: topic, number, id, publisher, token and the closing brace. */
export function encodeOrigin(topic: Topic, { id, seq, from, ack }: Origin): string {
  const number = seq === undefined ? '' : `,"seq":${seq}`
  const name = id === undefined ? '' : `,"id":${JSON.stringify(id)}`
  const who = from === undefined ? '' : `,"from":{"user":${JSON.stringify(from.user)}}`
  const token = ack === undefined ? '' : `,"ack":${JSON.stringify(ack)}`
  return `,"topic":${JSON.stringify(topic)}${number}${name}${who}${token}}`
}

const FIRST_PRINTABLE = 0x20
const QUOTE = 0x22
const BACKSLASH = 0x5c
const DELETE = 0x7f

/** Whether `text` is ASCII and stands in JSON as it is. */
export function needsNoEscape(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code < FIRST_PRINTABLE || code >= DELETE || code === QUOTE || code === BACKSLASH) return false
  }
  return true
}

/**
 * Any other message from the server. A payload that JSON cannot represent (a function, undefined) becomes null; bytes have
 * the form `{"$binary":"…"}`.
 */
export function encodeMessage(type: string, payload: unknown, ref?: Ref): string {
  const text = stringify(payload) ?? 'null'
  return `{"type":${JSON.stringify(type)},"payload":${text}${ref === undefined ? '' : `,"ref":${JSON.stringify(ref)}`}}`
}

/** `payload` is JSON text and is copied unchanged. */
export function encodeReply(payload: string, ref: Ref): string {
  return `{"type":"reply","payload":${payload},"ref":${JSON.stringify(ref)}}`
}

/**
 * The position of one topic in `subscribed` or `welcome`. `recovered` is there if the client sent `since`: whether all
 * that it missed follows.
 */
export interface TopicState {
  id?: string
  seq?: number
  recovered?: boolean
}

/** The answer to `authenticate`: what the new identity leaves. */
export interface Authenticated {
  user: string | null
  /** When it expires, in milliseconds since 1970; absent if it does not. */
  expires?: number
  /** All topics that the connection has now. */
  topics: readonly Topic[]
  /** Topics of which the client may no longer know who is there. */
  unseen?: readonly Topic[]
}

/**
 * What a node may support: it counts acknowledgements, it answers `since`, it answers `last`, it accepts binary messages,
 * it takes publications of clients, it tells who is on a topic, it takes a new identity in place of one that expires.
 */
export type Feature = 'ack' | 'recovery' | 'history' | 'binary' | 'publish' | 'presence' | 'authenticate'

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
 * Why messages were or may have been missed: the link to Redis was lost (`broker_link`) or Redis is away
 * (`broker_away`), the client reads too slowly (`slow_consumer`), the node is overloaded (`overload`), a recorded
 * envelope could not be used (`rejected`), or the history cannot be read from the id that the client named: entries
 * were trimmed by size (`history_trimmed`), expired (`history_expired`), the history was replaced because Redis lost it
 * or went back in time (`history_replaced`), or the id is not valid (`unknown_id`).
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
  /** Current positions of the topics, as far as known: the client continues from there. */
  positions?: Record<string, { id: string; seq: number }>
}
