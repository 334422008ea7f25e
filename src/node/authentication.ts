import { type Identity, newConnectionId, ownText, sinceStart } from '../connection/identity.ts'
import type { Authentication } from '../options/options.ts'
import { joinProblem } from '../protocol/envelope.ts'
import { errors, isPushError } from '../protocol/errors.ts'
import { type Right, rightProblem } from '../protocol/rights.ts'
import { nameProblem, type Topic } from '../protocol/topic.ts'

export interface Identified {
  identity: Identity
  /** Topics to which the connection is subscribed from the start, besides its own. */
  topics: readonly Topic[]
}

/**
 * Checks what `giver` returned: `authenticate()`, `ticket()` or a ticket. Throws a TypeError that says what is wrong.
 * `began`: since when the user has it, unless it says so itself.
 */
export function checkAuthentication(given: unknown, giver: string, began = Date.now()): Identified {
  if (typeof given !== 'object' || given === null || Array.isArray(given)) {
    throw new TypeError(`${giver} gave something that is not an object such as {"user":"42"}`)
  }
  const { user, join, allow, data, expires, info, issuedAt } = given as Authentication
  const identity: Identity = {
    id: newConnectionId(),
    user: checkUser(user, giver),
    data: data ?? null,
    info: checkInfo(info, giver),
    allow: checkAllow(allow, giver),
    expires: checkTime(expires, 'expires', giver),
    began: sinceStart(checkIssue(checkTime(issuedAt, 'issuedAt', giver), giver) ?? began),
  }
  return { identity, topics: checkList<Topic>(join, 'join', joinProblem, giver) }
}

function checkUser(user: unknown, giver: string): string | null {
  if (user === undefined || user === null) return null
  // JSON.parse rounds larger numbers, so two people could become one user.
  if (typeof user === 'number' && !Number.isSafeInteger(user)) {
    throw new TypeError(`${giver} gave a user that is not a safe integer: give it as a string`)
  }
  const name = typeof user === 'number' ? String(user) : user
  const problem = typeof name === 'string' ? nameProblem(name) : 'is neither a string nor a number'
  if (problem) throw new TypeError(`${giver} gave a user that ${problem}`)
  return ownText(name as string)
}

/** Everybody who may see who is on a topic gets it, so it is kept small. */
const MAX_INFO = 1024

/** The info as JSON text. Throws a TypeError when it is too large or no JSON. */
export function checkInfo(info: unknown, giver: string): string {
  if (info === undefined || info === null) return ''
  let text: string | undefined
  try {
    text = JSON.stringify(info)
  } catch (cause) {
    throw new TypeError(`${giver} gave an info that cannot be written as JSON: ${(cause as Error).message}`)
  }
  if (text === undefined) throw new TypeError(`${giver} gave an info that cannot be written as JSON`)
  const bytes = Buffer.byteLength(text)
  if (bytes > MAX_INFO)
    throw new TypeError(`${giver} gave an info of ${bytes} bytes: at most ${MAX_INFO} are shown to others`)
  return text
}

function checkTime(given: unknown, key: 'expires' | 'issuedAt', giver: string): number | undefined {
  if (given === undefined || given === null || given === Number.POSITIVE_INFINITY) return undefined
  const time = given instanceof Date ? given.getTime() : given
  if (typeof time !== 'number' || Number.isNaN(time)) {
    throw new TypeError(`${giver} gave an ${key} that is neither a Date nor milliseconds since 1970`)
  }
  // The exp of a JWT is in seconds. Read as milliseconds, it would expire every connection at once.
  if (time > 0 && time < 1e11) throw new TypeError(`${giver} gave an ${key} in seconds: multiply it by 1000`)
  return time
}

/** Clocks of different machines may differ by so many milliseconds. */
const MAX_SKEW = 60_000

/** What was issued in the future could not be revoked until then. */
function checkIssue(time: number | undefined, giver: string): number | undefined {
  if (time === undefined || time <= Date.now() + MAX_SKEW) return time
  throw new TypeError(`${giver} gave an issuedAt that lies in the future: compare the clocks`)
}

/** What the application says to `ask`. Its errors with a status of 401 or 403 are refusals like its `null`. */
export async function identityFrom<T extends Authentication | 'message'>(
  ask: () => T | null | Promise<T | null>,
  giver: string,
): Promise<T> {
  let given: T | null
  try {
    given = await ask()
  } catch (error) {
    if (isPushError(error)) throw error
    const { statusCode, message } = (error ?? {}) as { statusCode?: unknown; message?: unknown }
    if (statusCode === 401) throw new errors.UNAUTHENTICATED(String(message))
    if (statusCode === 403) throw new errors.FORBIDDEN(String(message))
    throw error
  }
  if (!given) throw new errors.UNAUTHENTICATED(`${giver} did not accept the request`)
  return given
}

const NONE: readonly Right[] = []

/** The list of the previous connection. Most connections of an application have equal rights and then share one list. */
let lastAllow = NONE

/** A frozen copy: the application may change its list later, or use one for all connections. */
function checkAllow(allow: unknown, giver: string): readonly Right[] {
  if (allow === undefined || allow === null) return NONE
  if (!isEqual(allow, lastAllow)) {
    const rights = checkList<Right>(allow, 'allow', rightProblem, giver)
    for (const right of rights) if (typeof right !== 'string') checkInfo(right.info, giver)
    lastAllow = Object.freeze(rights.map(ownRight))
  }
  return lastAllow
}

function ownRight(right: Right): Right {
  if (typeof right === 'string') return ownText(right)
  const { info, ...rest } = right
  // As JSON has it: the application may give anything that can be written as that.
  return {
    ...structuredClone(rest),
    ...(info !== undefined && info !== null && { info: JSON.parse(JSON.stringify(info)) }),
  }
}

function isEqual(values: unknown, list: readonly Right[]): boolean {
  if (!Array.isArray(values) || values.length !== list.length) return false
  for (let i = 0; i < list.length; i++) if (values[i] !== list[i]) return false
  return true
}

function checkList<T>(
  values: unknown,
  where: string,
  problemOf: (value: unknown) => string | undefined,
  giver: string,
): readonly T[] {
  if (values === undefined || values === null) return []
  if (!Array.isArray(values)) throw new TypeError(`${giver} gave ${where} that is not a list of topics`)
  for (const value of values) {
    const problem = problemOf(value)
    if (problem) throw new TypeError(`${giver} gave ${where}: ${problem}`)
  }
  return values
}
