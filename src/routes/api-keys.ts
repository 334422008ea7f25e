import { createHash, timingSafeEqual } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import type { Identified } from '../node/authentication.ts'
import type { ApiKey } from '../options/options.ts'
import { errors } from '../protocol/errors.ts'
import { isGranted, type KeyAction, type KeyGrant, type Right } from '../protocol/rights.ts'
import { topicProblem } from '../protocol/topic.ts'

const MIN_KEY_LENGTH = 16

/** Throws PUSH_ERR_OPTIONS for a key that can be guessed. */
export function refuseShortKeys(keys: readonly ApiKey[]): void {
  const short = keys.findIndex(entry => secretOf(entry).length < MIN_KEY_LENGTH)
  if (short < 0) return
  throw new errors.OPTIONS(
    `option api.keys.${short} has fewer than ${MIN_KEY_LENGTH} characters and can be guessed: write a longer secret`,
  )
}

/** What the caller of the push API may do. */
export class KeyRights {
  readonly #grants: readonly KeyGrant[]
  /** One of its keys is a string. */
  readonly mayEverything: boolean

  constructor(keys: readonly ApiKey[]) {
    this.#grants = keys.filter(key => typeof key !== 'string')
    this.mayEverything = this.#grants.length < keys.length
  }

  /** `pattern`: a topic, or a pattern all of which must be allowed. */
  may(action: KeyAction, pattern: string): boolean {
    return this.mayEverything || isGranted(this.#grants, action, pattern)
  }

  /** Throws unless the caller may do `action` on `topic`, which comes from outside. */
  check(action: KeyAction, topic: unknown): void {
    const problem = topicProblem(topic)
    if (problem) throw new errors.TOPIC(problem)
    this.#require(action, topic as string)
  }

  #require(action: KeyAction, pattern: string): void {
    if (!this.may(action, pattern)) throw new errors.FORBIDDEN(`this key lacks the action ${action} on ${pattern}`)
  }

  /** For what belongs to no topic: any topic will do. */
  checkAnywhere(action: KeyAction): void {
    if (this.mayEverything || this.#grants.some(({ actions }) => actions.includes(action))) return
    throw new errors.FORBIDDEN(`this key lacks the action ${action}`)
  }

  /** A ticket must not give more than the caller has. */
  checkTicket({ identity: { user, allow, data }, topics }: Identified): void {
    if (user === null) this.checkAnywhere('ticket')
    else this.#require('ticket', `user:${user}`)
    for (const topic of topics) this.#require('subscribe', topic)
    for (const right of allow) this.#checkRight(right)
    // The application may decide by `data` what a connection may do, on whatever topic.
    if (data !== null && !this.may('ticket', '*')) {
      throw new errors.FORBIDDEN('this key may not give data: for that it needs the action ticket on *')
    }
  }

  #checkRight(right: Right): void {
    const { topics, actions } = typeof right === 'string' ? { topics: right, actions: ['subscribe' as const] } : right
    for (const pattern of [topics].flat()) for (const action of actions) this.#require(action, pattern)
  }
}

/** For a caller that a guard of the application has let in. */
export const ALL_RIGHTS = new KeyRights([''])

export const NO_RIGHTS = new KeyRights([])

/**
 * Which keys came with a request. Compares digests, which have one length, so that time tells nothing about a key or
 * about how long it is.
 */
export function keyFinder(keys: readonly ApiKey[]): (request: FastifyRequest) => readonly ApiKey[] {
  const known = keys.map(key => ({ key, secret: digest(secretOf(key)) }))
  return ({ headers }) => {
    const bearer = /^Bearer +(.+)$/i.exec(headers.authorization ?? '')?.[1]
    const given = [bearer, headers['x-push-key']]
      .filter(key => typeof key === 'string')
      .map(key => digest(Buffer.from(key, 'latin1')))
    return known.flatMap(({ key, secret }) => {
      let matches = 0
      for (const it of given) matches += Number(timingSafeEqual(it, secret))
      return matches > 0 ? [key] : []
    })
  }
}

function secretOf(key: ApiKey): string {
  return typeof key === 'string' ? key : key.key
}

/** Headers come as latin1, one character for each byte that was sent. */
function digest(key: string | Buffer): Buffer {
  return createHash('sha256').update(key).digest()
}
