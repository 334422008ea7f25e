import { randomFillSync } from 'node:crypto'
import type { Right } from '../protocol/rights.ts'
import type { Topic } from '../protocol/topic.ts'

/** What the application sees of one socket. */
export interface PushConnection<Data = unknown> {
  readonly id: string
  /** `sse`: an event stream, over which a client gets messages and cannot send any. */
  readonly transport: 'websocket' | 'sse'
  /** The authenticated identity; null for an anonymous connection. */
  readonly user: string | null
  /** Whatever `authenticate` gave as `data`. */
  readonly data: Data
  readonly topics: ReadonlySet<Topic>
  /** What others may see of the user, as JSON text: see the option `presence`. Empty if there is none. */
  readonly info: string
  /** Sends `{type, payload}` to this connection alone. False when it is closing or too slow. */
  send(type: string, payload?: unknown): boolean
  /** Sends one binary message. */
  sendBinary(bytes: Uint8Array): boolean
  /** Sends what is queued, then closes. */
  close(code?: number, reason?: string): void
}

export interface Identity {
  id: string
  user: string | null
  data: unknown
  /** JSON text; empty if there is none. */
  info: string
  /** What it may do with which topics. */
  allow: readonly Right[]
  /** Milliseconds since 1970. Undefined when it does not expire: Infinity would cost each connection 16 bytes. */
  expires: number | undefined
  /** When it was given to the user, as `sinceStart`. */
  began: number
}

const STARTED = Date.now()

/** `time`, in milliseconds since 1970, as a number that is small enough to cost a connection no memory of its own. */
export function sinceStart(time: number): number {
  return Math.round(time) - STARTED
}

/** The time that `sinceStart` gave. */
export function timeOf(began: number): number {
  return STARTED + began
}

/** Whether a publication that skips the topics in `except`, at most 100, skips this connection. */
export function isExcepted({ id, user }: Pick<Identity, 'id' | 'user'>, except: readonly Topic[]): boolean {
  if (except.length === 0) return false
  return except.includes(`connection:${id}`) || (user !== null && except.includes(`user:${user}`))
}

export function isExpired({ expires }: Pick<Identity, 'expires'>, now: number): boolean {
  return expires !== undefined && expires <= now
}

const ID_BYTES = 15

/** Random bytes for this many ids at once: the system call costs as much for one id as for a hundred. */
const pool = Buffer.allocUnsafeSlow(ID_BYTES * 100)
let used = pool.length

/** 120 random bits in 20 characters, so that nobody can guess an id. */
export function newConnectionId(): string {
  if (used === pool.length) {
    randomFillSync(pool)
    used = 0
  }
  used += ID_BYTES
  return pool.toString('base64url', used - ID_BYTES, used)
}

/** V8 copies shorter strings instead of slicing them out of another one. */
const MIN_SLICE = 13

/**
 * The same text in memory of its own. A name that is a slice of a URL or a message would keep all of that in memory for
 * as long as its connection lives.
 */
export function ownText<T extends string>(text: T): T {
  return text.length < MIN_SLICE ? text : (Buffer.from(text).toString() as T)
}
