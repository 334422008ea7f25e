import type { Right } from './rights.ts'
import type { Topic } from './topic.ts'

/** What the application sees of one socket. */
export interface PushConnection<Data = unknown> {
  readonly id: string
  /** The authenticated identity; null for an anonymous connection. */
  readonly user: string | null
  /** Whatever `authenticate` gave as `data`. */
  readonly data: Data
  readonly topics: ReadonlySet<Topic>
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
  /** What it may do with which topics. */
  allow: readonly Right[]
  /** Milliseconds since 1970. Undefined when it does not expire: an Infinity would take 16 bytes of each connection. */
  expires: number | undefined
}

/** Whether a publication that skips the topics in `except` skips this connection. At most 100 are named. */
export function isExcepted({ id, user }: Pick<Identity, 'id' | 'user'>, except: readonly Topic[]): boolean {
  if (except.length === 0) return false
  return except.includes(`connection:${id}`) || (user !== null && except.includes(`user:${user}`))
}

export function isExpired({ expires }: Pick<Identity, 'expires'>, now: number): boolean {
  return expires !== undefined && expires <= now
}
